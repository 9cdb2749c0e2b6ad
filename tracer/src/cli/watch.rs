//! `connleak watch`: follow connections as they open and close.

use std::{io::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use nix::time::{ClockId, clock_gettime};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{
    FOUND, OK,
    args::{self, CallSites, ExitArgs, Format, Live},
    pace::{self, Pace, Seen},
    report::{self, Cost, Report},
};
use crate::{
    agent::{Agent, Tell},
    case::Case,
    event::Nanos,
    journal,
    ledger::{Connection, WALKS_TO_BE_GONE},
    output::{code::Told, duration, text},
    probes::{Options, table},
    verdict::Finding,
};

#[derive(ClapArgs, Debug)]
pub struct Args {
    #[command(flatten)]
    live: Live,
    #[command(flatten)]
    sites: CallSites,
    #[command(flatten)]
    exit: ExitArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    output: Format,
    /// Tell every connection that opens, closes or fails, too
    #[arg(long, help_heading = "Output")]
    events: bool,
    /// End after this time
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse, help_heading = "Output")]
    run_for: Option<Duration>,
    /// Append JSON Lines to this file; opened anew on SIGHUP
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    log_file: Option<PathBuf>,
    /// Write down what happens, to be judged again by 'connleak replay'; a new file
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    journal: Option<PathBuf>,
    /// Size of the kernel's event buffer in KiB (a power of two); a larger one rides out longer stalls
    #[arg(long, value_name = "KIB", default_value_t = Options::default().ring_bytes / 1024, value_parser = args::ring_kib, help_heading = "Kernel")]
    ring_kib: u32,
    /// Most of one processor that snapshots may take, in percent; beyond it they are taken less often
    #[arg(long, value_name = "PERCENT", default_value_t = Watch::BUDGET, value_parser = percent, help_heading = "Kernel")]
    cpu_budget: f64,
}

fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| format!("'{text}' is no number"))?;
    if (0.1..=100.0).contains(&percent) {
        Ok(percent)
    } else {
        Err(format!("{percent} is not from 0.1 to 100"))
    }
}

pub fn run(args: &Args, diagnostics: bool) -> Result<u8> {
    let ready = args.live.ready(false, Some(args.exit))?;
    let mut report = Report::new(args.output, args.log_file.as_deref(), true)?;
    let options = Options {
        diagnostics,
        measure: true,
        ring_bytes: args.ring_kib * 1024,
        stacks: args.sites.options(),
        ..Options::default()
    };
    let limit = ready.max_connections;
    let mut agent = ready.attach(options)?;
    if let Some(path) = &args.journal {
        agent.record(journal::Writer::create(path)?, limit)?;
    }
    let mut watch = Watch::new(agent, args.events).within(args.cpu_budget);
    runtime()?.block_on(watch.run(&mut report, args.run_for, |_| false))?;
    watch.end(&mut report)?;
    let case = &watch.agent.case;
    let found = case.tracker.active().any(|finding| case.policy.counts(finding));
    Ok(if found { FOUND } else { OK })
}

/// One thread is all that the agent needs.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the event loop")
}

/// The overview at the end of a watch or a replay, and its summary.
pub fn end(case: &mut Case, report: &mut Report, cost: &Cost) -> Result<()> {
    let findings: Vec<Finding> = case.tracker.active().cloned().collect();
    for finding in &findings {
        // Whatever a reader of the journal may ask for has to be in it.
        Told::of(&finding.code, &mut case.sites);
    }
    report.folded(case, &findings)?;
    let rows = report::overview(case, &findings);
    if !rows.is_empty() {
        report.text(&format!("\n{}", text::overview(&rows, case.policy.idle)))?;
    }
    report.summary(case, findings.len(), cost)
}

/// A watch in progress.
pub struct Watch {
    agent: Agent,
    events: bool,
    pace: Pace,
    /// When the last snapshot was merged.
    refreshed: Instant,
    /// Processor time that it took.
    cost: Duration,
    /// What connections had done by then …
    stirred: Stirred,
    /// … and when they did it last.
    stirred_at: Instant,
}

/// What connections have done so far, as far as it tells whether they do anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stirred {
    /// Connections that were opened, closed, or failed to open.
    turns: u64,
    /// The newest data.
    carried: Option<Nanos>,
}

impl Watch {
    /// Default of `--cpu-budget`, in percent of one processor.
    pub const BUDGET: f64 = 1.0;

    pub fn new(agent: Agent, events: bool) -> Self {
        let pace = Pace {
            idle: Duration::from_nanos(agent.case.policy.idle),
            budget: Self::BUDGET,
        };
        Self {
            agent,
            events,
            pace,
            refreshed: Instant::now(),
            cost: Duration::ZERO,
            stirred: Stirred::default(),
            stirred_at: Instant::now(),
        }
    }

    /// With another share of a processor for snapshots.
    fn within(mut self, percent: f64) -> Self {
        self.pace.budget = percent;
        self
    }

    fn seen(&self) -> Seen {
        Seen {
            quiet: self.stirred_at.elapsed(),
            cost: self.cost,
            suspicious: self.found(),
        }
    }

    /// Runs until a signal, the time is up, nobody reads, or `enough` of a finding.
    pub async fn run(
        &mut self,
        report: &mut Report,
        run_for: Option<Duration>,
        enough: impl Fn(&Finding) -> bool,
    ) -> Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        self.refresh(report)?;
        self.agent.settle();
        self.announce();
        let ring = self.agent.probes.waker()?;
        let end = run_for.map(|time| Instant::now() + time);
        loop {
            let seen = self.seen();
            let refresh = self.refreshed + self.pace.between_snapshots(seen);
            let read = Instant::now() + self.agent.probes.between_reads();
            tokio::select! {
                biased;
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = hangup.recv() => report.reopen(),
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break,
                () = sleep_until(refresh) => self.refresh(report)?,
                () = sleep_until(read) => self.drain(report)?,
                ready = ring.readable() => {
                    ready?.clear_ready();
                    self.drain(report)?;
                }
            }
            if report.abandoned() || self.agent.case.tracker.active().any(&enough) {
                break;
            }
        }
        Ok(())
    }

    /// Whether anything holds now.
    pub fn found(&self) -> bool {
        self.agent.case.tracker.active().next().is_some()
    }

    /// The last look, and the summary. What one walk alone leaves undecided is looked at again: nobody can come back for
    /// it, and a socket that was closed a moment ago must not be counted as open.
    pub fn end(&mut self, report: &mut Report) -> Result<()> {
        self.refresh(report)?;
        for _ in 1..WALKS_TO_BE_GONE {
            if self.agent.case.ledger.undecided() {
                self.refresh(report)?;
            }
        }
        let cost = Cost::of(&self.agent);
        end(&mut self.agent.case, report, &cost)?;
        self.agent.write_readings()
    }

    fn drain(&mut self, report: &mut Report) -> Result<()> {
        self.feed(report, Agent::drain)?;
        self.note(self.stirred.carried);
        // The truth is looked up soon, but not so often that this alone keeps a processor busy.
        if self.agent.case.ledger.unsettled() && self.refreshed.elapsed() >= pace::FASTEST {
            self.refresh(report)?;
        }
        Ok(())
    }

    /// Looks whether connections have done anything since the last call.
    fn note(&mut self, carried: Option<Nanos>) {
        let totals = self.agent.case.ledger.totals();
        let stirred = Stirred {
            turns: totals.opened + totals.closed + totals.failed,
            carried,
        };
        if stirred != self.stirred {
            self.stirred_at = Instant::now();
            self.stirred = stirred;
        }
    }

    fn refresh(&mut self, report: &mut Report) -> Result<()> {
        let begin = processor_time();
        self.refresh_now(report)?;
        self.refreshed = Instant::now();
        self.cost = processor_time().saturating_sub(begin);
        let connections = self.agent.case.ledger.connections();
        let carried = connections.filter_map(Connection::last_known_activity).max();
        self.note(carried);
        Ok(())
    }

    fn refresh_now(&mut self, report: &mut Report) -> Result<()> {
        self.feed(report, Agent::refresh)?;
        let news = self.agent.news()?;
        report.losses(&self.agent.case)?;
        report.all_news(&mut self.agent.case, &news)?;
        self.agent.write_readings()
    }

    fn feed(
        &mut self,
        report: &mut Report,
        step: impl FnOnce(&mut Agent, Tell<'_>) -> Result<()>,
    ) -> Result<()> {
        let events = self.events;
        step(&mut self.agent, &mut |case, outcome| {
            if events {
                report.outcome(case, outcome)
            } else {
                Ok(())
            }
        })
    }

    /// One line on standard error, so that whoever started this knows that from now on nothing is missed.
    fn announce(&self) {
        let sockets = self.agent.case.ledger.connections().count();
        let mut err = anstream::stderr();
        let _ = writeln!(
            err,
            "connleak: watching; {} open already (Ctrl-C ends with a summary)",
            text::plural(sockets, "database socket")
        );
        for (backend, reason) in self.agent.probes.refused() {
            let _ = writeln!(
                err,
                "connleak: back-end {} does not work here: {reason}",
                backend.name()
            );
        }
        if let Some(reason) = self.agent.probes.no_stacks() {
            let _ = writeln!(err, "connleak: call sites are not available: {reason}");
        }
        if let Some(reason) = self.agent.probes.no_uses() {
            let _ = writeln!(err, "connleak: {}: {reason}", table::SENDS.without);
        }
        for (probe, reason) in self.agent.probes.missing() {
            let _ = writeln!(
                err,
                "connleak: {} is not available ({reason}): {}",
                probe.hook_name(),
                probe.without
            );
        }
    }
}

/// What this thread has run so far.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
