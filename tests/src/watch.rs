//! A running `connleak watch`: its lines as they come, and the signals that end it.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, anyhow};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{agent, lines, wait};

/// A running `connleak watch -o json`. Dropping it kills it.
pub struct Watch {
    child: Child,
    stdout: Reader,
    stderr: Reader,
}

/// How a watch ended.
pub struct End {
    /// The exit code; none after a signal that it did not handle.
    pub code: Option<i32>,
    /// All lines of its output.
    pub lines: Vec<Value>,
    /// All its messages.
    pub stderr: String,
}

impl Watch {
    /// Starts `connleak watch -o json ARGS` and waits until it has attached and merged its first snapshot.
    pub fn attached<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut command = agent::command(["watch", "-o", "json"])?;
        command.args(agent::backend());
        for arg in args {
            command.arg(arg.as_ref());
        }
        let mut watch = Self::start(&mut command)?;
        watch.wait_attached()?;
        Ok(watch)
    }

    /// Starts a prepared command.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let stdout = Reader::start(child.stdout.take().context("stdout")?);
        let stderr = Reader::start(child.stderr.take().context("stderr")?);
        Ok(Self {
            child,
            stdout,
            stderr,
        })
    }

    /// Waits for the message that it is watching: from there on it sees everything.
    pub fn wait_attached(&mut self) -> Result<()> {
        self.wait_until("`watching` on stderr", |watch| {
            Ok(watch
                .stderr
                .lines()
                .iter()
                .any(|line| line.contains("watching"))
                .then_some(()))
        })
    }

    /// The lines from number `first` on that are there by now.
    pub fn lines_from(&self, first: usize) -> Result<Vec<Value>> {
        let texts = self.stdout.lines();
        texts.iter().skip(first).map(|text| lines::parse(text)).collect()
    }

    /// The agent's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line, of those already written or still to come, that `wanted` accepts.
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut seen = 0;
        self.wait_until(what, |watch| {
            let texts = watch.stdout.lines();
            while let Some(text) = texts.get(seen) {
                seen += 1;
                let line = lines::parse(text)?;
                if wanted(&line) {
                    return Ok(Some(line));
                }
            }
            Ok(None)
        })
    }

    /// Sends a signal to the agent.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.pid().cast_signed()), signal)?)
    }

    /// Ctrl-C, then the end.
    pub fn interrupt(self) -> Result<End> {
        self.signal(Signal::SIGINT)?;
        self.finish()
    }

    /// Waits until the agent has ended by itself, and returns all that it said.
    pub fn finish(mut self) -> Result<End> {
        let child = &mut self.child;
        let status = wait::until("connleak watch to end", || Ok(child.try_wait()?))?;
        self.stdout.join()?;
        self.stderr.join()?;
        let lines = self
            .stdout
            .lines()
            .iter()
            .map(|line| lines::parse(line))
            .collect::<Result<_>>()?;
        let stderr = self.stderr.lines().join("\n");
        Ok(End {
            code: status.code(),
            lines,
            stderr,
        })
    }

    /// Waits for a condition, and shows what the agent said when it never holds or the agent ends before.
    fn wait_until<T>(
        &mut self,
        what: &str,
        mut probe: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let answer = wait::until(what, || {
            let ended = self.child.try_wait()?;
            if ended.is_some() {
                self.stdout.join()?;
                self.stderr.join()?;
            }
            match (probe(self)?, ended) {
                (None, Some(status)) => Err(anyhow!("connleak watch ended ({status}) before {what}")),
                (answer, _) => Ok(answer),
            }
        });
        answer.with_context(|| {
            format!(
                "stdout:\n{}\nstderr:\n{}",
                self.stdout.lines().join("\n"),
                self.stderr.lines().join("\n")
            )
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Collects the lines of one stream, so that the agent never blocks on a full pipe.
struct Reader {
    lines: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn start(stream: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let thread = thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self {
            lines,
            thread: Some(thread),
        }
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&mut self) -> Result<()> {
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        ended.map_err(|_| anyhow!("the reader of the agent's output panicked"))
    }
}
