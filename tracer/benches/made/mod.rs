//! Connections that are made up: pools of a thousand, one server. For the benches of the pure core.

use std::{net::SocketAddr, sync::Arc};

use connleak::{
    event::{
        Change, Connect, Cookie, Event, Holder, Nanos, Observation, Place, SECOND, Server, Snapshot, State,
        Traffic,
    },
    owner::ProcessId,
    server::System,
};

/// Connections of one process, which is a large pool.
const POOL: u64 = 1000;
/// Nanoseconds between two connects: a storm of 10,000 a second.
pub const STEP: Nanos = SECOND / 10_000;

/// Where they all go.
pub fn server() -> Arc<Server> {
    Arc::new(Server {
        system: System::Postgresql,
        place: Place::Tcp(SocketAddr::from(([10, 0, 0, 5], 5432))),
    })
}

fn owner(number: u64) -> ProcessId {
    ProcessId {
        pid: u32::try_from(1000 + number / POOL).unwrap_or(0),
        start_ticks: 1,
    }
}

fn client(number: u64) -> SocketAddr {
    let [.., a, b, c, d] = number.to_be_bytes();
    SocketAddr::from(([10, 1, a, b], u16::from_be_bytes([c, d])))
}

/// A connect, and the end of its handshake.
pub fn opening(server: &Arc<Server>, number: u64) -> [Event; 2] {
    let at = (number + 1) * STEP;
    [
        Event::Connect(Connect {
            at,
            cookie: Cookie(number + 1),
            process: owner(number),
            tid: owner(number).pid,
            name: "app".to_owned(),
            uid: 1000,
            server: Arc::clone(server),
            netns: 1,
        }),
        change(
            number,
            at + STEP / 4,
            (State::Connecting, State::Established),
            false,
        ),
    ]
}

/// From the connect to the last descriptor's close.
pub fn life(server: &Arc<Server>, number: u64) -> [Event; 5] {
    let at = (number + 1) * STEP + 60 * SECOND;
    let [_, established] = opening(server, number);
    let Event::Change(established) = established else {
        unreachable!("the second is a change")
    };
    [
        Event::Connect(Connect {
            at,
            cookie: Cookie(number + 1),
            process: owner(number % POOL),
            tid: 1000,
            name: "app".to_owned(),
            uid: 1000,
            server: Arc::clone(server),
            netns: 1,
        }),
        Event::Change(Change {
            at: at + STEP / 8,
            ..established
        }),
        change(number, at + STEP / 4, (State::Established, State::Closing), false),
        change(number, at + STEP / 3, (State::Closing, State::Closed), false),
        change(number, at + STEP / 2, (State::Closed, State::Closed), true),
    ]
}

fn change(number: u64, at: Nanos, (from, state): (State, State), released: bool) -> Event {
    Event::Change(Change {
        at,
        cookie: Cookie(number + 1),
        state,
        from,
        client: Some(client(number)),
        error: 0,
        shut: released,
        released,
        bytes_sent: 60,
        bytes_received: 400,
    })
}

/// One descriptor each, silent for as long as they have been open.
pub fn snapshot(server: &Arc<Server>, size: u64, at: Nanos) -> Event {
    let row = |number: u64| Observation {
        at,
        cookie: Cookie(number + 1),
        holder: Holder {
            process: owner(number),
            fd: u32::try_from(3 + number % POOL).unwrap_or(0),
        },
        server: Arc::clone(server),
        client: Some(client(number)),
        netns: 1,
        inode: 70_000 + number,
        state: State::Established,
        traffic: Traffic {
            last_sent: Some((number + 1) * STEP + STEP / 2),
            last_received: Some((number + 1) * STEP + STEP / 2),
            bytes_sent: Some(60),
            bytes_received: Some(400),
            sends: Some(3),
            receives: Some(3),
            ..Traffic::default()
        },
        accepted_at: None,
    };
    Event::Snapshot(Snapshot {
        began: at - SECOND / 1000,
        ended: at,
        observations: (0..size).map(row).collect(),
        open_only: false,
    })
}
