//! A small world of processes, descriptors and sockets that knows the truth, and what the kernel would tell
//! of it: events as they happen, and walks over all descriptors whose rows are read one process at a time.
//!
//! It follows `net/ipv4/tcp.c`: what `close`, `shutdown`, `connect(AF_UNSPEC)`, a FIN and a reset do to the
//! state, in which order the tracepoints fire, and whether a descriptor still refers to the socket then.

mod tcp;
mod walk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::event::Nanos;
use walk::Walk;

/// Processes that there can be at once.
const SLOTS: usize = 5;

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Connect {
        slot: u8,
        unix: bool,
    },
    Establish {
        socket: u8,
    },
    Refuse {
        socket: u8,
        collected: bool,
    },
    Reconnect {
        socket: u8,
    },
    Dup {
        descriptor: u8,
    },
    Fork {
        from: u8,
        into: u8,
    },
    Send {
        descriptor: u8,
    },
    Receive {
        slot: u8,
    },
    Shutdown {
        socket: u8,
        both: bool,
    },
    ServerCloses {
        socket: u8,
    },
    Reset {
        socket: u8,
    },
    Disconnect {
        socket: u8,
    },
    Close {
        descriptor: u8,
        unread: bool,
    },
    Exit {
        slot: u8,
    },
    /// The kernel goes on with the end of a socket that nobody holds any more.
    Linger,
    BeginWalk,
    /// The walk reads the next process; the rows' times lag behind their states by this much.
    Visit {
        lag: u16,
    },
    Merge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Never connected, failed, or dissolved: the kernel no longer knows to where.
    Idle,
    /// Failed, and nobody has asked for the result yet.
    Refused,
    Connecting,
    Established,
    ServerClosed,
    /// This side has shut down, before the server or after it.
    Shut,
    /// Both sides have, or a reset came.
    Ended,
}

impl Phase {
    fn state(self) -> Option<State> {
        match self {
            Self::Idle | Self::Refused => None,
            Self::Connecting => Some(State::Connecting),
            Self::Established => Some(State::Established),
            Self::ServerClosed => Some(State::PeerClosed),
            Self::Shut => Some(State::Closing),
            Self::Ended => Some(State::Closed),
        }
    }
}

/// One connection of a socket, from connect to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// Its connect was seen.
    pub seen: bool,
    pub established: bool,
    pub over: bool,
    pub cause: Option<Cause>,
}

struct Socket {
    unix: bool,
    phase: Phase,
    in_flight: u32,
    both_shut: bool,
    lives: Vec<Life>,
    /// What the kernel still does once nobody holds it.
    lingering: VecDeque<Change>,
}

/// See the module's head.
pub(super) struct World {
    now: Nanos,
    attached: bool,
    /// What the agent gets, in order; a snapshot stands where it is merged.
    pub stream: Vec<Event>,
    sockets: BTreeMap<u64, Socket>,
    processes: [Option<ProcessId>; SLOTS],
    descriptors: BTreeMap<Holder, u64>,
    walk: Option<Walk>,
    serial: u32,
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self {
            now: 1_000 * MS,
            attached: false,
            stream: Vec::new(),
            sockets: BTreeMap::new(),
            processes: [None; SLOTS],
            descriptors: BTreeMap::new(),
            walk: None,
            serial: 0,
        };
        for slot in 0..SLOTS - 2 {
            world.spawn(slot);
        }
        world
    }

    /// From here on, events are seen.
    pub(super) fn attach(&mut self) {
        self.attached = true;
    }

    pub(super) fn pass_time(&mut self, time: Nanos) {
        self.now += time;
    }

    /// Everything in flight arrives, and then a walk sees it all.
    pub(super) fn finish(&mut self) {
        self.merge();
        while self.sockets.values().any(|socket| socket.in_flight > 0) {
            self.spawn(0);
            self.receive(0);
        }
        self.pass_time(100 * MS);
    }

    /// A walk during which nothing happens.
    pub(super) fn look(&mut self) {
        self.begin_walk();
        self.merge();
    }

    pub(super) fn now(&self) -> Nanos {
        self.now
    }

    /// What is open, in what state, and who holds it.
    pub(super) fn truth(&self) -> BTreeMap<Cookie, (State, Vec<Holder>)> {
        let open = |(&cookie, socket): (&u64, &Socket)| {
            let holders: Vec<Holder> = self.holders(cookie);
            let state = socket.phase.state()?;
            (!holders.is_empty()).then_some((Cookie(cookie), (state, holders)))
        };
        self.sockets.iter().filter_map(open).collect()
    }

    /// Every TCP socket's lives.
    pub(super) fn lives(&self) -> impl Iterator<Item = (Cookie, &[Life])> {
        self.sockets
            .iter()
            .filter(|(_, socket)| !socket.unix)
            .map(|(&cookie, socket)| (Cookie(cookie), socket.lives.as_slice()))
    }

    pub(super) fn step(&mut self, op: Op) {
        match op {
            Op::Connect { slot, unix } => self.connect(slot, unix),
            Op::Establish { socket } => self.establish(socket),
            Op::Refuse { socket, collected } => self.refuse(socket, collected),
            Op::Reconnect { socket } => self.reconnect(socket),
            Op::Dup { descriptor } => {
                if let Some((holder, cookie)) = self.descriptor(descriptor) {
                    self.open(holder.process, cookie);
                }
            }
            Op::Fork { from, into } => self.fork(from, into),
            Op::Send { descriptor } => self.send(descriptor),
            Op::Receive { slot } => self.receive(slot),
            Op::Shutdown { socket, both } => self.shutdown(socket, both),
            Op::ServerCloses { socket } => self.server_closes(socket),
            Op::Reset { socket } => self.reset(socket),
            Op::Disconnect { socket } => self.disconnect(socket),
            Op::Close { descriptor, unread } => {
                if let Some((holder, _)) = self.descriptor(descriptor) {
                    self.close(holder, unread);
                }
            }
            Op::Exit { slot } => self.exit(slot),
            Op::Linger => self.linger(),
            Op::BeginWalk => self.begin_walk(),
            Op::Visit { lag } => self.visit(Nanos::from(lag) * 1000),
            Op::Merge => self.merge(),
        }
    }

    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn emit(&mut self, event: Event) {
        if self.attached {
            self.stream.push(event);
        }
    }

    /// The kernel tells of a change; gives it back for whoever wants to say more.
    fn turn(&mut self, cookie: u64, from: State, state: State, with: impl FnOnce(&mut Change)) {
        let mut change = turn(0, cookie, from, state);
        change.at = self.tick();
        with(&mut change);
        self.emit(Event::Change(change));
    }

    fn spawn(&mut self, slot: usize) {
        if self.processes[slot].is_none() {
            self.serial += 1;
            self.processes[slot] = Some(ProcessId {
                pid: u32::try_from(slot).unwrap_or_default() + 1,
                start_ticks: u64::from(self.serial),
            });
        }
    }

    fn process(&self, slot: u8) -> Option<ProcessId> {
        self.processes[usize::from(slot) % SLOTS]
    }

    /// One of the descriptors.
    fn descriptor(&self, index: u8) -> Option<(Holder, u64)> {
        let count = self.descriptors.len().max(1);
        let (&holder, &cookie) = self.descriptors.iter().nth(usize::from(index) % count)?;
        Some((holder, cookie))
    }

    /// One of the sockets that somebody holds, which is all that a program can act on.
    fn held(&self, index: u8, phases: &[Phase]) -> Option<u64> {
        let held: BTreeSet<u64> = self
            .descriptors
            .values()
            .copied()
            .filter(|cookie| phases.contains(&self.sockets[cookie].phase))
            .collect();
        held.iter().nth(usize::from(index) % held.len().max(1)).copied()
    }

    fn holders(&self, cookie: u64) -> Vec<Holder> {
        let ours = self.descriptors.iter().filter(|&(_, &of)| of == cookie);
        ours.map(|(&holder, _)| holder).collect()
    }

    fn socket(&mut self, cookie: u64) -> &mut Socket {
        self.sockets.get_mut(&cookie).expect("a socket of this world")
    }

    fn life(&mut self, cookie: u64) -> &mut Life {
        let socket = self.socket(cookie);
        socket.lives.last_mut().expect("a socket that has connected")
    }

    fn open(&mut self, process: ProcessId, cookie: u64) {
        let free = (3..1000).find(|&fd| !self.descriptors.contains_key(&Holder { process, fd }));
        let fd = free.expect("a free number");
        self.descriptors.insert(Holder { process, fd }, cookie);
    }

    fn fork(&mut self, from: u8, into: u8) {
        let into = usize::from(into) % SLOTS;
        let (Some(parent), None) = (self.process(from), self.processes[into]) else {
            return;
        };
        self.spawn(into);
        let process = self.processes[into].expect("just spawned");
        let copies: Vec<(Holder, u64)> = self
            .descriptors
            .iter()
            .filter(|(holder, _)| holder.process == parent)
            .map(|(holder, &cookie)| (Holder { process, ..*holder }, cookie))
            .collect();
        self.descriptors.extend(copies);
    }

    fn send(&mut self, descriptor: u8) {
        // See the ledger's head: what has ended, or is ending, and is in no process's hands counts as closed.
        // So only sockets that live are put in flight here, and `reset` and `shutdown` want a descriptor.
        if let Some((holder, cookie)) = self.descriptor(descriptor)
            && self.sockets[&cookie].phase == Phase::Established
        {
            self.socket(cookie).in_flight += 1;
            self.close(holder, false);
        }
    }

    fn receive(&mut self, slot: u8) {
        let Some(process) = self.process(slot) else { return };
        let found = self.sockets.iter().find(|(_, socket)| socket.in_flight > 0);
        if let Some((&cookie, _)) = found {
            self.socket(cookie).in_flight -= 1;
            self.open(process, cookie);
        }
    }

    fn exit(&mut self, slot: u8) {
        let slot = usize::from(slot) % SLOTS;
        if let Some(process) = self.processes[slot].take() {
            let held: Vec<Holder> = self
                .descriptors
                .keys()
                .copied()
                .filter(|holder| holder.process == process)
                .collect();
            for holder in held {
                self.close(holder, false);
            }
        }
    }
}
