//! Which code opened, closed and used a process's connections to a server.
//!
//! A stack is read beside the event that it belongs to, on a thread of its own, so it comes at any time: before
//! the books have heard of its socket, or when the socket is gone already. What comes early waits in [`Waiting`];
//! what comes late still counts for its site, since a site that closes at once would otherwise look like one
//! that seldom closes.

use std::collections::BTreeMap;

use super::{GroupKey, by_cookie::ByCookie};
use crate::{
    callsite::{Role, SiteId},
    event::{Cookie, Nanos, Stack},
};

/// Sites of one group that are told apart. A program has few places that open connections; one that has more
/// is a stack that never looks the same twice.
const SITES: usize = 64;
/// Sockets that are waited for, or remembered after their end, at once. Beyond it stacks are dropped, and the
/// site of a connection is unknown.
const SOCKETS: usize = 16_384;

/// A moment at which a thread of a process did something with a connection, and in which code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// When.
    pub at: Nanos,
    /// Which code.
    pub site: SiteId,
}

impl Use {
    /// Nothing was seen. In a connection this stands for `None`, which would take eight bytes more.
    pub(super) const UNSEEN: Self = Self {
        at: 0,
        site: SiteId::UNKNOWN,
    };

    /// `None` for what was not seen.
    pub(super) fn seen(self) -> Option<Self> {
        (self.site != SiteId::UNKNOWN).then_some(self)
    }
}

impl From<&Stack> for Use {
    fn from(stack: &Stack) -> Self {
        Self {
            at: stack.at,
            site: stack.site,
        }
    }
}

/// What one site has done in view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections that it opened.
    pub opened: u64,
    /// Those of them that were closed since, by whatever code.
    pub closed: u64,
}

/// Tallies of a group's sites.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    by_site: BTreeMap<SiteId, Tally>,
}

impl Tallies {
    pub(super) fn all(&self) -> &BTreeMap<SiteId, Tally> {
        &self.by_site
    }

    /// A connection was opened here.
    pub(super) fn opened(&mut self, site: SiteId) {
        if let Some(tally) = self.of(site) {
            tally.opened += 1;
        }
    }

    /// One of those has been closed.
    pub(super) fn closed(&mut self, site: SiteId) {
        if let Some(tally) = self.of(site) {
            tally.closed += 1;
        }
    }

    /// It is another group's now, or another site's.
    pub(super) fn withdrawn(&mut self, site: SiteId) {
        if let Some(tally) = self.by_site.get_mut(&site) {
            tally.opened = tally.opened.saturating_sub(1);
            if *tally == Tally::default() {
                self.by_site.remove(&site);
            }
        }
    }

    fn of(&mut self, site: SiteId) -> Option<&mut Tally> {
        let known = self.by_site.contains_key(&site) || self.by_site.len() < SITES;
        known.then(|| self.by_site.entry(site).or_default())
    }
}

/// Stacks of sockets that are not in the books yet, and sockets that are not any more and whose stack may be on
/// its way.
///
/// A stack is kept until a walk has been merged that began after it was taken: what that walk did not find, and
/// no event has told of, is no connection of ours. A socket that has ended is kept for as long as two merges:
/// stacks are read within milliseconds.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    early: ByCookie<(Option<Use>, Option<Use>)>,
    departed: ByCookie<(GroupKey, Nanos)>,
    departed_before: ByCookie<(GroupKey, Nanos)>,
}

impl Waiting {
    /// A stack of a socket that the books do not have. Returns the group for which it counts, if the socket was
    /// there and is gone.
    pub(super) fn note(&mut self, stack: &Stack) -> Option<GroupKey> {
        if let Some((key, ended)) = self.gone(stack.cookie)
            && stack.at <= ended
        {
            return (stack.role == Role::Opened).then(|| {
                self.departed.remove(&stack.cookie);
                self.departed_before.remove(&stack.cookie);
                key
            });
        }
        if self.early.len() >= SOCKETS && !self.early.contains_key(&stack.cookie) {
            return None;
        }
        let (opening, last_use) = self.early.entry(stack.cookie).or_default();
        let newest = match stack.role {
            Role::Opened => opening,
            Role::Used => last_use,
        };
        if newest.is_none_or(|known| known.at <= stack.at) {
            *newest = Some(Use::from(stack));
        }
        None
    }

    fn gone(&self, cookie: Cookie) -> Option<(GroupKey, Nanos)> {
        self.departed
            .get(&cookie)
            .or_else(|| self.departed_before.get(&cookie))
            .cloned()
    }

    /// A connection is in the books now: what is known of its code.
    pub(super) fn take(&mut self, cookie: Cookie) -> (Option<Use>, Option<Use>) {
        self.early.remove(&cookie).unwrap_or_default()
    }

    /// A counted connection has ended, and nobody knows yet who opened it.
    pub(super) fn departed(&mut self, cookie: Cookie, key: GroupKey, at: Nanos) {
        if self.departed.len() < SOCKETS {
            self.departed.insert(cookie, (key, at));
        }
    }

    /// A walk that began then has been merged.
    pub(super) fn merged(&mut self, began: Nanos) {
        let recent = |known: &Option<Use>| known.is_some_and(|known| known.at >= began);
        self.early
            .retain(|_, (opening, last_use)| recent(opening) || recent(last_use));
        self.departed_before = std::mem::take(&mut self.departed);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.early.len() + self.departed.len() + self.departed_before.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::ProcessId;

    #[test]
    fn a_group_tells_a_bounded_number_of_sites_apart() {
        let mut tallies = Tallies::default();
        for site in 0..10 * SITES as u64 {
            tallies.opened(SiteId(site));
            tallies.closed(SiteId(site));
        }
        assert_eq!(tallies.all().len(), SITES);
    }

    #[test]
    fn what_is_waited_for_is_bounded() {
        let mut waiting = Waiting::default();
        let process = ProcessId {
            pid: 1,
            start_ticks: 1,
        };
        for cookie in 0..2 * SOCKETS as u64 {
            waiting.note(&Stack {
                at: 5,
                cookie: Cookie(cookie),
                role: Role::Used,
                process,
                site: SiteId(1),
            });
        }
        assert_eq!(waiting.len(), SOCKETS);
        waiting.merged(5);
        assert_eq!(waiting.len(), SOCKETS, "the walk may have passed before");
        waiting.merged(6);
        assert_eq!(waiting.len(), 0);
    }
}
