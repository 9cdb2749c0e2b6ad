//! What happens to sockets that the books do not have yet.
//!
//! Probes are attached before the first snapshot is taken, so the first events are about sockets that no row
//! has told of. They are kept until the snapshot under way has been merged: a row that was read before a
//! change gets that change after all, and a row that was read before the socket's end is not taken.
//!
//! Not longer: a walk that begins later sees what the events have done. So the size of this is bounded by
//! what the host does between two snapshots, and of a socket that has ended only the time is kept.

use std::collections::HashMap;

use super::connection::{SKEW, ends};
use crate::event::{Change, Cookie, Nanos, Observation};

/// Changes kept for one socket. TCP has no way to make more between two snapshots without ending.
const CHANGES: usize = 8;
/// Room that is kept for the next snapshot.
const KEEP: usize = 1024;

#[derive(Debug)]
enum Fate {
    Ended(Nanos),
    Changed(Vec<Change>),
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Early {
    fates: HashMap<Cookie, Fate>,
}

impl Early {
    pub(super) fn note(&mut self, change: &Change) {
        if ends(change) {
            self.ended(change.cookie, change.at);
            return;
        }
        let fate = self
            .fates
            .entry(change.cookie)
            .or_insert_with(|| Fate::Changed(Vec::new()));
        match fate {
            Fate::Ended(at) if change.at <= *at => {}
            // It has connected anew.
            Fate::Ended(_) => *fate = Fate::Changed(vec![change.clone()]),
            Fate::Changed(changes) if changes.len() < CHANGES => changes.push(change.clone()),
            Fate::Changed(_) => {}
        }
    }

    /// The socket's connection is over.
    pub(super) fn ended(&mut self, cookie: Cookie, at: Nanos) {
        let at = match self.fates.get(&cookie) {
            Some(Fate::Ended(known)) => at.max(*known),
            _ => at,
        };
        self.fates.insert(cookie, Fate::Ended(at));
    }

    /// Whether the socket's connection was over at this moment or later: so what was true then is not any more.
    pub(super) fn over_since(&self, cookie: Cookie, moment: Nanos) -> bool {
        matches!(self.fates.get(&cookie), Some(Fate::Ended(at)) if *at >= moment)
    }

    /// Whether a row tells of a connection that is over.
    pub(super) fn over_at(&self, row: &Observation) -> bool {
        self.over_since(row.cookie, row.at.saturating_sub(SKEW))
    }

    /// What a socket that was just found has gone through already.
    pub(super) fn take(&mut self, cookie: Cookie) -> Vec<Change> {
        match self.fates.remove(&cookie) {
            Some(Fate::Changed(changes)) => changes,
            _ => Vec::new(),
        }
    }

    pub(super) fn forget(&mut self, cookie: Cookie) {
        self.fates.remove(&cookie);
    }

    /// The snapshot has been merged.
    pub(super) fn clear(&mut self) {
        self.fates.clear();
        self.fates.shrink_to(KEEP);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.fates.len()
    }
}
