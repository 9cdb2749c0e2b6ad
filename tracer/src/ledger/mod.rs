//! The books: what every database connection did, folded from events.
//!
//! Pure: no clock, no I/O. Connections are kept by socket cookie and grouped by (process, server), the unit
//! that a verdict speaks about. Events and snapshots may arrive in any order that the kernel allows:
//!
//! * each fact carries its own time, and an older one never overwrites a newer one;
//! * what happens to a socket that is not known yet is kept until the snapshot under way has been merged
//!   (`early`), so that a row read before a close does not bring the socket back to life;
//! * after lost events, what a snapshot that began later does not find is gone.
//!
//! A walk over all descriptors is not atomic: a descriptor that is handed from a process not yet visited to
//! one already visited is in no row, like one that is in flight in a message. A TCP socket tells when it
//! ends, so it is kept (one whose connection has ended already, until three walks have missed it). A unix socket,
//! and any socket after a loss, counts as closed, and as opened anew when it is met again.

#![forbid(unsafe_code)]

mod by_cookie;
mod carried;
mod code;
mod connection;
mod early;
mod group;
mod held;
mod holders;
mod identity;
mod maybe;
mod pulse;
mod table;
#[cfg(test)]
mod tests;
mod troughs;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use code::Waiting;
pub use code::{Tally, Use};
pub use connection::{Connection, Opener, Rest};
use connection::{has_carried, tells};
use early::Early;
pub use group::Group;
use held::Held;
pub use holders::Holders;
use identity::Identities;
pub use identity::Who;
pub use pulse::KeptAlive;
use table::Table;
use troughs::Troughs;

use crate::{
    callsite::{Role, SiteId},
    event::{
        Cause, Change, Connect, Cookie, Event, Hello, Loss, Nanos, Observation, SECOND, Server, Snapshot,
        Stack, State, Threads,
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
    /// Sockets that were open already when the first snapshot was taken, and whose opening was not seen.
    pub opened_before_attach: u64,
    /// Connections that were not taken in, because the ledger was full.
    pub untracked: u64,
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

/// So many walks in a row must miss a TCP socket whose connection has ended before it counts as let go of: one may
/// miss a descriptor that changes hands, see the module's head. As long as nothing is lost, its end is told anyway.
pub const WALKS_TO_BE_GONE: u32 = 3;

/// See the module's head.
#[derive(Debug)]
pub struct Ledger {
    /// Most connections that are kept at once.
    limit: usize,
    connections: Table,
    identities: Identities,
    groups: BTreeMap<GroupKey, Group>,
    /// How many connections of this host each server has, over time.
    servers: BTreeMap<Arc<Server>, Troughs>,
    totals: Totals,
    early: Early,
    waiting: Waiting,
    /// The end of the first snapshot: from here on, openings are seen.
    attached_at: Option<Nanos>,
    /// Events were lost and no snapshot that began later has been merged since.
    unsettled: bool,
    /// When events were last lost.
    lost_at: Option<Nanos>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::bounded(Self::LIMIT)
    }
}

impl Ledger {
    /// Default of `--max-connections`: some 30 MB at most, and more than any host has had in an incident that
    /// we know of.
    pub const LIMIT: usize = 100_000;

    /// A ledger that keeps at most this many connections at once; those beyond are counted and otherwise
    /// left alone, until others have ended and a snapshot finds them.
    #[must_use]
    pub fn bounded(limit: usize) -> Self {
        Self {
            limit: limit.min(Table::MOST),
            connections: Table::default(),
            identities: Identities::default(),
            groups: BTreeMap::new(),
            servers: BTreeMap::new(),
            totals: Totals::default(),
            early: Early::default(),
            waiting: Waiting::default(),
            attached_at: None,
            unsettled: false,
            lost_at: None,
        }
    }

    /// Folds one event. What became of connections is handed to `tell`, in order.
    pub fn apply(&mut self, event: &Event, mut tell: impl FnMut(Outcome)) {
        match event {
            Event::Connect(connect) => self.connect(connect, &mut tell),
            Event::Change(change) => self.change(change, &mut tell),
            Event::Snapshot(snapshot) => self.snapshot(snapshot, &mut tell),
            Event::Threads(threads) => self.threads(threads),
            Event::Stack(stack) => self.stack(stack),
            Event::Hello(hello) => self.hello(hello),
            Event::Lost { at, cause, count } => {
                let total = self.totals.lost.entry(*cause).or_default();
                *total = total.saturating_add(*count);
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

    /// Whether a socket whose connection has ended was missed by the last walk, but by too few in a row to count as let
    /// go of: the next ones decide, unless its end is told meanwhile.
    #[must_use]
    pub fn undecided(&self) -> bool {
        self.connections.iter().any(|connection| {
            matches!(connection.state, State::Closing | State::Closed)
                && (1..WALKS_TO_BE_GONE).contains(&connection.holders.missed())
        })
    }

    /// A connection, by cookie.
    #[must_use]
    pub fn connection(&self, cookie: Cookie) -> Option<&Connection> {
        self.connections.get(cookie)
    }

    /// Every connection that is known and not over.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.connections.iter()
    }

    /// Every group with its connections, in a stable order.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupKey, &Group, Vec<&Connection>)> {
        self.groups.iter().map(|(key, group)| {
            let connections = group
                .members()
                .iter()
                .filter_map(|cookie| self.connection(*cookie))
                .collect();
            (key, group, connections)
        })
    }

    /// Every server with the connections that this host's processes have to it, as snapshots found them: troughs,
    /// oldest first. What the server has closed does not count.
    pub fn servers(&self) -> impl Iterator<Item = (&Arc<Server>, Vec<(Nanos, u64)>)> {
        self.servers
            .iter()
            .map(|(server, troughs)| (server, troughs.points()))
    }

    /// A group, while it is remembered.
    #[must_use]
    pub fn group(&self, key: &GroupKey) -> Option<&Group> {
        self.groups.get(key)
    }

    /// Whether another connection can be taken in; counts it when not.
    fn has_room(&mut self, at: Nanos) -> bool {
        let room = self.connections.len() < self.limit;
        if !room {
            self.totals.untracked += 1;
            // What is not in the books cannot be in a count: no finding is certain then.
            self.lost_at = self.lost_at.max(Some(at));
        }
        room
    }

    fn connect(&mut self, connect: &Connect, tell: &mut impl FnMut(Outcome)) {
        if self.early.over_since(connect.cookie, connect.at) {
            return;
        }
        if let Some(known) = self.connections.get(connect.cookie) {
            if known.changed_at >= connect.at {
                return;
            }
            // A unix socket connects once: this is its first data, told again.
            if !known.tells() {
                return;
            }
            // A TCP socket may connect anew once its connection is dissolved: a new life, and so the end of
            // the old one if that was not seen.
            self.end(connect.cookie, connect.at, tell);
        }
        self.early.forget(connect.cookie);
        if self.has_room(connect.at) {
            self.insert(Connection::opening(connect));
        }
    }

    fn change(&mut self, change: &Change, tell: &mut impl FnMut(Outcome)) {
        let Some(connection) = self.connections.get_mut(change.cookie) else {
            self.early.note(change);
            return;
        };
        if connection.knows_better(change) {
            return;
        }
        let was_established = connection.established();
        connection.change(change);
        let over = connection.over();
        if !was_established && connection.established() {
            tell(self.opened(change.cookie));
        }
        if over {
            self.end(change.cookie, change.at, tell);
        }
    }

    fn snapshot(&mut self, snapshot: &Snapshot, tell: &mut impl FnMut(Outcome)) {
        let mut holders = Vec::with_capacity(snapshot.observations.len());
        let first = self.attached_at.is_none();
        for row in &snapshot.observations {
            if self.early.over_at(row) {
                continue;
            }
            holders.push((row.cookie, row.holder));
            self.observe(row, first, tell);
        }
        self.settle_holders(snapshot, &Held::from(holders), tell);
        self.count(snapshot.ended);
        self.early.clear();
        self.waiting.merged(snapshot.began);
        self.attached_at.get_or_insert(snapshot.ended);
        // What was lost after the walk began may be about a row that was read before.
        self.unsettled &= self.lost_at.is_some_and(|lost| lost >= snapshot.began);
    }

    /// Writes down for each group how many of its connections are silent, and how many are open, and how much
    /// they have carried; and for each server how many it has.
    fn count(&mut self, at: Nanos) {
        let mut servers: BTreeMap<&Arc<Server>, u64> = BTreeMap::new();
        for (key, group) in &mut self.groups {
            let (mut silent, mut held, mut taken, mut sends) = (0, 0, 0, 0);
            let members = group.members().iter();
            for connection in members.filter_map(|&cookie| self.connections.get(cookie)) {
                silent += u64::from(connection.silent_since(at.saturating_sub(SECOND)));
                held += u64::from(!matches!(connection.state, State::Connecting | State::Closing));
                sends += u64::from(connection.traffic().sends.unwrap_or(0));
                taken += u64::from(connection.state == State::Established);
            }
            group.sent_now(at, sends);
            group.count_now(at, silent, held);
            *servers.entry(&key.server).or_default() += taken;
        }
        self.servers.retain(|server, _| servers.contains_key(server));
        for (server, taken) in servers {
            match self.servers.get_mut(server) {
                Some(troughs) => troughs.push(at, taken),
                None => self
                    .servers
                    .entry(Arc::clone(server))
                    .or_default()
                    .push(at, taken),
            }
        }
    }

    fn observe(&mut self, row: &Observation, first: bool, tell: &mut impl FnMut(Outcome)) {
        if let Some(connection) = self.connections.get_mut(row.cookie) {
            let was_established = connection.established();
            let (rest, woken) = connection.observe(row);
            let over = connection.over();
            if (rest.is_some() || woken.is_some())
                && let Some(group) = connection.group_key().and_then(|key| self.groups.get_mut(&key))
            {
                group.rested(rest, woken);
            }
            // The events that said so were lost.
            if !was_established && connection.established() {
                tell(self.opened(row.cookie));
            }
            if over {
                self.end(row.cookie, row.at, tell);
            }
            return;
        }
        // A socket that has never been connected, or whose connect failed, is no connection.
        if row.state == State::Closed && !has_carried(row) {
            return;
        }
        if !self.has_room(row.at) {
            return;
        }
        // TCP sockets tell when they are opened. So one that comes up later, though nothing was ever lost,
        // was in no process's hands during the first walk.
        let before_attach = first || tells(&row.server) && self.lost_at.is_none();
        let connection = Connection::found(row, before_attach);
        let established = connection.established();
        self.insert(connection);
        if established && before_attach {
            self.totals.opened_before_attach += 1;
        } else if established {
            tell(self.opened(row.cookie));
        }
        for change in self.early.take(row.cookie) {
            self.change(&change, tell);
        }
    }

    /// A client said who it is. Nothing is lost when the connection is not known: it is judged without.
    fn hello(&mut self, hello: &Hello) {
        let Some(connection) = self.connections.get_mut(hello.cookie) else {
            return;
        };
        let mut identity = connection.identity().cloned().unwrap_or_default();
        identity.merge(&hello.identity);
        let said = self.identities.share(identity);
        if let Some(at) = connection.counted_at()
            && let Some(group) = connection.group_key().and_then(|key| self.groups.get_mut(&key))
        {
            group.identified(at, connection.who(), said.who);
        }
        connection.says(said);
    }

    /// Which code opened or used a connection.
    fn stack(&mut self, stack: &Stack) {
        if stack.role == Role::Opened && stack.site == SiteId::UNKNOWN {
            return;
        }
        let known = self.connections.get(stack.cookie);
        if known.is_some_and(|known| !known.precedes(stack)) {
            self.read_stack(stack.cookie, stack.role, stack.into());
        } else if let Some(group) = self.waiting.note(stack).and_then(|key| self.groups.get_mut(&key)) {
            group.tallies_mut().opened(stack.site);
            group.tallies_mut().closed(stack.site);
        }
    }

    fn read_stack(&mut self, cookie: Cookie, role: Role, new: Use) {
        let Some(connection) = self.connections.get_mut(cookie) else {
            return;
        };
        let Some((before, site)) = connection.read_stack(role, new) else {
            return;
        };
        if connection.counted_at().is_some()
            && let Some(group) = connection.group_key().and_then(|key| self.groups.get_mut(&key))
        {
            if let Some(site) = before {
                group.tallies_mut().withdrawn(site);
            }
            group.tallies_mut().opened(site);
        }
    }

    /// What is known of opening threads.
    fn threads(&mut self, threads: &Threads) {
        for connection in self.connections.iter_mut() {
            let opened_at = connection.opened_at();
            let of_this = |opener: &&mut Opener| opener.process == threads.process;
            let Some(opener) = connection.opener.as_mut().filter(of_this) else {
                continue;
            };
            // A thread that is looked for after the socket was opened may be the one that opened it.
            if opened_at > Some(threads.at) || opener.lives == Some(false) {
                continue;
            }
            if threads.ended.binary_search(&opener.tid).is_ok() {
                opener.lives = Some(false);
            } else if threads.alive.binary_search(&opener.tid).is_ok() {
                opener.lives = Some(true);
            }
        }
    }

    /// Counts an opening, in total and for its group.
    fn opened(&mut self, cookie: Cookie) -> Outcome {
        self.totals.opened += 1;
        if let Some(connection) = self.connections.get_mut(cookie) {
            let at = connection.count();
            let who = connection.who();
            if let Some(group) = connection.group_key().and_then(|key| self.groups.get_mut(&key)) {
                group.opened(at, who);
                if let Some(opener) = connection.opener {
                    group.opened_by(opener.tid, at);
                }
                if let Some(opening) = connection.opened_by() {
                    group.tallies_mut().opened(opening.site);
                }
            }
        }
        Outcome::Opened(cookie)
    }

    /// Takes over who holds what, and finds out what is gone without a word.
    fn settle_holders(&mut self, snapshot: &Snapshot, holders: &Held, tell: &mut impl FnMut(Outcome)) {
        let mut gone = BTreeSet::new();
        let mut moved = Vec::new();
        for connection in self.connections.iter_mut() {
            let cookie = connection.cookie;
            let before = connection.process();
            match holders.of(cookie) {
                Some(found) => {
                    if !found.clone().eq(connection.holders.iter()) {
                        connection.holders = found.copied().collect();
                    }
                }
                // Anything newer than the walk's begin may have been missed by it.
                None if connection.changed_at >= snapshot.began
                    || connection.first_seen >= snapshot.began => {}
                None => {
                    connection.let_go();
                    // TCP tells when it ends, so an unheld socket is in flight (SCM_RIGHTS) or registered
                    // with io_uring; unless events were lost. What is ending may take minutes to say so when
                    // the server is out of reach, and never does once it is dissolved (`AF_UNSPEC`). Unix
                    // sockets never tell.
                    let ending = connection.holders.missed() >= WALKS_TO_BE_GONE
                        && match connection.state {
                            State::Closing => true,
                            State::Closed => !snapshot.open_only,
                            _ => false,
                        };
                    if self.unsettled || !connection.tells() || ending {
                        gone.insert(cookie);
                    }
                }
            }
            let after = connection.process();
            if before != after {
                let opener = connection.opener.map(|opener| opener.process);
                let handed = opener.is_some() && connection.process() != opener;
                connection.handed(handed.then_some(snapshot.ended));
                let counted = connection.counted_at().map(|at| {
                    let site = connection.opened_by().map(|opening| opening.site);
                    (at, connection.who(), site)
                });
                moved.push((cookie, counted, Arc::clone(&connection.server), before, after));
            }
        }
        for (cookie, counted, server, before, after) in moved {
            let key_of = |process: ProcessId| GroupKey {
                process,
                server: Arc::clone(&server),
            };
            if let Some(group) = before.and_then(|process| self.groups.get_mut(&key_of(process))) {
                group.remove(cookie);
                if let Some((at, _, site)) = counted {
                    group.handed_over(at);
                    if let Some(site) = site {
                        group.tallies_mut().withdrawn(site);
                    }
                }
            }
            if let Some(process) = after {
                let group = self.groups.entry(key_of(process)).or_default();
                group.add(cookie);
                if let Some((at, who, site)) = counted {
                    group.opened(at, who);
                    if let Some(site) = site {
                        group.tallies_mut().opened(site);
                    }
                }
            }
        }
        for cookie in gone {
            self.end(cookie, snapshot.ended, tell);
        }
        self.groups.retain(|_, group| !group.forgettable(snapshot.ended));
        self.identities.forget_unused();
    }

    fn insert(&mut self, connection: Connection) {
        if let Some(key) = connection.group_key() {
            self.groups.entry(key).or_default().add(connection.cookie);
        }
        let cookie = connection.cookie;
        self.connections.insert(connection);
        let (opening, last_use) = self.waiting.take(cookie);
        for (role, known) in [(Role::Opened, opening), (Role::Used, last_use)] {
            if let Some(known) = known {
                self.read_stack(cookie, role, known);
            }
        }
    }

    /// Takes a connection out, and counts and tells its end.
    fn end(&mut self, cookie: Cookie, at: Nanos, tell: &mut impl FnMut(Outcome)) {
        let Some(connection) = self.connections.remove(cookie).map(Box::new) else {
            return;
        };
        // A snapshot may be under way whose row for this socket is older than its end.
        self.early.ended(cookie, at);
        let established = connection.established();
        if let Some(group) = connection.group_key().and_then(|key| self.groups.get_mut(&key)) {
            group.remove(cookie);
            group.sent_by_closed(connection.traffic().sends.unwrap_or(0));
            if established {
                group.closed(at, connection.last_use());
                // What answers the server's close at once has not been waiting for its turn in a pool.
                if connection
                    .peer_closed_at()
                    .is_some_and(|closed| at >= closed.saturating_add(SECOND))
                {
                    group.cleared_one();
                }
            }
            if let (Some(_), Some(opening)) = (connection.counted_at(), connection.opened_by()) {
                group.tallies_mut().closed(opening.site);
            }
        }
        if connection.counted_at().is_some()
            && connection.opened_by().is_none()
            && let Some(key) = connection.group_key()
        {
            self.waiting.departed(cookie, key, at);
        }
        if established {
            self.totals.closed += 1;
            let cause = connection.cause();
            tell(Outcome::Closed(connection, cause));
        } else {
            self.totals.failed += 1;
            tell(Outcome::Failed(connection));
        }
    }
}
