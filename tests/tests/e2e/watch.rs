//! `watch`, started before the leak: it names it, it retracts it, and it ends with a summary.

use anyhow::{Result, ensure};
use connleak_tests::{app::App, lines, require_root, server::postgres, watch::Watch};
use nix::sys::signal::Signal;

#[test]
fn root_watch_names_the_leak_and_retracts_it_when_the_application_closes() -> Result<()> {
    require_root!();
    let server = postgres::start()?;
    let dsn = format!(
        "host=127.0.0.1 port={} user=postgres dbname=postgres",
        server.port
    );
    let mut app = App::start("leak_psycopg.py", [dsn])?;
    let pid = app.pid();
    let mut watch = Watch::attached(
        server
            .only_this("postgresql")
            .iter()
            .map(String::as_str)
            .chain(["--idle", "2s"]),
    )?;

    app.tell("leak 100")?;
    let finding = watch.wait_for("the leak", |line| lines::is_finding(line, "leak", pid))?;
    ensure!(
        finding["finding"]["sockets"].as_u64() >= Some(3),
        "three sockets or more: {finding:#}"
    );
    ensure!(
        finding["server"]["port"] == server.port,
        "the server: {finding:#}"
    );

    app.tell("close")?;
    let id = &finding["finding"]["id"];
    ensure!(id.is_string(), "an id: {finding:#}");
    watch.wait_for("its retraction", |line| {
        lines::is(line, "resolved") && &line["finding"]["id"] == id
    })?;

    let end = watch.interrupt()?;
    ensure!(
        end.code == Some(0),
        "no finding is left, so 0, not {:?}: {}",
        end.code,
        end.stderr
    );
    let summary = lines::summary(&end.lines)?;
    ensure!(
        summary["completeness"]["events_lost"] == 0,
        "nothing lost: {summary:#}"
    );
    ensure!(
        summary["opened"] == summary["closed"],
        "all that was opened was closed: {summary:#}"
    );
    Ok(())
}

#[test]
fn root_watch_ends_on_sigterm_with_the_summary() -> Result<()> {
    require_root!();
    let watch = Watch::attached(["--db", "memcached"])?;
    watch.signal(Signal::SIGTERM)?;
    let end = watch.finish()?;
    ensure!(
        end.code == Some(0),
        "exit code 0, not {:?}: {}",
        end.code,
        end.stderr
    );
    lines::summary(&end.lines)?;
    Ok(())
}
