//! What events, snapshots and stacks do to a connection. Each may come late or twice, and none undoes what a newer one told.

use std::sync::Arc;

use super::{Connection, Opener, Rest, SKEW, Seldom};
use crate::{
    callsite::{Role, SiteId},
    event::{Cause, Change, Connect, Nanos, Observation, State},
    ledger::{
        carried::Carried,
        code::Use,
        holders::Holders,
        identity::Said,
        maybe::{MaybeAddress, MaybeU64},
        pulse::Pulse,
    },
};

impl Connection {
    pub(in crate::ledger) fn opening(connect: &Connect) -> Self {
        Self {
            cookie: connect.cookie,
            server: Arc::clone(&connect.server),
            netns: connect.netns,
            opener: Some(Opener {
                process: connect.process,
                tid: connect.tid,
                lives: None,
            }),
            holders: Holders::default(),
            first_seen: connect.at,
            changed_at: connect.at,
            state: State::Connecting,
            client: MaybeAddress::default(),
            inode: MaybeU64::default(),
            opening_seen: true,
            opening: Use::UNSEEN,
            last_use: Use::UNSEEN,
            peer_closed_at: MaybeU64::default(),
            carried: Carried::default(),
            pulse: Pulse::default(),
            followed: false,
            said: None,
            seldom: None,
            read_at: MaybeU64::default(),
            event_at: connect.at.into(),
            counted_at: MaybeU64::default(),
            established: false,
            ended: false,
            cause: None,
        }
    }

    /// A connection whose opening was not seen: before attach, in a moment of loss, or of a unix socket.
    pub(in crate::ledger) fn found(row: &Observation, before_attach: bool) -> Self {
        let traffic = if before_attach {
            row.traffic.of_before_attach()
        } else {
            row.traffic
        };
        let mut found = Self {
            cookie: row.cookie,
            server: Arc::clone(&row.server),
            netns: row.netns,
            opener: None,
            holders: row.holder.into(),
            first_seen: row.at,
            changed_at: row.at,
            state: row.state,
            client: row.client.into(),
            inode: row.inode.into(),
            opening_seen: !before_attach,
            opening: Use::UNSEEN,
            last_use: Use::UNSEEN,
            peer_closed_at: MaybeU64::default(),
            carried: Carried::from(&traffic),
            pulse: Pulse::default(),
            followed: traffic.followed,
            said: None,
            seldom: None,
            read_at: row.at.into(),
            event_at: MaybeU64::default(),
            counted_at: MaybeU64::default(),
            established: row.state != State::Connecting,
            ended: false,
            cause: (row.state == State::PeerClosed).then_some(Cause::Peer),
        };
        found.accepted(row.accepted_at);
        found
    }

    /// A snapshot no longer finds a holder.
    pub(in crate::ledger) fn let_go(&mut self) {
        self.holders.miss(self.process());
    }

    /// Another process than its opener holds it, since this snapshot; or none does.
    pub(in crate::ledger) fn handed(&mut self, at: Option<Nanos>) {
        if at != self.handed_at() {
            self.seldom_mut().handed_at = at.into();
        }
    }

    pub(in crate::ledger) fn says(&mut self, said: Arc<Said>) {
        self.said = Some(said);
    }

    /// Its opening is counted: returns its moment.
    pub(in crate::ledger) fn count(&mut self) -> Nanos {
        let at = self.opened_at().unwrap_or(self.changed_at);
        self.counted_at = at.into();
        at
    }

    fn accepted(&mut self, at: Option<Nanos>) {
        if self.accepted_at().is_none() && at.is_some() {
            self.seldom_mut().accepted_at = at.into();
        }
    }

    fn seldom_mut(&mut self) -> &mut Seldom {
        self.seldom.get_or_insert_default()
    }

    /// Takes over which code did something with it; returns the site that counts as its opener's no longer,
    /// and the one that does now.
    pub(in crate::ledger) fn read_stack(&mut self, role: Role, new: Use) -> Option<(Option<SiteId>, SiteId)> {
        // Of an earlier life of this socket.
        if self.opener.is_some() && self.opened_at() > Some(new.at.saturating_add(SKEW)) {
            return None;
        }
        if new.site == SiteId::UNKNOWN {
            if role == Role::Used {
                let unseen = &mut self.seldom_mut().unseen_use;
                *unseen = MaybeU64::from(new.at).max(*unseen);
            }
            return None;
        }
        let known = match role {
            Role::Opened => &mut self.opening,
            Role::Used => &mut self.last_use,
        };
        // Of the same moment, what was read last knows more.
        let before = known.seen();
        if before.is_some_and(|before| before.at > new.at) {
            return None;
        }
        *known = new;
        let before = before.map(|before| before.site);
        (role == Role::Opened && before != Some(new.site)).then_some((before, new.site))
    }

    /// Whether this event is older than what other events have told.
    pub(in crate::ledger) fn knows_better(&self, change: &Change) -> bool {
        self.event_at.get().is_some_and(|at| change.at < at)
    }

    pub(in crate::ledger) fn change(&mut self, change: &Change) {
        self.event_at = change.at.into();
        self.client.learn(change.client);
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
            self.peer_closed(change.at);
        }
        if change.at.saturating_add(SKEW) >= self.changed_at {
            self.state = change.state;
            self.changed_at = self.changed_at.max(change.at);
        }
        if self.established {
            let Carried {
                bytes_sent,
                bytes_received,
                ..
            } = &mut self.carried;
            *bytes_sent = MaybeU64::from(change.bytes_sent).max(*bytes_sent);
            *bytes_received = MaybeU64::from(change.bytes_received).max(*bytes_received);
        }
    }

    fn peer_closed(&mut self, at: Nanos) {
        if self.peer_closed_at().is_none() {
            self.peer_closed_at = at.into();
        }
    }

    /// Takes over what a row tells; returns the rest that was over before, and how long it was only kept alive if it is
    /// used now.
    pub(in crate::ledger) fn observe(&mut self, row: &Observation) -> (Option<Rest>, Option<Nanos>) {
        let (before, carried, pulse) = (self.rest(), self.carried, self.kept_alive());
        self.take_over(row);
        let between = row.at.saturating_sub(self.read_at.get().unwrap_or(row.at));
        self.pulse.beat(self.first_seen, &carried, &self.carried, between);
        self.read_at = MaybeU64::from(row.at).max(self.read_at);
        let rest = before.filter(|rest| self.last_use() > Some(rest.seen));
        let broken = pulse.filter(|pulse| self.kept_alive().is_none_or(|now| now.since != pulse.since));
        let last_sent = carried.last_sent.get().unwrap_or(0);
        (rest, broken.map(|pulse| last_sent.saturating_sub(pulse.since)))
    }

    fn take_over(&mut self, row: &Observation) {
        if self.opener.is_some() && self.opened_at().is_some_and(|opened| row.at < opened) {
            // The socket's descriptor is right, the rest is of an earlier life.
            return;
        }
        self.inode = row.inode.into();
        self.client.learn(row.client);
        self.accepted(row.accepted_at);
        let news = if self.opening_seen {
            row.traffic
        } else {
            row.traffic.of_before_attach()
        };
        self.carried.merge(&news);
        self.followed = news.followed;
        let events_know_better = self
            .event_at
            .get()
            .is_some_and(|at| row.at <= at.saturating_add(SKEW));
        if row.at < self.changed_at || events_know_better {
            return;
        }
        self.changed_at = row.at;
        if row.state == State::PeerClosed {
            self.cause = self.cause.or(Some(Cause::Peer));
        }
        if matches!(row.state, State::PeerClosed | State::Closed) {
            self.peer_closed(row.at);
        }
        let carried = has_carried(row);
        self.established |= implies_connected(row.state) || row.state == State::Closed && carried;
        // A connect resets the counters: the connection that we know is over, and the next one has failed.
        let known = self.carried.bytes_sent.max(self.carried.bytes_received).get();
        self.ended |= row.state == State::Closed && !carried && known > Some(0);
        self.state = row.state;
    }
}

/// Whether a socket only gets into this state by way of a connection. It is in `Closed` also before.
fn implies_connected(state: State) -> bool {
    matches!(state, State::Established | State::PeerClosed | State::Closing)
}

/// Whether data went either way: tells a socket whose connection has ended from one that never had any.
pub(in crate::ledger) fn has_carried(row: &Observation) -> bool {
    row.traffic.bytes_sent.unwrap_or(0) > 0 || row.traffic.bytes_received.unwrap_or(0) > 0
}

/// Whether a change is the last of a connection's life.
///
/// Not a state alone: after a reset, or a `shutdown` that both sides have completed, the socket is closed
/// and its descriptor still there. It ends when no descriptor refers to the socket any more, or when this
/// side goes from open to closed in one step and without an error: a close with data unread or with
/// `SO_LINGER` 0, or a connect to `AF_UNSPEC`, after which the kernel no longer knows what the socket was for.
pub(in crate::ledger) fn ends(change: &Change) -> bool {
    let at_once = match change.from {
        State::Connecting => true,
        State::Established | State::PeerClosed => change.error == 0,
        State::Closing | State::Closed => false,
    };
    change.released || change.state == State::Closed && at_once
}
