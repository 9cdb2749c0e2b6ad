//! `scan` and a Python application that makes a new redis-py client for each request.

use anyhow::{Result, ensure};
use connleak_tests::{agent, lines, require_root, server::redis, watch::Watch};

use crate::leak::{LEAKED, Where, args, leaking, scan_names};

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

/// One thread of Redis serves all connections, and the kernel keeps no times for unix sockets: nothing on the
/// host tells when they were used. A single look must say so, and name what decides it.
#[test]
fn root_scan_suspects_the_redis_leak_over_the_unix_socket_and_names_the_watch_that_decides() -> Result<()> {
    require_root!();
    let server = redis::shared()?;
    let path = server.socket_text();
    let app = leaking(APP, &[&path])?;
    let outcome = agent::scan(args(&["--server", &path]))?;
    let all = outcome.lines()?;
    let found = lines::findings_of(&all, app.pid());
    ensure!(found.len() == 1, "one finding: {}", outcome.describe());
    let line = found[0];
    ensure!(
        line["finding"]["confidence"] == "suspect" && line["finding"]["sockets"] == LEAKED,
        "a suspicion about all sockets: {line:#}"
    );
    ensure!(
        line["finding"]["idle_max_s"].is_null() && line["sockets"][0]["idle_s"].is_null(),
        "no idle time that nobody knows: {line:#}"
    );
    let next = line["finding"]["next"].as_str().unwrap_or_default();
    ensure!(
        next.starts_with("connleak watch") && next.contains(&app.pid().to_string()),
        "the command that decides: {line:#}"
    );
    ensure!(
        outcome.code() == Some(0),
        "a suspicion is no finding: {}",
        outcome.describe()
    );
    Ok(())
}

#[test]
fn root_watch_names_the_redis_leak_over_the_unix_socket() -> Result<()> {
    require_root!();
    let server = redis::shared()?;
    let path = server.socket_text();
    let mut app = leaking(APP, &[&path])?;
    let mut watch = Watch::attached(["--server", &path, "--idle", "2s"])?;
    app.tell("leak 60")?;
    let pid = app.pid();
    watch.wait_for("the leak", |line| {
        lines::is_finding(line, "leak", pid) && line["finding"]["confidence"] != "suspect"
    })?;
    watch.interrupt()?;
    Ok(())
}
