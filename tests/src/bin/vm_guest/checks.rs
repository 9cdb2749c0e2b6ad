//! The checks: each is a sentence about `connleak` on this kernel, said of real processes.

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, BufReader, Read as _},
    process::{Child, Command, Output, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use connleak_tests::programs;
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use serde_json::Value;

use super::{applications, boot, say};

/// How long a leak runs before the single look: enough sockets to be sure of, at `applications`' pace.
const LEAK_FIRST: Duration = Duration::from_secs(7);
/// How long it is watched, at least.
const WATCH: Duration = Duration::from_secs(6);
/// Exit code of `connleak` when it has found something.
const FOUND: i32 = 3;
/// The kernel frees programs a moment after the last descriptor is closed.
const UNLOAD: Duration = Duration::from_secs(5);

/// Runs all checks, and says how each went.
pub fn run() {
    let mut backends = Vec::new();
    check("doctor", || doctor(&mut backends));
    for backend in backends {
        // Applications of its own: what one back-end left undone must not become the next one's trouble, and a
        // leak that is minutes old takes longer to list.
        match Applications::start() {
            Ok(applications) => {
                thread::sleep(LEAK_FIRST);
                check(&format!("scan:{backend}"), || scan(&applications, &backend));
                check(&format!("watch:{backend}"), || watch(&applications, &backend));
                check(&format!("unload:{backend}"), || unload(&applications, &backend));
            }
            Err(error) => say(&format!("vm-check: applications:{backend} FAIL {error:#}")),
        }
    }
}

fn check(name: &str, body: impl FnOnce() -> Result<String>) {
    let began = Instant::now();
    let (grade, words) = match body() {
        Ok(words) => ("ok", words),
        Err(error) => ("FAIL", format!("{error:#}")),
    };
    // One line, whatever an error carries.
    let words = words.replace('\n', " | ");
    say(&format!(
        "vm-check: {name} {grade} {words} ({:.1} s)",
        began.elapsed().as_secs_f64()
    ));
}

struct Applications {
    port: u16,
    leaker: Child,
    /// Those that must not be named.
    healthy: Vec<Child>,
    server: Child,
}

impl Drop for Applications {
    fn drop(&mut self) {
        let others = self.healthy.iter_mut().chain([&mut self.server]);
        for child in others.chain([&mut self.leaker]) {
            // One that is gone already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Applications {
    fn start() -> Result<Self> {
        let mut server = boot::application("server").stdout(Stdio::piped()).spawn()?;
        let port: u16 = first_line(&mut server)?
            .parse()
            .context("the server did not say its port")?;
        let start = |name: &str| boot::application(name).arg(port.to_string()).spawn();
        Ok(Self {
            port,
            leaker: start("leaker")?,
            healthy: vec![
                start("pool")?,
                start("bursts")?,
                boot::application("unix").spawn()?,
            ],
            server,
        })
    }

    /// Fails unless the leaker is found to leak, and nobody else. A `suspect` is no claim: it asks for a longer look.
    fn only_the_leaker_is_found(&self, lines: &[Value]) -> Result<String> {
        let of = |pid: u32| {
            lines
                .iter()
                .filter(|line| line["event"] == "finding" && line["finding"]["confidence"] != "suspect")
                .filter(move |line| line["process"]["pid"] == pid)
        };
        for child in &self.healthy {
            if let Some(line) = of(child.id()).next() {
                bail!("a finding about a healthy application: {line}");
            }
        }
        let last = of(self.leaker.id())
            .next_back()
            .context("no finding about the leaker")?;
        ensure!(
            last["process"]["name"] == "leaker" && last["finding"]["kind"] == "leak",
            "another finding than the leak: {last}"
        );
        Ok(format!(
            "{} leak of {} sockets",
            last["finding"]["confidence"].as_str().unwrap_or("?"),
            last["finding"]["sockets"]
        ))
    }
}

/// What an application says first; empty if it ends without a word.
fn first_line(application: &mut Child) -> Result<String> {
    let output = application
        .stdout
        .take()
        .context("an application without output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

fn connleak(arguments: &[&str]) -> Command {
    let mut command = Command::new("/bin/connleak");
    command.args(arguments);
    command
}

/// What an agent that has found something printed, one value a line.
fn json(output: &Output) -> Result<Vec<Value>> {
    ensure!(
        output.status.code() == Some(FOUND),
        "{}, not exit code {FOUND}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::str::from_utf8(&output.stdout)?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}")))
        .collect()
}

/// Also says which back-ends to try: each that has all it needs, and the automatic choice first, as `auto`.
fn doctor(backends: &mut Vec<String>) -> Result<String> {
    let output = connleak(&["doctor"]).output().context("cannot run connleak")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().for_each(|line| say(&format!("doctor: {line}")));
    let bad: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("FAIL") || line.starts_with("no "))
        .collect();
    ensure!(
        output.status.success(),
        "{}: {} {}",
        output.status,
        bad.join("; "),
        String::from_utf8_lossy(&output.stderr)
    );
    let mut sections = text.split("\nback-end ");
    // Before the first back-end is what all of them need.
    sections.next();
    let usable = sections.filter(|section| !section.lines().any(|line| line.starts_with("no ")));
    let mut names: Vec<_> = usable.filter_map(|section| section.lines().next()).collect();
    ensure!(!names.is_empty(), "doctor names no back-end");
    let words = format!("back-ends {}", names.join(", "));
    let used = names.remove(0);
    ensure!(
        text.lines()
            .any(|line| line.starts_with("ok ") && line.contains("back-end used") && line.ends_with(used)),
        "the first back-end that works, {used}, is not the one used"
    );
    backends.push("auto".to_owned());
    backends.extend(names.into_iter().map(ToOwned::to_owned));
    Ok(words)
}

fn scan(applications: &Applications, backend: &str) -> Result<String> {
    let port = format!("{}=postgresql", applications.port);
    let flags = [
        "--backend",
        backend,
        "-o",
        "json",
        "--idle",
        "500ms",
        "--port",
        &port,
    ];
    let lines = json(&connleak(&["scan"]).args(flags).output()?)?;
    let words = applications.only_the_leaker_is_found(&lines)?;
    let held_by = |name: &str| {
        lines
            .iter()
            .filter(|line| line["event"] == "socket" && line["process"]["name"] == name)
            .count()
    };
    for (name, held) in [
        ("pool", applications::POOL),
        ("unix", applications::UNIX),
        ("server", 0),
    ] {
        ensure!(
            held_by(name) == held,
            "{name} holds {held} sockets, not {}",
            held_by(name)
        );
    }
    Ok(words)
}

fn watch(applications: &Applications, backend: &str) -> Result<String> {
    let port = format!("{}=postgresql", applications.port);
    let agent = watching(&[
        "--backend",
        backend,
        "-o",
        "json",
        "--events",
        "--idle",
        "1s",
        "--port",
        &port,
    ])?;
    let began = Instant::now();
    let mut churn = boot::application("churn")
        .arg(applications.port.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let said = first_line(&mut churn)?;
    thread::sleep(WATCH.saturating_sub(began.elapsed()));
    let lines = json(&agent.interrupt()?)?;
    churn.kill()?;
    churn.wait()?;
    ensure!(said == "done", "churn ended early");
    let words = applications.only_the_leaker_is_found(&lines)?;
    every_connection_is_told(&lines, churn.id())?;
    let summary = lines
        .iter()
        .find(|line| line["event"] == "summary")
        .context("no summary")?;
    ensure!(
        summary["completeness"]["events_lost"] == 0,
        "events were lost: {summary}"
    );
    Ok(format!(
        "{words}, {} opened, {} closed",
        summary["opened"], summary["closed"]
    ))
}

/// Fails unless each connection of `churn` was told once when it opened and once when it closed, under a name of
/// its own: the kernel uses the memory of one socket for the next.
fn every_connection_is_told(lines: &[Value], churn: u32) -> Result<()> {
    for event in ["open", "close"] {
        let told: Vec<_> = lines
            .iter()
            .filter(|line| line["event"] == event && line["process"]["pid"] == churn)
            .filter_map(|line| line["socket"]["cookie"].as_u64())
            .collect();
        let names: BTreeSet<_> = told.iter().collect();
        ensure!(
            told.len() == applications::CHURN && names.len() == applications::CHURN,
            "churn made {} connections; {} were told to {event}, with {} names",
            applications::CHURN,
            told.len(),
            names.len()
        );
    }
    Ok(())
}

/// An agent that watches.
struct Agent {
    child: Child,
    /// All that it prints, read from the start: on a slow machine a first look at many sockets is more than a pipe holds,
    /// and an agent that waits for its reader does not say that it watches.
    printed: JoinHandle<io::Result<Vec<u8>>>,
}

impl Agent {
    /// Ends it as Ctrl-C does.
    fn interrupt(mut self) -> Result<Output> {
        signal::kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGINT)?;
        let status = self.child.wait()?;
        let printed = self.printed.join();
        Ok(Output {
            status,
            stdout: printed.map_err(|_| anyhow!("the reader of its output panicked"))??,
            stderr: Vec::new(),
        })
    }
}

/// `connleak watch`, once it says that from now on nothing is missed.
fn watching(arguments: &[&str]) -> Result<Agent> {
    let mut child = connleak(&["watch"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut output = child.stdout.take().context("no standard output")?;
    let printed = thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut errors = BufReader::new(child.stderr.take().context("no standard error")?);
    let mut line = String::new();
    errors.read_line(&mut line)?;
    ensure!(line.contains("watching"), "connleak watch: {line}");
    thread::spawn(move || io::copy(&mut errors, &mut io::stderr()));
    Ok(Agent { child, printed })
}

/// However an agent ends, its kernel programs go with it. Nobody else loads any in this machine.
fn unload(applications: &Applications, backend: &str) -> Result<String> {
    gone("after scan and watch")?;
    let port = format!("{}=postgresql", applications.port);
    let mut agent = watching(&["--backend", backend, "--port", &port])?;
    let held = programs::loaded()?.len();
    agent.child.kill()?;
    agent.child.wait()?;
    gone("after kill -9")?;
    Ok(format!("{held} programs, gone with kill -9"))
}

fn gone(when: &str) -> Result<()> {
    until(&format!("the programs to be gone {when}"), || {
        Ok(programs::loaded()?.is_empty())
    })
}

fn until(what: &str, condition: impl Fn() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !condition()? {
        ensure!(began.elapsed() < UNLOAD, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
