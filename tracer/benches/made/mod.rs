//! Processes that leak, made up: each opens a connection a second to one server, uses it once, and keeps it. For
//! the benches of the pure core.

use std::{net::SocketAddr, sync::Arc};

use connleak::{
    callsite::{Role, SiteId},
    event::{
        Change, Connect, Cookie, Event, Hello, Holder, Nanos, Observation, Place, SECOND, Server, Snapshot,
        Stack, State, Traffic,
    },
    owner::ProcessId,
    server::{System, wire::Identity},
};

/// Connections that each process has in the end.
const EACH: u64 = 1000;

/// See the module's head.
pub struct Leaks {
    server: Arc<Server>,
    processes: u64,
}

impl Leaks {
    /// So many processes as have that many connections in the end.
    pub fn of(connections: u64) -> Self {
        Self {
            server: Arc::new(Server {
                system: System::Postgresql,
                place: Place::Tcp(SocketAddr::from(([10, 0, 0, 5], 5432))),
            }),
            processes: connections.div_ceil(EACH),
        }
    }

    /// Time between two connects.
    fn step(&self) -> Nanos {
        SECOND / self.processes
    }

    fn opened_at(&self, number: u64) -> Nanos {
        (number + 1) * self.step()
    }

    /// When so many have been opened.
    pub fn when(&self, opened: u64) -> Nanos {
        self.opened_at(opened)
    }

    fn owner(&self, number: u64) -> ProcessId {
        ProcessId {
            pid: u32::try_from(1000 + number % self.processes).unwrap_or(0),
            start_ticks: 1,
        }
    }

    /// A connect, the end of its handshake, what the client says as it logs in, and which code that was.
    pub fn opening(&self, number: u64) -> [Event; 5] {
        let (at, step) = (self.opened_at(number), self.step());
        let (cookie, process) = (Cookie(number + 1), self.owner(number));
        let stack = |at, role, site| {
            Event::Stack(Stack {
                at,
                cookie,
                role,
                process,
                site: SiteId(site),
            })
        };
        [
            self.connect(number, at),
            Self::change(
                number,
                at + step / 4,
                (State::Connecting, State::Established),
                false,
            ),
            Event::Hello(Hello {
                at: at + step / 3,
                cookie,
                identity: Identity {
                    user: Some("app".to_owned()),
                    database: Some("orders".to_owned()),
                    ..Identity::default()
                },
            }),
            stack(at, Role::Opened, 1),
            stack(at + step / 3, Role::Used, 2),
        ]
    }

    /// From the connect to the last descriptor's close, later than all that leak.
    pub fn life(&self, number: u64) -> [Event; 5] {
        let (at, step) = (self.opened_at(number) + 60 * SECOND, self.step());
        [
            self.connect(number, at),
            Self::change(
                number,
                at + step / 8,
                (State::Connecting, State::Established),
                false,
            ),
            Self::change(number, at + step / 4, (State::Established, State::Closing), false),
            Self::change(number, at + step / 3, (State::Closing, State::Closed), false),
            Self::change(number, at + step / 2, (State::Closed, State::Closed), true),
        ]
    }

    fn connect(&self, number: u64, at: Nanos) -> Event {
        let process = self.owner(number);
        Event::Connect(Connect {
            at,
            cookie: Cookie(number + 1),
            process,
            tid: process.pid,
            name: "app".to_owned(),
            uid: 1000,
            server: Arc::clone(&self.server),
            netns: 1,
        })
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

    /// One descriptor for each of the first so many, each silent since it was used once.
    pub fn snapshot(&self, size: u64, at: Nanos) -> Event {
        let row = |number: u64| {
            let used = Some(self.opened_at(number) + self.step() / 2);
            Observation {
                at,
                cookie: Cookie(number + 1),
                holder: Holder {
                    process: self.owner(number),
                    fd: u32::try_from(3 + number / self.processes).unwrap_or(0),
                },
                server: Arc::clone(&self.server),
                client: Some(client(number)),
                netns: 1,
                inode: 70_000 + number,
                state: State::Established,
                traffic: Traffic {
                    last_sent: used,
                    last_received: used,
                    bytes_sent: Some(60),
                    bytes_received: Some(400),
                    sends: Some(3),
                    receives: Some(3),
                    ..Traffic::default()
                },
                accepted_at: None,
            }
        };
        Event::Snapshot(Snapshot {
            began: at.saturating_sub(SECOND / 1000),
            ended: at,
            observations: (0..size).map(row).collect(),
            open_only: false,
        })
    }
}

fn client(number: u64) -> SocketAddr {
    let [.., a, b, c, d] = number.to_be_bytes();
    SocketAddr::from(([10, 1, a, b], u16::from_be_bytes([c, d])))
}
