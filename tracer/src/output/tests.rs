//! What people and machines read, as snapshots: a change of wording is a change to look at.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use super::{
    code::Told,
    folded,
    json::{Known, Line, Stamps},
    text,
};
use crate::{
    callsite::{Frame, Quality, Role, Runtime, Site, SiteId, Sites},
    event::{
        Change, Connect, Cookie, Event, Holder, Nanos, Observation, Place, SECOND, Server, Snapshot, Stack,
        State, Traffic,
    },
    ledger::Ledger,
    owner::{Process, ProcessId},
    server::System,
    verdict::{
        Breach, Confidence, Finding, Kind, Names, Outlook, Policy,
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

/// When a connection of the leak is opened: one each 30 seconds, `--idle`.
fn opened(number: u16) -> Nanos {
    u64::from(number) * 30 * SECOND
}

/// A look at the first connections: each was used once.
fn look(connections: u16, at: Nanos) -> Event {
    let rows = (1..=connections).map(|number| observation(number, at, opened(number) + SECOND / 50));
    snapshot(at, rows.collect())
}

fn stack(at: Nanos, number: u16, role: Role, site: u64) -> Event {
    Event::Stack(Stack {
        at,
        cookie: Cookie(u64::from(number)),
        role,
        process: PROCESS,
        site: SiteId(site),
    })
}

/// Six connections in view, one each 30 seconds, each used once, and silent for 160 seconds since: as certain as it gets.
/// Nobody read a stack.
fn leak() -> (Finding, Nanos) {
    leak_with(|_| Vec::new())
}

/// With stacks for each connection.
fn leak_with(stacks: impl Fn(u16) -> Vec<(Role, u64)>) -> (Finding, Nanos) {
    let mut ledger = Ledger::default();
    let mut apply = |event: &Event| ledger.apply(event, |_| {});
    apply(&snapshot(SECOND, Vec::new()));
    for number in 1..=6 {
        let at = opened(number);
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
        for (role, site) in stacks(number) {
            let used = at + SECOND / 50;
            apply(&stack(
                if role == Role::Used { used } else { at },
                number,
                role,
                site,
            ));
        }
        for second in 1..30 {
            apply(&look(number, at + second * SECOND));
        }
    }
    let now = opened(6) + 160 * SECOND;
    apply(&look(6, now));
    let findings = judge(&ledger, now, &Policy::default(), &Names::new());
    (findings.into_iter().next().expect("a finding"), now)
}

/// Twenty connections that were there before, silent since moments half a second apart.
fn glance() -> (Finding, Nanos) {
    glance_with(&[])
}

/// And stacks that were read before the look.
fn glance_with(stacks: &[Event]) -> (Finding, Nanos) {
    let mut ledger = Ledger::default();
    for stack in stacks {
        ledger.apply(stack, |_| {});
    }
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

const LIBPQ: &str = "/usr/lib/x86_64-linux-gnu/libpq.so.5.15";

fn frame(runtime: Runtime, function: &str, place: &str, line: u32) -> Frame {
    let source = place.contains(".py");
    Frame {
        runtime,
        function: (!function.is_empty()).then(|| function.to_owned()),
        file: source.then(|| place.to_owned()),
        line: source.then_some(line),
        module: (!source).then(|| place.to_owned()),
        build_id: (!source).then(|| "0a1b2c3d".to_owned()),
        offset: (!source).then_some(0x1234),
        inlined: false,
    }
}

/// `connect` called by psycopg, called by two functions of the application's, called by a server.
fn request(site: u64, function: &str, line: u32) -> Site {
    use Runtime::{Native, Python};
    let python = |function: &str, place: &str, line| frame(Python, function, place, line);
    let psycopg = "/srv/venv/lib/python3.11/site-packages/psycopg/connection.py";
    Site {
        id: SiteId(site),
        quality: Quality::Exact,
        frames: vec![
            frame(Native, "connect", "/usr/lib/x86_64-linux-gnu/libc.so.6", 0),
            frame(Native, "PQconnectPoll", LIBPQ, 0),
            frame(Native, "PQconnectStart", LIBPQ, 0),
            python("Connection.connect", psycopg, 98),
            python(function, "/srv/payments/orders/dao.py", line),
            python("handle\x1b[2J", "/srv/payments/app.py", 12),
            python("Thread.run", "/usr/lib/python3.11/threading.py", 975),
            frame(Native, "_PyEval_EvalFrameDefault", "/usr/bin/python3.11", 0),
        ],
        note: None,
    }
}

/// A function that needed a connection when the pool had none.
fn lent(site: u64) -> Site {
    let mut site = request(site, "first_to_come", 30);
    let pool = "/srv/venv/lib/python3.11/site-packages/sqlalchemy/pool/base.py";
    site.frames[3] = frame(Runtime::Python, "_ConnectionFairy._checkout", pool, 1271);
    site
}

/// A pool's own thread.
fn pool(site: u64) -> Site {
    let file = "/srv/venv/lib/python3.11/site-packages/psycopg_pool/pool.py";
    Site {
        id: SiteId(site),
        quality: Quality::Partial,
        frames: vec![
            frame(Runtime::Native, "PQconnectPoll", LIBPQ, 0),
            frame(Runtime::Python, "AddConnection._run", file, 870),
            frame(
                Runtime::Python,
                "Thread.run",
                "/usr/lib/python3.11/threading.py",
                975,
            ),
        ],
        note: Some("the copy ended at a page that was not in memory".to_owned()),
    }
}

/// Compiled at run time: nobody has names for it.
fn nameless(site: u64) -> Site {
    let mut frame = frame(Runtime::Native, "", "", 0);
    frame.module = None;
    Site {
        id: SiteId(site),
        quality: Quality::Partial,
        frames: vec![frame; 7],
        note: None,
    }
}

/// A library sends from a task of its own, in a loop that the application has started.
fn in_a_loop(site: u64) -> Site {
    let python = |function: &str, place: &str, line| frame(Runtime::Python, function, place, line);
    let asyncio = "/usr/lib/python3.11/asyncio/base_events.py";
    let redis = "/srv/venv/lib/python3.11/site-packages/redis/asyncio/connection.py";
    Site {
        id: SiteId(site),
        quality: Quality::Exact,
        frames: vec![
            python("AbstractConnection._send_packed_command", redis, 1168),
            python("BaseEventLoop._run_once", asyncio, 1922),
            python("BaseEventLoop.run_forever", asyncio, 607),
            python("main", "/srv/payments/app.py", 32),
        ],
        note: None,
    }
}

/// 1 and 2 are the same function reached in two ways; 3 another; 4 a pool's thread; 5 has no names; 6 goes through a
/// pool; 7 is a library's own task.
fn sites() -> Sites {
    let mut sites = Sites::default();
    for site in [
        request(1, "OrderDao.find", 88),
        request(2, "OrderDao.find", 88),
        request(3, "report", 7),
        pool(4),
        nameless(5),
        lent(6),
        in_a_loop(7),
    ] {
        sites.remember(site);
    }
    sites
}

#[test]
fn the_leak_of_these_snapshots_is_certain() {
    assert_eq!(leak().0.confidence, Confidence::Certain);
}

/// What is told of a finding.
fn told(finding: &Finding) -> Told {
    Told::of(&finding.code, &mut sites())
}

/// The sentence that matters.
fn first(finding: &Finding) -> String {
    in_full(finding, None)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn in_full(finding: &Finding, next: Option<&str>) -> String {
    let (process, code) = (payments(), told(finding));
    let known = Known {
        process: &process,
        code: &code,
    };
    plain(&text::finding(finding, known, next))
}

#[test]
fn a_leak_that_was_seen_from_the_beginning() {
    insta::assert_snapshot!(in_full(&leak().0, None));
}

#[test]
fn a_leak_at_a_single_look() {
    insta::assert_snapshot!(in_full(&glance().0, Some("connleak watch --pid 4121")));
}

#[test]
fn a_leak_whose_sockets_come_from_one_function() {
    let (finding, _) = leak_with(|number| {
        let site = [1, 1, 2, 3, 1, 2][usize::from(number - 1)];
        vec![(Role::Opened, site), (Role::Used, site)]
    });
    insta::assert_snapshot!(in_full(&finding, None));
}

#[test]
fn a_leak_of_connections_that_a_pools_thread_opened() {
    let (finding, _) = leak_with(|_| vec![(Role::Opened, 4), (Role::Used, 3)]);
    insta::assert_snapshot!(in_full(&finding, None));
}

#[test]
fn of_connections_that_a_pool_lends_the_last_user_is_named() {
    let (finding, _) = leak_with(|_| vec![(Role::Opened, 6), (Role::Used, 3)]);
    let culprit = told(&finding).culprit(finding.kind).expect("a function");
    assert_eq!(culprit.label(), "report (dao.py:7)");
    let (finding, _) = leak_with(|_| vec![(Role::Opened, 1), (Role::Used, 3)]);
    let culprit = told(&finding).culprit(finding.kind).expect("a function");
    assert_eq!(culprit.label(), "OrderDao.find (dao.py:88)");
}

#[test]
fn of_what_a_pool_has_logged_in_to_those_that_were_lent_tell_whose_it_is() {
    let of = |lent: u16| {
        let (finding, _) = leak_with(|number| {
            vec![
                (Role::Opened, 4),
                (Role::Used, if number <= lent { 3 } else { 4 }),
            ]
        });
        finding
    };
    insta::assert_snapshot!(in_full(&of(2), None));
    assert!(told(&of(1)).culprit(Kind::Leak).is_none(), "one of five");
    let line = first(&of(4));
    assert!(
        line.contains("passed over, last used by report (dao.py:7)"),
        "{line}"
    );
}

#[test]
fn who_has_started_an_event_loop_is_not_who_used_a_connection_in_it() {
    let (finding, _) = leak_with(|_| vec![(Role::Opened, 1), (Role::Used, 7)]);
    let culprit = told(&finding).culprit(finding.kind).expect("a function");
    assert_eq!(culprit.label(), "OrderDao.find (dao.py:88)");
    let (finding, _) = leak_with(|_| vec![(Role::Used, 7)]);
    assert!(told(&finding).culprit(finding.kind).is_none());
    insta::assert_snapshot!(told(&finding).lines(&finding).join("\n"));
}

#[test]
fn a_leak_by_functions_without_names() {
    let (finding, _) = leak_with(|number| vec![(Role::Opened, if number < 6 { 5 } else { 4 })]);
    insta::assert_snapshot!(in_full(&finding, None));
}

#[test]
fn a_leak_from_before_attach_that_was_used_in_view() {
    let stacks: Vec<Event> = (0..20)
        .map(|number| stack(99 * SECOND, number, Role::Used, 3))
        .collect();
    insta::assert_snapshot!(in_full(&glance_with(&stacks).0, None));
}

#[test]
fn a_leak_whose_functions_nobody_can_tell_any_more() {
    let (finding, _) = leak_with(|_| vec![(Role::Opened, 99)]);
    insta::assert_snapshot!(in_full(&finding, None));
}

#[test]
fn leaked_sockets_as_a_flame_graph() {
    let (finding, _) = leak_with(|number| {
        if number < 4 {
            vec![(Role::Opened, 1)]
        } else {
            Vec::new()
        }
    });
    let lines = folded::lines(&finding, &payments(), &mut sites());
    insta::assert_snapshot!(lines.join("\n"));
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
    insta::assert_snapshot!(in_full(&towards(Some(100)), None));
}

#[test]
fn a_leak_towards_a_limit_that_nobody_has_told() {
    insta::assert_snapshot!(in_full(&towards(None), None));
}

#[test]
fn a_server_that_gets_full() {
    let mut finding = towards(Some(100));
    finding.kind = Kind::Exhaustion;
    let soon = in_full(&finding, None);
    finding.outlook.open = 100;
    let full = first(&finding);
    (
        finding.outlook.open,
        finding.outlook.growth,
        finding.growth_per_min,
    ) = (90, None, None);
    let most = first(&finding);
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
        told += &first(&finding);
        told += "\n";
        told += &text::retraction(&finding, &payments(), Resolution::Below);
        told += "\n";
    }
    told += &in_full(&finding, None);
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
    let (mut finding, now) = leak_with(|_| vec![(Role::Opened, 4), (Role::Used, 3)]);
    finding.sockets.truncate(1);
    let stamps = Stamps {
        epoch: 1_795_555_000_000_000_000,
    };
    let (process, code) = (payments(), told(&finding));
    let known = Known {
        process: &process,
        code: &code,
    };
    let message = text::headline(&finding, known);
    let line = Line::finding(stamps, now, &finding, Status::New, known, message, None);
    insta::assert_snapshot!(serde_json::to_string_pretty(&line).expect("a line"));
}
