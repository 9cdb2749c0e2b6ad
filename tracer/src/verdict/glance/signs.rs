//! What there is to be seen beside sockets that look left alone: whether it goes on, and what would be a pool's.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    super::{Policy, Rules, view::View},
    order::Pattern,
};
use crate::{
    event::{Cookie, Nanos, State},
    ledger::{Connection, Rest, Who},
};

/// What there is to be seen beside the pattern itself.
#[derive(Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a sign of its own, and none follows from another"
)]
pub struct Signs {
    /// Since when they are looked at.
    pub looked: Nanos,
    /// Over how long they fell silent.
    pub spread: Nanos,
    /// At how many moments.
    pub distinct: u64,
    /// Each of these is that of a generation.
    pub in_generations: bool,
    /// Time between two of these.
    pub pace: Nanos,
    /// Opened since, and left alone.
    pub added: usize,
    /// Each of those is for another user, database or application.
    pub all_differ: bool,
    /// All others are newer.
    pub alone: bool,
    /// Others that were open already are used.
    pub used_again: bool,
    /// The longest that one of those had rested when it was used again, passed over by newer ones.
    pub came_back: Option<Nanos>,
    /// How many have been silent for several times as long as that, and as `--idle`.
    pub outlast: usize,
    /// The newest fell silent as lately as is to be expected.
    pub recent: bool,
    /// They have sent as little as what is used once.
    pub used_once: bool,
    /// They have sent more or less often: what is used once by the same code has not.
    pub differ: bool,
    /// The later they fell silent, the more they have carried: they were opened together, and who was done first has
    /// rested since. Their order is that of their work then, and not that of their opening.
    pub outlasted: bool,
    /// Others were closed after as long a silence.
    pub next_in_line: bool,
    /// How many may wait for an answer.
    pub waiting: usize,
}

impl Signs {
    /// Of this pattern; `None` when it is not known how long they have been silent.
    pub fn of(view: &View, policy: &Policy, attached_at: Nanos, pattern: &Pattern) -> Option<Self> {
        let rules = &policy.rules;
        let sockets = pattern.sockets.as_slice();
        let &Pattern {
            silent,
            spread,
            distinct,
            in_generations,
            ..
        } = pattern;
        let number = |socket: &Connection| pattern.number.of(socket);
        let pace = spread / (distinct - 1).max(1);
        let since_last = view.silent(sockets.last()?)?;
        let longest = view.silent(sockets.first()?)?;
        // At their own pace: requests come as they like, but six times the mean distance without one is rare. What is
        // opened later is something else.
        let in_time = pace
            .saturating_mul(2 * rules.links as u64)
            .saturating_add(rules.compare);
        let until = view.now.saturating_sub(since_last).saturating_add(in_time);
        let (added, all_differ) = added(view, attached_at..until, policy);
        // Used again: not by one that is newer than all of these, nor by one that has carried many times as much. Those
        // are at work, and have never been among these.
        let others: Vec<&Connection> = view
            .connections
            .iter()
            .copied()
            .filter(|connection| connection.opened_at().is_none() && connection.state == State::Established)
            .filter(|connection| connection.last_activity().is_some_and(|at| at >= attached_at))
            .collect();
        let newest = sockets.iter().filter_map(|socket| number(socket)).max();
        let most = sockets
            .iter()
            .filter_map(|socket| socket.traffic().bytes_sent)
            .max();
        let little = most.map(|most| most.saturating_mul(rules.at_work));
        let among = |other: &&Connection| {
            number(other) < newest && (little.is_none() || other.traffic().bytes_sent <= little)
        };
        let suspicious: BTreeMap<Cookie, &Connection> = others
            .iter()
            .filter(|other| among(other))
            .map(|other| (other.cookie, *other))
            .collect();
        // The one in use at the moment has never been left alone.
        let passed_over = |rest: &&Rest| {
            suspicious.get(&rest.cookie).is_some_and(|other| {
                let since = Some(rest.from.saturating_add(rules.grace));
                let later = sockets.partition_point(|socket| socket.last_activity() <= since);
                let mut later = sockets[later..].iter();
                later.any(|socket| number(socket) > number(other))
            })
        };
        let rests = view.group.rests().iter().filter(passed_over);
        let came_back = rests.map(Rest::length).max();
        // People pause for long, too, and what they left is swept away at last: it has to be as long as makes a leak certain.
        let long = policy.idle.saturating_mul(rules.sure);
        let long = long.max(came_back.unwrap_or(0).saturating_mul(rules.rests));
        // One that is newer is the next of them.
        let alone = silent == sockets.len() && others.iter().all(|other| number(other) > newest);
        let sends = |of: &[&Connection]| {
            let mut sends: Vec<u32> = of.iter().filter_map(|socket| socket.traffic().sends).collect();
            sends.sort_unstable();
            sends
        };
        // The newest may have been at work.
        let older = sends(&sockets[..sockets.len() - 1]);
        let sends = sends(sockets);
        let median = sends.get(sends.len() / 2);
        Some(Self {
            looked: view.now.saturating_sub(attached_at),
            spread,
            distinct,
            in_generations,
            pace,
            added,
            all_differ,
            alone,
            used_again: !suspicious.is_empty(),
            came_back,
            outlast: sockets
                .iter()
                .filter(|socket| view.silent(socket) >= Some(long))
                .count(),
            // Beside others, at work or at rest, and for a look that cannot wait, it has to go on at its own pace.
            recent: if alone && !policy.single_look {
                since_last <= rules.recent.max(spread)
            } else {
                since_last <= pace.saturating_mul(2).saturating_add(rules.compare)
            },
            used_once: median.is_none_or(|&median| u64::from(median) <= rules.used_once),
            differ: match older.as_slice() {
                [least, .., most] => u64::from(*most) * 100 >= u64::from(*least) * rules.differ,
                _ => false,
            },
            outlasted: outlasted(sockets, rules),
            next_in_line: longest < view.group.closed_after().saturating_mul(rules.rests),
            waiting: sockets.iter().filter(|socket| socket.maybe_waiting()).count(),
        })
    }

    /// Nothing says that they are a pool's.
    pub fn are_clean(&self, policy: &Policy) -> bool {
        let used_once = self.used_once || self.are_abandoned(policy);
        used_once && !self.are_used(policy) && !self.next_in_line && !self.outlasted
    }

    /// Whether others like them are used. As long as more come up, that one is in use at the moment says nothing, and that
    /// some came back says nothing of those that have been silent for much longer: sessions of people pause, too.
    pub fn are_used(&self, policy: &Policy) -> bool {
        if self.added > 0 {
            self.came_back.is_some() && !self.are_enough(policy, self.outlast)
        } else {
            self.used_again
        }
    }

    /// Whether they are generations, and some of a further one, opened in view, have been left alone as well. Then it
    /// says nothing how much each has carried.
    pub fn are_abandoned(&self, policy: &Policy) -> bool {
        self.in_generations && self.added >= policy.rules.links
    }

    /// By when the next should have been opened, counted from attach.
    pub fn due(&self) -> Nanos {
        self.pace.saturating_mul(2)
    }

    /// Whether a single look has waited for the next one in vain.
    pub fn has_stopped(&self, policy: &Policy) -> bool {
        policy.single_look && self.added == 0 && self.looked >= self.due()
    }

    /// Whether so many, at that pace, are more than a pool that was filled, or workers that were started.
    pub fn are_enough(&self, policy: &Policy, count: usize) -> bool {
        let rules = &policy.rules;
        if self.added > 0 && self.spread >= rules.filled {
            // Nothing healthy opens another while these rest, except one of a kind: for a worker, or for a tenant. A watch
            // sees whether that goes on.
            let single = policy.single_look || self.all_differ || self.added == 1;
            return count >= if single { rules.dozen } else { rules.some };
        }
        if self.pace < rules.connect {
            return false;
        }
        let recent = self.recent && !self.has_stopped(policy);
        if count >= rules.many {
            // The server may be full: that nothing is added says nothing. Beside others it does: a minimum of idle
            // connections looks the same while load rises.
            return self.alone || recent;
        }
        // Fewer may be single connections, or workers', at rest since they were opened; but not if they have been
        // used more or less often each, as what is lent out.
        !policy.single_look && self.alone && recent && self.differ && count >= rules.some
    }
}

/// Whether of these, in the order in which they fell silent, each third has carried more than the one before, and the last
/// one clearly so.
fn outlasted(sockets: &[&Connection], rules: &Rules) -> bool {
    let median = |third: &[&Connection]| {
        let mut bytes: Vec<u64> = third
            .iter()
            .filter_map(|socket| socket.traffic().bytes_sent)
            .collect();
        bytes.sort_unstable();
        bytes.get(bytes.len() / 2).copied()
    };
    let mut thirds = sockets.chunks(sockets.len().div_ceil(3).max(1)).map(median);
    let (Some(Some(first)), Some(Some(second)), Some(Some(third))) =
        (thirds.next(), thirds.next(), thirds.next())
    else {
        return false;
    };
    first < second && second < third && third * 100 >= first.saturating_mul(rules.differ)
}

/// How many were opened since and left alone, as far as they are no listeners; and whether each is for somebody else.
///
/// The first of them has to come in time. Left alone: silent for longer than it has ever rested, and than others had
/// been when they were closed.
fn added(view: &View, first: Range<Nanos>, policy: &Policy) -> (usize, bool) {
    let rules = &policy.rules;
    let mut rested: BTreeMap<Cookie, Nanos> = BTreeMap::new();
    for rest in view.group.rests() {
        let longest = rested.entry(rest.cookie).or_default();
        *longest = (*longest).max(rest.length());
    }
    // A watch can wait.
    let least = if policy.single_look {
        rules.grace
    } else {
        policy.soon()
    };
    let left_alone = |connection: &&Connection| {
        let rest = rested.get(&connection.cookie).copied().unwrap_or(0);
        let usual = rest.max(view.group.closed_after()).saturating_mul(rules.rests);
        view.silent(connection) >= Some(usual.max(least))
    };
    let waits = |connection: &&Connection| connection.identity().is_some_and(|said| said.purpose.is_some());
    let added: Vec<&Connection> = view
        .silent_for(rules.grace)
        .filter(|connection| connection.opened_at() > Some(first.start))
        .filter(|connection| connection.never_sent() != Some(true) && !view.owned(connection))
        .filter(|connection| left_alone(connection) && !waits(connection))
        .collect();
    let opened = added.iter().filter_map(|connection| connection.opened_at()).min();
    if opened.is_none_or(|opened| opened >= first.end) {
        return (0, false);
    }
    let who = added.iter().map(|connection| connection.who());
    let known: BTreeSet<Who> = who.filter(|&who| who != Who::default()).collect();
    (added.len(), added.len() > 1 && known.len() == added.len())
}
