//! A healthy pool stays quiet: SQLAlchemy's, with twenty connections, bursts, and silence between and after them.

use std::{
    env, thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use connleak_tests::{
    agent,
    app::App,
    lines, require_root,
    server::{Server, postgres},
    watch::Watch,
};

/// How long the pool is left idle: the whole minute with `CONNLEAK_LONG=1`, else as long as shows the same.
fn idle() -> Duration {
    Duration::from_secs(if env::var_os("CONNLEAK_LONG").is_some() {
        60
    } else {
        12
    })
}

fn start(server: &Server) -> Result<App> {
    App::start(
        "pool_sqlalchemy.py",
        [format!(
            "postgresql+psycopg://postgres@127.0.0.1:{}/postgres",
            server.port
        )],
    )
}

#[test]
fn root_scan_finds_nothing_in_an_idle_sqlalchemy_pool() -> Result<()> {
    require_root!();
    let server = postgres::start()?;
    let mut app = start(&server)?;
    app.ask("bursts 3", "BURST 3")?;
    // At once after the burst, in the middle of the silence, and at its end; with the usual --idle and a short one.
    let rests = Instant::now();
    for share in [0, 1, 2] {
        thread::sleep((idle() * share / 2).saturating_sub(rests.elapsed()));
        for more in [&[][..], &["--idle", "1s"]] {
            let outcome = agent::scan(
                server
                    .only_this("postgresql")
                    .iter()
                    .map(String::as_str)
                    .chain(more.iter().copied()),
            )?;
            let all = outcome.lines()?;
            ensure!(
                lines::findings(&all).is_empty(),
                "no finding: {}",
                outcome.describe()
            );
            ensure!(outcome.code() == Some(0), "exit code 0: {}", outcome.describe());
            ensure!(
                lines::summary(&all)?["sockets"] == 20,
                "it did see the pool: {}",
                outcome.describe()
            );
        }
    }
    Ok(())
}

#[test]
fn root_watch_finds_nothing_in_a_sqlalchemy_pool_with_bursts_and_silence() -> Result<()> {
    require_root!();
    let server = postgres::start()?;
    let mut app = start(&server)?;
    let time = format!("{}s", 10 + idle().as_secs());
    let only = server.only_this("postgresql");
    let watch = Watch::attached(
        only.iter()
            .map(String::as_str)
            .chain(["--idle", "1s", "--for", &time]),
    )?;
    app.tell("bursts 4")?;
    let end = watch.finish()?;
    let found = lines::findings(&end.lines);
    ensure!(found.is_empty(), "no finding: {found:#?}");
    ensure!(
        end.code == Some(0),
        "exit code 0, not {:?}: {}",
        end.code,
        end.stderr
    );
    let summary = lines::summary(&end.lines)?;
    ensure!(
        summary["opened"] == 20 && summary["closed"] == 0,
        "it did see the pool: {summary:#}"
    );
    app.hear("BURST 4")
}
