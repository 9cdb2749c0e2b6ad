//! What a command says, in both languages at once: text or JSON on standard output, JSON in the log file.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};

use super::args::Format;
use crate::{
    agent::Agent,
    event::Nanos,
    ledger::{Connection, GroupKey, Ledger, Outcome},
    output::{
        json::{Line, Stamps, Summary},
        sink::{self, LogFile, Reader},
        text,
    },
    owner::{Owners, Process},
    verdict::{
        Finding,
        track::{News, Resolution, Status},
    },
};

/// Where everything that is data goes.
pub struct Report {
    format: Format,
    log: Option<LogFile>,
    /// There is history to sum up.
    watching: bool,
    /// Nobody reads standard output any more.
    pub reader: Reader,
}

impl Report {
    /// Opens the log file, if there is to be one.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn new(format: Format, log: Option<&Path>, watching: bool) -> Result<Self> {
        Ok(Self {
            format,
            log: log.map(LogFile::open).transpose()?,
            watching,
            reader: Reader::Present,
        })
    }

    /// Opens the log file anew: it has been rotated. When that fails, the old file stays in use.
    pub fn reopen(&mut self) {
        if let Some(Err(error)) = self.log.as_mut().map(LogFile::reopen) {
            tracing::warn!("{error:#}; going on with the old file");
        }
    }

    /// Writes text as it is, if text is wanted.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn text(&mut self, text: &str) -> Result<()> {
        if self.format == Format::Text && self.reader == Reader::Present {
            self.reader = sink::print(text)?;
        }
        Ok(())
    }

    fn line(&mut self, line: &Line) -> Result<()> {
        if self.format == Format::Text && self.log.is_none() {
            return Ok(());
        }
        let json = serde_json::to_string(line)?;
        if let Some(log) = &mut self.log {
            log.append(&json)?;
        }
        if self.format == Format::Json && self.reader == Reader::Present {
            self.reader = sink::print(&format!("{json}\n"))?;
        }
        Ok(())
    }

    /// A finding of a single look.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finding(&mut self, agent: &mut Agent, finding: &Finding, next: &str) -> Result<()> {
        let (at, stamps) = (agent.now(), agent.stamps);
        let process = agent.owners.describe(finding.process);
        self.tell(stamps, at, finding, Status::New, &process, Some(next))?;
        self.text(&format!("{}\n", text::finding(finding, &process, Some(next))))
    }

    /// News of a watch.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn news(&mut self, agent: &mut Agent, news: &News) -> Result<()> {
        let (at, stamps) = (agent.now(), agent.stamps);
        match news {
            News::Finding(finding, status) => {
                let process = agent.owners.describe(finding.process);
                self.tell(stamps, at, finding, *status, &process, None)?;
                let time = stamps.rfc3339(at);
                if *status == Status::New {
                    self.text(&format!("{time}\n{}\n", text::finding(finding, &process, None)))
                } else {
                    self.text(&text::update(finding, &process, &time))
                }
            }
            News::Resolved(finding, resolution) => self.resolved(agent, finding, *resolution),
        }
    }

    fn resolved(&mut self, agent: &mut Agent, finding: &Finding, resolution: Resolution) -> Result<()> {
        let (at, stamps) = (agent.now(), agent.stamps);
        let process = agent.owners.describe(finding.process);
        let message = text::retraction(finding, &process, resolution);
        self.line(&Line::resolved(
            stamps, at, finding, resolution, &process, message,
        ))?;
        self.text(&text::resolved(
            finding,
            &process,
            resolution,
            &stamps.rfc3339(at),
        ))
    }

    fn tell(
        &mut self,
        stamps: Stamps,
        at: Nanos,
        finding: &Finding,
        status: Status,
        process: &Process,
        next: Option<&str>,
    ) -> Result<()> {
        let message = text::headline(finding, process);
        let next = next.map(ToOwned::to_owned);
        self.line(&Line::finding(
            stamps, at, finding, status, process, message, next,
        ))
    }

    /// One connection of a scan.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn socket(&mut self, agent: &mut Agent, connection: &Connection) -> Result<()> {
        let process = Agent::process_of(&mut agent.owners, connection);
        self.line(&Line::socket(
            agent.stamps,
            agent.now(),
            "socket",
            connection,
            None,
            &process,
        ))
    }

    /// What became of a connection.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn outcome(
        &mut self,
        stamps: Stamps,
        owners: &mut Owners,
        ledger: &Ledger,
        outcome: &Outcome,
    ) -> Result<()> {
        let (event, connection, cause) = match outcome {
            Outcome::Quiet => return Ok(()),
            Outcome::Opened(cookie) => match ledger.connection(*cookie) {
                Some(connection) => ("open", connection, None),
                None => return Ok(()),
            },
            Outcome::Failed(connection) => ("failed", &**connection, None),
            Outcome::Closed(connection, cause) => ("close", &**connection, Some(*cause)),
        };
        let at = connection.changed_at;
        let process = Agent::process_of(owners, connection);
        self.line(&Line::socket(stamps, at, event, connection, cause, &process))?;
        let how = cause
            .map(|cause| format!(", closed by {}", cause.name()))
            .unwrap_or_default();
        self.text(&format!(
            "{} {event:<6} {} -> {}{how}\n",
            stamps.rfc3339(at),
            text::name(&process),
            text::server(&connection.server)
        ))
    }

    /// Events were lost.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn lost(&mut self, stamps: Stamps, at: Nanos, cause: &'static str, events: u64) -> Result<()> {
        let message = format!("{events} events were lost ({cause}); a new snapshot restores the truth");
        self.text(&format!("{} lost   {message}\n", stamps.rfc3339(at)))?;
        self.line(&Line::lost(stamps, at, cause, events, message))
    }

    /// The end.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn summary(&mut self, agent: &Agent, findings: usize) -> Result<()> {
        let totals = agent.ledger.totals();
        let summary = Summary {
            totals,
            sockets: agent.ledger.connections().count(),
            findings,
            costs: agent.probes.costs(),
            agent_cpu_s: cpu_seconds(),
            rss_bytes: resident_bytes(),
        };
        let message = format!(
            "{} open and {} standing; {} opened, {} closed and {} failed since connleak attached; {}",
            text::plural(summary.sockets, "database connection"),
            text::plural(findings, "finding"),
            totals.opened,
            totals.closed,
            totals.failed,
            match totals.events_lost() {
                0 => "no event was lost".to_owned(),
                lost => format!("{lost} events were lost, so that counts may be too low"),
            }
        );
        if self.watching {
            self.text(&format!("{message}\n"))?;
        }
        self.line(&Line::summary(
            agent.stamps,
            agent.now(),
            &summary,
            message.clone(),
        ))
    }
}

/// Rows of the overview, largest first.
#[must_use]
pub fn overview(agent: &mut Agent, findings: &[Finding]) -> Vec<text::GroupRow> {
    let (now, idle) = (agent.now(), agent.policy.idle);
    let verdicts: BTreeMap<GroupKey, String> =
        findings.iter().fold(BTreeMap::new(), |mut verdicts, finding| {
            let key = GroupKey {
                process: finding.process,
                server: Arc::clone(&finding.server),
            };
            let word = format!("{} ({})", finding.kind.name(), finding.confidence.name());
            verdicts
                .entry(key)
                .and_modify(|words: &mut String| *words = format!("{words}, {word}"))
                .or_insert(word);
            verdicts
        });
    let Agent { ledger, owners, .. } = agent;
    let mut rows: Vec<text::GroupRow> = ledger
        .groups()
        .filter(|(_, _, connections)| !connections.is_empty())
        .map(|(key, _, connections)| {
            let silences: Vec<Nanos> = connections
                .iter()
                .filter_map(|connection| connection.last_known_activity().map(|at| now.saturating_sub(at)))
                .collect();
            text::GroupRow {
                process: owners.describe(key.process),
                server: text::server(&key.server),
                open: connections.len(),
                idle: silences.iter().filter(|&&silent| silent >= idle).count(),
                longest: silences.iter().max().copied(),
                verdict: verdicts.get(key).cloned().unwrap_or_else(|| "-".to_owned()),
            }
        })
        .collect();
    rows.sort_by(|a, b| b.open.cmp(&a.open).then(a.process.id.cmp(&b.process.id)));
    rows
}

/// Processor time that this process has used, in seconds.
fn cpu_seconds() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        ((seconds(usage.user_time()) + seconds(usage.system_time())) * 1000.0).round() / 1000.0
    })
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kilobytes| kilobytes * 1024)
}
