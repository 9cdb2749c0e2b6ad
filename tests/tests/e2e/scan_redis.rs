//! `scan` and a Python application that makes a new redis-py client for each request.

use anyhow::Result;
use connleak_tests::{require_root, server::redis};

use crate::leak::{Where, args, leaking, scan_names};

const APP: &str = "leak_redis.py";
const SYSTEM: &[&str] = &["redis"];

#[test]
fn root_scan_names_the_python_process_that_leaks_30_redis_clients() -> Result<()> {
    require_root!();
    let server = redis::shared()?;
    let app = leaking(APP, &["127.0.0.1", &server.port.to_string()])?;
    scan_names(
        app.pid(),
        &server.only_this("redis"),
        SYSTEM,
        &Where::Tcp("127.0.0.1", server.port),
    )
}

#[test]
fn root_scan_names_the_redis_leak_over_the_unix_socket() -> Result<()> {
    require_root!();
    let server = redis::shared()?;
    let path = server.socket_text();
    let app = leaking(APP, &[&path])?;
    scan_names(app.pid(), &args(&["--db", "redis"]), SYSTEM, &Where::Unix(&path))
}
