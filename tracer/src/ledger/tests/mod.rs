//! The ledger's tests: one for each failure that users of other tracers paid for, and properties over
//! random worlds. Times are milliseconds here.

mod books;
mod code;
mod life;
mod loss;
mod model;
mod properties;
mod window;

use std::{net::SocketAddr, sync::Arc};

use books::{Books, MS};

use super::Connection;
use crate::{
    event::{
        Cause, Change, Connect, Cookie, Event, Holder, Loss, Observation, Place, Server, State, Traffic,
    },
    owner::ProcessId,
    server::System,
};

fn process(pid: u32) -> ProcessId {
    ProcessId {
        pid,
        start_ticks: u64::from(pid) * 10,
    }
}

fn holder(pid: u32, fd: u32) -> Holder {
    Holder {
        process: process(pid),
        fd,
    }
}

fn tcp_server() -> Arc<Server> {
    Arc::new(Server {
        system: System::Postgresql,
        place: Place::Tcp(SocketAddr::from(([10, 0, 0, 5], 5432))),
    })
}

fn unix_server() -> Arc<Server> {
    Arc::new(Server {
        system: System::Postgresql,
        place: Place::Unix("/run/postgresql/.s.PGSQL.5432".to_owned()),
    })
}

fn client(cookie: u64) -> SocketAddr {
    let port = u16::try_from(cookie % 60_000).unwrap_or_default();
    SocketAddr::from(([10, 0, 0, 9], port))
}

fn connect(at: u64, cookie: u64, pid: u32) -> Event {
    Event::Connect(Connect {
        at: at * MS,
        cookie: Cookie(cookie),
        process: process(pid),
        tid: pid,
        name: "app".to_owned(),
        uid: 1000,
        server: tcp_server(),
        netns: 1,
    })
}

/// A change of state that is not the last: a descriptor still refers to the socket.
fn turn(at: u64, cookie: u64, from: State, state: State) -> Change {
    Change {
        at: at * MS,
        cookie: Cookie(cookie),
        state,
        from,
        client: Some(client(cookie)),
        error: 0,
        shut: false,
        released: false,
        bytes_sent: 1,
        bytes_received: 1,
    }
}

fn change(at: u64, cookie: u64, from: State, state: State) -> Event {
    Event::Change(turn(at, cookie, from, state))
}

fn failing(at: u64, cookie: u64, from: State, error: i32) -> Event {
    Event::Change(Change {
        error,
        ..turn(at, cookie, from, State::Closed)
    })
}

/// The kernel destroys the socket: its last descriptor is closed.
fn destroyed(at: u64, cookie: u64) -> Event {
    Event::Change(Change {
        shut: true,
        released: true,
        ..turn(at, cookie, State::Closed, State::Closed)
    })
}

/// Both sides' handshake.
fn opened(at: u64, cookie: u64, pid: u32) -> [Event; 2] {
    [
        connect(at, cookie, pid),
        change(at + 1, cookie, State::Connecting, State::Established),
    ]
}

/// What the last descriptor's close makes the kernel tell.
fn closed(at: u64, cookie: u64) -> [Event; 4] {
    let shut = |change| Change { shut: true, ..change };
    let orphan = |change| Change {
        shut: true,
        released: true,
        ..change
    };
    [
        Event::Change(shut(turn(at, cookie, State::Established, State::Closing))),
        Event::Change(orphan(turn(at + 1, cookie, State::Closing, State::Closing))),
        Event::Change(orphan(turn(at + 2, cookie, State::Closing, State::Closed))),
        destroyed(at + 3, cookie),
    ]
}

fn lost(at: u64, count: u64) -> Event {
    Event::Lost {
        at: at * MS,
        cause: Loss::RingFull,
        count,
    }
}

fn row(at: u64, cookie: u64, pid: u32, fd: u32) -> Observation {
    Observation {
        at: at * MS,
        cookie: Cookie(cookie),
        holder: holder(pid, fd),
        server: tcp_server(),
        client: Some(client(cookie)),
        netns: 1,
        inode: cookie,
        state: State::Established,
        traffic: Traffic {
            bytes_sent: Some(1),
            bytes_received: Some(1),
            ..Traffic::default()
        },
        accepted_at: None,
    }
}

fn unix_row(at: u64, cookie: u64, pid: u32, fd: u32) -> Observation {
    Observation {
        server: unix_server(),
        client: None,
        ..row(at, cookie, pid, fd)
    }
}
