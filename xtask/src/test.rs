//! `cargo xtask test`: everything, on a machine where kernel probes can be loaded.
//!
//! `cargo test` alone runs what needs no privileges. The end-to-end tests need root, the servers that
//! `cargo xtask setup` installs, and the agent as users get it: built with the release profile, and given to them in
//! `CONNLEAK_BIN`.

use std::{
    io::{self, BufRead, BufReader, IsTerminal as _, Read, Write},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{self, cargo, is_root, step},
    setup,
    workspace::Workspace,
};

const EXIT_USAGE: u8 = 2;

/// Flags of `cargo xtask test`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Don't look whether servers and client libraries are there
    #[arg(long)]
    no_setup: bool,
    /// Run only the tests whose name contains one of these; also libtest's flags, after `--`
    filter: Vec<String>,
}

/// Runs the verb.
pub fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if !is_root() {
        eprintln!(
            "error: cargo xtask test loads kernel probes and needs root; `cargo test` runs what does not"
        );
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    if !args.no_setup {
        setup::run(workspace, &setup::Args::default())?;
    }
    step("building the agent: cargo build --release --package connleak");
    let release = ["build", "--locked", "--release", "--package", "connleak"];
    process::run(cargo().args(release).current_dir(&workspace.root))?;
    let agent = workspace.target_dir()?.join("release/connleak");
    if !agent.is_file() {
        bail!(
            "{} was not built (is `build.target` set in cargo's configuration?)",
            agent.display()
        );
    }

    step("running the tests: cargo test --workspace");
    // One pipe for both streams, so that their lines stay in order.
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    let mut tests = cargo();
    tests
        .args(["test", "--locked", "--workspace", "--no-fail-fast", "--"])
        .args(&args.filter)
        .env("CONNLEAK_BIN", &agent)
        .env("CONNLEAK_TEST_ENV", setup::environment()?)
        .current_dir(&workspace.root)
        .stdout(writer.try_clone()?)
        .stderr(writer);
    if io::stderr().is_terminal() {
        tests.env("CARGO_TERM_COLOR", "always");
    }
    let mut running = tests.spawn().context("cannot run `cargo test`")?;
    // The command still holds the pipe's writing end; without this, reading would never come to an end.
    drop(tests);
    let skipped = forward(reader, &mut io::stdout());
    let status = running.wait()?;
    // The last words are cargo test's own, unless they would hide that something did not run.
    if skipped > 0 {
        step(format!("{skipped} SKIPPED, for the reasons above"));
    }
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Passes lines on as they come, and counts those by which a test says that it did not run.
fn forward(pipe: impl Read, terminal: &mut impl Write) -> usize {
    let mut lines = BufReader::new(pipe);
    let mut line = Vec::new();
    let mut skipped = 0;
    while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        skipped += usize::from(is_skip(&line));
        // A terminal that has gone away must not stop the tests: their exit status still counts.
        let _ = terminal.write_all(&line).and_then(|()| terminal.flush());
        line.clear();
    }
    skipped
}

/// Whether a line begins with `SKIPPED:`. libtest may have begun the line: "test name ... ".
fn is_skip(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    line.starts_with("SKIPPED:") || (line.starts_with("test ") && line.contains(" ... SKIPPED:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_pass_unchanged_and_skips_are_counted() {
        let lines = b"SKIPPED: no BTF\ntest a ... SKIPPED: no root\nnot SKIPPED: this\n\xff no newline";
        let mut passed = Vec::new();
        assert_eq!(forward(&lines[..], &mut passed), 2);
        assert_eq!(passed, lines);
    }
}
