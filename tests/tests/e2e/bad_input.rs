//! Bad input: one clear line on standard error, the right exit code, no panic.

use std::{
    fs,
    io::{self, PipeReader},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use connleak_tests::{
    agent::{self, Outcome},
    app::App,
    require_root,
    server::redis,
    wait,
    watch::Watch,
};

/// One line of message, no data, and one of these exit codes.
fn refuses(outcome: &Outcome, codes: &[i32]) -> Result<()> {
    ensure!(
        outcome.code().is_some_and(|code| codes.contains(&code)),
        "exit code {codes:?}: {}",
        outcome.describe()
    );
    ensure!(
        outcome.stderr.lines().count() == 1,
        "one line on stderr: {}",
        outcome.describe()
    );
    ensure!(
        outcome.stdout.is_empty(),
        "nothing on stdout: {}",
        outcome.describe()
    );
    Ok(())
}

fn no_panic(outcome: &Outcome) -> Result<()> {
    ensure!(
        !outcome.stderr.contains("panicked"),
        "no panic: {}",
        outcome.describe()
    );
    ensure!(
        matches!(outcome.code(), Some(0 | 3)),
        "a closed pipe is no error: {}",
        outcome.describe()
    );
    Ok(())
}

#[test]
fn root_without_privileges_it_says_what_is_missing() -> Result<()> {
    require_root!();
    // Somewhere that everybody can read; a build folder may be in a private home.
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy = folder.path().join("connleak");
    fs::copy(agent::binary()?, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    for subcommand in [&["scan"][..], &["watch", "--for", "1s"], &["demo"]] {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--no-new-privs",
        ]);
        command.arg(&copy).args(subcommand);
        refuses(&agent::run_command(&mut command)?, &[2]).with_context(|| subcommand.join(" "))?;
    }
    Ok(())
}

#[test]
fn an_unknown_port_name_is_refused() -> Result<()> {
    refuses(&agent::run(["scan", "--port", "6000=nosuchdb"])?, &[2])
}

#[test]
fn an_unknown_database_is_refused() -> Result<()> {
    refuses(&agent::run(["scan", "--db", "nosuchdb"])?, &[2])
}

#[test]
fn sizes_of_stacks_and_formats_that_do_not_exist_are_refused() -> Result<()> {
    for call in [
        ["watch", "--stack-kib", "0"],
        ["watch", "--stack-kib", "65"],
        ["record", "--stack-kib", "much"],
        ["watch", "-o", "svg"],
    ] {
        refuses(&agent::run(call)?, &[2])?;
    }
    Ok(())
}

#[test]
fn contradictory_filters_are_refused() -> Result<()> {
    refuses(&agent::run(["scan", "--all-ports", "--db", "redis"])?, &[2])
}

#[test]
fn root_a_pid_that_does_not_exist_is_refused() -> Result<()> {
    require_root!();
    // Above the kernel's own limit for pids.
    let pid = "4194999";
    let outcome = agent::run(["scan", "--pid", pid])?;
    ensure!(
        outcome.stderr.contains(pid),
        "it names the pid: {}",
        outcome.describe()
    );
    refuses(&outcome, &[2])
}

#[test]
fn root_a_log_file_that_cannot_be_opened_is_refused() -> Result<()> {
    require_root!();
    let outcome = agent::run(["watch", "--for", "1s", "--log-file", "/nonexistent/x"])?;
    ensure!(
        outcome.stderr.contains("/nonexistent/x"),
        "it names the file: {}",
        outcome.describe()
    );
    refuses(&outcome, &[1, 2])
}

#[test]
fn root_a_full_disk_is_an_error_in_one_line() -> Result<()> {
    require_root!();
    // The summary at the latest is one line too many for a full disk.
    let outcome = agent::run([
        "watch",
        "-o",
        "json",
        "--db",
        "memcached",
        "--for",
        "1s",
        "--log-file",
        "/dev/full",
    ])?;
    ensure!(outcome.code() == Some(1), "exit code 1: {}", outcome.describe());
    let about: Vec<&str> = outcome
        .stderr
        .lines()
        .filter(|line| line.contains("/dev/full"))
        .collect();
    ensure!(about.len() == 1, "one line about it: {}", outcome.describe());

    let full = fs::File::options().write(true).open("/dev/full")?;
    let outcome = with_stdout(&mut agent::command(["scan", "-o", "json"])?, full.into())?;
    refuses(&outcome, &[1])
}

#[test]
fn root_scan_into_a_closed_pipe_ends_quietly() -> Result<()> {
    require_root!();
    let mut command = agent::command(["scan", "-o", "json"])?;
    let outcome = with_stdout(&mut command, closed_pipe()?)?;
    no_panic(&outcome)
}

#[test]
fn root_demo_into_head_shows_three_lines() -> Result<()> {
    require_root!();
    let script = "set -o pipefail; \"$0\" demo | head -3";
    let outcome = agent::run_command(Command::new("bash").args(["-c", script]).arg(agent::binary()?))?;
    ensure!(
        outcome.stdout.lines().count() == 3,
        "three lines: {}",
        outcome.describe()
    );
    no_panic(&outcome)
}

#[test]
fn root_watch_ends_when_its_reader_is_gone() -> Result<()> {
    require_root!();
    let server = redis::start()?;
    let mut app = App::start("leak_redis.py", ["127.0.0.1", &server.port.to_string()])?;
    let mut command = agent::command(["watch", "-o", "json", "--events"])?;
    command
        .args(server.only_this("redis"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.stdout(closed_pipe()?).spawn()?;
    app.tell("leak 100")?;
    let ended = wait::until("watch to end", || Ok(child.try_wait()?));
    if ended.is_err() {
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    ended?;
    let stderr = String::from_utf8(output.stderr)?;
    ensure!(
        !stderr.contains("panicked") && output.status.code() == Some(0),
        "{}: {stderr}",
        output.status
    );
    Ok(())
}

#[test]
fn root_watch_says_nothing_but_that_it_watches_when_nothing_happens() -> Result<()> {
    require_root!();
    let end = Watch::attached(["--db", "memcached"])?.interrupt()?;
    ensure!(
        end.code == Some(0) && end.lines.len() == 1,
        "just the summary: {:?} {:#?}",
        end.code,
        end.lines
    );
    Ok(())
}

/// A pipe to which any write fails with EPIPE.
fn closed_pipe() -> Result<Stdio> {
    let (reader, writer): (PipeReader, _) = io::pipe()?;
    drop(reader);
    Ok(writer.into())
}

fn with_stdout(command: &mut Command, stdout: Stdio) -> Result<Outcome> {
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
    let output = command.spawn()?.wait_with_output()?;
    let stderr = String::from_utf8(output.stderr)?;
    Ok(Outcome {
        status: output.status,
        stdout: String::new(),
        stderr,
        elapsed: std::time::Duration::ZERO,
    })
}
