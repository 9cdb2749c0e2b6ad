//! Text for a tired person: the sentence that matters, the evidence, what to do next.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};

use super::{code::Part, duration::human, escape::escape, json::Known, outlook, redact};
use crate::{
    event::{Nanos, SECOND, Server, State},
    owner::Process,
    verdict::{Confidence, Finding, Kind, track::Resolution},
};

const BAD: Style = AnsiColor::Red.on_default().bold();
const DOUBT: Style = AnsiColor::Yellow.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const FAINT: Style = Style::new().dimmed();
/// Sockets listed one by one in text; JSON has them all.
const LISTED: usize = 5;

/// A process as one names it: `payments (pid 4121)`.
#[must_use]
pub fn name(process: &Process) -> String {
    format!("{} (pid {})", escape(&process.name), process.id.pid)
}

/// A server as one names it: `postgresql 10.0.0.5:5432`.
#[must_use]
pub fn server(server: &Server) -> String {
    format!("{} {}", server.system, escape(&server.place.to_string()))
}

/// The sentence that matters, without colour: also the log's `message`.
#[must_use]
pub fn headline(finding: &Finding, known: Known<'_>) -> String {
    let Some(culprit) = known.code.culprit(finding.kind) else {
        return sentence(finding, known.process, "");
    };
    let label = culprit.label();
    let few = culprit.is_of_few();
    let what = match culprit.part {
        Part::Opened if finding.kind == Kind::Leak && !few => {
            return sentence(finding, known.process, &format!(" from {label}"));
        }
        Part::LastUsed => "last used by",
        Part::Opened | Part::OpensNow => "opened by",
    };
    let some = if few {
        format!("{} of them ", culprit.sockets)
    } else {
        String::new()
    };
    format!("{}, {some}{what} {label}", sentence(finding, known.process, ""))
}

/// With where a leak's connections come `from`, in words that begin with a space.
fn sentence(finding: &Finding, process: &Process, from: &str) -> String {
    let (who, to) = (name(process), server(&finding.server));
    let connections = plural(finding.sockets.len(), "connection");
    match finding.kind {
        Kind::Leak => {
            let verb = match finding.confidence {
                Confidence::Certain => "leaks",
                Confidence::Likely => "most likely leaks",
                Confidence::Suspect => "may leak",
            };
            format!("{who} {verb} connections to {to}{from}: {}", measure(finding))
        }
        Kind::Unreturned => {
            let verb = match finding.confidence {
                Confidence::Suspect => "may have taken",
                _ => "has most likely taken",
            };
            format!("{who} {verb} {connections} to {to} out of its pool and not given them back")
        }
        Kind::Inherited => {
            format!("{who} holds {connections} to {to} that another process opened, and has never used them")
        }
        Kind::CloseWait => {
            let waiting = finding
                .sockets
                .iter()
                .any(|socket| socket.connection.state == State::PeerClosed);
            let how = if waiting {
                "that the server has closed (CLOSE_WAIT)"
            } else {
                "that are over (CLOSE)"
            };
            format!("{who} keeps {connections} to {to} {how}: the descriptors leak")
        }
        Kind::NeverUsed => format!("{who} opened {connections} to {to} without ever sending a byte"),
        Kind::Exhaustion => outlook::exhaustion(finding, process),
        Kind::Policy => outlook::breach(finding, process),
    }
}

/// How many, how long, how fast: `76 idle for over 30s and passed over, +12/min`.
fn measure(finding: &Finding) -> String {
    let mut text = finding.sockets.len().to_string();
    match (finding.kept_alive, finding.idle_min(), finding.idle_max()) {
        (Some(time), ..) => {
            let _ = write!(text, " only pinged, the first of them for {}", human(time));
        }
        (_, Some(least), _) if finding.passed_over_max() > 0 && least >= SECOND => {
            let _ = write!(text, " idle for over {} and passed over", human(least));
        }
        (.., Some(most)) => {
            let _ = write!(text, " used and not again, the first of them {} ago", human(most));
        }
        _ => text.push_str(" open, and nothing tells when they were last used"),
    }
    if let Some(pace) = outlook::pace(finding) {
        let _ = write!(text, ", {pace}");
    }
    text
}

/// A finding in full.
#[must_use]
pub fn finding(finding: &Finding, known: Known<'_>, next: Option<&str>) -> String {
    let Known { process, code } = known;
    let style = if finding.confidence >= Confidence::Likely {
        BAD
    } else {
        DOUBT
    };
    let mut out = format!(
        "{style}{}{style:#} {}  {FAINT}[{} {}]{FAINT:#}\n",
        label(finding),
        headline(finding, known),
        finding.confidence.name(),
        finding.id
    );
    for because in finding.because.iter().chain(&code.because()) {
        line(&mut out, "why", because);
    }
    let counted = matches!(finding.kind, Kind::Exhaustion | Kind::Policy);
    if let Some(left) = outlook::left(finding).filter(|_| !counted) {
        line(&mut out, "left", &left);
    }
    for (place, text) in code.lines(finding).iter().enumerate() {
        line(&mut out, if place == 0 { "code" } else { "" }, text);
    }
    if let Some(used) = used(finding).filter(|_| !counted) {
        line(&mut out, "use", &used);
    }
    for (label, text) in who(process) {
        line(&mut out, label, &text);
    }
    for but in &finding.but {
        line(&mut out, "but", but);
    }
    out.push_str(&sockets(finding));
    line(&mut out, "note", note(finding.kind));
    if let Some(next) = next {
        line(&mut out, "next", next);
    }
    out
}

/// What the sockets have carried: leaked ones have each done one piece of work.
fn used(finding: &Finding) -> Option<String> {
    let traffic = || finding.sockets.iter().map(|socket| socket.connection.traffic());
    let sends = (
        traffic().filter_map(|t| t.sends).min()?,
        traffic().filter_map(|t| t.sends).max()?,
    );
    let sent = median(traffic().filter_map(|t| t.bytes_sent))?;
    let received = median(traffic().filter_map(|t| t.bytes_received))?;
    let times = match sends {
        (0, 0) => return None,
        (1, 1) => "once".to_owned(),
        (least, most) if least == most => format!("{least} times"),
        (least, most) => format!("{least} to {most} times"),
    };
    Some(format!(
        "each sent {times}; {sent} B out and {received} B back (median)"
    ))
}

fn median(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

fn label(finding: &Finding) -> &'static str {
    match finding.kind {
        Kind::Leak => "LEAK",
        Kind::Unreturned => "UNRETURNED",
        Kind::Inherited => "INHERITED",
        Kind::CloseWait => "CLOSE_WAIT",
        Kind::NeverUsed => "NEVER USED",
        Kind::Exhaustion => "EXHAUSTION",
        Kind::Policy => "POLICY",
    }
}

/// What does not help, and what does: said once, where it is needed.
fn note(kind: Kind) -> &'static str {
    match kind {
        Kind::Leak => {
            "restarting the database only hides it: this process opens them again. \
             Close or return the connection on every path, errors included"
        }
        Kind::Unreturned => {
            "a larger pool only fills up later: return the connection on every path, errors and early returns \
             included"
        }
        Kind::Inherited => {
            "the session lasts as long as this process: close the descriptor in the child, or open it \
             close-on-exec"
        }
        Kind::CloseWait => "the server has let go already; only this process can close its descriptors",
        Kind::NeverUsed => "each costs the server a slot, though nobody has logged in yet",
        Kind::Exhaustion => {
            "a higher limit buys minutes, a restart of the server no more: close what is leaked, and find what opens it"
        }
        Kind::Policy => "a limit that was set for this call: 'connleak policy' with the same flags prints it",
    }
}

fn line(out: &mut String, label: &str, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "  {FAINT}{label:<5}{FAINT:#} {text}");
}

fn who(process: &Process) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let command: String = escape(&redact::command_line(&process.command_line).join(" "))
        .chars()
        .take(160)
        .collect();
    if !command.is_empty() {
        lines.push(("who", command));
    }
    let mut place = Vec::new();
    place.extend(process.user.as_ref().map(|user| format!("user {}", escape(user))));
    place.extend(process.unit.as_ref().map(|unit| format!("unit {}", escape(unit))));
    place.extend(
        process
            .container_id
            .as_ref()
            .map(|id| format!("container {}", id.get(..12).unwrap_or(id))),
    );
    place.extend(process.pod.as_ref().map(|pod| format!("pod {}", escape(pod))));
    if !place.is_empty() {
        lines.push(("", place.join(", ")));
    }
    lines
}

fn sockets(finding: &Finding) -> String {
    // Without history nobody knows what was passed over.
    let history = finding.passed_over_max() > 0;
    let mut header = vec!["FD", "CLIENT", "STATE", "IDLE", "SENT", "RECEIVED"];
    header.extend(history.then_some("PASSED OVER"));
    let mut table = plain(&header);
    let bytes = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |bytes| format!("{bytes} B"));
    for evidence in finding.sockets.iter().take(LISTED) {
        let connection = &evidence.connection;
        let mut row = vec![
            connection
                .holders
                .first()
                .map_or_else(|| "?".to_owned(), |holder| holder.fd.to_string()),
            connection
                .client()
                .map_or_else(|| "unix".to_owned(), |client| client.to_string()),
            connection.state.name().to_owned(),
            evidence.idle.map_or_else(|| "?".to_owned(), human),
            bytes(connection.traffic().bytes_sent),
            bytes(connection.traffic().bytes_received),
        ];
        row.extend(history.then(|| evidence.passed_over.to_string()));
        table.add_row(row);
    }
    let mut out = indent(&align(table, &[0, 3, 4, 5, 6]).to_string(), "        ");
    let more = finding.sockets.len().saturating_sub(LISTED);
    if more > 0 {
        let _ = writeln!(
            out,
            "        {FAINT}… and {more} more (-o json lists all){FAINT:#}"
        );
    }
    out
}

/// A finding's later life, in one line.
#[must_use]
pub fn update(finding: &Finding, known: Known<'_>, time: &str) -> String {
    format!(
        "{time} {DOUBT}{}{DOUBT:#} {} [{} {}]\n",
        label(finding),
        headline(finding, known),
        finding.confidence.name(),
        finding.id
    )
}

/// The sentence of a retraction, without colour.
#[must_use]
pub fn retraction(finding: &Finding, process: &Process, resolution: Resolution) -> String {
    let connections = plural(finding.sockets.len(), "connection");
    let (who, to) = (name(process), server(&finding.server));
    let what = match finding.kind {
        Kind::NeverUsed => "that it had not used",
        Kind::CloseWait => "that the server had ended",
        _ if finding.confidence == Confidence::Suspect => "that looked leaked",
        _ => "that it had leaked",
    };
    match resolution {
        Resolution::Below => format!("{} [{}]", outlook::below(finding, process), finding.id),
        Resolution::Closed => format!(
            "{who} has closed the {connections} to {to} {what} [{}]",
            finding.id
        ),
        Resolution::UsedAgain => format!(
            "{who} uses its {connections} to {to} again: no leak [{}]",
            finding.id
        ),
    }
}

/// A retraction, in one line.
#[must_use]
pub fn resolved(finding: &Finding, process: &Process, resolution: Resolution, time: &str) -> String {
    format!(
        "{time} {GOOD}RESOLVED{GOOD:#} {}\n",
        retraction(finding, process, resolution)
    )
}

/// One process's connections to one server, as the overview lists them.
#[derive(Debug)]
pub struct GroupRow {
    /// Whose.
    pub process: std::sync::Arc<Process>,
    /// To where.
    pub server: String,
    /// How many are open.
    pub open: usize,
    /// How many of them have been silent for long.
    pub idle: usize,
    /// The longest silence.
    pub longest: Option<Nanos>,
    /// What was found.
    pub verdict: String,
}

/// The overview: who holds which database sockets.
#[must_use]
pub fn overview(rows: &[GroupRow], idle: Nanos) -> String {
    let idle_heading = format!("IDLE>{}", human(idle));
    let mut table = plain(&[
        "PID",
        "PROCESS",
        "USER",
        "SERVER",
        "OPEN",
        &idle_heading,
        "LONGEST IDLE",
        "VERDICT",
    ]);
    for row in rows {
        table.add_row([
            row.process.id.pid.to_string(),
            escape(&row.process.name).into_owned(),
            row.process
                .user
                .as_deref()
                .map_or_else(|| "?".to_owned(), |user| escape(user).into_owned()),
            row.server.clone(),
            row.open.to_string(),
            row.idle.to_string(),
            row.longest.map_or_else(|| "?".to_owned(), human),
            row.verdict.clone(),
        ]);
    }
    indent(&align(table, &[0, 4, 5, 6]).to_string(), "")
}

/// The sentence for a host on which nothing was found.
#[must_use]
pub fn nothing_found(sockets: usize, processes: usize) -> String {
    if sockets == 0 {
        return "No database connection matches, held by any process (see --port and --all-ports).\n"
            .to_owned();
    }
    format!(
        "{GOOD}No leak found{GOOD:#} in {} of {}.\n",
        plural(sockets, "database connection"),
        plural(processes, "process")
    )
}

/// `1 socket`, `2 sockets`, `3 processes`.
#[must_use]
pub fn plural(count: usize, noun: &str) -> String {
    match (count, noun) {
        (1, _) => format!("1 {noun}"),
        (_, noun) if noun.ends_with('s') => format!("{count} {noun}es"),
        _ => format!("{count} {noun}s"),
    }
}

fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

fn align(mut table: Table, right: &[usize]) -> Table {
    for &index in right {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

fn indent(text: &str, by: &str) -> String {
    text.lines().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "{by}{}", line.trim_end());
        out
    })
}
