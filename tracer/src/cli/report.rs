//! What a command says, in both languages at once: text or JSON on standard output, JSON in the log file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use anyhow::Result;
use nix::sys::resource::{UsageWho, getrusage};

use super::args::Format;
use crate::{
    agent::Agent,
    case::Case,
    event::{Loss, Nanos},
    ledger::{Connection, GroupKey, Outcome},
    output::{
        code::Told,
        folded,
        json::{Known, Line, Stamps, Summary},
        sink::{self, LogFile, Reader},
        text,
    },
    owner::Process,
    probes,
    verdict::{
        Confidence, Finding, FindingId,
        track::{News, Resolution, Status},
    },
};

/// Looks at which a finding's functions are asked for again, a second apart or less.
const TRIES: u8 = 20;

/// Where everything that is data goes.
pub struct Report {
    format: Format,
    log: Option<LogFile>,
    /// Findings that were told in full.
    in_full: BTreeSet<FindingId>,
    /// Findings that were told without the names of their functions, and how often these are still asked for.
    unnamed: BTreeMap<FindingId, u8>,
    /// Losses told so far.
    told_lost: BTreeMap<Loss, u64>,
    /// There is history to sum up.
    watching: bool,
    /// Nobody is to be told anything.
    silent: bool,
    reader: Reader,
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
            in_full: BTreeSet::new(),
            unnamed: BTreeMap::new(),
            told_lost: BTreeMap::new(),
            silent: false,
            reader: Reader::Present,
        })
    }

    /// One that says nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            format: Format::Json,
            log: None,
            in_full: BTreeSet::new(),
            unnamed: BTreeMap::new(),
            told_lost: BTreeMap::new(),
            watching: false,
            silent: true,
            reader: Reader::Gone,
        }
    }

    /// Whether the reader of standard output has gone: no use in going on.
    #[must_use]
    pub fn abandoned(&self) -> bool {
        self.reader == Reader::Gone && !self.silent
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

    /// Whether anybody reads JSON: it is not made for nobody.
    pub(super) fn wants_lines(&self) -> bool {
        self.format == Format::Json || self.log.is_some()
    }

    fn line(&mut self, line: &Line) -> Result<()> {
        if !self.wants_lines() {
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
    pub fn finding(&mut self, case: &mut Case, finding: &Finding, next: &str) -> Result<()> {
        let (process, code) = named(case, finding);
        let known = Known {
            process: &process,
            code: &code,
        };
        self.tell(case, finding, Status::New, known, Some(next))?;
        self.text(&format!("{}\n", text::finding(finding, known, Some(next))))
    }

    /// Everything that is new in a watch, and what was told before without its functions' names.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn all_news(&mut self, case: &mut Case, news: &[News]) -> Result<()> {
        for news in news {
            self.news(case, news)?;
        }
        let ids: Vec<FindingId> = self.unnamed.keys().copied().collect();
        for id in ids {
            self.name_late(case, id)?;
        }
        Ok(())
    }

    /// Tells a finding once more when its functions' names are known at last: those of a large program take
    /// longer than anybody may be kept waiting.
    fn name_late(&mut self, case: &mut Case, id: FindingId) -> Result<()> {
        let standing = case.tracker.active().find(|finding| finding.id == id).cloned();
        let (Some(finding), Some(tries)) = (standing, self.unnamed.get_mut(&id)) else {
            self.unnamed.remove(&id);
            return Ok(());
        };
        *tries -= 1;
        let exhausted = *tries == 0;
        if Told::of(&finding.code, &mut case.sites).lacks_names() {
            if exhausted {
                self.unnamed.remove(&id);
            }
            return Ok(());
        }
        // As if it was told for the first time.
        self.in_full.remove(&id);
        self.news(case, &News::Finding(Box::new(finding), Status::Steady))
    }

    /// News of a watch.
    ///
    /// # Errors
    /// When it can't be written.
    fn news(&mut self, case: &mut Case, news: &News) -> Result<()> {
        match news {
            News::Finding(finding, status) => {
                let (process, code) = named(case, finding);
                if code.lacks_names() {
                    self.unnamed.entry(finding.id).or_insert(TRIES);
                } else {
                    self.unnamed.remove(&finding.id);
                }
                let known = Known {
                    process: &process,
                    code: &code,
                };
                self.tell(case, finding, *status, known, None)?;
                let time = case.stamps.rfc3339(case.at);
                // In full once, when there is something to act on; what came before and comes after, in a line.
                let in_full = finding.confidence >= Confidence::Likely && self.in_full.insert(finding.id);
                if in_full {
                    self.text(&format!("{time}\n{}\n", text::finding(finding, known, None)))
                } else {
                    self.text(&text::update(finding, known, &time))
                }
            }
            News::Resolved(finding, resolution) => {
                self.in_full.remove(&finding.id);
                self.resolved(case, finding, *resolution)
            }
        }
    }

    fn resolved(&mut self, case: &mut Case, finding: &Finding, resolution: Resolution) -> Result<()> {
        let (at, stamps) = (case.at, case.stamps);
        let process = case.owners.describe(finding.process);
        let code = Told::of(&finding.code, &mut case.sites);
        let known = Known {
            process: &process,
            code: &code,
        };
        let message = text::retraction(finding, &process, resolution);
        self.line(&Line::resolved(stamps, at, finding, resolution, known, message))?;
        self.text(&text::resolved(
            finding,
            &process,
            resolution,
            &stamps.rfc3339(at),
        ))
    }

    fn tell(
        &mut self,
        case: &Case,
        finding: &Finding,
        status: Status,
        known: Known<'_>,
        next: Option<&str>,
    ) -> Result<()> {
        let message = text::headline(finding, known);
        let next = next.map(ToOwned::to_owned);
        self.line(&Line::finding(
            case.stamps,
            case.at,
            finding,
            status,
            known,
            message,
            next,
        ))
    }

    /// One connection of a scan.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn socket(&mut self, case: &mut Case, connection: &Connection) -> Result<()> {
        if !self.wants_lines() {
            return Ok(());
        }
        let process = case.process_of(connection);
        self.line(&Line::socket(
            case.stamps,
            case.at,
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
    pub fn outcome(&mut self, case: &mut Case, outcome: &Outcome) -> Result<()> {
        let (event, connection, closed_by) = match outcome {
            Outcome::Opened(cookie) => match case.ledger.connection(*cookie) {
                Some(opened) => ("open", opened.clone(), None),
                None => return Ok(()),
            },
            Outcome::Failed(failed) => ("failed", Connection::clone(failed), None),
            Outcome::Closed(closed, by) => ("close", Connection::clone(closed), Some(*by)),
        };
        let at = connection.changed_at;
        let process = case.process_of(&connection);
        self.line(&Line::socket(
            case.stamps,
            at,
            event,
            &connection,
            closed_by,
            &process,
        ))?;
        let how = closed_by
            .map(|by| format!(", closed by {}", by.name()))
            .unwrap_or_default();
        self.text(&format!(
            "{} {event:<6} {} -> {}{how}\n",
            case.stamps.rfc3339(at),
            text::name(&process),
            text::server(&connection.server)
        ))
    }

    /// Tells losses that were not told yet.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn losses(&mut self, case: &Case) -> Result<()> {
        let at = case.ledger.lost_at().unwrap_or(case.at);
        for (&cause, &total) in &case.ledger.totals().lost {
            let told = self.told_lost.entry(cause).or_default();
            let events = total - *told;
            *told = total;
            if events > 0 {
                self.lost(case.stamps, at, cause.name(), events)?;
            }
        }
        Ok(())
    }

    fn lost(&mut self, stamps: Stamps, at: Nanos, cause: &'static str, events: u64) -> Result<()> {
        let count = text::plural(usize::try_from(events).unwrap_or(usize::MAX), "event");
        let message = format!("{count} lost ({cause}); a new snapshot restores the truth");
        self.text(&format!("{} lost   {message}\n", stamps.rfc3339(at)))?;
        self.line(&Line::lost(stamps, at, cause, events, message))
    }

    /// The stacks of these findings' sockets as a flame graph's input, if that is wanted.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn folded(&mut self, case: &mut Case, findings: &[Finding]) -> Result<()> {
        if self.format != Format::Folded {
            return Ok(());
        }
        for finding in findings {
            let process = case.owners.describe(finding.process);
            for line in folded::lines(finding, &process, &mut case.sites) {
                if self.reader == Reader::Present {
                    self.reader = sink::print(&format!("{line}\n"))?;
                }
            }
        }
        Ok(())
    }

    /// The end.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn summary(&mut self, case: &Case, findings: usize, cost: &Cost) -> Result<()> {
        let totals = case.ledger.totals();
        let summary = Summary {
            totals,
            sockets: case.ledger.connections().count(),
            findings,
            costs: cost.programs.clone(),
            agent_cpu_s: cost.cpu_s,
            rss_bytes: cost.rss_bytes,
            stacks_lost: cost.stacks_lost,
        };
        let message = format!(
            "{} open and {} standing; {} opened, {} closed and {} failed since connleak attached; {}",
            text::plural(summary.sockets, "database connection"),
            text::plural(findings, "finding"),
            totals.opened,
            totals.closed,
            totals.failed,
            match (totals.events_lost(), totals.untracked) {
                (0, 0) => "no event was lost".to_owned(),
                (lost, left_out) => format!(
                    "{} lost and {left_out} beyond --max-connections left out, so that counts may be too low",
                    text::plural(usize::try_from(lost).unwrap_or(usize::MAX), "event")
                ),
            }
        );
        if self.watching {
            self.text(&format!("{message}\n"))?;
        }
        self.line(&Line::summary(case.stamps, case.at, &summary, message))
    }
}

/// What a run has cost: nothing, when it is a replay.
#[derive(Debug, Default)]
pub struct Cost {
    /// The kernel programs.
    pub programs: Vec<probes::Cost>,
    /// Processor seconds.
    pub cpu_s: f64,
    /// Resident bytes.
    pub rss_bytes: u64,
    /// Stacks of threads that were not taken, or were lost on the way.
    pub stacks_lost: u64,
}

impl Cost {
    /// Of this process, up to now.
    #[must_use]
    pub fn of(agent: &Agent) -> Self {
        Self {
            programs: agent.probes.costs(),
            cpu_s: cpu_seconds(),
            rss_bytes: resident_bytes(),
            stacks_lost: agent.stacks_lost(),
        }
    }
}

/// The process of a finding, as it is now (it may have been seen first between fork and exec), and its code.
fn named(case: &mut Case, finding: &Finding) -> (Arc<Process>, Told) {
    case.owners.refresh(finding.process);
    let code = Told::of(&finding.code, &mut case.sites);
    (case.owners.describe(finding.process), code)
}

/// Rows of the overview, largest first.
#[must_use]
pub fn overview(case: &mut Case, findings: &[Finding]) -> Vec<text::GroupRow> {
    let (now, idle) = (case.at, case.policy.idle);
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
    let Case { ledger, owners, .. } = case;
    owners.prefetch(
        ledger
            .groups()
            .filter(|(_, _, connections)| !connections.is_empty())
            .map(|(key, ..)| key.process)
            .collect(),
    );
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
