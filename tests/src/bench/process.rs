//! Processes that the bench starts, and their end: by pid, whatever happens.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::wait;

/// A load that runs in the background until this is dropped.
pub struct Background {
    child: Child,
    /// The end of its input is what it waits for.
    input: Option<ChildStdin>,
}

impl Background {
    /// Starts `bench load ARGS`, and returns when it says that it is ready.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(args: &[String]) -> Result<Self> {
        let mut child = own(args)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a load")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("its output")?;
        let background = Self { child, input };
        wait_for_word(output).with_context(|| format!("load {}", args.join(" ")))?;
        Ok(background)
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.wait());
    }
}

fn wait_for_word(output: ChildStdout) -> Result<()> {
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    ensure!(
        line.trim() == "\"ready\"",
        "it said '{}' instead of ready",
        line.trim()
    );
    Ok(())
}

/// Runs `bench load ARGS` to its end, and returns what it measured.
///
/// # Errors
/// When it fails, or prints no JSON.
pub fn measure(args: &[String]) -> Result<Value> {
    let output = own(args)?
        .stderr(Stdio::inherit())
        .output()
        .context("run a load")?;
    ensure!(
        output.status.success(),
        "load {}: {}",
        args.join(" "),
        output.status
    );
    let text = String::from_utf8(output.stdout)?;
    serde_json::from_str(text.trim()).with_context(|| format!("load {}: {text}", args.join(" ")))
}

fn own(args: &[String]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("load").args(args);
    Ok(command)
}

/// `words` as arguments.
#[must_use]
pub fn words(words: &[&dyn ToString]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

/// A number of a measurement.
///
/// # Errors
/// When it is not there.
pub fn number(value: &Value, name: &str) -> Result<f64> {
    value[name]
        .as_f64()
        .with_context(|| format!("no number {name} in {value}"))
}

/// Asks a process to end, and waits for it. It is asked again when it does not: bpftrace 0.17 loses a signal now and then.
///
/// # Errors
/// When it cannot be asked.
pub fn interrupt(child: &mut Child) -> Result<()> {
    let mut asked: Option<Instant> = None;
    wait::until("a process to end", || {
        if asked.is_none_or(|asked| asked.elapsed() > Duration::from_secs(2)) {
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).context("interrupt")?;
            asked = Some(Instant::now());
        }
        child.try_wait().context("wait")
    })?;
    Ok(())
}

/// Nanoseconds that all threads of a process have run.
///
/// # Errors
/// When the process is gone.
pub fn run_time(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split(' ').next().context("schedstat")?;
        total += first.parse::<u64>().context("schedstat")?;
    }
    Ok(total)
}

/// Bytes of memory that a process has.
///
/// # Errors
/// When the process is gone.
pub fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    Ok(kib.context("VmRSS")?.parse::<u64>()? * 1024)
}

/// Runs a program to its end, its output counted and thrown away; how many bytes it was.
///
/// # Errors
/// When it can't be run, or fails.
pub fn run_quietly(command: &mut Command) -> Result<u64> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("run {command:?}"))?;
    let mut bytes = 0;
    if let Some(mut output) = child.stdout.take() {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match output.read(&mut buffer)? {
                0 => break,
                length => bytes += length as u64,
            }
        }
    }
    let status = child.wait()?;
    // 3 is `connleak scan` that has found something; lsof says 1 when one of many files could not be looked at.
    if !matches!(status.code(), Some(0 | 1 | 3)) {
        bail!("{command:?}: {status}");
    }
    Ok(bytes)
}
