//! Limits: how long until the server refuses everybody, and what a policy allows.

use std::{fs, process::Command};

use anyhow::{Result, ensure};
use connleak_tests::{agent, app::App, lines, require_root, root, server::postgres, watch::Watch};

/// What the server accepts: eight seconds of the leak.
const LIMIT: u32 = 40;

fn leaking_app(port: u16) -> Result<App> {
    let dsn = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    App::start("leak_psycopg.py", [dsn])
}

#[test]
fn root_watch_says_how_long_until_the_server_is_full_before_it_refuses() -> Result<()> {
    require_root!();
    let server = postgres::small(LIMIT)?;
    let mut app = leaking_app(server.port)?;
    let pid = app.pid();
    let limit = LIMIT.to_string();
    let only = server.only_this("postgresql");
    let args = ["--idle", "1s", "--server-limit", &limit];
    let mut watch = Watch::attached(only.iter().map(String::as_str).chain(args))?;
    app.tell("leak 100")?;

    let ahead = watch.wait_for("the forecast", |line| lines::is_finding(line, "exhaustion", pid))?;
    let told = &ahead["finding"];
    root::say(&format!(
        "at {} of {LIMIT}: full in {} s, growing by {}/min",
        told["server_open"], told["exhausted_in_s"], told["growth_per_min"]
    ));
    ensure!(told["server_limit"] == LIMIT, "the limit: {ahead:#}");
    ensure!(
        told["server_open"].as_u64() < Some(u64::from(LIMIT)),
        "before it is reached: {ahead:#}"
    );
    ensure!(
        told["exhausted_in_s"].as_f64().is_some_and(|left| left > 0.0),
        "the time left: {ahead:#}"
    );
    ensure!(
        told["growth_per_min"].as_f64().is_some_and(|rate| rate > 0.0),
        "its pace: {ahead:#}"
    );

    app.hear(&format!("LEAKED {LIMIT}"))?;
    let refused = Command::new("psql")
        .args(["-h", "127.0.0.1", "-U", "postgres", "-c", "select 1", "-p"])
        .arg(server.port.to_string())
        .output()?;
    ensure!(!refused.status.success(), "the server is full: {refused:?}");
    let full = watch.wait_for("the full server", |line| {
        lines::is_finding(line, "exhaustion", pid) && line["finding"]["confidence"] == "certain"
    })?;
    ensure!(
        full["finding"]["exhausted_in_s"] == 0.0 && full["finding"]["id"] == told["id"],
        "the same finding, and no time left: {full:#}"
    );

    app.tell("close")?;
    watch.wait_for("its end", |line| {
        lines::is(line, "resolved")
            && line["finding"]["id"] == told["id"]
            && line["finding"]["resolution"] == "below"
    })?;
    Ok(())
}

#[test]
fn root_one_connection_more_than_the_policy_allows_makes_the_exit_code_3() -> Result<()> {
    require_root!();
    let server = postgres::shared()?;
    let mut app = leaking_app(server.port)?;
    let pid = app.pid();
    // Too few for the pattern of a leak to be more than a suspicion.
    app.ask("leak 4", "LEAKED 4")?;
    let pid_text = pid.to_string();
    let only = server.only_this("postgresql");
    let scan = |more: &[&str]| {
        let one = ["--pid", &pid_text];
        agent::scan(
            only.iter()
                .map(String::as_str)
                .chain(one)
                .chain(more.iter().copied()),
        )
    };
    let kept = scan(&["--max-open", "4"])?;
    ensure!(kept.code() == Some(0), "as many as allowed: {}", kept.describe());
    let broken = scan(&["--max-open", "3"])?;
    ensure!(broken.code() == Some(3), "one more: {}", broken.describe());

    // For this process alone, by its name.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("policy.toml");
    let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
    let limit = format!(
        "max_open = 100\n[[limit]]\nprocess = \"{}\"\nmax_open = 3\n",
        name.trim()
    );
    fs::write(&file, limit)?;
    let path = file.display().to_string();
    let named = scan(&["--policy", &path])?;
    ensure!(named.code() == Some(3), "one more: {}", named.describe());
    let all = named.lines()?;
    let finding = all.iter().find(|line| lines::is_finding(line, "policy", pid));
    ensure!(
        finding.is_some_and(|line| {
            let breach = &line["finding"]["policy"];
            breach["limit"] == "max_open" && breach["allowed"] == 3.0 && breach["actual"] == 4.0
        }),
        "the limit in numbers: {}",
        named.describe()
    );

    fs::write(&file, "max_open = \"many\"\n")?;
    let wrong = scan(&["--policy", &path])?;
    ensure!(
        wrong.code() == Some(2) && wrong.stderr.contains("policy.toml:1: max_open: expected"),
        "the line and what is expected: {}",
        wrong.describe()
    );
    Ok(())
}
