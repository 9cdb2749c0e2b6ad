//! The application of a scenario: its processes, and what they say about themselves.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use super::{Heard, doze};
use crate::wait;
use anyhow::{Context, Result, bail, ensure};

/// Lines of a stream, each with the moment at which it was read.
pub struct Lines {
    heard: Arc<Mutex<Vec<Heard>>>,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    /// Begins to read.
    pub fn of(stream: impl Read + Send + 'static) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&heard);
        let thread = thread::spawn(move || {
            for text in BufReader::new(stream).lines().map_while(Result::ok) {
                let at = Instant::now();
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Heard { at, text });
            }
        });
        Self {
            heard,
            thread: Some(thread),
        }
    }

    /// Whether one of them so far is wanted.
    pub fn any(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.lock().iter().any(|line| wanted(&line.text))
    }

    /// All of them so far, with their times.
    pub fn heard(&self) -> Vec<Heard> {
        self.lock().clone()
    }

    /// All of them so far.
    pub fn texts(&self) -> Vec<String> {
        self.lock().iter().map(|line| line.text.clone()).collect()
    }

    /// All of them, once the stream has ended.
    pub fn finish(&mut self) -> Vec<Heard> {
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported on standard error; the lines before it count.
            drop(thread.join());
        }
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `LEAKED count pid`.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    /// When it was said.
    pub at: Instant,
    /// Whose sockets.
    pub pid: u32,
    /// How many.
    pub count: usize,
}

/// The processes of an application, and what they have leaked when.
#[derive(Debug)]
pub struct Members {
    /// Every process that was ever seen.
    pub pids: BTreeSet<u32>,
    /// In the order in which they were told.
    pub truths: Vec<Truth>,
}

impl Members {
    /// How many sockets of all processes had truly leaked by then.
    pub fn leaked_by(&self, at: Instant) -> usize {
        let pids: BTreeSet<u32> = self.truths.iter().map(|truth| truth.pid).collect();
        let latest = |pid: &u32| {
            let mut told = self.truths.iter().rev();
            told.find(|truth| truth.pid == *pid && truth.at <= at)
        };
        pids.iter().filter_map(latest).map(|truth| truth.count).sum()
    }

    /// How many there are in the end.
    pub fn leaked(&self) -> usize {
        self.truths
            .iter()
            .map(|truth| truth.at)
            .max()
            .map_or(0, |end| self.leaked_by(end))
    }

    /// When that many sockets had leaked for the first time.
    pub fn reached(&self, count: usize) -> Option<Instant> {
        let mut moments = self.truths.iter().map(|truth| truth.at);
        moments.find(|&at| self.leaked_by(at) >= count)
    }
}

/// A running application: a process group of its own, so that all its children are known and end with it.
pub struct Application {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines,
    pids: BTreeSet<u32>,
    reaper: Option<Child>,
}

/// Ends a process group when its standard input ends: when the application is dropped, and also when the corpus is
/// interrupted or dies in any other way.
const REAPER: &str = "trap '' INT HUP TERM; cat >/dev/null; kill -s KILL -- -$0";

impl Application {
    /// Starts it and waits until it is loaded and waits in turn.
    pub fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| {
                format!("start {command:?}: is its language installed? cargo xtask setup --corpus")
            })?;
        let reaper = Command::new("sh")
            .args(["-c", REAPER, &child.id().to_string()])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start a shell")?;
        let input = child.stdin.take();
        let output = Lines::of(child.stdout.take().context("stdout")?);
        let mut application = Self {
            pids: BTreeSet::from([child.id()]),
            child,
            input,
            output,
            reaper: Some(reaper),
        };
        wait::until("READY", || {
            application.must_live()?;
            Ok(application.output.any(|line| line == "READY").then_some(()))
        })?;
        Ok(application)
    }

    /// Gives the word to go.
    pub fn go(&mut self) -> Result<Instant> {
        let input = self.input.as_mut().context("its input")?;
        writeln!(input, "go")?;
        input.flush()?;
        Ok(Instant::now())
    }

    /// Lets it live until then. That it ends before is an error of the scenario.
    pub fn live_until(&mut self, deadline: Instant) -> Result<()> {
        loop {
            self.must_live()?;
            self.look_for_children();
            if !doze(deadline) {
                return Ok(());
            }
        }
    }

    /// Ends it, and returns what is known about its processes.
    pub fn finish(mut self) -> Result<Members> {
        self.look_for_children();
        let told = truths(&self.output.heard())?;
        for &pid in &self.pids {
            let leaked = told.iter().rev().find(|truth| truth.pid == pid);
            let (leaked, held) = (leaked.map_or(0, |truth| truth.count), sockets(pid));
            ensure!(
                leaked <= held,
                "pid {pid} says it has leaked {leaked} sockets, and holds {held}"
            );
        }
        self.end();
        let truths = truths(&self.output.finish())?;
        let mut pids = std::mem::take(&mut self.pids);
        pids.extend(truths.iter().map(|truth| truth.pid));
        Ok(Members { pids, truths })
    }

    fn must_live(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "the application ended ({status}); it said {:?}",
                self.output.texts()
            );
        }
        Ok(())
    }

    fn look_for_children(&mut self) {
        let group = self.child.id();
        let Ok(entries) = fs::read_dir("/proc") else {
            return;
        };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        self.pids
            .extend(pids.filter(|&pid| process_group(pid) == Some(group)));
    }

    fn end(&mut self) {
        let Some(mut reaper) = self.reaper.take() else {
            return;
        };
        drop(reaper.stdin.take());
        // Nothing is to be done about a failure: the processes have ended, or nobody can end them.
        let _ = reaper.wait();
        let _ = self.child.wait();
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.end();
    }
}

/// What an application has told about its leaks.
fn truths(lines: &[Heard]) -> Result<Vec<Truth>> {
    let mut truths = Vec::new();
    for line in lines {
        let Some(told) = line.text.strip_prefix("LEAKED ") else {
            continue;
        };
        let (count, pid) = told.split_once(' ').context("LEAKED count pid")?;
        truths.push(Truth {
            at: line.at,
            pid: pid.parse()?,
            count: count.parse()?,
        });
    }
    Ok(truths)
}

/// How many sockets a process holds: the truth about the truth, without the agent.
fn sockets(pid: u32) -> usize {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return 0;
    };
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| target.to_str().is_some_and(|text| text.starts_with("socket:")))
        .count()
}

/// The process group of a process that lives: the third field after its name, which may contain anything.
fn process_group(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(2)?.parse().ok()
}
