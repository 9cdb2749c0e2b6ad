//! Running `connleak` to its end, and what came out of it.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::Value;

use crate::{lines, wait};

/// What one run of `connleak` left.
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Its data, as text.
    pub stdout: String,
    /// Its messages.
    pub stderr: String,
    /// Its wall time, to be printed; nothing is asserted about durations.
    pub elapsed: Duration,
}

impl Outcome {
    /// The exit code; none after a signal.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The data as JSON Lines: a line that is not JSON is an error.
    pub fn lines(&self) -> Result<Vec<Value>> {
        self.stdout.lines().map(lines::parse).collect()
    }

    /// Everything about this run, for the message of a failed assertion.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "{}\n--- stdout\n{}--- stderr\n{}",
            self.status, self.stdout, self.stderr
        )
    }
}

/// The binary under test: `CONNLEAK_BIN`, else the newest build of this workspace.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("CONNLEAK_BIN") {
        return Ok(path.into());
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let builds = ["release", "debug"].map(|profile| target.join(profile).join("connleak"));
    let built = |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).ok();
    let newest = builds
        .into_iter()
        .filter_map(|path| Some((built(&path)?, path)))
        .max();
    let (_, path) = newest.with_context(|| format!("no connleak in {}: build it first", target.display()))?;
    Ok(path)
}

/// The root of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// `connleak ARGS`, not started yet.
pub fn command<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> Result<Command> {
    let mut command = Command::new(binary()?);
    for arg in args {
        command.arg(arg.as_ref());
    }
    Ok(command)
}

/// `--backend`, when `CONNLEAK_BACKEND` asks for one: the same tests then go the way of other kernels.
#[must_use]
pub fn backend() -> Vec<String> {
    std::env::var("CONNLEAK_BACKEND").map_or_else(|_| Vec::new(), |name| vec!["--backend".to_owned(), name])
}

/// Runs `connleak ARGS` to its end.
pub fn run<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> Result<Outcome> {
    run_command(&mut command(args)?)
}

/// Runs `connleak scan -o json ARGS` to its end.
pub fn scan<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> Result<Outcome> {
    let mut command = command(["scan", "-o", "json"])?;
    command.args(backend());
    for arg in args {
        command.arg(arg.as_ref());
    }
    run_command(&mut command)
}

/// Runs a prepared command to its end; one that never ends is killed, with its children, and is an error.
pub fn run_command(command: &mut Command) -> Result<Outcome> {
    let start = Instant::now();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = output_of(command)?;
    Ok(Outcome {
        status: output.status,
        stdout: String::from_utf8(output.stdout).context("stdout")?,
        stderr: String::from_utf8(output.stderr).context("stderr")?,
        elapsed: start.elapsed(),
    })
}

/// Starts the command in a process group of its own, and waits for it with [`wait::PATIENCE`].
fn output_of(command: &mut Command) -> Result<Output> {
    let child = command
        .process_group(0)
        .spawn()
        .with_context(|| format!("run {command:?}"))?;
    let group = Pid::from_raw(child.id().cast_signed());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    if let Ok(output) = receiver.recv_timeout(wait::PATIENCE) {
        return Ok(output?);
    }
    killpg(group, Signal::SIGKILL)?;
    bail!("{command:?} did not end")
}
