//! One scenario, from its start to its end, and what the agent said meanwhile.

mod application;
mod judged;

use std::{
    fmt::Write,
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

pub use self::judged::{Claim, Confidence, Scan, Verdict};
use self::{application::Application, judged::judge};
use super::{
    labels::Scenario,
    runtimes::Runtimes,
    servers::{Place, Servers},
};
use crate::{agent, lines, wait};

/// Silence after which a socket counts as idle. Time is compressed: production's 30 seconds.
pub const IDLE: &str = "2s";

/// What came of one scenario.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its label.
    pub scenario: Scenario,
    /// Truly leaked sockets, of all its processes, in the end.
    pub leaked: usize,
    /// What `watch` said.
    pub verdict: Verdict,
    /// What `scan` said at the end.
    pub scan: Scan,
    /// Events that the agent knows it lost.
    pub lost: u64,
}

/// A line and when it was read.
#[derive(Clone, Debug)]
struct Heard {
    at: Instant,
    text: String,
}

/// Runs a scenario.
pub fn run(scenario: &Scenario, runtimes: &Runtimes, servers: &Servers) -> Result<Record> {
    let place = servers.place(scenario.server)?;
    let mut command = runtimes.command(scenario)?;
    command.envs(place.environment.iter().map(|(name, value)| (name, value)));
    let mut application = Application::start(&mut command)?;

    let mut agent = None;
    if scenario.attach.is_none() {
        agent = Some(Agent::attach(&place)?);
    }
    let start = application.go()?;
    if let Some(seconds) = scenario.attach {
        application.live_until(start + Duration::from_secs_f64(seconds))?;
        agent = Some(Agent::attach(&place)?);
    }
    let agent = agent.context("an agent")?;
    let attached = agent.attached;
    application.live_until(start + scenario.duration())?;

    let scan = agent::scan(
        place
            .filter
            .iter()
            .map(String::as_str)
            .chain(["--idle", IDLE])
            .collect::<Vec<_>>(),
    )?;
    let said = agent.finish()?;
    let mut members = application.finish()?;
    members.pids.extend(place.proxy.as_ref().map(|proxy| proxy.pid));

    keep(scenario, &said, &scan.stdout, &members, start)?;
    let mut parsed = Vec::new();
    for line in &said {
        parsed.push((line.at, lines::parse(&line.text)?));
    }
    let lost = parsed
        .iter()
        .filter(|(_, line)| lines::is(line, "summary"))
        .filter_map(|(_, line)| line["completeness"]["events_lost"].as_u64())
        .sum();
    Ok(Record {
        verdict: judge(scenario, &parsed, &members, attached, start),
        scan: Scan::read(scenario, &scan.lines()?, &members),
        leaked: members.leaked_by(Instant::now()),
        scenario: scenario.clone(),
        lost,
    })
}

/// Leaves what was said beside the agent's build, for whoever wants to know why.
fn keep(
    scenario: &Scenario,
    said: &[Heard],
    scanned: &str,
    members: &application::Members,
    start: Instant,
) -> Result<()> {
    let folder = agent::binary()?.with_file_name("corpus").join("runs");
    fs::create_dir_all(&folder)?;
    let file = |extension: &str| folder.join(format!("{}.{extension}", scenario.name));
    let mut truth = String::new();
    for told in &members.truths {
        let at = (told.at - start).as_secs_f64();
        writeln!(truth, "{at:.2} s: pid {} has leaked {}", told.pid, told.count)?;
    }
    let lines: Vec<&str> = said.iter().map(|line| line.text.as_str()).collect();
    fs::write(file("watch.jsonl"), lines.join("\n"))?;
    fs::write(file("scan.jsonl"), scanned)?;
    Ok(fs::write(file("truth"), truth)?)
}

/// A running `connleak watch` whose lines are stamped as they are read.
struct Agent {
    child: Child,
    attached: Instant,
    output: application::Lines,
    messages: application::Lines,
}

impl Agent {
    fn attach(place: &Place) -> Result<Self> {
        let mut command: Command = agent::command(["watch", "-o", "json", "--idle", IDLE])?;
        let mut child = command
            .args(&place.filter)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start connleak")?;
        let output = application::Lines::of(child.stdout.take().context("stdout")?);
        let messages = application::Lines::of(child.stderr.take().context("stderr")?);
        let mut agent = Self {
            child,
            attached: Instant::now(),
            output,
            messages,
        };
        wait::until("connleak to watch", || {
            let ready = agent.messages.any(|line| line.contains("watching"));
            if !ready && agent.child.try_wait()?.is_some() {
                bail!("connleak watch ended: {:?}", agent.messages.texts());
            }
            Ok(ready.then_some(()))
        })?;
        agent.attached = Instant::now();
        Ok(agent)
    }

    /// Ends it, and returns all that it said.
    fn finish(mut self) -> Result<Vec<Heard>> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT)?;
        let status = wait::until("connleak watch to end", || Ok(self.child.try_wait()?))?;
        let said = self.output.finish();
        if !matches!(status.code(), Some(0 | 3)) {
            bail!("connleak watch: {status}: {:?}", self.messages.texts());
        }
        Ok(said)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The pid that a line is about.
fn pid_of(line: &Value) -> Option<u32> {
    line["process"]["pid"].as_u64()?.try_into().ok()
}

/// Sleeps until `deadline`, a little at a time.
fn doze(deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    thread::sleep(left.min(Duration::from_millis(200)));
    !left.is_zero()
}
