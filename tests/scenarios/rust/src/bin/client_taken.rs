//! Leak: clients are taken out of the pool for good, for sessions that nobody ends; the pool opens others.

use std::time::Duration;

use connleak_scenarios::{go, leaked, pool};
use deadpool_postgres::Object;
use tokio::time::sleep;

#[tokio::main]
async fn main() {
    go();
    let pool = pool(4);
    let mut sessions = Vec::new();
    loop {
        let client = pool.get().await.expect("a client");
        client.query_one("select 1", &[]).await.expect("an answer");
        sessions.push(Object::take(client)); // the bug
        leaked(sessions.len());
        sleep(Duration::from_millis(900)).await;
    }
}
