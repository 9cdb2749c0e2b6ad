//! JSON Lines: one object a line, with OpenTelemetry's names where there are some.
//! `docs/log.schema.json` describes every field; a test holds the two together.

use std::net::SocketAddr;

use serde::Serialize;

use super::code::{Named, Part, Told};
use crate::{
    callsite::{Frame, Origin, Site},
    event::{Cause, Nanos, Place, SECOND, Server},
    ledger::{Connection, Totals},
    output::redact,
    owner::Process,
    probes::Cost,
    server::wire::Purpose,
    verdict::{
        Breach, Confidence, Finding,
        track::{Resolution, Status},
    },
};

/// Turns monotonic moments into wall-clock time stamps.
#[derive(Clone, Copy, Debug)]
pub struct Stamps {
    /// Nanoseconds of the Unix epoch at monotonic zero.
    pub epoch: i128,
}

impl Stamps {
    /// RFC 3339 in UTC with milliseconds.
    #[must_use]
    pub fn rfc3339(&self, at: Nanos) -> String {
        rfc3339(self.epoch + i128::from(at))
    }
}

fn rfc3339(unix_nanos: i128) -> String {
    let stamp = jiff::Timestamp::from_nanosecond(unix_nanos).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{stamp:.3}")
}

/// One line of the log.
#[derive(Debug, Serialize)]
pub struct Line {
    timestamp: String,
    event: &'static str,
    severity: &'static str,
    message: String,
    #[serde(flatten)]
    body: Body,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Body {
    Finding(Box<FindingBody>),
    Socket {
        process: ProcessJson,
        db: Db,
        server: ServerJson,
        socket: Box<SocketJson>,
    },
    Lost {
        lost: LostJson,
    },
    Summary(SummaryJson),
}

#[derive(Debug, Serialize)]
struct FindingBody {
    finding: FindingJson,
    process: ProcessJson,
    db: Db,
    server: ServerJson,
    /// The function that the message names.
    code: Option<CodeJson>,
    /// The stack that opened most of the sockets whose opening was seen, or of those that have the application's code in it.
    site: Option<SiteJson>,
    /// Likewise that used them last.
    last_use: Option<SiteJson>,
    /// All of them, with counts.
    sites: Vec<ShareJson>,
    sockets: Vec<SocketJson>,
}

#[derive(Debug, Serialize)]
struct CodeJson {
    role: &'static str,
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    sockets: usize,
}

#[derive(Debug, Serialize)]
struct SiteJson {
    id: String,
    quality: Option<&'static str>,
    note: Option<String>,
    frames: Vec<FrameJson>,
}

#[derive(Debug, Serialize)]
struct ShareJson {
    role: &'static str,
    sockets: usize,
    used_since: usize,
    opened: u64,
    closed: u64,
    #[serde(flatten)]
    site: SiteJson,
}

#[derive(Debug, Serialize)]
struct FrameJson {
    function: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    module: Option<String>,
    runtime: &'static str,
    origin: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    inlined: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

#[derive(Debug, Serialize)]
struct FindingJson {
    id: String,
    kind: &'static str,
    confidence: &'static str,
    status: &'static str,
    sockets: usize,
    opened: u64,
    closed: u64,
    passed_over_max: u64,
    idle_max_s: Option<f64>,
    idle_min_s: Option<f64>,
    growth_per_min: Option<f64>,
    growth_estimated: bool,
    server_open: u64,
    server_limit: Option<u64>,
    exhausted_in_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<BreachJson>,
    opened_before_attach: usize,
    because: Vec<String>,
    but: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolution: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The limit of the policy that is broken; of `longest_idle` in seconds.
#[derive(Debug, Serialize)]
struct BreachJson {
    limit: &'static str,
    allowed: f64,
    actual: f64,
}

impl From<Breach> for BreachJson {
    fn from(breach: Breach) -> Self {
        let (allowed, actual) = match breach {
            Breach::MaxOpen { allowed, actual } | Breach::Headroom { allowed, actual } => {
                (allowed as f64, actual as f64)
            }
            Breach::LongestIdle { allowed, actual } => (seconds(allowed), seconds(actual)),
        };
        Self {
            limit: breach.name(),
            allowed,
            actual,
        }
    }
}

#[derive(Debug, Serialize)]
struct ProcessJson {
    pid: u32,
    start_time: Option<String>,
    name: String,
    executable: Option<String>,
    command_line: Vec<String>,
    user: Option<String>,
    container_id: Option<String>,
    pod: Option<String>,
    unit: Option<String>,
}

#[derive(Debug, Serialize)]
struct Db {
    system: String,
}

#[derive(Debug, Serialize)]
struct ServerJson {
    address: Option<String>,
    port: Option<u16>,
    path: Option<String>,
}

#[derive(Debug, Serialize)]
struct Client {
    address: String,
    port: u16,
}

#[derive(Debug, Serialize)]
struct HolderJson {
    pid: u32,
    fd: u32,
}

#[derive(Debug, Serialize)]
struct SocketJson {
    fd: Option<u32>,
    cookie: u64,
    state: &'static str,
    client: Option<Client>,
    age_s: Option<f64>,
    idle_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passed_over: Option<u64>,
    bytes_sent: Option<u64>,
    bytes_received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    db: Option<SaidJson>,
    opener: Option<u32>,
    site: Option<String>,
    last_use: Option<String>,
    last_used_at: Option<String>,
    netns: u32,
    holders: Vec<HolderJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_by: Option<&'static str>,
}

/// What the client said of itself, in OpenTelemetry's words where it has some.
#[derive(Debug, Serialize)]
struct SaidJson {
    namespace: Option<String>,
    user: Option<String>,
    application: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
}

#[derive(Debug, Serialize)]
struct LostJson {
    cause: &'static str,
    events: u64,
}

#[derive(Debug, Serialize)]
struct SummaryJson {
    opened: u64,
    closed: u64,
    failed: u64,
    sockets: usize,
    findings: usize,
    completeness: Completeness,
    overhead: Overhead,
}

#[derive(Debug, Serialize)]
struct Completeness {
    events_lost: u64,
    sockets_untracked: u64,
    opened_before_attach: u64,
    stacks_lost: u64,
}

#[derive(Debug, Serialize)]
struct Overhead {
    programs: Vec<Program>,
    agent_cpu_s: f64,
    rss_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Program {
    name: &'static str,
    runs: u64,
    ns_per_run: u64,
}

/// What was found out about a finding for those who read it.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Whose it is.
    pub process: &'a Process,
    /// Which code.
    pub code: &'a Told,
}

/// What the summary is made of.
#[derive(Debug)]
pub struct Summary<'a> {
    /// The ledger's totals.
    pub totals: &'a Totals,
    /// Sockets that are open now.
    pub sockets: usize,
    /// Findings that hold now.
    pub findings: usize,
    /// What the kernel programs cost.
    pub costs: Vec<Cost>,
    /// Processor seconds of the agent.
    pub agent_cpu_s: f64,
    /// Resident bytes of the agent.
    pub rss_bytes: u64,
    /// Stacks that were not taken, or were lost on the way.
    pub stacks_lost: u64,
}

impl Line {
    /// A finding, new or changed.
    #[must_use]
    pub fn finding(
        stamps: Stamps,
        at: Nanos,
        finding: &Finding,
        status: Status,
        known: Known<'_>,
        message: String,
        next: Option<String>,
    ) -> Self {
        let severity = if finding.confidence >= Confidence::Likely {
            "error"
        } else {
            "warn"
        };
        let body = finding_body(
            stamps,
            at,
            finding,
            status.name(),
            known,
            Outlook {
                resolution: None,
                next,
            },
        );
        Self {
            timestamp: stamps.rfc3339(at),
            event: "finding",
            severity,
            message,
            body,
        }
    }

    /// A finding that no longer holds.
    #[must_use]
    pub fn resolved(
        stamps: Stamps,
        at: Nanos,
        finding: &Finding,
        resolution: Resolution,
        known: Known<'_>,
        message: String,
    ) -> Self {
        let body = finding_body(
            stamps,
            at,
            finding,
            "resolved",
            known,
            Outlook {
                resolution: Some(resolution.name()),
                next: None,
            },
        );
        Self {
            timestamp: stamps.rfc3339(at),
            event: "resolved",
            severity: "info",
            message,
            body,
        }
    }

    /// A connection: `socket` in a scan, `open`, `close` or `failed` in a watch.
    #[must_use]
    pub fn socket(
        stamps: Stamps,
        at: Nanos,
        event: &'static str,
        connection: &Connection,
        cause: Option<Cause>,
        process: &Process,
    ) -> Self {
        let message = format!(
            "{} (pid {}) {} {}",
            process.name, process.id.pid, connection.server.system, connection.server.place
        );
        let mut socket = socket_json(stamps, at, connection, None);
        socket.closed_by = cause.map(Cause::name);
        Self {
            timestamp: stamps.rfc3339(at),
            event,
            severity: "info",
            message: crate::output::escape::escape(&message).into_owned(),
            body: Body::Socket {
                process: process_json(process),
                db: Db {
                    system: connection.server.system.to_string(),
                },
                server: server_json(&connection.server),
                socket: Box::new(socket),
            },
        }
    }

    /// Events were lost.
    #[must_use]
    pub fn lost(stamps: Stamps, at: Nanos, cause: &'static str, events: u64, message: String) -> Self {
        let body = Body::Lost {
            lost: LostJson { cause, events },
        };
        Self {
            timestamp: stamps.rfc3339(at),
            event: "lost",
            severity: "warn",
            message,
            body,
        }
    }

    /// The end of a run.
    #[must_use]
    pub fn summary(stamps: Stamps, at: Nanos, summary: &Summary<'_>, message: String) -> Self {
        let programs = summary
            .costs
            .iter()
            .map(|cost| Program {
                name: cost.program,
                runs: cost.runs,
                ns_per_run: cost.nanos.checked_div(cost.runs).unwrap_or(0),
            })
            .collect();
        let totals = summary.totals;
        let body = Body::Summary(SummaryJson {
            opened: totals.opened,
            closed: totals.closed,
            failed: totals.failed,
            sockets: summary.sockets,
            findings: summary.findings,
            completeness: Completeness {
                events_lost: totals.events_lost(),
                sockets_untracked: totals.untracked,
                opened_before_attach: totals.opened_before_attach,
                stacks_lost: summary.stacks_lost,
            },
            overhead: Overhead {
                programs,
                agent_cpu_s: summary.agent_cpu_s,
                rss_bytes: summary.rss_bytes,
            },
        });
        Self {
            timestamp: stamps.rfc3339(at),
            event: "summary",
            severity: "info",
            message,
            body,
        }
    }
}

/// What comes after a finding.
struct Outlook {
    resolution: Option<&'static str>,
    next: Option<String>,
}

fn finding_body(
    stamps: Stamps,
    at: Nanos,
    finding: &Finding,
    status: &'static str,
    known: Known<'_>,
    Outlook { resolution, next }: Outlook,
) -> Body {
    let Known { process, code } = known;
    let culprit = code.culprit(finding.kind);
    Body::Finding(Box::new(FindingBody {
        finding: FindingJson {
            id: finding.id.to_string(),
            kind: finding.kind.name(),
            confidence: finding.confidence.name(),
            status,
            sockets: finding.sockets.len(),
            opened: finding.opened,
            closed: finding.closed,
            passed_over_max: finding.passed_over_max(),
            idle_max_s: finding.idle_max().map(seconds),
            idle_min_s: finding.idle_min().map(seconds),
            growth_per_min: finding.growth_per_min.map(|rate| (rate * 10.0).round() / 10.0),
            growth_estimated: finding.growth_estimated,
            server_open: finding.outlook.open,
            server_limit: finding.outlook.limit,
            exhausted_in_s: finding.exhausted_in().map(seconds),
            policy: finding.breach.map(BreachJson::from),
            opened_before_attach: finding.opened_before_attach,
            because: finding.because.iter().cloned().chain(code.because()).collect(),
            but: finding.but.clone(),
            resolution,
            next,
        },
        process: process_json(process),
        db: Db {
            system: finding.server.system.to_string(),
        },
        server: server_json(&finding.server),
        code: culprit.map(|culprit| CodeJson {
            role: culprit.part.name(),
            function: culprit.frame.function,
            file: culprit.frame.file,
            line: culprit.frame.line,
            sockets: culprit.sockets,
        }),
        site: code.opening().map(site_json),
        last_use: code.last_use().map(site_json),
        sites: code.all().map(|(part, named)| share_json(part, named)).collect(),
        sockets: finding
            .sockets
            .iter()
            .map(|socket| socket_json(stamps, at, &socket.connection, Some(socket.passed_over)))
            .collect(),
    }))
}

fn share_json(part: Part, named: &Named) -> ShareJson {
    ShareJson {
        role: part.name(),
        sockets: named.share.sockets,
        used_since: named.share.stale,
        opened: named.share.tally.opened,
        closed: named.share.tally.closed,
        site: site_json(named),
    }
}

fn site_json(named: &Named) -> SiteJson {
    let site: Option<&Site> = named.site.as_deref();
    SiteJson {
        id: named.share.site.to_string(),
        quality: site.map(|site| site.quality.name()),
        note: site.map_or_else(
            || Some("its functions can't be told any more".to_owned()),
            |site| site.note.clone(),
        ),
        frames: site.map_or_else(Vec::new, |site| site.frames.iter().map(frame_json).collect()),
    }
}

fn frame_json(frame: &Frame) -> FrameJson {
    FrameJson {
        function: frame.function.clone(),
        file: frame.file.clone(),
        line: frame.line,
        module: frame.module.clone(),
        runtime: frame.runtime.name(),
        origin: match Origin::of(frame) {
            Origin::Application => "application",
            Origin::Library(_) => "library",
            Origin::Machinery => "machinery",
        },
        inlined: frame.inlined,
        build_id: frame.build_id.clone(),
        offset: frame.offset,
    }
}

fn process_json(process: &Process) -> ProcessJson {
    ProcessJson {
        pid: process.id.pid,
        start_time: process
            .start_unix_ms
            .map(|millis| rfc3339(i128::from(millis) * 1_000_000)),
        name: process.name.clone(),
        executable: process.executable.clone(),
        command_line: redact::command_line(&process.command_line),
        user: process.user.clone(),
        container_id: process.container_id.clone(),
        pod: process.pod.clone(),
        unit: process.unit.clone(),
    }
}

fn server_json(server: &Server) -> ServerJson {
    match &server.place {
        Place::Tcp(address) => ServerJson {
            address: Some(address.ip().to_string()),
            port: Some(address.port()),
            path: None,
        },
        Place::Unix(path) => ServerJson {
            address: None,
            port: None,
            path: Some(path.clone()),
        },
    }
}

fn socket_json(stamps: Stamps, at: Nanos, connection: &Connection, passed_over: Option<u64>) -> SocketJson {
    let since = |moment: Option<Nanos>| moment.map(|moment| seconds(at.saturating_sub(moment)));
    let own = connection.process();
    let fd = connection
        .holders
        .iter()
        .find(|holder| Some(holder.process) == own)
        .map(|holder| holder.fd);
    SocketJson {
        fd,
        cookie: connection.cookie.0,
        state: connection.state.name(),
        client: connection.client().map(|client: SocketAddr| Client {
            address: client.ip().to_string(),
            port: client.port(),
        }),
        age_s: since(connection.opened_at().or(connection.accepted_at())),
        idle_s: since(connection.last_known_activity()),
        passed_over,
        bytes_sent: connection.traffic().bytes_sent,
        bytes_received: connection.traffic().bytes_received,
        db: connection.identity().map(|said| SaidJson {
            namespace: said.database.clone(),
            user: said.user.clone(),
            application: said.application.clone(),
            purpose: said.purpose.map(Purpose::name),
            channel: said.channel.clone(),
        }),
        opener: connection.opener.map(|opener| opener.process.pid),
        site: connection.opened_by().map(|opening| opening.site.to_string()),
        last_use: connection.used_by().map(|last| last.site.to_string()),
        last_used_at: connection.used_by().map(|last| stamps.rfc3339(last.at)),
        netns: connection.netns,
        holders: connection
            .holders
            .iter()
            .map(|holder| HolderJson {
                pid: holder.process.pid,
                fd: holder.fd,
            })
            .collect(),
        closed_by: None,
    }
}

/// Seconds with milliseconds.
fn seconds(nanos: Nanos) -> f64 {
    (nanos as f64 / SECOND as f64 * 1000.0).round() / 1000.0
}
