//! JSON Lines: one object a line, with OpenTelemetry's names where there are some.
//! `docs/log.schema.json` describes every field; a test holds the two together.

use std::net::SocketAddr;

use serde::Serialize;

use crate::{
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
    sockets: Vec<SocketJson>,
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
}

impl Line {
    /// A finding, new or changed.
    #[must_use]
    pub fn finding(
        stamps: Stamps,
        at: Nanos,
        finding: &Finding,
        status: Status,
        process: &Process,
        message: String,
        next: Option<String>,
    ) -> Self {
        let severity = if finding.confidence >= Confidence::Likely {
            "error"
        } else {
            "warn"
        };
        let body = finding_body(at, finding, status.name(), process, None, next);
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
        process: &Process,
        message: String,
    ) -> Self {
        let body = finding_body(at, finding, "resolved", process, Some(resolution.name()), None);
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
        let mut socket = socket_json(at, connection, None);
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

fn finding_body(
    at: Nanos,
    finding: &Finding,
    status: &'static str,
    process: &Process,
    resolution: Option<&'static str>,
    next: Option<String>,
) -> Body {
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
            because: finding.because.clone(),
            but: finding.but.clone(),
            resolution,
            next,
        },
        process: process_json(process),
        db: Db {
            system: finding.server.system.to_string(),
        },
        server: server_json(&finding.server),
        sockets: finding
            .sockets
            .iter()
            .map(|socket| socket_json(at, &socket.connection, Some(socket.passed_over)))
            .collect(),
    }))
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

fn socket_json(at: Nanos, connection: &Connection, passed_over: Option<u64>) -> SocketJson {
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
        client: connection.client.map(|client: SocketAddr| Client {
            address: client.ip().to_string(),
            port: client.port(),
        }),
        age_s: since(connection.opened_at.or(connection.accepted_at)),
        idle_s: since(connection.last_known_activity()),
        passed_over,
        bytes_sent: connection.traffic.bytes_sent,
        bytes_received: connection.traffic.bytes_received,
        db: connection.identity.as_ref().map(|said| SaidJson {
            namespace: said.database.clone(),
            user: said.user.clone(),
            application: said.application.clone(),
            purpose: said.purpose.map(Purpose::name),
            channel: said.channel.clone(),
        }),
        opener: connection.opener.map(|opener| opener.process.pid),
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
