//! One process's dealings with one server: when it opened, when it closed, what it has now.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{
    code::{Tallies, Tally},
    connection::Rest,
    identity::Who,
    troughs::Troughs,
};
use crate::{
    callsite::SiteId,
    event::{Cookie, Nanos, SECOND},
};

/// Moments kept per direction. A rule looks back at most over the sockets that are open now, and no process
/// can hold more than its descriptor limit; beyond that, counts are lower bounds.
const MOMENTS: usize = 4096;
/// Ended silences kept: some for each socket of a large pool.
const RESTS: usize = 512;
/// How long an empty group is remembered, so that a process which opens and closes keeps its history.
const REMEMBER: Nanos = 60 * SECOND;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Group {
    members: BTreeSet<Cookie>,
    opens: VecDeque<(Nanos, Who)>,
    /// The newest opening of each thread, while the thread has one among `opens`.
    by_thread: HashMap<u32, Nanos>,
    closes: VecDeque<Nanos>,
    opened: u64,
    closed: u64,
    /// See [`cleared`](Self::cleared).
    cleared: u64,
    silent: Troughs,
    open: Troughs,
    /// What its connections had sent in all, as snapshots found it.
    sent: VecDeque<(Nanos, u64)>,
    /// What those had sent that are closed.
    sent_by_closed: u64,
    /// The longest that one had been silent when it was closed.
    closed_after: Nanos,
    /// The longest that one had only been kept alive when it was used again.
    woken_after: Nanos,
    rests: VecDeque<Rest>,
    tallies: Tallies,
}

impl Group {
    /// Connections that are open now.
    #[must_use]
    pub fn members(&self) -> &BTreeSet<Cookie> {
        &self.members
    }

    /// Connections opened in view.
    #[must_use]
    pub fn opened_total(&self) -> u64 {
        self.opened
    }

    /// Connections closed in view.
    #[must_use]
    pub fn closed_total(&self) -> u64 {
        self.closed
    }

    /// The longest that a connection had been silent when it was closed, as far as snapshots tell.
    #[must_use]
    pub fn closed_after(&self) -> Nanos {
        self.closed_after
    }

    /// How many connections were opened after this moment.
    #[must_use]
    pub fn opens_after(&self, at: Nanos) -> u64 {
        (self.opens.len() - self.first_after(at)) as u64
    }

    /// The same for one moment after another: cheap as long as they rise.
    pub fn opens_after_each(&self) -> impl FnMut(Nanos) -> u64 {
        let mut first = 0;
        move |at| {
            if first > 0 && self.opens.get(first - 1).is_none_or(|before| before.0 > at) {
                first = self.first_after(at);
            }
            while self.opens.get(first).is_some_and(|open| open.0 <= at) {
                first += 1;
            }
            (self.opens.len() - first) as u64
        }
    }

    /// The newest openings in order, and for whom each was.
    pub fn opens(&self) -> impl Iterator<Item = (Nanos, Who)> {
        self.opens.iter().copied()
    }

    fn first_after(&self, at: Nanos) -> usize {
        self.opens.partition_point(|&(moment, _)| moment <= at)
    }

    /// How many connections were closed after this moment.
    #[must_use]
    pub fn closes_after(&self, at: Nanos) -> u64 {
        after(&self.closes, at)
    }

    /// The fewest connections that were open at once from one moment until before another, as a difference
    /// to what is open now.
    #[must_use]
    pub fn trough(&self, from: Nanos, until: Nanos) -> i64 {
        let open = |at| self.closes_after(at).cast_signed() - self.opens_after(at).cast_signed();
        let first = self.closes.partition_point(|&at| at <= from);
        let closes = self.closes.iter().skip(first).copied();
        closes
            .take_while(|&at| at < until)
            .chain([from])
            .map(open)
            .min()
            .unwrap_or(0)
    }

    /// The fewest connections that were silent at once, as snapshots found them from one moment until before
    /// another; `None` when none was taken since.
    #[must_use]
    pub fn silent_trough(&self, from: Nanos, until: Nanos) -> Option<u64> {
        self.silent.least(from, until)
    }

    /// How many connections were open, as snapshots found them: troughs, oldest first.
    #[must_use]
    pub fn open_points(&self) -> Vec<(Nanos, u64)> {
        self.open.points()
    }

    /// When this thread last opened a connection.
    #[must_use]
    pub fn opened_last_by(&self, tid: u32) -> Option<Nanos> {
        self.by_thread.get(&tid).copied()
    }

    /// The newest silences that have ended.
    #[must_use]
    pub fn rests(&self) -> &VecDeque<Rest> {
        &self.rests
    }

    /// How many connections each site opened in view, and how many of those were closed since. At most 64
    /// sites are told apart, so the sum may be less than [`opened_total`](Self::opened_total), as it is where a
    /// stack could not be read.
    #[must_use]
    pub fn tallies(&self) -> &BTreeMap<SiteId, Tally> {
        self.tallies.all()
    }

    pub(super) fn tallies_mut(&mut self) -> &mut Tallies {
        &mut self.tallies
    }

    /// The longest that a connection had been [kept alive](super::KeptAlive) when it was used again, as far as snapshots tell.
    #[must_use]
    pub fn woken_after(&self) -> Nanos {
        self.woken_after
    }

    /// A silence has ended, or a time in which a connection was only kept alive.
    pub(super) fn rested(&mut self, rest: Option<Rest>, woken: Option<Nanos>) {
        self.woken_after = self.woken_after.max(woken.unwrap_or(0));
        let Some(rest) = rest else {
            return;
        };
        if self.rests.len() >= RESTS {
            self.rests.pop_front();
        }
        self.rests.push_back(rest);
    }

    pub(super) fn sent_now(&mut self, at: Nanos, sends: u64) {
        push(&mut self.sent, (at, self.sent_by_closed + sends));
    }

    pub(super) fn sent_by_closed(&mut self, sends: u32) {
        self.sent_by_closed += u64::from(sends);
    }

    /// How often was sent from one moment until another, as snapshots found it.
    #[must_use]
    pub fn sends(&self, from: Nanos, until: Nanos) -> u64 {
        let by = |moment| {
            let next = self.sent.partition_point(|&(at, _)| at < moment);
            let point = self.sent.get(next).or(self.sent.back());
            point.map_or(0, |&(_, sends)| sends)
        };
        by(until).saturating_sub(by(from))
    }

    pub(super) fn count_now(&mut self, at: Nanos, silent: u64, open: u64) {
        self.silent.push(at, silent);
        self.open.push(at, open);
    }

    /// A thread called connect.
    pub(super) fn opened_by(&mut self, tid: u32, at: Nanos) {
        if self.by_thread.len() >= MOMENTS {
            let oldest = self.opens.front().map_or(at, |&(oldest, _)| oldest);
            self.by_thread.retain(|_, last| *last >= oldest);
        }
        let last = self.by_thread.entry(tid).or_default();
        *last = at.max(*last);
    }

    pub(super) fn add(&mut self, cookie: Cookie) {
        self.members.insert(cookie);
    }

    pub(super) fn remove(&mut self, cookie: Cookie) {
        self.members.remove(&cookie);
    }

    pub(super) fn opened(&mut self, at: Nanos, who: Who) {
        self.opened += 1;
        push(&mut self.opens, (at, who));
    }

    /// It has become known for whom the connection is that was opened then.
    pub(super) fn identified(&mut self, at: Nanos, before: Who, who: Who) {
        let first = self.opens.partition_point(|&(moment, _)| moment < at);
        let mut then = self.opens.iter_mut().skip(first);
        if let Some(open) = then
            .by_ref()
            .take_while(|open| open.0 == at)
            .find(|open| open.1 == before)
        {
            open.1 = who;
        }
    }

    /// Another group takes over a connection, and with it the moment at which it was opened.
    pub(super) fn handed_over(&mut self, at: Nanos) {
        self.opened = self.opened.saturating_sub(1);
        // Not there when it was too long ago to be kept.
        if let Ok(place) = self.opens.binary_search_by_key(&at, |&(moment, _)| moment) {
            self.opens.remove(place);
        }
    }

    /// Connections that the process closed a while after their server had: it notices, if late.
    #[must_use]
    pub fn cleared(&self) -> u64 {
        self.cleared
    }

    pub(super) fn cleared_one(&mut self) {
        self.cleared += 1;
    }

    pub(super) fn closed(&mut self, at: Nanos, last_use: Option<Nanos>) {
        self.closed += 1;
        let rested = last_use.map_or(0, |last| at.saturating_sub(last));
        self.closed_after = self.closed_after.max(rested);
        push(&mut self.closes, at);
    }

    pub(super) fn forgettable(&self, now: Nanos) -> bool {
        let opened = self.opens.back().map(|&(at, _)| at);
        let last = opened.max(self.closes.back().copied()).unwrap_or(0);
        self.members.is_empty() && now.saturating_sub(last) > REMEMBER
    }
}

/// Keeps the moments in order: events of several CPUs arrive nearly so.
fn push<T: PartialOrd>(moments: &mut VecDeque<T>, at: T) {
    let place = moments
        .iter()
        .rposition(|moment| *moment <= at)
        .map_or(0, |last| last + 1);
    moments.insert(place, at);
    if moments.len() > MOMENTS {
        moments.pop_front();
    }
}

fn after(moments: &VecDeque<Nanos>, at: Nanos) -> u64 {
    (moments.len() - moments.partition_point(|&moment| moment <= at)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_out_of_order_are_counted_in_order() {
        let mut group = Group::default();
        for at in [5, 3, 9, 4] {
            group.opened(at, Who::default());
        }
        assert_eq!(group.opens_after(0), 4);
        assert_eq!(group.opens_after(4), 2);
        assert_eq!(group.opens_after(9), 0);
        let mut opens_after = group.opens_after_each();
        for at in [0, 3, 4, 4, 9, 10, 5, 2] {
            assert_eq!(opens_after(at), group.opens_after(at), "{at}");
        }
    }

    #[test]
    fn the_trough_is_the_fewest_open_at_once() {
        let mut group = Group::default();
        for at in [10, 20, 30, 50] {
            group.opened(at, Who::default());
        }
        group.closed(40, None);
        // Open: 1 from 10, 2 from 20, 3 from 30, 2 from 40, 3 from 50 and now.
        assert_eq!(group.trough(10, 20), -2);
        assert_eq!(group.trough(20, 30), -1);
        assert_eq!(group.trough(30, 40), 0);
        assert_eq!(group.trough(30, 50), -1);
        assert_eq!(group.trough(50, Nanos::MAX), 0);
    }

    #[test]
    fn the_memory_of_a_group_is_bounded() {
        let mut group = Group::default();
        for at in 0..3 * MOMENTS as u64 {
            group.opened(at, Who::default());
            group.closed(at, None);
        }
        assert_eq!(group.opens.len(), MOMENTS);
        assert_eq!(group.opened_total(), 3 * MOMENTS as u64);
    }
}
