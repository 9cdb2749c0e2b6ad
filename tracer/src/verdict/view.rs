//! What a rule may look at.

use std::collections::HashMap;

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
    /// How many of the open connections each thread of the process itself has opened.
    threads: HashMap<u32, usize>,
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
        let mut threads: HashMap<u32, usize> = HashMap::new();
        for opener in connections.iter().filter_map(|connection| connection.opener) {
            *threads.entry(opener.tid).or_default() += 1;
        }
        Self {
            group,
            connections,
            now,
            ledger,
            grace,
            threads,
        }
    }

    /// Whether this socket may well be its opening thread's own: the thread lives, has no other connection to
    /// the server open, and has opened none since.
    pub fn owned(&self, connection: &Connection) -> bool {
        connection.opener.is_some_and(|opener| {
            opener.lives == Some(true)
                && self.threads.get(&opener.tid) == Some(&1)
                && self.group.opened_last_by(opener.tid) <= connection.opened_at()
        })
    }

    /// How long a connection has been silent; `None` when unknown.
    pub fn silent(&self, connection: &Connection) -> Option<Nanos> {
        connection.last_use().map(|at| self.now.saturating_sub(at))
    }

    /// How often this process opened another connection to the server while this one was silent.
    pub fn passed_over(&self, connection: &Connection) -> u64 {
        connection
            .last_use()
            .map_or(0, |at| self.group.opens_after(at.saturating_add(self.grace)))
    }

    /// Those that cost the server a slot.
    pub fn taken(&self) -> Vec<&'a Connection> {
        let established = |connection: &&Connection| connection.state == State::Established;
        self.connections.iter().copied().filter(established).collect()
    }

    /// Open on both sides, answered, and silent for at least this long.
    pub fn silent_for(&self, at_least: Nanos) -> impl Iterator<Item = &'a Connection> {
        self.connections.iter().copied().filter(move |connection| {
            connection.state == State::Established
                && !connection.waiting()
                && self.silent(connection).is_some_and(|silent| silent >= at_least)
        })
    }

    /// Whether events were lost since this moment.
    pub fn lost_since(&self, at: Nanos) -> bool {
        self.ledger.unsettled() || self.ledger.lost_at().is_some_and(|lost| lost >= at)
    }
}
