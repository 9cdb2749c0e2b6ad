//! Random programs, whose truth is known, against what `connleak` says of them.
//!
//!     CONNLEAK_SEED=7 CONNLEAK_PROGRAMS=200 cargo test -p connleak-tests --test model -- --nocapture
//!
//! Program `i` of a run is made from the seed `CONNLEAK_SEED + i`: so `CONNLEAK_SEED=(that) CONNLEAK_PROGRAMS=1` is that
//! program alone, and `CONNLEAK_OPERATIONS` makes it shorter. A run that fails says which call shows the failure.
//! `CONNLEAK_LISTINGS` is a folder to write all programs to.

#![forbid(unsafe_code)]

mod backend;
mod compare;
mod program;
mod random;
mod servers;
mod truth;
mod world;

use std::{
    collections::BTreeSet,
    env, fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use backend::Backend;
use compare::{Mismatch, Said};
use connleak_tests::{agent, lines, require_root, root, watch::Watch};
use servers::Servers;
use world::World;

/// Programs that share one agent.
const BATCH: usize = 20;
/// Programs at once.
const THREADS: usize = 3;
/// How long the agent may take to say what has happened: a second is what it may take to notice a unix socket.
const AGENT: Duration = Duration::from_secs(8);

/// One test at a time: each waits for what the agent notices within a second, and there may be two processors.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn root_random_programs_and_the_watch_agree_about_every_socket() -> Result<()> {
    require_root!();
    agree(Backend::from_environment()?, number("CONNLEAK_PROGRAMS", 200)?)
}

#[test]
fn root_random_programs_agree_on_the_memory_backend() -> Result<()> {
    require_root!();
    agree(Backend::Memory, number("CONNLEAK_PROGRAMS", 200)?.div_ceil(5))
}

#[test]
fn root_random_programs_agree_on_the_diag_backend() -> Result<()> {
    require_root!();
    agree(Backend::Diag, number("CONNLEAK_PROGRAMS", 200)?.div_ceil(5))
}

#[test]
fn root_random_programs_agree_on_the_tracepoint_backend() -> Result<()> {
    require_root!();
    agree(Backend::Tracepoint, number("CONNLEAK_PROGRAMS", 200)?.div_ceil(5))
}

/// Runs the programs, and fails with the shortest one that shows a mismatch.
fn agree(backend: Backend, programs: u64) -> Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _tracefs = backend.prepare()?;
    let programs = usize::try_from(programs)?;
    let seed = number("CONNLEAK_SEED", 1)?;
    let length = usize::try_from(number("CONNLEAK_OPERATIONS", 110)?)?;
    let start = Instant::now();
    let mut operations = 0;
    let mut wrong = Vec::new();
    let mut first = 0;
    while first < programs {
        let count = BATCH.min(programs - first);
        let batch = Batch {
            first,
            count,
            seed,
            length,
            backend,
        };
        let outcome = batch
            .run()
            .with_context(|| format!("programs {first}.. of seed {seed}"))?;
        operations += outcome.operations;
        wrong.extend(outcome.mismatches);
        first += count;
    }
    root::say(&format!(
        "{}: programs {programs}, operations {operations}, mismatches {} (seed {seed}, {:.1} s)",
        backend.name(),
        wrong.len(),
        start.elapsed().as_secs_f64()
    ));
    if let Some(first) = wrong.first() {
        for mismatch in wrong.iter().take(10) {
            root::say(&format!("program {}: {}", mismatch.program, mismatch.text));
        }
        let alone = seed + first.program as u64;
        bail!(
            "{} mismatches; the first: {}",
            wrong.len(),
            shortest(alone, length, backend)?
        );
    }
    Ok(())
}

fn number(name: &str, default: u64) -> Result<u64> {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{name} is not a number: {text}")),
        Err(_) => Ok(default),
    }
}

/// The failing program alone, and as short as a search by halves finds it.
fn shortest(seed: u64, length: usize, backend: Backend) -> Result<String> {
    let run = |length| {
        Batch {
            first: 0,
            count: 1,
            seed,
            length,
            backend,
        }
        .run()
    };
    let mut known = run(length)?;
    if known.mismatches.is_empty() {
        return Ok(format!(
            "program of seed {seed}, which is right when it runs alone: CONNLEAK_SEED={seed} CONNLEAK_PROGRAMS=1"
        ));
    }
    let (mut right, mut wrong) = (0, length);
    while right + 1 < wrong {
        let half = usize::midpoint(right, wrong);
        let outcome = run(half)?;
        if outcome.mismatches.is_empty() {
            right = half;
        } else {
            (wrong, known) = (half, outcome);
        }
    }
    let texts: Vec<&str> = known
        .mismatches
        .iter()
        .map(|mismatch| mismatch.text.as_str())
        .collect();
    Ok(format!(
        "CONNLEAK_SEED={seed} CONNLEAK_PROGRAMS=1 CONNLEAK_OPERATIONS={wrong}\n{}\n{}",
        known.listings.join("\n"),
        texts.join("\n")
    ))
}

/// Programs that run under one agent.
struct Batch {
    first: usize,
    count: usize,
    seed: u64,
    length: usize,
    backend: Backend,
}

struct Outcome {
    operations: usize,
    mismatches: Vec<Mismatch>,
    listings: Vec<String>,
}

impl Batch {
    fn run(&self) -> Result<Outcome> {
        let threads = THREADS.min(self.count);
        let mut servers = Vec::new();
        for _ in 0..threads {
            servers.push(Servers::start()?);
        }
        let mut flags: Vec<String> = servers.iter().flat_map(Servers::flags).collect();
        flags.extend(["--idle".to_owned(), "1s".to_owned()]);
        flags.extend(self.backend.flags());
        let mut command = agent::command(["watch", "-o", "json", "--events"])?;
        let mut watch = Watch::start(command.args(&flags))?;
        watch.wait_attached()?;
        let mut worlds = self.run_programs(servers)?;

        let mut judge = Judge {
            watch,
            backend: self.backend,
            said: Said::default(),
            taken: 0,
            settled: BTreeSet::new(),
        };
        let mut mismatches = judge.compare(&worlds)?;
        let mut command = agent::command(["scan", "-o", "json"])?;
        let look = agent::run_command(command.args(flags))?;
        ensure!(matches!(look.code(), Some(0 | 3)), "{}", look.describe());
        mismatches.extend(compare::scan(&worlds, &look.lines()?, self.backend));

        // Half of the programs end, and the others leave their sockets open.
        let open = worlds.iter().flat_map(|world| &world.sockets);
        judge.settled = open
            .filter(|socket| socket.is_unix() && !socket.released)
            .map(|socket| socket.cookie)
            .collect();
        for world in worlds.iter_mut().step_by(2) {
            world.end()?;
        }
        if mismatches.is_empty() {
            mismatches.extend(judge.compare(&worlds)?);
        }
        mismatches.extend(judge.end(&worlds, threads)?);
        if let Some(folder) = env::var_os("CONNLEAK_LISTINGS") {
            for world in &worlds {
                let path = PathBuf::from(&folder).join(format!("{}.txt", world.index));
                fs::write(path, world.listing.join("\n"))?;
            }
        }
        Ok(Outcome {
            operations: worlds.iter().map(|world| world.operations).sum(),
            mismatches,
            listings: worlds.iter().map(|world| world.listing.join("\n")).collect(),
        })
    }

    /// Runs the programs, a share of them on each thread, and leaves their processes alive.
    fn run_programs(&self, servers: Vec<Servers>) -> Result<Vec<World>> {
        let threads = servers.len();
        let mut worlds = Vec::new();
        let (sender, done) = mpsc::channel();
        thread::scope(|scope| {
            for (thread, servers) in servers.into_iter().enumerate() {
                let sender = sender.clone();
                scope.spawn(move || {
                    let servers = Arc::new(servers);
                    for index in (thread..self.count).step_by(threads) {
                        let index = self.first + index;
                        let seed = self.seed + index as u64;
                        let mut world = World::new(index, seed, &servers);
                        let ran = world.run(self.length).with_context(|| {
                            format!(
                                "program {index} (seed {seed}) after\n{}",
                                world.listing.join("\n")
                            )
                        });
                        drop(sender.send(ran.map(|()| world)));
                    }
                });
            }
        });
        drop(sender);
        for world in done {
            worlds.push(world?);
        }
        worlds.sort_by_key(|world| world.index);
        Ok(worlds)
    }
}

/// What the agent has said so far.
struct Judge {
    watch: Watch,
    backend: Backend,
    said: Said,
    taken: usize,
    settled: BTreeSet<u64>,
}

impl Judge {
    /// Waits until the lines are the truth, or it is clear that they never will be.
    fn compare(&mut self, worlds: &[World]) -> Result<Vec<Mismatch>> {
        let start = Instant::now();
        loop {
            let lines = self.watch.lines_from(self.taken)?;
            self.taken += lines.len();
            self.said.take(&lines);
            let mismatches = compare::lines(worlds, &self.said, &self.settled, self.backend);
            if mismatches.is_empty() || start.elapsed() > AGENT {
                return Ok(mismatches);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the watch and compares its totals. `before`: sockets that were open before it was attached.
    fn end(mut self, worlds: &[World], before: usize) -> Result<Vec<Mismatch>> {
        let end = self.watch.interrupt()?;
        self.said.take(end.lines.get(self.taken..).unwrap_or_default());
        let summary = lines::summary(&end.lines)?;
        let open = compare::open_sockets(worlds, &self.said, self.backend);
        let sockets = usize::try_from(summary["sockets"].as_u64().unwrap_or(u64::MAX))?;
        // Nearest of what it may be.
        let open = (sockets.saturating_sub(before)).clamp(*open.start(), *open.end());
        let totals = [
            ("opened", &summary["opened"], self.said.opened),
            ("closed", &summary["closed"], self.said.closed),
            ("failed", &summary["failed"], self.said.failed),
            ("sockets", &summary["sockets"], open + before),
            ("events lost", &summary["completeness"]["events_lost"], 0),
            (
                "opened before attach",
                &summary["completeness"]["opened_before_attach"],
                before,
            ),
        ];
        let program = worlds.first().map(|world| world.index);
        let program = program.ok_or_else(|| anyhow!("no program"))?;
        Ok(totals
            .into_iter()
            .filter(|(_, got, wanted)| **got != *wanted)
            .map(|(name, got, wanted)| Mismatch {
                program,
                text: format!("summary: {name} should be {wanted} and is {got}"),
            })
            .collect())
    }
}
