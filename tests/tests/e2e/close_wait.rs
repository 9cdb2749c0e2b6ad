//! The server has closed, the application still holds the descriptor: `close_wait`.

use anyhow::{Result, ensure};
use connleak_tests::{agent, app::App, lines, require_root, server::postgres, wait, watch::Watch};

const KEPT: u32 = 3;

fn start(port: u16) -> Result<App> {
    App::start(
        "server_closes_first.py",
        [format!(
            "host=127.0.0.1 port={port} user=postgres dbname=postgres"
        )],
    )
}

#[test]
fn root_scan_names_the_descriptors_kept_after_the_server_closed() -> Result<()> {
    require_root!();
    let server = postgres::shared()?;
    let mut app = start(server.port)?;
    app.ask(&format!("open {KEPT}"), &format!("CLOSE_WAIT {KEPT}"))?;
    let only = server.only_this("postgresql");
    // Until they have been idle for a second.
    let (outcome, finding) = wait::until("scan to find close_wait", || {
        let outcome = agent::scan(only.iter().map(String::as_str).chain(["--idle", "1s"]))?;
        let found = outcome
            .lines()?
            .into_iter()
            .find(|line| lines::is_finding(line, "close_wait", app.pid()));
        Ok(found.map(|finding| (outcome, finding)))
    })?;
    ensure!(outcome.code() == Some(3), "exit code 3: {}", outcome.describe());
    ensure!(
        finding["finding"]["sockets"] == KEPT,
        "{KEPT} sockets: {finding:#}"
    );
    ensure!(
        finding["sockets"][0]["state"] == "CLOSE_WAIT",
        "their state: {finding:#}"
    );
    let all = outcome.lines()?;
    ensure!(
        lines::findings_of(&all, app.pid()).len() == 1,
        "nothing else: {}",
        outcome.describe()
    );
    Ok(())
}

#[test]
fn root_watch_names_the_descriptors_kept_after_the_server_closed() -> Result<()> {
    require_root!();
    let server = postgres::shared()?;
    let mut app = start(server.port)?;
    let pid = app.pid();
    let only = server.only_this("postgresql");
    let mut watch = Watch::attached(only.iter().map(String::as_str).chain(["--idle", "1s"]))?;
    app.ask(&format!("open {KEPT}"), &format!("CLOSE_WAIT {KEPT}"))?;
    watch.wait_for("close_wait of all", |line| {
        lines::is_finding(line, "close_wait", pid) && line["finding"]["sockets"] == KEPT
    })?;
    Ok(())
}
