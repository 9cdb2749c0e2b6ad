//! Who watches while a load runs: nobody, connleak, or what people use today.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::process::interrupt;
use crate::{agent, wait};

/// After that, a tool has done what it does once: what is measured is what it costs from then on. connleak looks at all
/// processes once when it starts; what its start takes is measured by itself.
const SETTLED: Duration = Duration::from_millis(300);

/// One line for each state change, as people write it.
const ONE_LINER: &str = r#"tracepoint:sock:inet_sock_set_state { printf("%d %s %d %d %d\n", pid, comm, args->dport, args->oldstate, args->newstate); }"#;

/// A program to be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tool {
    /// None: what all others are compared with.
    Nobody,
    /// `connleak watch` with these arguments.
    Connleak(Vec<String>),
    /// `tcplife` of libbpf-tools.
    Tcplife,
    /// `tcpstates` of libbpf-tools.
    Tcpstates,
    /// A bpftrace one-liner on the same tracepoint.
    Bpftrace,
}

impl Tool {
    /// `connleak watch`, told which port is a database.
    #[must_use]
    pub fn connleak(port: Option<u16>, more: &[&str]) -> Self {
        let mut args = Vec::new();
        if let Some(port) = port {
            args.extend(["--port".to_owned(), format!("{port}=postgresql")]);
        }
        args.extend(more.iter().map(ToString::to_string));
        Self::Connleak(args)
    }

    /// How it is called on the page.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Connleak(args) if args.iter().any(|arg| arg == "--no-call-sites") => {
                "connleak --no-call-sites"
            }
            Self::Connleak(_) => "connleak",
            Self::Tcplife => "tcplife",
            Self::Tcpstates => "tcpstates",
            Self::Bpftrace => "bpftrace one-liner",
        }
    }

    fn command(&self) -> Result<Option<Command>> {
        let peer = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args);
            command
        };
        Ok(match self {
            Self::Nobody => None,
            Self::Connleak(args) => {
                let mut command = agent::command(["watch", "-o", "json"])?;
                command.args(args);
                Some(command)
            }
            Self::Tcplife => Some(peer("tcplife", &[])),
            Self::Tcpstates => Some(peer("tcpstates", &[])),
            Self::Bpftrace => Some(peer("bpftrace", &["-e", ONE_LINER])),
        })
    }

    /// Attaches it.
    ///
    /// # Errors
    /// When it does not run here.
    pub fn attach(&self) -> Result<Attached> {
        let Some(mut command) = self.command()? else {
            return Ok(Attached {
                child: None,
                lines: None,
            });
        };
        let ours = matches!(self, Self::Connleak(_));
        command
            .stdin(Stdio::null())
            .stdout(if ours { Stdio::piped() } else { Stdio::null() })
            .stderr(if ours { Stdio::piped() } else { Stdio::null() });
        let mut child = command
            .spawn()
            .with_context(|| format!("start {}", self.name()))?;
        let lines = child
            .stdout
            .take()
            .map(|output| thread::spawn(move || BufReader::new(output).lines().map_while(Result::ok).last()));
        if let Some(errors) = child.stderr.take() {
            let mut errors = BufReader::new(errors);
            let mut line = String::new();
            errors.read_line(&mut line)?;
            if !line.contains("watching") {
                drop(child.kill());
                drop(child.wait());
                bail!("{}: {}", self.name(), line.trim());
            }
            // What it says later is nobody's business, but it must be able to say it.
            thread::spawn(move || errors.lines().map_while(Result::ok).for_each(drop));
            thread::sleep(SETTLED);
            return Ok(Attached {
                child: Some(child),
                lines,
            });
        }
        let mut attached = Attached {
            child: Some(child),
            lines,
        };
        wait::until("a peer to attach its programs", || attached.has_attached())
            .with_context(|| format!("{} does not run here", self.name()))?;
        // Attached programs are seen one by one; all of them are in place a moment after the first.
        thread::sleep(SETTLED);
        Ok(attached)
    }

    /// Whether it runs here; why not, if not.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        match self.attach() {
            Ok(attached) => attached.detach().err().map(|error| format!("{error:#}")),
            Err(error) => Some(format!("{error:#}")),
        }
    }
}

/// A program that watches.
pub struct Attached {
    child: Option<Child>,
    lines: Option<thread::JoinHandle<Option<String>>>,
}

impl Attached {
    /// Ends it; what connleak's summary says.
    ///
    /// # Errors
    /// When it can't be ended, or connleak left no summary.
    pub fn detach(mut self) -> Result<Value> {
        if let Some(mut child) = self.child.take() {
            interrupt(&mut child)?;
        }
        match self.lines.take() {
            None => Ok(Value::Null),
            Some(lines) => {
                let last = lines.join().ok().flatten().context("no summary")?;
                Ok(serde_json::from_str(&last)?)
            }
        }
    }

    /// The pid, for measurements from outside.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Whether the kernel has given it a link or an event, which is what a program hangs on.
    fn has_attached(&mut self) -> Result<Option<()>> {
        let Some(child) = &mut self.child else {
            return Ok(Some(()));
        };
        if let Some(status) = child.try_wait()? {
            bail!("it ended at once: {status}");
        }
        let Ok(folder) = fs::read_dir(format!("/proc/{}/fd", child.id())) else {
            return Ok(None);
        };
        let found = folder.filter_map(Result::ok).any(|entry| {
            fs::read_link(entry.path()).is_ok_and(|to| {
                let to = to.to_string_lossy();
                to.contains("perf_event") || to.contains("bpf_link") || to.contains("bpf-link")
            })
        });
        Ok(found.then_some(()))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
