//! Healthy: a client for each visitor, in a map. A sweeper drops those that nobody asked for in four seconds.

use std::{collections::HashMap, time::Duration};

use connleak_scenarios::{config, go};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

struct Session {
    client: Client,
    last: Instant,
}

async fn session() -> Session {
    let (client, connection) = config().connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    Session { client, last: Instant::now() }
}

/// Which visitors come at this tick: a new one each fourth, who comes three times more.
fn visitors(tick: u64) -> impl Iterator<Item = u64> {
    let back = [0, 3, 9, 17].into_iter().filter_map(move |later| tick.checked_sub(later));
    back.filter(|first| first % 4 == 0)
}

#[tokio::main]
async fn main() {
    go();
    let mut sessions = HashMap::new();
    for tick in 0.. {
        for visitor in visitors(tick) {
            if !sessions.contains_key(&visitor) {
                sessions.insert(visitor, session().await);
            }
            let session = sessions.get_mut(&visitor).expect("a session");
            session.client.query_one("select 1", &[]).await.expect("an answer");
            session.last = Instant::now();
        }
        sessions.retain(|_, session| session.last.elapsed() < Duration::from_secs(4));
        sleep(Duration::from_millis(200)).await;
    }
}
