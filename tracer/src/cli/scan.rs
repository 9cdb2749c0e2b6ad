//! `connleak scan`: one look.
//!
//! A first look needs one kernel program, so a host on which nothing looks leaked is not kept waiting. Where something
//! does, all programs are attached and the sockets get two looks, 0.4 seconds apart: a pool in use gives itself away by
//! using one of them again, and a connection that was just being closed is gone by then. When it depends on whether
//! another one is opened, and at their pace that is a matter of two seconds, it is waited for that.

use std::{
    mem, thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args as ClapArgs;

use super::{
    FOUND, OK,
    args::{self, ExitArgs, Format, Live},
    report::{self, Cost, Report},
};
use crate::{
    agent::Agent,
    ledger::Connection,
    output::text,
    probes::Options,
    verdict::{Finding, Kind, look_until},
};

/// Until the second look: longer than the time between two requests of an application under load, short
/// enough to be waited for.
const SECOND_LOOK: Duration = Duration::from_millis(400);
/// What somebody who has just asked can be kept waiting for.
const LONGEST: Duration = Duration::from_secs(2);
/// Between two later looks.
const NEXT_LOOK: Duration = Duration::from_millis(250);

#[derive(ClapArgs, Debug)]
pub struct Args {
    #[command(flatten)]
    live: Live,
    #[command(flatten)]
    exit: ExitArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    output: Format,
}

pub fn run(args: &Args, diagnostics: bool) -> Result<u8> {
    let ready = args.live.ready(true, Some(args.exit))?;
    let options = Options {
        diagnostics,
        ring_bytes: 1 << 20,
        ..Options::default()
    };
    let mut report = Report::new(args.output, None, false)?;
    let mut agent = ready.attach(Options {
        looks_only: true,
        ..options
    })?;
    let mut findings = look(&mut agent)?;
    let suspicious = findings
        .iter()
        .any(|finding| matches!(finding.kind, Kind::Leak | Kind::CloseWait));
    if suspicious || open_question(&agent) {
        agent = ready.attach(options)?;
        look(&mut agent)?;
        let began = Instant::now();
        thread::sleep(SECOND_LOOK);
        findings = look(&mut agent)?;
        while open_question(&agent) && began.elapsed() < LONGEST {
            thread::sleep(NEXT_LOOK);
            findings = look(&mut agent)?;
        }
    }
    say(&mut agent, &mut report, &findings)?;
    let found = findings.iter().any(|finding| agent.case.policy.counts(finding));
    // The process ends here: to give its memory back piece by piece is time that somebody waits for.
    mem::forget(agent);
    Ok(if found { FOUND } else { OK })
}

fn look(agent: &mut Agent) -> Result<Vec<Finding>> {
    agent.refresh(&mut |_, _| Ok(()))?;
    agent.judge()
}

/// Whether it can be known soon if what looks leaked goes on.
fn open_question(agent: &Agent) -> bool {
    let case = &agent.case;
    let until = look_until(&case.ledger, case.at, &case.policy);
    until.is_some_and(|until| Duration::from_nanos(until) <= LONGEST)
}

fn say(agent: &mut Agent, report: &mut Report, findings: &[Finding]) -> Result<()> {
    let case = &mut agent.case;
    let known = case.ledger.connections().count();
    if report.wants_lines() {
        let mut connections: Vec<Connection> = case.ledger.connections().cloned().collect();
        connections.sort_by_cached_key(|connection| {
            (
                connection.process(),
                connection.holders.to_vec(),
                connection.cookie,
            )
        });
        for connection in &connections {
            report.socket(case, connection)?;
        }
    }
    for finding in findings {
        report.finding(case, finding, &next_command(finding))?;
    }
    report.folded(case, findings)?;
    let rows = report::overview(case, findings);
    if findings.is_empty() {
        let mut processes: Vec<u32> = rows.iter().map(|row| row.process.id.pid).collect();
        processes.sort_unstable();
        processes.dedup();
        report.text(&text::nothing_found(known, processes.len()))?;
    }
    if !rows.is_empty() {
        report.text(&text::overview(&rows, case.policy.idle))?;
    }
    report.summary(&agent.case, findings.len(), &Cost::of(agent))
}

/// The command that tells more than a single look can.
fn next_command(finding: &Finding) -> String {
    let flags = args::filter_flags(std::env::args());
    if finding.is_about_server() {
        // Every process counts there.
        format!("connleak watch{flags}")
    } else {
        format!("connleak watch --pid {}{flags}", finding.process.pid)
    }
}
