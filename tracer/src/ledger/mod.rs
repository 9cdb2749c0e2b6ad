//! The books: what every database connection did, folded from events.
//!
//! Pure: no clock, no I/O. Connections are kept by socket cookie and grouped by (process, server), the unit
//! that a verdict speaks about. Events and snapshots may arrive in any order that the kernel allows:
//!
//! * each fact carries its own time, and an older one never overwrites a newer one;
//! * a close of a socket that is not known yet leaves a tombstone until the snapshot under way has been
//!   merged, so that a row read before the close does not bring the socket back to life;
//! * after lost events, what a snapshot does not find is gone.

mod connection;
mod group;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

pub use connection::{Connection, Opener};
pub use group::Group;

use crate::{
    event::{
        Cause, Change, Connect, Cookie, Event, Holder, Loss, Nanos, Observation, Server, Snapshot, State,
    },
    owner::ProcessId,
};

/// The unit of a verdict: one process's connections to one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey {
    /// Whose.
    pub process: ProcessId,
    /// To where.
    pub server: Arc<Server>,
}

/// What became of a connection, for whoever wants to log it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to tell.
    Quiet,
    /// A connection is open now.
    Opened(Cookie),
    /// A connection attempt failed.
    Failed(Box<Connection>),
    /// A connection is over, and no descriptor is left.
    Closed(Box<Connection>, Cause),
}

/// Totals since the ledger began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections that were established in view.
    pub opened: u64,
    /// Connections that ended in view, whenever they were opened.
    pub closed: u64,
    /// Connects that never got a connection: refused, timed out, unreachable, given up.
    pub failed: u64,
    /// Sockets that were open already when the first snapshot was taken.
    pub opened_before_attach: u64,
    /// Events lost, by cause.
    pub lost: BTreeMap<Loss, u64>,
}

impl Totals {
    /// Events lost for any reason.
    #[must_use]
    pub fn events_lost(&self) -> u64 {
        self.lost.values().sum()
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Ledger {
    connections: HashMap<Cookie, Connection>,
    groups: BTreeMap<GroupKey, Group>,
    totals: Totals,
    /// Sockets whose end was seen while they were unknown, and when.
    tombstones: HashMap<Cookie, Nanos>,
    /// The end of the first snapshot: from here on, openings are seen.
    attached_at: Option<Nanos>,
    /// Events were lost and no snapshot has been merged since.
    unsettled: bool,
    /// When events were last lost.
    lost_at: Option<Nanos>,
}

impl Ledger {
    /// Folds one event. What became of connections is handed to `tell`, in order.
    pub fn apply(&mut self, event: &Event, mut tell: impl FnMut(Outcome)) {
        match event {
            Event::Connect(connect) => self.connect(connect),
            Event::Change(change) => tell(self.change(change)),
            Event::Snapshot(snapshot) => self.snapshot(snapshot, &mut tell),
            Event::Lost { at, cause, count } => {
                *self.totals.lost.entry(*cause).or_default() += count;
                self.unsettled = true;
                self.lost_at = Some(*at);
            }
        }
    }

    /// Totals so far.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// When the first snapshot had been taken.
    #[must_use]
    pub fn attached_at(&self) -> Option<Nanos> {
        self.attached_at
    }

    /// When events were last lost, if ever.
    #[must_use]
    pub fn lost_at(&self) -> Option<Nanos> {
        self.lost_at
    }

    /// Whether events were lost and the truth has not been looked up since.
    #[must_use]
    pub fn unsettled(&self) -> bool {
        self.unsettled
    }

    /// A connection, by cookie.
    #[must_use]
    pub fn connection(&self, cookie: Cookie) -> Option<&Connection> {
        self.connections.get(&cookie)
    }

    /// Every connection that is known and not over.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.connections.values()
    }

    /// Every group with its connections, in a stable order.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupKey, &Group, Vec<&Connection>)> {
        self.groups.iter().map(|(key, group)| {
            let connections = group
                .members()
                .iter()
                .filter_map(|cookie| self.connections.get(cookie))
                .collect();
            (key, group, connections)
        })
    }

    fn connect(&mut self, connect: &Connect) {
        // A socket may connect anew after a failed or dissolved connection: then it begins a new life.
        if let Some(known) = self.connections.get(&connect.cookie) {
            if known.changed_at >= connect.at {
                return;
            }
            self.forget(connect.cookie);
        }
        self.insert(Connection::opening(connect));
    }

    fn change(&mut self, change: &Change) -> Outcome {
        let Some(connection) = self.connections.get_mut(&change.cookie) else {
            if change.released || change.state == State::Closed {
                self.tombstones.insert(change.cookie, change.at);
            }
            return Outcome::Quiet;
        };
        if change.at < connection.changed_at {
            return Outcome::Quiet;
        }
        let was_established = connection.established();
        connection.change(change);
        if !was_established && change.state == State::Established {
            return self.opened(change.cookie);
        }
        if connection.over() {
            let established = connection.established();
            let cause = connection.cause();
            return match self.remove(change.cookie, change.at) {
                Some(gone) if established => Outcome::Closed(Box::new(gone), cause),
                Some(gone) => Outcome::Failed(Box::new(gone)),
                None => Outcome::Quiet,
            };
        }
        Outcome::Quiet
    }

    fn snapshot(&mut self, snapshot: &Snapshot, tell: &mut impl FnMut(Outcome)) {
        let mut holders: HashMap<Cookie, Vec<Holder>> = HashMap::new();
        let first = self.attached_at.is_none();
        for row in &snapshot.observations {
            if self
                .tombstones
                .get(&row.cookie)
                .is_some_and(|&ended| ended >= row.at)
            {
                continue;
            }
            holders.entry(row.cookie).or_default().push(row.holder);
            if let Some(outcome) = self.observe(row, first) {
                tell(outcome);
            }
        }
        self.tombstones.clear();
        self.settle_holders(snapshot, holders, tell);
        self.attached_at.get_or_insert(snapshot.ended);
        self.unsettled = false;
    }

    fn observe(&mut self, row: &Observation, first: bool) -> Option<Outcome> {
        if let Some(connection) = self.connections.get_mut(&row.cookie) {
            let was_established = connection.established();
            connection.observe(row);
            // The event that said so was lost.
            return (!was_established && connection.established()).then(|| self.opened(row.cookie));
        }
        // A socket that has never been connected, or whose connect failed, is no connection.
        if matches!(row.state, State::Closed | State::Closing) && row.traffic.bytes_sent.unwrap_or(0) == 0 {
            return None;
        }
        let connection = Connection::found(row, first);
        let established = connection.established();
        self.insert(connection);
        if first {
            self.totals.opened_before_attach += 1;
            return None;
        }
        established.then(|| self.opened(row.cookie))
    }

    /// Counts an opening, in total and for its group.
    fn opened(&mut self, cookie: Cookie) -> Outcome {
        self.totals.opened += 1;
        if let Some(connection) = self.connections.get(&cookie)
            && let Some(group) = connection.group_key().and_then(|key| self.groups.get_mut(&key))
        {
            group.opened(connection.opened_at.unwrap_or(connection.changed_at));
        }
        Outcome::Opened(cookie)
    }

    /// Takes over who holds what, and finds out what is gone without a word.
    fn settle_holders(
        &mut self,
        snapshot: &Snapshot,
        mut holders: HashMap<Cookie, Vec<Holder>>,
        tell: &mut impl FnMut(Outcome),
    ) {
        let mut gone = BTreeSet::new();
        let mut moved = Vec::new();
        for (cookie, connection) in &mut self.connections {
            let before = connection.group_key();
            match holders.remove(cookie) {
                Some(mut found) => {
                    found.sort_unstable();
                    connection.holders = found;
                    connection.missed = 0;
                }
                // Anything newer than the walk's begin may have been missed by it.
                None if connection.changed_at >= snapshot.began
                    || connection.first_seen >= snapshot.began => {}
                None => {
                    connection.holders.clear();
                    connection.missed += 1;
                    // TCP tells when it ends, so an unheld socket is in flight (SCM_RIGHTS) or registered
                    // with io_uring; unless events were lost. Unix sockets never tell.
                    let ending = matches!(connection.state, State::Closing | State::Closed);
                    if self.unsettled || connection.client.is_none() || ending {
                        gone.insert(*cookie);
                    }
                }
            }
            let after = connection.group_key();
            if before != after {
                moved.push((*cookie, before, after));
            }
        }
        for (cookie, before, after) in moved {
            if let Some(group) = before.and_then(|key| self.groups.get_mut(&key)) {
                group.remove(cookie);
            }
            if let Some(key) = after {
                self.groups.entry(key).or_default().add(cookie);
            }
        }
        for cookie in gone {
            if let Some(connection) = self.remove(cookie, snapshot.ended) {
                if connection.established() {
                    let ending = matches!(connection.state, State::Closing | State::Closed);
                    let cause = if ending || connection.client.is_none() {
                        connection.cause()
                    } else {
                        Cause::Unseen
                    };
                    tell(Outcome::Closed(Box::new(connection), cause));
                } else {
                    tell(Outcome::Failed(Box::new(connection)));
                }
            }
        }
        self.groups.retain(|_, group| !group.forgettable(snapshot.ended));
    }

    fn insert(&mut self, connection: Connection) {
        if let Some(key) = connection.group_key() {
            self.groups.entry(key).or_default().add(connection.cookie);
        }
        self.connections.insert(connection.cookie, connection);
    }

    /// Takes a connection out and counts its end.
    fn remove(&mut self, cookie: Cookie, at: Nanos) -> Option<Connection> {
        let connection = self.forget(cookie)?;
        // A snapshot may be under way whose row for this socket is older than its end.
        self.tombstones.insert(cookie, at);
        if connection.established() {
            self.totals.closed += 1;
            if let Some(group) = connection.group_key().and_then(|key| self.groups.get_mut(&key)) {
                group.closed(at);
            }
        } else {
            self.totals.failed += 1;
        }
        Some(connection)
    }

    fn forget(&mut self, cookie: Cookie) -> Option<Connection> {
        let connection = self.connections.remove(&cookie)?;
        if let Some(group) = connection.group_key().and_then(|key| self.groups.get_mut(&key)) {
            group.remove(cookie);
        }
        Some(connection)
    }
}
