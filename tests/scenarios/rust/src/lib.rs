//! What the Rust scenarios share: waiting for the word to go, the truth about leaks, a pool.

use std::io::stdin;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use tokio_postgres::{Config, NoTls};

pub fn go() {
    println!("READY");
    stdin().read_line(&mut String::new()).expect("the word to go");
}

pub fn leaked(count: usize) {
    println!("LEAKED {count} {}", std::process::id());
}

pub fn config() -> Config {
    let port = std::env::var("PGPORT").expect("PGPORT").parse().expect("a port");
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user("postgres").dbname("postgres");
    config
}

pub fn pool(size: usize) -> Pool {
    let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    Pool::builder(Manager::from_config(config(), NoTls, recycle)).max_size(size).build().expect("a pool")
}
