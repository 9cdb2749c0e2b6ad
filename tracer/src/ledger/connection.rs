//! One connection, from connect to the last descriptor's close.

use std::{net::SocketAddr, sync::Arc};

use super::{GroupKey, Who, code::Use};
use crate::{
    callsite::{Role, SiteId},
    event::{
        Cause, Change, Connect, Cookie, Holder, Nanos, Observation, Place, SECOND, Server, Stack, State,
        Traffic,
    },
    owner::ProcessId,
    server::{
        System,
        wire::{Identity, Purpose},
    },
};

/// How far the times of an event and of a snapshot's row can be trusted against each other.
///
/// The kernel reports a change *before* it stores the new state, and a row's time is not taken in the same
/// instant as its state; between the two may lie a preemption. So a row that is newer than an event by less
/// than this may still show what was before the event. Among themselves, a socket's events are in order: they
/// are made under its lock.
pub(super) const SKEW: Nanos = 10 * (SECOND / 1000);

/// Who called connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opener {
    /// The process.
    pub process: ProcessId,
    /// The thread.
    pub tid: u32,
}

/// A silence that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Whose.
    pub cookie: Cookie,
    /// Since when.
    pub from: Nanos,
    /// When a snapshot last found it silent: it was used after that.
    pub seen: Nanos,
}

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The socket.
    pub cookie: Cookie,
    /// To where.
    pub server: Arc<Server>,
    /// This end; `None` until the kernel has chosen it, and for unix sockets.
    pub client: Option<SocketAddr>,
    /// Network namespace (inode number).
    pub netns: u32,
    /// Inode number of the socket; `None` until a snapshot has seen it.
    pub inode: Option<u64>,
    /// Who opened it; `None` when that was before attach.
    pub opener: Option<Opener>,
    /// Whether the thread that opened it lives; `None` when nobody has looked. Once ended, always ended: its
    /// number may be another's then.
    pub opener_lives: Option<bool>,
    /// When connect was called; `None` when that was before attach. For unix sockets: when first seen.
    pub opened_at: Option<Nanos>,
    /// Which code opened it; `None` when that was before attach, or could not be read.
    pub opening: Option<Use>,
    /// Which code sent on it last, as far as that was seen, and since when it is the one that does.
    pub last_use: Option<Use>,
    /// When code of which no stack could be taken began to send on it.
    unseen_use: Option<Nanos>,
    /// When the server accepted it, if the server could be asked.
    pub accepted_at: Option<Nanos>,
    /// When the ledger first heard of it.
    pub first_seen: Nanos,
    /// When the newest fact about its state was true.
    pub changed_at: Nanos,
    /// Its state now.
    pub state: State,
    /// When the server's end was closed, at the latest; `None` while it is not, or was so before attach.
    pub peer_closed_at: Option<Nanos>,
    /// What it has carried.
    pub traffic: Traffic,
    /// When a snapshot first found that its opener no longer holds it, and another process does.
    pub handed_at: Option<Nanos>,
    /// Descriptors that refer to it, as of the last snapshot.
    pub holders: Vec<Holder>,
    /// Snapshots in a row that did not find it.
    pub missed: u32,
    /// Who it is for, as far as its client said so in clear.
    pub identity: Option<Box<Identity>>,
    /// The same as a number.
    pub who: Who,
    /// Whose it was when it was last held: its end belongs to that process, though nobody holds it then.
    last_held_by: Option<ProcessId>,
    /// When a snapshot last read it.
    read_at: Option<Nanos>,
    /// Time of the newest event; `None` when only snapshots have told of it.
    event_at: Option<Nanos>,
    /// The opening that is in its group's history.
    pub(super) counted_at: Option<Nanos>,
    established: bool,
    ended: bool,
    cause: Option<Cause>,
}

impl Connection {
    pub(super) fn opening(connect: &Connect) -> Self {
        Self {
            cookie: connect.cookie,
            server: Arc::clone(&connect.server),
            client: None,
            netns: connect.netns,
            inode: None,
            opener: Some(Opener {
                process: connect.process,
                tid: connect.tid,
            }),
            opener_lives: None,
            opened_at: Some(connect.at),
            opening: None,
            last_use: None,
            unseen_use: None,
            accepted_at: None,
            first_seen: connect.at,
            changed_at: connect.at,
            state: State::Connecting,
            peer_closed_at: None,
            traffic: Traffic::default(),
            handed_at: None,
            holders: Vec::new(),
            missed: 0,
            identity: None,
            who: Who::default(),
            last_held_by: None,
            read_at: None,
            event_at: Some(connect.at),
            counted_at: None,
            established: false,
            ended: false,
            cause: None,
        }
    }

    /// A connection whose opening was not seen: before attach, in a moment of loss, or of a unix socket.
    pub(super) fn found(row: &Observation, before_attach: bool) -> Self {
        Self {
            cookie: row.cookie,
            server: Arc::clone(&row.server),
            client: row.client,
            netns: row.netns,
            inode: Some(row.inode),
            opener: None,
            opener_lives: None,
            opened_at: (!before_attach).then_some(row.at),
            opening: None,
            last_use: None,
            unseen_use: None,
            accepted_at: row.accepted_at,
            first_seen: row.at,
            changed_at: row.at,
            state: row.state,
            peer_closed_at: None,
            traffic: if before_attach {
                row.traffic.of_before_attach()
            } else {
                row.traffic
            },
            handed_at: None,
            holders: vec![row.holder],
            missed: 0,
            identity: None,
            who: Who::default(),
            last_held_by: None,
            read_at: Some(row.at),
            event_at: None,
            counted_at: None,
            established: row.state != State::Connecting,
            ended: false,
            cause: (row.state == State::PeerClosed).then_some(Cause::Peer),
        }
    }

    /// The process that has to close it: who opened it, if that one still holds it, or else a holder.
    #[must_use]
    pub fn process(&self) -> Option<ProcessId> {
        let opener = self.opener.map(|opener| opener.process);
        match opener {
            Some(opener) if self.holders.is_empty() => self.last_held_by.or(Some(opener)),
            Some(opener) if self.holders.iter().any(|holder| holder.process == opener) => Some(opener),
            _ => self
                .holders
                .first()
                .map(|holder| holder.process)
                .or(self.last_held_by),
        }
    }

    /// A snapshot no longer finds a holder.
    pub(super) fn let_go(&mut self) {
        self.last_held_by = self.process();
        self.holders.clear();
    }

    pub(super) fn group_key(&self) -> Option<GroupKey> {
        Some(GroupKey {
            process: self.process()?,
            server: Arc::clone(&self.server),
        })
    }

    /// Whether the handshake was ever done.
    #[must_use]
    pub fn established(&self) -> bool {
        self.established
    }

    /// When it last carried data; when that is unknown, the latest moment at which it might have.
    /// A connection that never carried any counts from its opening.
    #[must_use]
    pub fn last_activity(&self) -> Option<Nanos> {
        self.last_known_activity()
            .or(self.traffic.followed.then_some(self.first_seen))
    }

    /// When it last carried data, or was opened; `None` when neither was seen.
    #[must_use]
    pub fn last_known_activity(&self) -> Option<Nanos> {
        let data = self.traffic.last_sent.max(self.traffic.last_received);
        data.max(self.opened_at).max(self.accepted_at)
    }

    /// When the application last used it: as [`last_activity`](Self::last_activity), except that what a listener or
    /// subscriber is told is nothing that it did.
    #[must_use]
    pub fn last_use(&self) -> Option<Nanos> {
        if self.only_receives() {
            self.traffic.last_sent.max(self.opened_at)
        } else {
            self.last_activity()
        }
    }

    fn only_receives(&self) -> bool {
        let purpose = self.identity.as_ref().and_then(|said| said.purpose);
        self.traffic.last_sent.is_some()
            && matches!(
                purpose,
                Some(Purpose::Listener | Purpose::Subscriber | Purpose::Monitor)
            )
    }

    /// Whether the server owes an answer: then silence is a running query.
    #[must_use]
    pub fn waiting(&self) -> bool {
        self.traffic.unacknowledged > 0 || self.traffic.last_sent > self.traffic.last_received
    }

    /// Whether the server may owe an answer, though the times do not say so.
    ///
    /// The kernel stamps data with its tick, so a request that was sent in the tick of the answer before has
    /// the same time as that. Then the counts may tell: by `PostgreSQL`'s protocol client and server take
    /// turns, and each turn is one write on either side; so a server that has had more segments than it has
    /// sent owes an answer, or has had a request of several segments. Other protocols give no such hint:
    /// `MySQL`'s server speaks first, and clients of Redis send on before they are answered.
    #[must_use]
    pub fn maybe_waiting(&self) -> bool {
        let Traffic {
            last_sent,
            last_received,
            sends,
            receives,
            ..
        } = self.traffic;
        let turns = matches!(
            self.server.system,
            System::Postgresql | System::Pgbouncer | System::Cockroachdb
        );
        turns && last_sent == last_received && receives.is_some() && sends > receives
    }

    /// Open, answered, and without data since this moment at least.
    #[must_use]
    pub fn silent_since(&self, at: Nanos) -> bool {
        self.state == State::Established && !self.waiting() && self.last_use().is_some_and(|last| last <= at)
    }

    /// Whether the application has never sent anything; `None` when unknown.
    #[must_use]
    pub fn never_sent(&self) -> Option<bool> {
        self.traffic.bytes_sent.map(|bytes| bytes == 0)
    }

    /// Whether a stack is of this socket's next life: its connect is still to be told.
    pub(super) fn precedes(&self, stack: &Stack) -> bool {
        let opened = self.opened_at.filter(|_| self.opener.is_some());
        stack.role == Role::Opened && opened.is_some_and(|opened| stack.at > opened.saturating_add(SKEW))
    }

    /// Takes over which code did something with it; returns the site that counts as its opener's no longer,
    /// and the one that does now.
    pub(super) fn read_stack(&mut self, role: Role, new: Use) -> Option<(Option<SiteId>, SiteId)> {
        // Of an earlier life of this socket.
        if self.opener.is_some() && self.opened_at > Some(new.at.saturating_add(SKEW)) {
            return None;
        }
        if new.site == SiteId::UNKNOWN {
            if role == Role::Used {
                self.unseen_use = self.unseen_use.max(Some(new.at));
            }
            return None;
        }
        let known = match role {
            Role::Opened => &mut self.opening,
            Role::Used => &mut self.last_use,
        };
        // Of the same moment, what was read last knows more.
        if known.is_some_and(|known| known.at > new.at) {
            return None;
        }
        let before = known.replace(new).map(|known| known.site);
        (role == Role::Opened && before != Some(new.site)).then_some((before, new.site))
    }

    /// Whether other code has sent on it since the use whose stack was taken.
    #[must_use]
    pub fn used_unseen(&self) -> bool {
        self.unseen_use > self.last_use.map(|last| last.at)
    }

    /// Whether this event is older than what other events have told.
    pub(super) fn knows_better(&self, change: &Change) -> bool {
        self.event_at.is_some_and(|at| change.at < at)
    }

    pub(super) fn change(&mut self, change: &Change) {
        self.event_at = Some(change.at);
        self.client = self.client.or(change.client);
        self.established |= implies_connected(change.state) || implies_connected(change.from);
        self.ended |= ends(change);
        // Whoever ends it first is the cause: what comes after is only how it is carried out. A server
        // that is still sending answers our close with a reset, and a write after the server's close too.
        self.cause = self.cause.or(match (change.from, change.state) {
            (_, State::PeerClosed) | (State::PeerClosed, _) => Some(Cause::Peer),
            (State::Closing | State::Closed, _) => None,
            (_, State::Closed) if change.error != 0 => Some(Cause::Reset),
            (_, State::Closing | State::Closed) => Some(Cause::Local),
            _ => None,
        });
        // A reset, or the server's answer to our own shutdown, closes its end too.
        if matches!(change.state, State::PeerClosed | State::Closed) {
            self.peer_closed_at = self.peer_closed_at.or(Some(change.at));
        }
        if change.at.saturating_add(SKEW) >= self.changed_at {
            self.state = change.state;
            self.changed_at = self.changed_at.max(change.at);
        }
        if self.established {
            self.traffic.bytes_sent = Some(change.bytes_sent).max(self.traffic.bytes_sent);
            self.traffic.bytes_received = Some(change.bytes_received).max(self.traffic.bytes_received);
        }
    }

    /// Takes over what a row tells; returns the rest that was over before.
    pub(super) fn observe(&mut self, row: &Observation) -> Option<Rest> {
        let before = self.rest();
        self.take_over(row);
        self.read_at = self.read_at.max(Some(row.at));
        before.filter(|rest| self.last_use() > Some(rest.seen))
    }

    /// The silence that it is in, as far as it was seen.
    fn rest(&self) -> Option<Rest> {
        let (from, seen) = (self.last_use()?, self.read_at?);
        let silent = self.silent_since(seen.saturating_sub(SKEW));
        silent.then_some(Rest {
            cookie: self.cookie,
            from,
            seen,
        })
    }

    fn take_over(&mut self, row: &Observation) {
        if self.opener.is_some() && self.opened_at.is_some_and(|opened| row.at < opened) {
            // The socket's descriptor is right, the rest is of an earlier life.
            return;
        }
        self.inode = Some(row.inode);
        self.client = self.client.or(row.client);
        self.accepted_at = self.accepted_at.or(row.accepted_at);
        let news = if self.opened_at.is_none() {
            row.traffic.of_before_attach()
        } else {
            row.traffic
        };
        self.traffic = Traffic {
            last_sent: self.traffic.last_sent.max(news.last_sent),
            last_received: self.traffic.last_received.max(news.last_received),
            bytes_sent: self.traffic.bytes_sent.max(news.bytes_sent),
            bytes_received: self.traffic.bytes_received.max(news.bytes_received),
            sends: self.traffic.sends.max(news.sends),
            receives: self.traffic.receives.max(news.receives),
            ..news
        };
        let events_know_better = self.event_at.is_some_and(|at| row.at <= at.saturating_add(SKEW));
        if row.at < self.changed_at || events_know_better {
            return;
        }
        self.changed_at = row.at;
        if row.state == State::PeerClosed {
            self.cause = self.cause.or(Some(Cause::Peer));
        }
        if matches!(row.state, State::PeerClosed | State::Closed) {
            self.peer_closed_at = self.peer_closed_at.or(Some(row.at));
        }
        let carried = has_carried(row);
        self.established |= implies_connected(row.state) || row.state == State::Closed && carried;
        // A connect resets the counters: the connection that we know is over, and the next one has failed.
        let known = self.traffic.bytes_sent.max(self.traffic.bytes_received);
        self.ended |= row.state == State::Closed && !carried && known > Some(0);
        self.state = row.state;
    }

    /// Whether nothing is left of it: the connection has ended and no descriptor refers to the socket, or
    /// it never came about.
    pub(super) fn over(&self) -> bool {
        self.ended || self.state == State::Closed && !self.established
    }

    /// How it ended, as far as that was seen.
    pub(super) fn cause(&self) -> Cause {
        self.cause.unwrap_or(Cause::Unseen)
    }

    /// Whether the kernel tells of its changes; of unix sockets, only snapshots do.
    pub(super) fn tells(&self) -> bool {
        tells(&self.server)
    }
}

/// See [`Connection::tells`].
pub(super) fn tells(server: &Server) -> bool {
    matches!(server.place, Place::Tcp(_))
}

/// Whether a socket only gets into this state by way of a connection. It is in `Closed` also before.
fn implies_connected(state: State) -> bool {
    matches!(state, State::Established | State::PeerClosed | State::Closing)
}

/// Whether data went either way: tells a socket whose connection has ended from one that never had any.
pub(super) fn has_carried(row: &Observation) -> bool {
    row.traffic.bytes_sent.unwrap_or(0) > 0 || row.traffic.bytes_received.unwrap_or(0) > 0
}

/// Whether a change is the last of a connection's life.
///
/// Not a state alone: after a reset, or a `shutdown` that both sides have completed, the socket is closed
/// and its descriptor still there. It ends when no descriptor refers to the socket any more, or when this
/// side goes from open to closed in one step and without an error: a close with data unread or with
/// `SO_LINGER` 0, or a connect to `AF_UNSPEC`, after which the kernel no longer knows what the socket was for.
pub(super) fn ends(change: &Change) -> bool {
    let at_once = match change.from {
        State::Connecting => true,
        State::Established | State::PeerClosed => change.error == 0,
        State::Closing | State::Closed => false,
    };
    change.released || change.state == State::Closed && at_once
}
