//! One scenario, from its start to its end, and what the agent said meanwhile.

mod application;
mod judged;
mod kept;
mod named;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use self::{application::Application, judged::judge};
pub use self::{
    judged::{Claim, Confidence, Scan, Verdict},
    kept::rejudge,
    named::Named,
};
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
    /// The agent was attached before the first socket leaked: it could see which code.
    pub seen_from_the_beginning: bool,
    /// What `watch` said.
    pub verdict: Verdict,
    /// What `scan` said at the end.
    pub scan: Scan,
    /// Events that the agent knows it lost.
    pub lost: u64,
    /// What came of judging its journal again.
    pub replay: Replay,
}

/// A replay of the journal that `watch` wrote.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// Whether it said the same, line by line; the summary apart, which tells what watching cost.
    pub equal: bool,
    /// How long it took.
    pub took: Duration,
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

    let journal = runs()?.join(format!("{}.journal", scenario.name));
    // The agent writes into no file that is there.
    if journal.exists() {
        fs::remove_file(&journal)?;
    }
    let mut agent = None;
    if scenario.attach.is_none() {
        agent = Some(Agent::attach(&place, &journal)?);
    }
    let start = application.go()?;
    let start_time = SystemTime::now();
    if let Some(seconds) = scenario.attach {
        application.live_until(start + Duration::from_secs_f64(seconds))?;
        agent = Some(Agent::attach(&place, &journal)?);
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

    kept::keep(scenario, &said, &scan.stdout)?;
    let times = Times {
        start,
        start_time,
        attached,
    };
    kept::keep_truth(scenario, &members, &times)?;
    let replayed = replay(&journal)?;
    let live: Vec<String> = said.iter().map(|line| line.text.clone()).collect();
    let mut parsed = Vec::new();
    for line in &said {
        parsed.push((line.at, lines::parse(&line.text)?));
    }
    Ok(record(
        scenario,
        &parsed,
        &scan.lines()?,
        &members,
        &times,
        Replay {
            equal: without_summary(&replayed.lines()?) == without_summary(&parse_all(&live)?),
            took: replayed.elapsed,
        },
    ))
}

/// When an application was told to go, by both clocks, and when the agent had attached.
struct Times {
    start: Instant,
    start_time: SystemTime,
    attached: Instant,
}

/// Puts together what came of a scenario.
fn record(
    scenario: &Scenario,
    said: &[(Instant, Value)],
    scanned: &[Value],
    members: &application::Members,
    times: &Times,
    replay: Replay,
) -> Record {
    let summaries = said.iter().filter(|(_, line)| lines::is(line, "summary"));
    let lost = summaries.filter_map(|(_, line)| line["completeness"]["events_lost"].as_u64());
    Record {
        seen_from_the_beginning: members.reached(1).is_none_or(|first| times.attached <= first),
        verdict: judge(scenario, said, members, times.attached, times.start),
        scan: Scan::read(scenario, scanned, members),
        leaked: members.leaked(),
        scenario: scenario.clone(),
        lost: lost.sum(),
        replay,
    }
}

/// Judges a journal again.
fn replay(journal: &Path) -> Result<agent::Outcome> {
    let path = journal.to_str().context("the journal's path")?;
    let outcome = agent::run(["replay", "-o", "json", path])?;
    if !matches!(outcome.code(), Some(0 | 3)) {
        bail!("connleak replay: {}", outcome.describe());
    }
    Ok(outcome)
}

/// The summary also tells what watching cost, which a replay cannot.
fn without_summary(all: &[Value]) -> Vec<&Value> {
    all.iter().filter(|line| !lines::is(line, "summary")).collect()
}

fn parse_all(texts: &[String]) -> Result<Vec<Value>> {
    texts.iter().map(|text| lines::parse(text)).collect()
}

/// Where what was said is kept, beside the agent's build.
fn runs() -> Result<PathBuf> {
    let folder = agent::binary()?.with_file_name("corpus").join("runs");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A running `connleak watch` whose lines are stamped as they are read.
struct Agent {
    child: Child,
    attached: Instant,
    output: application::Lines,
    messages: application::Lines,
}

impl Agent {
    fn attach(place: &Place, journal: &Path) -> Result<Self> {
        let mut command: Command = agent::command(["watch", "-o", "json", "--idle", IDLE])?;
        let mut child = command
            .arg("--journal")
            .arg(journal)
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
