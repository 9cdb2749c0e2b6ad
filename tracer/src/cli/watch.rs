//! `connleak watch`: follow connections as they open and close.

use std::{io::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    FOUND, OK,
    args::{self, CallSites, ExitArgs, Format, Live},
    report::{self, Cost, Report},
};
use crate::{
    agent::{Agent, Tell},
    case::Case,
    journal,
    output::{code::Told, duration, text},
    probes::{Options, table},
    verdict::{Finding, Policy},
};

/// How often the ring buffer is read. Nobody waits for it: the programs wake nobody unless much is waiting.
const TICK: Duration = Duration::from_millis(50);
/// Snapshots refresh idle times at least this often …
const REFRESH_MAX: Duration = Duration::from_secs(1);
/// … and, with a short `--idle`, more often, but never beyond this.
const REFRESH_MIN: Duration = Duration::from_millis(250);

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
    let mut watch = Watch::new(agent, args.events);
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
    /// When the last snapshot was merged.
    refreshed: Instant,
}

impl Watch {
    pub fn new(agent: Agent, events: bool) -> Self {
        Self {
            agent,
            events,
            refreshed: Instant::now(),
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
        self.announce();
        let ring = self.agent.probes.waker()?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refresh = interval(refresh_period(&self.agent.case.policy));
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = run_for.map(|time| Instant::now() + time);
        loop {
            tokio::select! {
                biased;
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = hangup.recv() => report.reopen(),
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break,
                _ = refresh.tick() => self.refresh(report)?,
                _ = tick.tick() => self.drain(report)?,
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

    /// The last look, and the summary.
    pub fn end(&mut self, report: &mut Report) -> Result<()> {
        self.refresh(report)?;
        let cost = Cost::of(&self.agent);
        end(&mut self.agent.case, report, &cost)?;
        self.agent.write_readings()
    }

    fn drain(&mut self, report: &mut Report) -> Result<()> {
        self.feed(report, Agent::drain)?;
        // The truth is looked up soon, but not so often that this alone keeps a processor busy.
        if self.agent.case.ledger.unsettled() && self.refreshed.elapsed() >= REFRESH_MIN {
            self.refresh(report)?;
        }
        Ok(())
    }

    fn refresh(&mut self, report: &mut Report) -> Result<()> {
        self.feed(report, Agent::refresh)?;
        self.refreshed = Instant::now();
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

/// Idle times must be fresher than what they are compared with.
fn refresh_period(policy: &Policy) -> Duration {
    (Duration::from_nanos(policy.idle) / 4).clamp(REFRESH_MIN, REFRESH_MAX)
}
