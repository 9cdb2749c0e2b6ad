//! What a rule may look at.

use crate::{
    event::{Nanos, SECOND, State},
    ledger::{Connection, Group, Ledger},
};

/// Slack between "used last" and "another one opened": below it, the two may belong to one request, or to
/// two threads that could not know of each other. The kernel's own ticks are up to 10 ms coarse.
pub const GRACE: Nanos = SECOND / 10;

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
}

impl<'a> View<'a> {
    /// How long a connection has been silent; `None` when unknown.
    pub fn silent(&self, connection: &Connection) -> Option<Nanos> {
        connection.last_activity().map(|at| self.now.saturating_sub(at))
    }

    /// How often this process opened another connection to the server while this one was silent.
    pub fn passed_over(&self, connection: &Connection) -> u64 {
        connection
            .last_activity()
            .map_or(0, |at| self.group.opens_after(at.saturating_add(GRACE)))
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
