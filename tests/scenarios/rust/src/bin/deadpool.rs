//! Healthy: a pool of sixteen under bursts that come each three seconds, with a trickle in between.

use std::time::Duration;

use connleak_scenarios::{go, pool};
use tokio::time::sleep;

#[tokio::main]
async fn main() {
    go();
    let pool = pool(16);
    for tick in 0.. {
        for _ in 0..if tick % 10 == 0 { 16 } else { 1 } {
            let pool = pool.clone();
            tokio::spawn(async move {
                let client = pool.get().await.expect("a client");
                client.query_one("select pg_sleep(0.1)", &[]).await.expect("an answer");
            });
        }
        sleep(Duration::from_millis(300)).await;
    }
}
