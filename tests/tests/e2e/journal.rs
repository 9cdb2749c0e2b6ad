//! `record` and `replay`: the same findings, later, elsewhere, without root.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Result, ensure};
use connleak_tests::{agent, app::App, lines, require_root, server::redis, watch::Watch};
use serde_json::Value;

fn without_summary(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| !lines::is(line, "summary")).collect()
}

#[test]
fn root_a_replay_says_what_the_watch_said_and_a_cut_journal_is_still_judged() -> Result<()> {
    require_root!();
    let server = redis::shared()?;
    let mut app = App::start("leak_redis.py", ["127.0.0.1", &server.port.to_string()])?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("journal");
    let name = path.to_string_lossy().into_owned();
    let only = server.only_this("redis");
    let pid = app.pid();
    let mut watch = Watch::attached(only.iter().map(String::as_str).chain([
        "--idle",
        "1s",
        "--events",
        "--journal",
        &name,
    ]))?;
    app.tell("leak 100")?;
    watch.wait_for("the leak", |line| lines::is_finding(line, "leak", pid))?;
    app.tell("close")?;
    watch.wait_for("its retraction", |line| lines::is(line, "resolved"))?;
    let live = watch.interrupt()?;

    let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
    ensure!(
        mode == 0o600,
        "a journal names processes and servers: mode {mode:o}"
    );
    let replay = agent::run(["replay", &name, "-o", "json", "--events"])?;
    ensure!(replay.code() == Some(0), "resolved, so 0: {}", replay.describe());
    let again = replay.lines()?;
    ensure!(
        without_summary(&live.lines) == without_summary(&again),
        "the same lines: {}",
        replay.describe()
    );

    // A crash in the middle of the last write.
    let data = fs::read(&path)?;
    fs::write(&path, &data[..data.len() - 5])?;
    let cut = agent::run(["replay", &name, "-o", "json"])?;
    ensure!(
        cut.stderr.contains("cut short"),
        "the damage is told: {}",
        cut.describe()
    );
    ensure!(
        cut.lines()?
            .iter()
            .any(|line| lines::is_finding(line, "leak", pid)),
        "what was read is judged: {}",
        cut.describe()
    );

    fs::write(&path, b"\x7fELF\x02\x01\x01\x00")?;
    let foreign = agent::run(["replay", &name])?;
    ensure!(
        foreign.code() == Some(1) && foreign.stderr.lines().count() == 1,
        "one line: {}",
        foreign.describe()
    );
    Ok(())
}
