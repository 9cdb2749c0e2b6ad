//! Many short connections: the counts are exact, nothing is lost, and none of it is a leak.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use connleak_tests::{lines, require_root, server::redis, sink, watch::Watch};

#[test]
fn root_watch_counts_5000_short_connections_beside_50000_others_exactly() -> Result<()> {
    require_root!();
    let server = redis::start()?;
    let elsewhere = sink::start()?;
    let watch = Watch::attached(server.only_this("redis"))?;
    let churn = |port: u16, count: u32| {
        Command::new(env!("CARGO_BIN_EXE_churn"))
            .args([port.to_string(), count.to_string()])
            .spawn()
            .context("churn")
    };
    let clients = [churn(server.port, 5_000)?, churn(elsewhere, 50_000)?];
    for mut client in clients {
        let status = client.wait()?;
        ensure!(status.success(), "churn: {status}");
    }
    let end = watch.interrupt()?;
    let summary = lines::summary(&end.lines)?;
    ensure!(
        summary["opened"] == 5_000 && summary["closed"] == 5_000,
        "exact counts: {summary:#}"
    );
    ensure!(
        summary["completeness"]["events_lost"] == 0,
        "nothing lost: {summary:#}"
    );
    ensure!(
        lines::findings(&end.lines).is_empty(),
        "no finding: {:#?}",
        end.lines
    );
    ensure!(
        end.code == Some(0),
        "exit code 0, not {:?}: {}",
        end.code,
        end.stderr
    );
    Ok(())
}
