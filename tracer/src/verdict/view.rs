//! What a rule may look at.

use std::cell::OnceCell;

use crate::{
    event::{Nanos, State},
    ledger::{Connection, Group, Ledger},
};

/// One group at one moment.
pub struct View<'a> {
    /// Opens and closes over time.
    pub group: &'a Group,
    /// What is open now.
    pub connections: Vec<&'a Connection>,
    /// The moment.
    pub now: Nanos,
    /// Where all this comes from.
    pub ledger: &'a Ledger,
    /// See [`Rules::grace`](super::Rules::grace).
    pub grace: Nanos,
    /// Those that are open on both sides and answered, each with when it was used last. Nearly every rule begins with
    /// them, and most connections of a large group are far away in memory.
    silent: Vec<(Nanos, &'a Connection)>,
    /// Those that are open on both sides and have carried the same more than once, in the same pass, since most have not.
    repeating: Vec<&'a Connection>,
    /// The opening threads of all that are open, in order, once somebody asks.
    threads: OnceCell<Vec<u32>>,
}

impl<'a> View<'a> {
    /// What there is to see of a group.
    pub fn new(
        group: &'a Group,
        connections: Vec<&'a Connection>,
        now: Nanos,
        ledger: &'a Ledger,
        grace: Nanos,
    ) -> Self {
        let (mut silent, mut repeating) = (Vec::with_capacity(connections.len()), Vec::new());
        for &connection in &connections {
            if connection.state != State::Established {
                continue;
            }
            if !connection.waiting()
                && let Some(last) = connection.last_use()
            {
                silent.push((last, connection));
            }
            if connection.kept_alive().is_some_and(|told| told.beats > 0) {
                repeating.push(connection);
            }
        }
        Self {
            group,
            silent,
            repeating,
            connections,
            now,
            ledger,
            grace,
            threads: OnceCell::new(),
        }
    }

    /// Whether this socket may well be its opening thread's own: the thread lives, has no other connection to
    /// the server open, and has opened none since.
    pub fn owned(&self, connection: &Connection) -> bool {
        connection.opener.is_some_and(|opener| {
            opener.lives == Some(true)
                && self.opened_by(opener.tid) == 1
                && self.group.opened_last_by(opener.tid) <= connection.opened_at()
        })
    }

    /// How many of the open connections this thread has opened.
    fn opened_by(&self, tid: u32) -> usize {
        let threads = self.threads.get_or_init(|| {
            let openers = self.connections.iter().filter_map(|connection| connection.opener);
            let mut threads: Vec<u32> = openers.map(|opener| opener.tid).collect();
            threads.sort_unstable();
            threads
        });
        threads.partition_point(|&other| other <= tid) - threads.partition_point(|&other| other < tid)
    }

    /// How long a connection has been silent; `None` when unknown.
    pub fn silent(&self, connection: &Connection) -> Option<Nanos> {
        connection.last_use().map(|at| self.now.saturating_sub(at))
    }

    /// How often this process opened another connection to the server while this one was silent. Cheapest when it is
    /// asked of those first that have been silent for longest.
    pub fn passed_over(&self) -> impl FnMut(&Connection) -> u64 {
        let mut opens_after = self.group.opens_after_each();
        let grace = self.grace;
        move |connection| {
            connection
                .last_use()
                .map_or(0, |at| opens_after(at.saturating_add(grace)))
        }
    }

    /// Those that cost the server a slot.
    pub fn taken(&self) -> Vec<&'a Connection> {
        let established = |connection: &&Connection| connection.state == State::Established;
        self.connections.iter().copied().filter(established).collect()
    }

    /// Open on both sides, answered, and silent for at least this long.
    pub fn silent_for(&self, at_least: Nanos) -> impl Iterator<Item = &'a Connection> {
        let since = |&(last, connection)| (self.now.saturating_sub(last), connection);
        let silent = self.silent.iter().map(since);
        silent.filter_map(move |(silent, connection)| (silent >= at_least).then_some(connection))
    }

    /// Open on both sides, and since a moment all that each has carried was of one size, twice at least.
    pub fn repeating(&self) -> impl Iterator<Item = &'a Connection> {
        self.repeating.iter().copied()
    }

    /// Whether events were lost since this moment.
    pub fn lost_since(&self, at: Nanos) -> bool {
        self.ledger.unsettled() || self.ledger.lost_at().is_some_and(|lost| lost >= at)
    }
}
