//! Kernels that lack what connleak prefers, as far as a mount namespace can pretend to be one.

use std::process::Command;

use anyhow::{Result, ensure};
use connleak_tests::{agent, lines, require_root, server::redis};

use crate::leak::leaking;

/// Runs `connleak ARGS` where the kernel's BTF cannot be seen, after `prepare`.
fn without_btf(prepare: &str, args: &[&str]) -> Result<agent::Outcome> {
    let script = format!("mount -t tmpfs nothing /sys/kernel/btf && {prepare} exec \"$@\"");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "bash", "-c", &script, "bash"])
        .arg(agent::binary()?)
        .args(args);
    agent::run_command(&mut command)
}

#[test]
fn root_without_btf_and_tracefs_it_says_what_is_missing_in_one_line() -> Result<()> {
    require_root!();
    // An empty file system hides a tracefs that somebody may have mounted.
    let hide = "{ ! mountpoint -q /sys/kernel/tracing || mount -t tmpfs nothing /sys/kernel/tracing; } && \
                { ! mountpoint -q /sys/kernel/debug || mount -t tmpfs nothing /sys/kernel/debug; } &&";
    let outcome = without_btf(hide, &["scan"])?;
    ensure!(
        outcome.code() == Some(1) && outcome.stdout.is_empty() && outcome.stderr.lines().count() == 1,
        "one line, exit code 1: {}",
        outcome.describe()
    );
    ensure!(
        outcome.stderr.contains("BTF") && outcome.stderr.contains("tracefs"),
        "what is missing: {}",
        outcome.describe()
    );
    Ok(())
}

#[test]
fn root_without_btf_it_takes_the_classic_tracepoints_and_names_the_leak() -> Result<()> {
    require_root!();
    let server = redis::shared()?;
    let app = leaking("leak_redis.py", &["127.0.0.1", &server.port.to_string()])?;
    let only = server.only_this("redis");
    let mut args = vec!["scan", "-o", "json"];
    args.extend(only.iter().map(String::as_str));
    let outcome = without_btf("mount -t tracefs nothing /sys/kernel/tracing &&", &args)?;
    let all = outcome.lines()?;
    let found = lines::findings_of(&all, app.pid());
    ensure!(
        outcome.code() == Some(3) && found.len() == 1 && found[0]["finding"]["kind"] == "leak",
        "the leak: {}",
        outcome.describe()
    );
    Ok(())
}
