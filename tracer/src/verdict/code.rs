//! Which code a finding's sockets come from: by who opened them, and by who used them last.

use std::collections::BTreeMap;

use super::finding::Evidence;
use crate::{
    callsite::SiteId,
    ledger::{Group, Tally},
};

/// Sites listed of a finding, per role. More are a stack that never looks the same twice.
const SITES: usize = 64;

/// Sockets that have a site in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which.
    pub site: SiteId,
    /// How many of the finding's sockets.
    pub sockets: usize,
    /// How many of those were used since by code that was not seen.
    pub stale: usize,
    /// What the site opened and closed in all since attach.
    pub tally: Tally,
}

/// See the module's head. Each list has the largest share first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// By the site that opened them.
    pub opened: Vec<Share>,
    /// By the site that used them last.
    pub used: Vec<Share>,
    /// For sockets from before attach, whose opening nobody saw: where the same process has opened connections
    /// to the same server since. Not the sockets' own sites.
    pub opens_now: Vec<Share>,
}

impl Code {
    pub(super) fn of(sockets: &[Evidence], group: &Group) -> Self {
        let connections = || sockets.iter().map(|socket| &socket.connection);
        let opened = connections().filter_map(|connection| Some((connection.opened_by()?.site, false)));
        let used = connections()
            .filter_map(|connection| Some((connection.used_by()?.site, connection.used_unseen())));
        let before_attach = connections().any(|connection| connection.opened_at().is_none());
        let opens_now = group.tallies().iter().filter(|_| before_attach);
        Self {
            opened: shares(opened, group),
            used: shares(used, group),
            opens_now: largest(
                opens_now
                    .map(|(&site, &tally)| Share {
                        site,
                        sockets: 0,
                        stale: 0,
                        tally,
                    })
                    .collect(),
            ),
        }
    }
}

fn shares(sites: impl Iterator<Item = (SiteId, bool)>, group: &Group) -> Vec<Share> {
    let mut counts: BTreeMap<SiteId, (usize, usize)> = BTreeMap::new();
    for (site, stale) in sites {
        let count = counts.entry(site).or_default();
        count.0 += 1;
        count.1 += usize::from(stale);
    }
    largest(
        counts
            .into_iter()
            .map(|(site, (sockets, stale))| Share {
                site,
                sockets,
                stale,
                tally: group.tallies().get(&site).copied().unwrap_or_default(),
            })
            .collect(),
    )
}

fn largest(mut shares: Vec<Share>) -> Vec<Share> {
    shares.sort_by_key(|share| std::cmp::Reverse((share.sockets, share.tally.opened, share.site)));
    shares.truncate(SITES);
    shares
}
