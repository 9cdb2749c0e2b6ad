//! What happens to sockets that the books do not have yet.
//!
//! Probes are attached before the first snapshot is taken, so the first events are about sockets that no row
//! has told of. They are kept until the snapshot under way has been merged: a row that was read before a
//! change gets that change after all, and a row that was read before the socket's end is not taken.
//!
//! Not longer: a walk that begins later sees what the events have done. So the size of this is bounded by
//! what the host does between two snapshots, and of a socket that has ended only the time is kept.

use super::{
    by_cookie::ByCookie,
    connection::{SKEW, ends},
};
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
    fates: ByCookie<Fate>,
}

impl Early {
    pub(super) fn note(&mut self, change: &Change) {
        let newest = match self.fates.get(&change.cookie) {
            Some(Fate::Ended(at)) => Some(*at),
            Some(Fate::Changed(changes)) => changes.last().map(|last| last.at),
            None => None,
        };
        if newest.is_some_and(|newest| change.at <= newest) {
            return;
        }
        if ends(change) {
            self.ended(change.cookie, change.at);
            return;
        }
        match self.fates.get_mut(&change.cookie) {
            Some(Fate::Changed(changes)) if changes.len() < CHANGES => changes.push(change.clone()),
            Some(Fate::Changed(_)) => {}
            // After its end it has connected anew.
            Some(Fate::Ended(_)) | None => {
                self.fates
                    .insert(change.cookie, Fate::Changed(vec![change.clone()]));
            }
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
