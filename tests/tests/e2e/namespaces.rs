//! A leak inside other network, mount and pid namespaces, as in a container, and found from the host.

use anyhow::{Result, ensure};
use connleak_tests::{app::App, lines, require_root, watch::Watch};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::leak::{LEAKED, Where, args, scan_names};

/// `leak_in_namespace.py ARGS`, as in a container.
fn contained(args: &[&str]) -> Result<App> {
    App::start_contained("leak_in_namespace.py", args)
}

#[test]
fn root_scan_names_a_leak_in_other_namespaces_with_the_pid_of_the_host() -> Result<()> {
    require_root!();
    let mut app = contained(&[])?;
    app.ask(&format!("leak {LEAKED}"), &format!("LEAKED {LEAKED}"))?;
    let pid = app.first_child()?;
    ensure!(pid != 1, "the pid as the host sees it");
    scan_names(
        pid,
        &args(&["--server", "127.0.0.1:5432"]),
        &["postgresql"],
        &Where::Tcp("127.0.0.1", 5432),
    )
}

#[test]
fn root_the_same_four_tuple_in_two_namespaces_is_two_connections() -> Result<()> {
    require_root!();
    let filter = [
        "--port",
        "15432=postgresql",
        "--server",
        "127.0.0.1:15432",
        "--events",
    ];
    let mut watch = Watch::attached(filter)?;
    let mut apps = [contained(&["15432", "41000"])?, contained(&["15432", "41000"])?];
    for app in &mut apps {
        app.ask("leak 2", "LEAKED 2")?;
    }
    let pids = [apps[0].first_child()?, apps[1].first_child()?];
    let opened_by = |pid: u32| move |line: &Value| lines::is(line, "open") && lines::of_pid(line, pid);
    let first = watch.wait_for("an opening in the one", opened_by(pids[0]))?;
    let second = watch.wait_for("an opening in the other", opened_by(pids[1]))?;
    ensure!(
        first["socket"]["client"] == second["socket"]["client"],
        "the same four-tuple: {first:#} {second:#}"
    );
    ensure!(
        first["socket"]["netns"] != second["socket"]["netns"]
            && first["socket"]["cookie"] != second["socket"]["cookie"],
        "and yet two connections: {first:#} {second:#}"
    );
    apps[0].tell("close")?;
    watch.wait_for("a close", |line| lines::is(line, "close"))?;
    apps[0].hear("CLOSED 2")?;

    let end = watch.interrupt()?;
    let closes: Vec<_> = end.lines.iter().filter(|line| lines::is(line, "close")).collect();
    ensure!(
        closes.len() == 2 && closes.iter().all(|line| lines::of_pid(line, pids[0])),
        "only the one's are closed: {closes:#?}"
    );
    let summary = lines::summary(&end.lines)?;
    ensure!(
        summary["opened"] == 4 && summary["closed"] == 2 && summary["sockets"] == 2,
        "four, two, two: {summary:#}"
    );
    Ok(())
}

#[test]
fn root_a_container_that_goes_away_leaves_no_connection_behind() -> Result<()> {
    require_root!();
    let filter = [
        "--port",
        "15433=postgresql",
        "--server",
        "127.0.0.1:15433",
        "--events",
    ];
    let mut watch = Watch::attached(filter)?;
    let mut app = contained(&["15433", "42000"])?;
    app.ask("leak 3", "LEAKED 3")?;
    // The first process of a pid namespace takes all others, and then the network namespace, with it.
    let init = Pid::from_raw(app.first_child()?.cast_signed());
    kill(init, Signal::SIGKILL)?;
    let mut closed = 0;
    while closed < 3 {
        watch.wait_for("its connections' ends", |line| {
            lines::is(line, "close") && line["socket"]["client"]["port"] == 42000 + closed
        })?;
        closed += 1;
    }
    let summary = lines::summary(&watch.interrupt()?.lines)?.clone();
    ensure!(
        summary["opened"] == 3 && summary["closed"] == 3 && summary["sockets"] == 0,
        "three came, three went: {summary:#}"
    );
    Ok(())
}
