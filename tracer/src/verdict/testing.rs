//! A world to try rules in: one application, one server, and the real ledger between them and the rules.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use super::{Finding, Kind, Names, Policy, judge};
use crate::{
    event::{
        Change, Connect, Cookie, Event, Hello, Holder, Loss, Nanos, Observation, Place, SECOND, Server,
        Snapshot, State, Threads, Traffic,
    },
    ledger::Ledger,
    owner::ProcessId,
    server::{System, wire::Identity},
};

pub(super) const MS: Nanos = SECOND / 1000;
pub(super) const MINUTE: Nanos = 60 * SECOND;

/// How long a request takes here.
const REQUEST: Nanos = 2 * MS;

struct Socket {
    fd: u32,
    state: State,
    traffic: Traffic,
}

/// See the module's head.
pub(super) struct World {
    pub ledger: Ledger,
    pub now: Nanos,
    pub policy: Policy,
    pub process: ProcessId,
    /// The thread that opens.
    pub tid: u32,
    /// A request and its answer fall into one tick of the kernel's.
    pub one_tick: bool,
    server: Arc<Server>,
    sockets: BTreeMap<Cookie, Socket>,
    serial: u64,
    attached: bool,
}

/// This end of a connection: the kernel gives ports out in turn.
fn client(cookie: Cookie) -> SocketAddr {
    let ports = 60_999 - 32_768 + 1;
    let port = 32_768 + cookie.0 * u64::from(World::PORTS_APART) % ports;
    SocketAddr::from(([10, 0, 0, 9], u16::try_from(port).unwrap_or_default()))
}

impl World {
    /// How far a port is from the one before.
    pub(super) const PORTS_APART: u16 = 8;

    /// An application that runs already; [`attach`](Self::attach) begins to watch it.
    pub(super) fn unwatched() -> Self {
        Self {
            ledger: Ledger::default(),
            now: 10 * MINUTE,
            policy: Policy::default(),
            process: ProcessId {
                pid: 4121,
                start_ticks: 100,
            },
            tid: 4121,
            one_tick: false,
            server: Arc::new(Server {
                system: System::Postgresql,
                place: Place::Tcp(SocketAddr::from(([10, 0, 0, 5], 5432))),
            }),
            sockets: BTreeMap::new(),
            serial: 0,
            attached: false,
        }
    }

    /// An application that is watched from its start.
    pub(super) fn watched() -> Self {
        let mut world = Self::unwatched();
        world.attach();
        world
    }

    pub(super) fn attach(&mut self) {
        self.attached = true;
        self.look();
    }

    /// Time passes, and the agent looks once a second.
    pub(super) fn wait(&mut self, time: Nanos) {
        let end = self.now + time;
        while self.attached && self.now + SECOND <= end {
            self.now += SECOND;
            self.look();
        }
        self.now = end.max(self.now);
    }

    /// Opens a connection, and logs in.
    pub(super) fn open(&mut self) -> Cookie {
        let cookie = self.connect();
        self.query(cookie);
        cookie
    }

    /// Opens a connection and sends nothing.
    pub(super) fn connect(&mut self) -> Cookie {
        self.serial += 1;
        let cookie = Cookie(self.serial);
        let held = |fd: &u32| self.sockets.values().any(|socket| socket.fd == *fd);
        let fd = (3..100_000).find(|fd| !held(fd)).unwrap_or_default();
        self.tell(&Event::Connect(Connect {
            at: self.now,
            cookie,
            process: self.process,
            tid: self.tid,
            name: "payments".to_owned(),
            uid: 1000,
            server: Arc::clone(&self.server),
            netns: 1,
        }));
        self.sockets.insert(
            cookie,
            Socket {
                fd,
                state: State::Connecting,
                traffic: Traffic {
                    last_sent: Some(self.now),
                    last_received: Some(self.now),
                    bytes_sent: Some(0),
                    bytes_received: Some(0),
                    sends: Some(0),
                    receives: Some(0),
                    ..Traffic::default()
                },
            },
        );
        self.turn(cookie, State::Established, false);
        cookie
    }

    /// A request and its answer.
    pub(super) fn query(&mut self, cookie: Cookie) {
        self.ask(cookie);
        self.wait(REQUEST);
        self.answer(cookie);
    }

    /// The least that keeps it alive, and its answer.
    pub(super) fn ping(&mut self, cookie: Cookie) {
        self.send(cookie, 5);
        self.wait(REQUEST);
        self.answer(cookie);
    }

    /// The answer that was due.
    pub(super) fn answer(&mut self, cookie: Cookie) {
        let (now, one_tick) = (self.now, self.one_tick);
        let traffic = self.traffic(cookie);
        traffic.last_received = if one_tick { traffic.last_sent } else { Some(now) };
        traffic.receives = traffic.receives.map(|receives| receives + 1);
        traffic.bytes_received = traffic.bytes_received.map(|bytes| bytes + 100);
    }

    /// A request whose answer is due.
    pub(super) fn ask(&mut self, cookie: Cookie) {
        self.send(cookie, 100);
    }

    fn send(&mut self, cookie: Cookie, bytes: u64) {
        self.wait(1);
        let (now, one_tick) = (self.now, self.one_tick);
        let traffic = self.traffic(cookie);
        traffic.last_sent = if one_tick {
            traffic.last_received
        } else {
            Some(now)
        };
        traffic.bytes_sent = traffic.bytes_sent.map(|sent| sent + bytes);
        traffic.sends = traffic.sends.map(|sends| sends + 1);
    }

    /// The client says who it is.
    pub(super) fn says(&mut self, cookie: Cookie, identity: Identity) {
        self.tell(&Event::Hello(Hello {
            at: self.now,
            cookie,
            identity,
        }));
    }

    fn traffic(&mut self, cookie: Cookie) -> &mut Traffic {
        &mut self.sockets.get_mut(&cookie).expect("an open socket").traffic
    }

    /// The application closes it.
    pub(super) fn close(&mut self, cookie: Cookie) {
        self.wait(1);
        self.turn(cookie, State::Closed, true);
        self.sockets.remove(&cookie);
    }

    /// The server closes its end.
    pub(super) fn server_closes(&mut self, cookie: Cookie) {
        self.turn(cookie, State::PeerClosed, false);
    }

    pub(super) fn lose(&mut self) {
        self.wait(1);
        self.tell(&Event::Lost {
            at: self.now,
            cause: Loss::RingFull,
            count: 1,
        });
    }

    /// Somebody looks whether threads live.
    pub(super) fn threads(&mut self, alive: &[u32], ended: &[u32]) {
        self.tell(&Event::Threads(Threads {
            at: self.now,
            process: self.process,
            alive: alive.to_vec(),
            ended: ended.to_vec(),
        }));
    }

    fn turn(&mut self, cookie: Cookie, state: State, released: bool) {
        self.wait(1);
        let socket = self.sockets.get_mut(&cookie).expect("an open socket");
        let from = std::mem::replace(&mut socket.state, state);
        let traffic = socket.traffic;
        self.tell(&Event::Change(Change {
            at: self.now,
            cookie,
            state,
            from,
            client: Some(client(cookie)),
            error: 0,
            shut: released,
            released,
            bytes_sent: traffic.bytes_sent.unwrap_or(0),
            bytes_received: traffic.bytes_received.unwrap_or(0),
        }));
    }

    fn tell(&mut self, event: &Event) {
        if self.attached {
            self.ledger.apply(event, |_| {});
        }
    }

    /// Takes a snapshot, as the agent does before it asks for verdicts.
    pub(super) fn look(&mut self) {
        let began = self.now;
        self.wait(MS);
        let row = |(&cookie, socket): (&Cookie, &Socket)| Observation {
            at: self.now,
            cookie,
            holder: Holder {
                process: self.process,
                fd: socket.fd,
            },
            server: Arc::clone(&self.server),
            client: Some(client(cookie)),
            netns: 1,
            // A batch for each of two processors, as the kernel has it.
            inode: 1024 * (1 + cookie.0 % 2) + cookie.0,
            state: socket.state,
            traffic: socket.traffic,
            accepted_at: None,
        };
        let observations = self.sockets.iter().map(row).collect();
        self.tell(&Event::Snapshot(Snapshot {
            open_only: false,
            began,
            ended: self.now,
            observations,
        }));
    }

    /// What the rules say now.
    pub(super) fn findings(&mut self) -> Vec<Finding> {
        self.look();
        self.findings_without_a_look()
    }

    /// What they say by what the last look saw.
    pub(super) fn findings_without_a_look(&self) -> Vec<Finding> {
        judge(&self.ledger, self.now, &self.policy, &Names::new())
    }

    /// The only finding, which is of this kind.
    pub(super) fn finding(&mut self, kind: Kind) -> Finding {
        let mut findings = self.findings();
        assert_eq!(findings.len(), 1, "one finding, not {findings:#?}");
        let finding = findings.remove(0);
        assert_eq!(finding.kind, kind, "{finding:#?}");
        finding
    }

    /// Nothing is found, now and every second of this time.
    pub(super) fn quiet_for(&mut self, time: Nanos) {
        let end = self.now + time;
        while self.now < end {
            let findings = self.findings();
            assert!(findings.is_empty(), "at {}: {findings:#?}", self.now / MS);
            self.wait(SECOND);
        }
    }
}
