//! What people and machines read, as snapshots: a change of wording is a change to look at.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use super::{
    json::{Line, Stamps},
    text,
};
use crate::{
    event::{
        Change, Connect, Cookie, Event, Holder, Nanos, Observation, Place, SECOND, Server, Snapshot, State,
        Traffic,
    },
    ledger::Ledger,
    owner::{Process, ProcessId},
    server::System,
    verdict::{
        Breach, Finding, Kind, Names, Outlook, Policy,
        growth::Growth,
        judge,
        track::{Resolution, Status},
    },
};

const PROCESS: ProcessId = ProcessId {
    pid: 4121,
    start_ticks: 9_000,
};

fn server() -> Arc<Server> {
    let place = Place::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)), 5432));
    Arc::new(Server {
        system: System::Postgresql,
        place,
    })
}

fn client(number: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), 40_000 + number)
}

fn observation(number: u16, at: Nanos, used: Nanos) -> Observation {
    Observation {
        at,
        cookie: Cookie(u64::from(number)),
        holder: Holder {
            process: PROCESS,
            fd: u32::from(30 + number),
        },
        server: server(),
        client: Some(client(number)),
        netns: 4_026_531_840,
        inode: 7_000 + u64::from(number),
        state: State::Established,
        traffic: Traffic {
            last_sent: Some(used),
            last_received: Some(used),
            bytes_sent: Some(412),
            bytes_received: Some(903),
            sends: Some(4),
            ..Traffic::default()
        },
        accepted_at: None,
    }
}

fn snapshot(at: Nanos, observations: Vec<Observation>) -> Event {
    Event::Snapshot(Snapshot {
        open_only: false,
        began: at,
        ended: at,
        observations,
    })
}

/// A look at the first connections: each was used once.
fn look(connections: u16, at: Nanos) -> Event {
    let rows = (1..=connections)
        .map(|number| observation(number, at, u64::from(number) * SECOND + SECOND + SECOND / 50));
    snapshot(at, rows.collect())
}

/// Six connections in view, one a second, each used once; judged after 160 seconds.
fn leak() -> (Finding, Nanos) {
    let mut ledger = Ledger::default();
    let mut apply = |event: &Event| ledger.apply(event, |_| {});
    apply(&snapshot(SECOND, Vec::new()));
    for number in 1..=6 {
        let at = u64::from(number) * SECOND + SECOND;
        let cookie = Cookie(u64::from(number));
        apply(&Event::Connect(Connect {
            at,
            cookie,
            process: PROCESS,
            tid: 4121,
            name: "payments".to_owned(),
            uid: 1000,
            server: server(),
            netns: 4_026_531_840,
        }));
        apply(&Event::Change(Change {
            at: at + 1,
            cookie,
            state: State::Established,
            from: State::Connecting,
            client: Some(client(number)),
            error: 0,
            shut: false,
            released: false,
            bytes_sent: 0,
            bytes_received: 0,
        }));
        apply(&look(number, at + SECOND / 2));
    }
    for second in 8..20 {
        apply(&look(6, second * SECOND));
    }
    let now = 160 * SECOND;
    apply(&look(6, now));
    let findings = judge(&ledger, now, &Policy::default(), &Names::new());
    (findings.into_iter().next().expect("a finding"), now)
}

/// Twenty connections that were there before, silent since moments half a second apart.
fn glance() -> (Finding, Nanos) {
    let mut ledger = Ledger::default();
    let now = 100 * SECOND;
    let rows = (0..20).map(|number| observation(number, now, 89 * SECOND + u64::from(number) * SECOND / 2));
    ledger.apply(&snapshot(now, rows.collect()), |_| {});
    let findings = judge(
        &ledger,
        now,
        &Policy {
            single_look: true,
            ..Policy::default()
        },
        &Names::new(),
    );
    (findings.into_iter().next().expect("a finding"), now)
}

fn payments() -> Process {
    let mut process = Process::from_event(PROCESS, "pay\x1b[2Jments", 0);
    process.executable = Some("/srv/payments".to_owned());
    process.command_line = vec![
        "/srv/payments".to_owned(),
        "--db".to_owned(),
        "postgres://pay:hunter2@db/x".to_owned(),
    ];
    process.user = Some("app".to_owned());
    process.container_id = Some("3f2a9c51d0e1".repeat(5));
    process.unit = Some("payments.service".to_owned());
    process.start_unix_ms = Some(1_795_554_000_000);
    process
}

/// As a pipe gets it.
fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn a_leak_that_was_seen_from_the_beginning() {
    insta::assert_snapshot!(plain(&text::finding(&leak().0, &payments(), None)));
}

#[test]
fn a_leak_at_a_single_look() {
    insta::assert_snapshot!(plain(&text::finding(
        &glance().0,
        &payments(),
        Some("connleak watch --pid 4121")
    )));
}

/// The same leak, while it goes on at a server that accepts a hundred.
fn towards(limit: Option<u64>) -> Finding {
    let mut finding = leak().0;
    finding.growth_per_min = Some(12.1);
    finding.outlook = Outlook {
        limit,
        open: 76,
        growth: Some(Growth {
            per_min: 12.1,
            over: 60 * SECOND,
        }),
    };
    finding
}

#[test]
fn a_leak_towards_a_limit_that_is_known() {
    insta::assert_snapshot!(plain(&text::finding(&towards(Some(100)), &payments(), None)));
}

#[test]
fn a_leak_towards_a_limit_that_nobody_has_told() {
    insta::assert_snapshot!(plain(&text::finding(&towards(None), &payments(), None)));
}

#[test]
fn a_server_that_gets_full() {
    let mut finding = towards(Some(100));
    finding.kind = Kind::Exhaustion;
    let soon = plain(&text::finding(&finding, &payments(), None));
    finding.outlook.open = 100;
    let full = text::headline(&finding, &payments());
    (
        finding.outlook.open,
        finding.outlook.growth,
        finding.growth_per_min,
    ) = (90, None, None);
    let most = text::headline(&finding, &payments());
    let over = text::retraction(&finding, &payments(), Resolution::Below);
    insta::assert_snapshot!([soon, full, most, over].join("\n"));
}

#[test]
fn limits_of_a_policy_that_are_broken_and_kept_again() {
    let mut finding = towards(Some(100));
    finding.kind = Kind::Policy;
    let breaches = [
        Breach::MaxOpen {
            allowed: 5,
            actual: 6,
        },
        Breach::LongestIdle {
            allowed: 600 * SECOND,
            actual: 700 * SECOND,
        },
        Breach::Headroom {
            allowed: 30,
            actual: 24,
        },
    ];
    let mut told = String::new();
    for breach in breaches {
        finding.breach = Some(breach);
        told += &text::headline(&finding, &payments());
        told += "\n";
        told += &text::retraction(&finding, &payments(), Resolution::Below);
        told += "\n";
    }
    told += &plain(&text::finding(&finding, &payments(), None));
    insta::assert_snapshot!(told);
}

#[test]
fn a_retraction() {
    let (finding, _) = leak();
    let text = [Resolution::Closed, Resolution::UsedAgain]
        .map(|resolution| text::retraction(&finding, &payments(), resolution))
        .join("\n");
    insta::assert_snapshot!(text);
}

#[test]
fn the_log_line_of_a_finding() {
    let (mut finding, now) = (towards(Some(100)), leak().1);
    finding.sockets.truncate(1);
    let stamps = Stamps {
        epoch: 1_795_555_000_000_000_000,
    };
    let process = payments();
    let message = text::headline(&finding, &process);
    let line = Line::finding(stamps, now, &finding, Status::New, &process, message, None);
    insta::assert_snapshot!(serde_json::to_string_pretty(&line).expect("a line"));
}
