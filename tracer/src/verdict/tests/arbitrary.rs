//! The rules over ledgers that no kernel could make.

use std::{net::SocketAddr, sync::Arc};

use proptest::{collection::vec, prelude::*};

use super::{
    super::{Limits, Names, judge},
    *,
};
use crate::{
    event::{
        Change, Connect, Event, Holder, Loss, Observation, Place, Server, Snapshot, State, Threads, Traffic,
    },
    ledger::{Connection, Ledger},
    owner::ProcessId,
    server::System,
};

/// Mostly near each other, sometimes at the ends of time.
fn moment() -> impl Strategy<Value = Nanos> {
    prop_oneof![8 => 0..200 * SECOND, 1 => 0..3u64, 1 => u64::MAX - 2..=u64::MAX]
}

fn cookie() -> impl Strategy<Value = Cookie> {
    (0..12u64).prop_map(Cookie)
}

fn process() -> impl Strategy<Value = ProcessId> {
    (0..3u32).prop_map(|pid| ProcessId { pid, start_ticks: 1 })
}

fn server() -> impl Strategy<Value = Arc<Server>> {
    any::<bool>().prop_map(|unix| {
        let place = if unix {
            Place::Unix("/run/.s.PGSQL.5432".to_owned())
        } else {
            Place::Tcp(SocketAddr::from(([10, 0, 0, 5], 5432)))
        };
        let system = System::Postgresql;
        Arc::new(Server { system, place })
    })
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        2 => Just(State::Connecting),
        4 => Just(State::Established),
        1 => Just(State::PeerClosed),
        1 => Just(State::Closing),
        1 => Just(State::Closed),
    ]
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let time = || prop::option::of(moment());
    let count = || prop::option::of(0..3u64);
    (time(), time(), count(), count(), any::<bool>(), 0..2u32).prop_map(
        |(last_sent, last_received, bytes_sent, bytes_received, followed, unacknowledged)| Traffic {
            last_sent,
            last_received,
            bytes_sent,
            bytes_received,
            sends: bytes_sent.map(|_| u32::MAX),
            receives: bytes_received.map(|_| 1),
            unacknowledged,
            unread: 0,
            followed,
        },
    )
}

fn observation() -> impl Strategy<Value = Observation> {
    (
        moment(),
        cookie(),
        process(),
        0..4u32,
        server(),
        state(),
        traffic(),
    )
        .prop_map(|(at, cookie, process, fd, server, state, traffic)| Observation {
            at,
            cookie,
            holder: Holder { process, fd },
            server,
            client: None,
            netns: 0,
            inode: cookie.0,
            state,
            traffic,
            accepted_at: (fd == 0).then_some(at),
        })
}

fn event() -> impl Strategy<Value = Event> {
    let connect = (moment(), cookie(), process(), server()).prop_map(|(at, cookie, process, server)| {
        Event::Connect(Connect {
            at,
            cookie,
            process,
            tid: 1,
            name: String::new(),
            uid: 0,
            server,
            netns: 0,
        })
    });
    let change = (moment(), cookie(), state(), state(), any::<[bool; 3]>(), 0..3u64).prop_map(
        |(at, cookie, state, from, [shut, released, failed], bytes)| {
            Event::Change(Change {
                at,
                cookie,
                state,
                from,
                client: None,
                error: i32::from(failed),
                shut,
                released: released && shut && state != State::Established,
                bytes_sent: bytes,
                bytes_received: bytes,
            })
        },
    );
    let snapshot =
        (moment(), moment(), vec(observation(), 0..20)).prop_map(|(began, ended, observations)| {
            Event::Snapshot(Snapshot {
                open_only: false,
                began,
                ended,
                observations,
            })
        });
    let lost = (moment(), any::<u64>()).prop_map(|(at, count)| Event::Lost {
        at,
        cause: Loss::ReadFault,
        count,
    });
    let threads = (moment(), process(), any::<bool>()).prop_map(|(at, process, alive)| {
        Event::Threads(Threads {
            at,
            process,
            alive: vec![1; usize::from(alive)],
            ended: vec![1; usize::from(!alive)],
        })
    });
    prop_oneof![6 => connect, 10 => change, 2 => snapshot, 1 => lost, 1 => threads]
}

/// The same number for everything.
fn limits(limit: Option<u64>) -> Limits {
    Limits {
        max_open: limit,
        longest_idle: limit,
        server_limit: limit,
        headroom: limit,
    }
}

proptest! {
    #[test]
    fn judging_never_panics_and_names_only_open_sockets_of_that_process(
        events in vec(event(), 0..80),
        now in moment(),
        idle in moment(),
        single_look in any::<bool>(),
        limit in prop::option::of(1..5u64),
    ) {
        let (mut ledger, mut tracker) = (Ledger::default(), Tracker::new(&Rules::default()));
        let policy = Policy { idle, single_look, limits: limits(limit), ..Policy::default() };
        for event in &events {
            ledger.apply(event, |_| {});
            let findings = judge(&ledger, now, &policy, &Names::new());
            for finding in &findings {
                prop_assert!(!finding.sockets.is_empty());
                for cookie in finding.cookies() {
                    let connection = ledger.connection(cookie);
                    prop_assert!(connection.is_some(), "{:?} is not open", cookie);
                    prop_assert_eq!(connection.and_then(Connection::process), Some(finding.process));
                }
            }
            tracker.step(&ledger, now, findings);
        }
    }
}
