//! Many short connections: the counts are exact, nothing is lost, and none of it is a leak.

use std::{
    io,
    net::{Ipv4Addr, TcpStream},
    process::Command,
};

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

/// Attaching takes a while, and connections come and go meanwhile: none may be missed, doubled, or stay for ever.
#[test]
fn root_connections_that_come_and_go_while_the_agent_attaches_are_neither_missed_nor_doubled() -> Result<()> {
    require_root!();
    let server = redis::start()?;
    let held: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)))
        .collect::<io::Result<_>>()?;
    let mut client = Command::new(env!("CARGO_BIN_EXE_churn"))
        .args([server.port.to_string(), "1000000".to_owned()])
        .spawn()
        .context("churn")?;
    let only = server.only_this("redis");
    for _ in 0..3 {
        let watch = Watch::attached(&only)?;
        let end = watch.interrupt()?;
        let summary = lines::summary(&end.lines)?;
        let number = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
        let before = number(&summary["completeness"]["opened_before_attach"]);
        let there = before + number(&summary["opened"]) - number(&summary["closed"]);
        // The one client may be in the middle of a connect, which is no opening yet.
        ensure!(
            number(&summary["sockets"]) - there <= 1,
            "what came and did not go is there: {summary:#}"
        );
        ensure!(
            (20..=21).contains(&number(&summary["sockets"])),
            "the held ones, and at most the one of this moment: {summary:#}"
        );
    }
    ensure!(
        client.try_wait()?.is_none(),
        "the connections went on all the while"
    );
    client.kill()?;
    client.wait()?;
    drop(held);
    Ok(())
}
