//! Leak: a client for each visitor, in a map from which nobody removes anything. A visitor comes four times in three
//! seconds, and never again.

use std::{collections::HashMap, time::Duration};

use connleak_scenarios::{config, go, leaked};
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

async fn connect() -> Client {
    let (client, connection) = config().connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

#[tokio::main]
async fn main() {
    go();
    let mut sessions = HashMap::new(); // the bug: grows with each visitor
    let mut gone = 0;
    for tick in 0_u64.. {
        for (visit, later) in [0, 4, 9, 15].into_iter().enumerate() {
            let Some(visitor) = tick.checked_sub(later).filter(|first| first % 4 == 0) else {
                continue;
            };
            if visit == 0 {
                sessions.insert(visitor, connect().await);
            }
            sessions[&visitor].query_one("select 1", &[]).await.expect("an answer");
            if visit == 3 {
                gone += 1;
                leaked(gone);
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}
