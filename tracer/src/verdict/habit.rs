//! Whether the sockets of a leak are a habit that goes on, or came up as the application started.

use std::collections::BTreeSet;

use super::{Policy, Rules, view::View};
use crate::{
    event::{Cookie, Nanos},
    ledger::{Connection, Who},
};

/// How far a habit has come: the chain of all that have been left alone, be they idle yet or not.
pub(super) struct Growth {
    /// The longest time over which they came up, never more than `--idle` apart.
    pub steady: Nanos,
    /// Over how long they came up at all.
    pub span: Nanos,
    /// When each was opened.
    pub opened: Vec<Nanos>,
    /// How many of them were opened when the first had been silent for `--idle` already.
    ignored: usize,
    /// How many of them rested and were used again before they fell silent: somebody lends them out.
    lent: usize,
    /// For how long all of them have been silent.
    silent: Nanos,
}

impl Growth {
    /// As it is now, of those of one identity or of all.
    pub fn of(view: &View, policy: &Policy, began: Nanos, who: Option<Who>) -> Self {
        let grace = policy.rules.grace;
        let left_alone: Vec<&Connection> = view
            .silent_for(grace)
            .filter(|connection| who.is_none_or(|who| connection.who() == who))
            .filter(|connection| {
                connection.opened_at() >= Some(began) && connection.never_sent() != Some(true)
            })
            .collect();
        let links = chain(&left_alone, grace);
        let opened: Vec<Nanos> = links.iter().filter_map(|link| link.opened_at()).collect();
        let idle = links
            .first()
            .and_then(|first| first.last_use())
            .map(|last| last.saturating_add(policy.idle));
        let mut all: Vec<Nanos> = left_alone
            .iter()
            .filter_map(|connection| connection.opened_at())
            .collect();
        all.sort_unstable();
        let rests = view.group.rests().iter().filter(|rest| rest.length() >= grace);
        let lent: BTreeSet<Cookie> = rests.map(|rest| rest.cookie).collect();
        // One gap does not undo what came before or after it.
        let steady = all
            .chunk_by(|before, next| next - before <= policy.idle)
            .filter_map(|run| Some(run.last()?.saturating_sub(*run.first()?)))
            .max();
        Self {
            steady: steady.unwrap_or(0),
            span: opened.last().map_or(0, |newest| newest.saturating_sub(began)),
            ignored: opened.iter().filter(|&&at| Some(at) > idle).count(),
            lent: links.iter().filter(|link| lent.contains(&link.cookie)).count(),
            silent: links
                .iter()
                .filter_map(|link| view.silent(link))
                .min()
                .unwrap_or(0),
            opened,
        }
    }

    /// Whether they go on coming up, or are too many for a pool that is filled.
    pub fn is_habit(
        &self,
        policy: &Policy,
        candidates: &[&Connection],
        links: &[&Connection],
        closed: u64,
    ) -> bool {
        let rules = &policy.rules;
        // One that is closed may have been replaced by one of these.
        let enough = rules.links + usize::from(closed > 0);
        let long = self.steady >= policy.idle.saturating_mul(rules.growth) / 100;
        // What was lent out and given back before is of a pool, and that opens no other while this one rests: not when it is
        // filled, either. (Looks are seldom: three that were seen at rest stand for the others.) Sessions of people do, but
        // those come back.
        let drained = self.lent >= rules.links && self.silent >= policy.idle.saturating_mul(rules.sure);
        let in_episodes = episodes(links, policy.idle) >= enough && alike(candidates, links, rules);
        separate(candidates, rules.grace) >= rules.many
            || self.ignored >= rules.links
                && (in_episodes || (long || drained) && self.opened.len() >= rules.separate)
    }
}

/// The longest run of sockets, opened in view, of which each began after the one before was last used.
pub(super) fn chain<'a>(sockets: &[&'a Connection], grace: Nanos) -> Vec<&'a Connection> {
    chain_by(sockets, grace, Connection::last_use)
}

/// The same with another end than the last use.
pub(super) fn chain_by<'a>(
    sockets: &[&'a Connection],
    grace: Nanos,
    end: impl Fn(&Connection) -> Option<Nanos>,
) -> Vec<&'a Connection> {
    let mut seen: Vec<(Nanos, Nanos, &Connection)> = sockets
        .iter()
        .filter_map(|socket| Some((socket.opened_at()?, end(socket)?, *socket)))
        .collect();
    // Interval scheduling: taking the earliest end first gives the most disjoint intervals.
    seen.sort_by_key(|&(opened, last, socket)| (last, opened, socket.cookie));
    let mut free_from = 0;
    let mut links = Vec::new();
    for (opened, last, socket) in seen {
        if links.is_empty() || opened > free_from {
            links.push(socket);
            free_from = last.saturating_add(grace);
        }
    }
    links
}

/// How many times the process opened a link when the one before had been idle for `--idle`, and one.
fn episodes(links: &[&Connection], idle: Nanos) -> usize {
    let apart = |pair: &&[&Connection]| {
        pair[1].opened_at() > pair[0].last_use().map(|last| last.saturating_add(idle))
    };
    1 + links.windows(2).filter(apart).count()
}

/// Whether about as many came up with each of the newest links. A pool that fills up after some single connections is
/// no further episode of theirs.
fn alike(candidates: &[&Connection], links: &[&Connection], rules: &Rules) -> bool {
    let newest = &links[links.len().saturating_sub(rules.links)..];
    let from: Vec<Nanos> = newest.iter().filter_map(|link| link.opened_at()).collect();
    let sizes = from.iter().enumerate().map(|(place, &from_here)| {
        let until = from.get(place + 1).copied().unwrap_or(Nanos::MAX);
        let opened = candidates.iter().filter_map(|candidate| candidate.opened_at());
        opened.filter(|at| (from_here..until).contains(at)).count()
    });
    let (least, most) = sizes.fold((usize::MAX, 0), |(least, most), size| {
        (least.min(size), most.max(size))
    });
    most <= least.saturating_mul(2)
}

/// How many of these were opened a good while after the one before was used last.
pub(super) fn separate(sockets: &[&Connection], grace: Nanos) -> usize {
    let mut spans: Vec<(Nanos, Nanos)> = sockets
        .iter()
        .filter_map(|socket| Some((socket.opened_at()?, socket.last_use()?)))
        .collect();
    spans.sort_unstable();
    let apart = |pair: &&[(Nanos, Nanos)]| pair[1].0 > pair[0].1.saturating_add(grace);
    1 + spans.windows(2).filter(apart).count()
}

/// Whether it is known which code opened each, and no two were opened by the same.
pub(super) fn other_code(links: &[&Connection]) -> bool {
    let sites: BTreeSet<_> = links
        .iter()
        .filter_map(|link| link.opened_by().map(|opening| opening.site))
        .collect();
    sites.len() == links.len()
}

/// Whether the fewest connections that were open at once rose from each of the newest links to the next.
///
/// From the middle of the time between two links on: a pool that fills up has done so by then.
pub(super) fn rises(view: &View, links: &[&Connection], rules: &Rules) -> bool {
    let Some(newest) = links.len().checked_sub(rules.links) else {
        return false;
    };
    let mut moments: Vec<Nanos> = links[newest..]
        .iter()
        .filter_map(|link| link.opened_at())
        .collect();
    moments.push(view.now);
    let troughs: Vec<i64> = moments
        .windows(2)
        .map(|pair| view.group.trough(pair[0].midpoint(pair[1]), pair[1]))
        .collect();
    troughs.windows(2).all(|pair| pair[0] < pair[1])
}
