//! Connected, and never a byte sent: `never_used`.

use anyhow::{Result, ensure};
use connleak_tests::{agent, app::App, lines, require_root, server::postgres, wait, watch::Watch};

const OPENED: u32 = 3;

fn start(port: u16) -> Result<App> {
    App::start("never_sends.py", ["127.0.0.1", &port.to_string()])
}

#[test]
fn root_scan_names_the_connections_that_never_sent_anything() -> Result<()> {
    require_root!();
    let server = postgres::shared()?;
    let mut app = start(server.port)?;
    app.ask(&format!("open {OPENED}"), &format!("OPENED {OPENED}"))?;
    let only = server.only_this("postgresql");
    // Until they have been idle for a second.
    let (outcome, finding) = wait::until("scan to find never_used", || {
        let outcome = agent::scan(only.iter().map(String::as_str).chain(["--idle", "1s"]))?;
        let found = outcome
            .lines()?
            .into_iter()
            .find(|line| lines::is_finding(line, "never_used", app.pid()));
        Ok(found.map(|finding| (outcome, finding)))
    })?;
    ensure!(outcome.code() == Some(3), "exit code 3: {}", outcome.describe());
    ensure!(
        finding["finding"]["sockets"] == OPENED,
        "{OPENED} sockets: {finding:#}"
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
fn root_watch_names_the_connections_that_never_sent_anything() -> Result<()> {
    require_root!();
    let server = postgres::shared()?;
    let mut app = start(server.port)?;
    let pid = app.pid();
    let only = server.only_this("postgresql");
    let mut watch = Watch::attached(only.iter().map(String::as_str).chain(["--idle", "1s"]))?;
    app.ask(&format!("open {OPENED}"), &format!("OPENED {OPENED}"))?;
    watch.wait_for("never_used of all", |line| {
        lines::is_finding(line, "never_used", pid) && line["finding"]["sockets"] == OPENED
    })?;
    Ok(())
}
