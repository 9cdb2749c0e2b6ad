//! A ledger together with what it has told.

use super::{super::*, *};
use crate::event::{Nanos, SECOND, Snapshot};

pub(super) const MS: Nanos = SECOND / 1000;

/// See the module's head.
#[derive(Default)]
pub(super) struct Books {
    pub ledger: Ledger,
    pub opened: Vec<Cookie>,
    pub failed: Vec<Cookie>,
    pub closed: Vec<(Cookie, Cause)>,
}

impl Books {
    /// A ledger that has merged an empty first snapshot.
    pub(super) fn attached() -> Self {
        let mut books = Self::default();
        books.snapshot(0, 1, []);
        books
    }

    pub(super) fn apply(&mut self, event: &Event) {
        let Self {
            ledger,
            opened,
            failed,
            closed,
        } = self;
        ledger.apply(event, |outcome| match outcome {
            Outcome::Opened(cookie) => opened.push(cookie),
            Outcome::Failed(connection) => failed.push(connection.cookie),
            Outcome::Closed(connection, cause) => closed.push((connection.cookie, cause)),
        });
    }

    pub(super) fn feed(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.apply(&event);
        }
    }

    pub(super) fn snapshot(&mut self, began: u64, ended: u64, rows: impl IntoIterator<Item = Observation>) {
        self.apply(&Event::Snapshot(Snapshot {
            open_only: false,
            began: began * MS,
            ended: ended * MS,
            observations: rows.into_iter().collect(),
        }));
    }

    pub(super) fn get(&self, cookie: u64) -> Option<&Connection> {
        self.ledger.connection(Cookie(cookie))
    }

    pub(super) fn state(&self, cookie: u64) -> Option<State> {
        self.get(cookie).map(|connection| connection.state)
    }

    pub(super) fn holders(&self, cookie: u64) -> Vec<Holder> {
        self.get(cookie)
            .map(|connection| connection.holders.to_vec())
            .unwrap_or_default()
    }

    /// Opened in view, closed, failed, opened before attach.
    pub(super) fn totals(&self) -> (u64, u64, u64, u64) {
        let totals = self.ledger.totals();
        (
            totals.opened,
            totals.closed,
            totals.failed,
            totals.opened_before_attach,
        )
    }

    /// The members of each process's group.
    pub(super) fn groups(&self) -> Vec<(u32, usize)> {
        self.ledger
            .groups()
            .filter(|(_, group, _)| !group.members().is_empty())
            .map(|(key, group, _)| (key.process.pid, group.members().len()))
            .collect()
    }
}
