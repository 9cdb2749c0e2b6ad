//! Leak: each request's task waits for an answer that never comes, and holds its client. The pool allows 64.

use std::time::Duration;

use connleak_scenarios::{go, leaked, pool};
use tokio::{sync::oneshot, time::sleep};

#[tokio::main]
async fn main() {
    go();
    let pool = pool(64);
    let mut kept = Vec::new();
    for number in 0.. {
        let client = pool.get().await.expect("a client");
        client.query_one("select 1", &[]).await.expect("an answer");
        if number % 4 == 3 {
            let (sender, receiver) = oneshot::channel::<()>();
            kept.push(sender);
            tokio::spawn(async move {
                receiver.await.ok(); // the bug: no time-out
                drop(client);
            });
            leaked(kept.len());
        }
        sleep(Duration::from_millis(200)).await;
    }
}
