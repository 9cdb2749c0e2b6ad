//! One connection, from connect to the last descriptor's close.

mod update;

use std::{net::SocketAddr, sync::Arc};

use super::{
    GroupKey, Who,
    carried::Carried,
    code::Use,
    holders::Holders,
    identity::Said,
    maybe::{MaybeAddress, MaybeU64},
    pulse::{KeptAlive, Pulse},
};
use crate::{
    callsite::Role,
    event::{Cause, Cookie, Nanos, Place, SECOND, Server, Stack, State, Traffic},
    owner::ProcessId,
    server::{
        System,
        wire::{Identity, Purpose},
    },
};

pub(super) use update::{ends, has_carried};

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
    /// Whether the thread lives; `None` when nobody has looked. Once ended, always ended: its number may be
    /// another's then.
    pub lives: Option<bool>,
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

impl Rest {
    /// How long it has lasted at least, in nanoseconds.
    #[must_use]
    pub fn length(&self) -> Nanos {
        self.seen.saturating_sub(self.from)
    }
}

/// See the module's head. There may be many, so it is kept small (a test says how small); what is unknown of most,
/// or takes less room than it says, is behind a method.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not depend on each other, a byte each"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The socket.
    pub cookie: Cookie,
    /// To where.
    pub server: Arc<Server>,
    /// Network namespace (inode number).
    pub netns: u32,
    /// Who opened it; `None` when that was before attach.
    pub opener: Option<Opener>,
    /// Descriptors that refer to it, as of the last snapshot.
    pub holders: Holders,
    /// When the ledger first heard of it.
    pub first_seen: Nanos,
    /// When the newest fact about its state was true.
    pub changed_at: Nanos,
    /// Its state now.
    pub state: State,
    client: MaybeAddress,
    inode: MaybeU64,
    /// Whether it was opened when it was first seen, and not before.
    opening_seen: bool,
    /// [`Use::UNSEEN`] when it was not seen, like the next one.
    opening: Use,
    last_use: Use,
    peer_closed_at: MaybeU64,
    carried: Carried,
    pulse: Pulse,
    /// See [`Traffic::followed`].
    followed: bool,
    said: Option<Arc<Said>>,
    seldom: Option<Box<Seldom>>,
    /// When a snapshot last read it.
    read_at: MaybeU64,
    /// Time of the newest event; unknown when only snapshots have told of it.
    event_at: MaybeU64,
    /// The opening that is in its group's history.
    counted_at: MaybeU64,
    established: bool,
    ended: bool,
    cause: Option<Cause>,
}

/// What most connections never have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seldom {
    accepted_at: MaybeU64,
    handed_at: MaybeU64,
    /// When code of which no stack could be taken began to send on it.
    unseen_use: MaybeU64,
}

impl Connection {
    /// This end; `None` until the kernel has chosen it, and for unix sockets.
    #[must_use]
    pub fn client(&self) -> Option<SocketAddr> {
        self.client.get()
    }

    /// Inode number of the socket; `None` until a snapshot has seen it.
    #[must_use]
    pub fn inode(&self) -> Option<u64> {
        self.inode.get()
    }

    /// When connect was called; `None` when that was before attach. For unix sockets: when first seen.
    #[must_use]
    pub fn opened_at(&self) -> Option<Nanos> {
        self.opening_seen.then_some(self.first_seen)
    }

    /// Which code opened it; `None` when that was before attach, or could not be read.
    #[must_use]
    pub fn opened_by(&self) -> Option<Use> {
        self.opening.seen()
    }

    /// Which code sent on it last, as far as that was seen, and since when it is the one that does.
    #[must_use]
    pub fn used_by(&self) -> Option<Use> {
        self.last_use.seen()
    }

    /// When the server accepted it, if the server could be asked.
    #[must_use]
    pub fn accepted_at(&self) -> Option<Nanos> {
        self.seldom.as_ref()?.accepted_at.get()
    }

    /// When the server's end was closed, at the latest; `None` while it is not, or was so before attach.
    #[must_use]
    pub fn peer_closed_at(&self) -> Option<Nanos> {
        self.peer_closed_at.get()
    }

    /// What it has carried.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.carried.traffic(self.followed)
    }

    /// When a snapshot first found that its opener no longer holds it, and another process does.
    #[must_use]
    pub fn handed_at(&self) -> Option<Nanos> {
        self.seldom.as_ref()?.handed_at.get()
    }

    /// Who it is for, as far as its client said so in clear.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.said.as_ref().map(|said| &said.identity)
    }

    /// The same as a number.
    #[must_use]
    pub fn who(&self) -> Who {
        self.said.as_ref().map_or_else(Who::default, |said| said.who)
    }

    /// The process that has to close it: who opened it, if that one still holds it, or else a holder.
    #[must_use]
    pub fn process(&self) -> Option<ProcessId> {
        let opener = self.opener.map(|opener| opener.process);
        match opener {
            Some(opener) if self.holders.is_empty() => self.holders.last().or(Some(opener)),
            Some(opener) if self.holders.iter().any(|holder| holder.process == opener) => Some(opener),
            _ => self
                .holders
                .first()
                .map(|holder| holder.process)
                .or(self.holders.last()),
        }
    }

    /// The opening that is in its group's history.
    pub(super) fn counted_at(&self) -> Option<Nanos> {
        self.counted_at.get()
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
            .or(self.followed.then_some(self.first_seen))
    }

    /// When it last carried data, or was opened; `None` when neither was seen.
    #[must_use]
    pub fn last_known_activity(&self) -> Option<Nanos> {
        let data = self.carried.last();
        data.max(self.opened_at()).max(self.accepted_at())
    }

    /// When the application last used it: as [`last_activity`](Self::last_activity), except that what a listener or
    /// subscriber is told is nothing that it did.
    #[must_use]
    pub fn last_use(&self) -> Option<Nanos> {
        if self.only_receives() {
            self.carried.last_sent.get().max(self.opened_at())
        } else {
            self.last_activity()
        }
    }

    fn only_receives(&self) -> bool {
        let purpose = self.identity().and_then(|said| said.purpose);
        self.carried.last_sent.get().is_some()
            && matches!(
                purpose,
                Some(Purpose::Listener | Purpose::Subscriber | Purpose::Monitor)
            )
    }

    /// Whether the server owes an answer: then silence is a running query.
    #[must_use]
    pub fn waiting(&self) -> bool {
        self.carried.unacknowledged > 0 || self.carried.last_sent > self.carried.last_received
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
        let Carried {
            last_sent,
            last_received,
            sends,
            receives,
            ..
        } = self.carried;
        let turns = matches!(
            self.server.system,
            System::Postgresql | System::Pgbouncer | System::Cockroachdb
        );
        turns && last_sent == last_received && receives.get().is_some() && sends > receives
    }

    /// Open, answered, and without data since this moment at least.
    #[must_use]
    pub fn silent_since(&self, at: Nanos) -> bool {
        self.state == State::Established && !self.waiting() && self.last_use().is_some_and(|last| last <= at)
    }

    /// Whether the application has never sent anything; `None` when unknown.
    #[must_use]
    pub fn never_sent(&self) -> Option<bool> {
        self.carried.bytes_sent.get().map(|bytes| bytes == 0)
    }

    /// Whether a stack is of this socket's next life: its connect is still to be told.
    pub(super) fn precedes(&self, stack: &Stack) -> bool {
        let opened = self.opened_at().filter(|_| self.opener.is_some());
        stack.role == Role::Opened && opened.is_some_and(|opened| stack.at > opened.saturating_add(SKEW))
    }

    /// Whether other code has sent on it since the use whose stack was taken.
    #[must_use]
    pub fn used_unseen(&self) -> bool {
        let unseen = self.seldom.as_ref().and_then(|seldom| seldom.unseen_use.get());
        unseen > self.used_by().map(|last| last.at)
    }

    /// Since when it has carried nothing but what keeps it alive, as far as snapshots tell; `None` if it carries something
    /// else, or nothing.
    #[must_use]
    pub fn kept_alive(&self) -> Option<KeptAlive> {
        self.pulse.kept_alive(self.first_seen)
    }

    /// The silence that it is in, as far as a snapshot saw it.
    pub(crate) fn rest(&self) -> Option<Rest> {
        let (from, seen) = (self.last_use()?, self.read_at.get()?);
        let silent = self.silent_since(seen.saturating_sub(SKEW));
        silent.then_some(Rest {
            cookie: self.cookie,
            from,
            seen,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What it takes in all, with its place in the table and in its group: `cargo bench -p connleak --bench growth`.
    #[test]
    fn a_connection_is_no_larger_than_was_agreed() {
        assert!(
            size_of::<Connection>() <= 248,
            "{} bytes",
            size_of::<Connection>()
        );
        assert_eq!(size_of::<Option<Connection>>(), size_of::<Connection>());
    }
}
