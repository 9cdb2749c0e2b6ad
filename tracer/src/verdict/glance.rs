//! Claims, from sockets that were opened before we looked: these look like a leak.
//!
//! Evidence: many sockets, each silent since a moment of its own (*staggered*), the moments in the order of
//! opening (descriptor or inode numbers), each having carried little. Opened one after another, used once,
//! never again. If all the silent ones show no such order, the most that have sent about as much are looked at by
//! themselves: what leaks has been used by the same code, and a pool beside it has carried more, or nothing.
//!
//! A pool looks different: silent since the same moment (a burst that ended), or in another order than they
//! were opened in, or with much traffic on each, or one of them is used again. That is no proof: single connections, or
//! workers', that came up one by one and rest look the same. So what counts is whether it goes on: another one is opened
//! while these rest, and left alone as well. Without that it takes more of them than a pool has, and slower than a pool
//! is filled.
//!
//! In a watch, sockets that have been used more or less often each, by a process that has opened nothing since
//! attach for `--idle`, are claimed as `unreturned`: connections that were lent out before and did not come
//! back the last time. A leak that has stopped and whose requests differ much looks the same.
//!
//! Blind: a dozen workers or tenants that come up one by one as we look; sixteen that have done so before, slowly. So
//! this rule never says more than `likely`.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{Confidence, Kind, Policy, Rules, finding::Claim, view::View};
use crate::{
    event::{Cookie, Nanos, State},
    ledger::{Connection, Who},
};

pub(super) fn claim<'a>(view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    let attached_at = view.ledger.attached_at()?;
    if !policy.single_look
        && view.now.saturating_sub(attached_at) < (policy.rules.patience / 2).min(policy.soon())
    {
        return None;
    }
    let (silent, sockets) = pattern(view, policy, attached_at)?;
    judge(view, policy, attached_at, silent, sockets)
}

/// How many are silent since before attach, and those of them that fell silent one by one in the order of opening.
fn pattern<'a>(view: &View<'a>, policy: &Policy, attached_at: Nanos) -> Option<(usize, Vec<&'a Connection>)> {
    let silent: Vec<&Connection> = view
        .silent_for(0)
        .filter(|connection| connection.opened_at().is_none())
        // Those have a verdict of their own.
        .filter(|connection| connection.never_sent() != Some(true))
        .filter(|connection| connection.last_activity().is_some_and(|at| at < attached_at))
        .collect();
    let in_order = |sockets| staggered(view, policy, attached_at, sockets);
    let sockets = in_order(silent.clone()).or_else(|| in_order(alike(silent.clone())))?;
    Some((silent.len(), sockets))
}

/// How many moments these fell silent at.
fn moments(sockets: &[&Connection], rules: &Rules) -> (Nanos, u64) {
    let all: Vec<Nanos> = sockets
        .iter()
        .filter_map(|socket| socket.last_activity())
        .collect();
    let spread = all.last().map_or(0, |last| last - all[0]);
    let apart = |pair: &&[Nanos]| pair[1] - pair[0] > rules.moment;
    (spread, 1 + all.windows(2).filter(apart).count() as u64)
}

/// Those of these that fell silent one by one, in the order in which they were opened; `None` when there is no order.
fn staggered<'a>(
    view: &View<'a>,
    policy: &Policy,
    attached_at: Nanos,
    sockets: Vec<&'a Connection>,
) -> Option<Vec<&'a Connection>> {
    let rules = &policy.rules;
    let sockets = in_order(sockets, rules);
    let (spread, distinct) = moments(&sockets, rules);
    if sockets.len() < rules.few || spread < rules.spread || distinct < rules.few as u64 {
        return None;
    }
    // Several at once is what a pool does, too. But no pool opens more while these rest.
    let bursts = distinct * 100 < (sockets.len() * rules.staggered) as u64;
    let passed_over = !policy.single_look && view.group.opens_after(attached_at) > 0;
    (!bursts || passed_over).then_some(sockets)
}

/// What is said of them.
fn judge<'a>(
    view: &View<'a>,
    policy: &Policy,
    attached_at: Nanos,
    silent: usize,
    sockets: Vec<&'a Connection>,
) -> Option<Claim<'a>> {
    let rules = &policy.rules;
    let count = sockets.len();
    let signs = Signs::of(view, policy, attached_at, silent, &sockets)?;
    let (distinct, waiting) = (signs.distinct, signs.waiting);
    let mut but = vec!["they were opened before connleak looked".to_owned()];
    if signs.are_used() {
        but.push("others of this process's connections are being used again, as a pool does".to_owned());
    }
    if !signs.used_once {
        but.push("each has carried much, as pooled connections do".to_owned());
    }
    if signs.outlasted {
        but.push(
            "those that fell silent later have carried more, as connections do that were opened together"
                .to_owned(),
        );
    }
    if signs.next_in_line {
        but.push("others were closed after they had been silent for about as long".to_owned());
    }
    if signs.has_stopped(policy) {
        but.push("none was added while connleak looked".to_owned());
    } else if !signs.recent && signs.added == 0 {
        but.push("none was added lately".to_owned());
    }
    if waiting > 0 {
        but.push(format!("{waiting} of them may wait for an answer"));
    }
    let enough = signs.are_enough(policy, count);
    if !enough {
        but.push("they are few, or came up as fast as a pool is filled".to_owned());
    }
    let kind = if policy.single_look || !signs.differ || view.group.opens_after(attached_at) > 0 {
        Kind::Leak
    } else if signs.looked >= policy.idle {
        but.push("whether anybody waits for them cannot be seen at the socket".to_owned());
        Kind::Unreturned
    } else {
        return None;
    };
    let patient = policy.single_look || signs.looked >= rules.patience.min(policy.soon().saturating_mul(2));
    if !patient {
        but.push("connleak has only just begun to look".to_owned());
    }
    let mut because = vec![format!(
        "silent since {distinct} different moments, in the order in which they were opened"
    )];
    if signs.added > 0 {
        because.push(format!(
            "{} more opened and left alone while connleak looked",
            signs.added
        ));
    }
    let likely = patient && enough && signs.are_clean() && waiting * 2 < count;
    Some(Claim {
        kind,
        confidence: if likely {
            Confidence::Likely
        } else {
            Confidence::Suspect
        },
        sockets,
        because,
        but,
    })
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

/// How long after attach a single look knows more about what it suspects: by then the next one should have been
/// opened, if they go on coming up. `None` when there is no such question.
pub(super) fn decided_after(view: &View, policy: &Policy) -> Option<Nanos> {
    let attached_at = view.ledger.attached_at()?;
    let (silent, sockets) = pattern(view, policy, attached_at)?;
    let signs = Signs::of(view, policy, attached_at, silent, &sockets)?;
    let next = Signs { added: 1, ..signs };
    let open = signs.added == 0 && !signs.has_stopped(policy);
    let count = sockets.len();
    let would_tell = !signs.are_enough(policy, count) && next.are_enough(policy, count) && next.are_clean();
    (open && would_tell).then(|| signs.due())
}

/// What there is to be seen beside the pattern itself.
#[derive(Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a sign of its own, and none follows from another"
)]
struct Signs {
    /// Since when they are looked at.
    looked: Nanos,
    /// Over how long they fell silent.
    spread: Nanos,
    /// At how many moments.
    distinct: u64,
    /// Time between two of these.
    pace: Nanos,
    /// Opened since, and left alone.
    added: usize,
    /// Each of those is for another user, database or application.
    all_differ: bool,
    /// All others are newer.
    alone: bool,
    /// Others that were open already are used.
    used_again: bool,
    /// Some of those had been passed over by newer ones.
    came_back: bool,
    /// The newest fell silent as lately as is to be expected.
    recent: bool,
    /// They have sent as little as what is used once.
    used_once: bool,
    /// They have sent more or less often: what is used once by the same code has not.
    differ: bool,
    /// The later they fell silent, the more they have carried: they were opened together, and who was done first has
    /// rested since. Their order is that of their work then, and not that of their opening.
    outlasted: bool,
    /// Others were closed after as long a silence.
    next_in_line: bool,
    /// How many may wait for an answer.
    waiting: usize,
}

impl Signs {
    fn of(
        view: &View,
        policy: &Policy,
        attached_at: Nanos,
        silent: usize,
        sockets: &[&Connection],
    ) -> Option<Self> {
        let rules = &policy.rules;
        let (spread, distinct) = moments(sockets, rules);
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
        let newest = sockets.iter().filter_map(|socket| socket.inode()).max();
        let most = sockets
            .iter()
            .filter_map(|socket| socket.traffic().bytes_sent)
            .max();
        let little = most.map(|most| most.saturating_mul(rules.at_work));
        let among = |other: &&Connection| {
            other.inode() < newest && (little.is_none() || other.traffic().bytes_sent <= little)
        };
        // The one in use at the moment has never been left alone.
        let passed_over = |other: &&Connection| {
            let rests = view.group.rests().iter();
            let from = rests
                .filter(|rest| rest.cookie == other.cookie)
                .map(|rest| rest.from)
                .min();
            from.is_some_and(|from| {
                let later =
                    |socket: &&&Connection| socket.last_activity() > Some(from.saturating_add(rules.grace));
                sockets
                    .iter()
                    .filter(later)
                    .any(|socket| socket.inode() > other.inode())
            })
        };
        let suspicious: Vec<_> = others.iter().filter(|other| among(other)).collect();
        // One that is newer is the next of them.
        let alone = silent == sockets.len() && others.iter().all(|other| other.inode() > newest);
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
            pace,
            added,
            all_differ,
            alone,
            used_again: !suspicious.is_empty(),
            came_back: suspicious.iter().any(|other| passed_over(other)),
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
    fn are_clean(&self) -> bool {
        self.used_once && !self.are_used() && !self.next_in_line && !self.outlasted
    }

    /// Whether others like them are used. As long as more come up, that one is in use at the moment says nothing.
    fn are_used(&self) -> bool {
        if self.added > 0 {
            self.came_back
        } else {
            self.used_again
        }
    }

    /// By when the next should have been opened, counted from attach.
    fn due(&self) -> Nanos {
        self.pace.saturating_mul(2)
    }

    /// Whether a single look has waited for the next one in vain.
    fn has_stopped(&self, policy: &Policy) -> bool {
        policy.single_look && self.added == 0 && self.looked >= self.due()
    }

    /// Whether so many, at that pace, are more than a pool that was filled, or workers that were started.
    fn are_enough(&self, policy: &Policy, count: usize) -> bool {
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

/// How many were opened since and left alone, as far as they are no listeners; and whether each is for somebody else.
///
/// The first of them has to come in time. Left alone: silent for longer than it has ever rested, and than others had
/// been when they were closed.
fn added(view: &View, first: Range<Nanos>, policy: &Policy) -> (usize, bool) {
    let rules = &policy.rules;
    let mut rested: BTreeMap<Cookie, Nanos> = BTreeMap::new();
    for rest in view.group.rests() {
        let longest = rested.entry(rest.cookie).or_default();
        *longest = (*longest).max(rest.seen.saturating_sub(rest.from));
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

/// The most that have sent about as much as each other: what is used once by the same code has. All, where that is
/// not known.
fn alike(mut sockets: Vec<&Connection>) -> Vec<&Connection> {
    if sockets.iter().any(|socket| socket.traffic().bytes_sent.is_none()) {
        return sockets;
    }
    sockets.sort_by_key(|socket| (socket.traffic().bytes_sent, socket.cookie));
    let mut most = 0..0;
    let mut first = 0;
    for last in 0..sockets.len() {
        while !is_alike(sockets[first], sockets[last]) {
            first += 1;
        }
        if last + 1 - first > most.len() {
            most = first..last + 1;
        }
    }
    sockets[most].to_vec()
}

/// Whether neither has sent more than half as much again as the other.
fn is_alike(one: &Connection, other: &Connection) -> bool {
    let (Some(one), Some(other)) = (one.traffic().bytes_sent, other.traffic().bytes_sent) else {
        return true;
    };
    one.max(other).saturating_mul(2) <= one.min(other).saturating_mul(3)
}

/// Those that were used last in the order in which they were opened, by descriptor or by inode number; none when
/// too few of them were.
fn in_order<'a>(sockets: Vec<&'a Connection>, rules: &Rules) -> Vec<&'a Connection> {
    let Some(gaps) = sockets.len().checked_sub(1) else {
        return sockets;
    };
    let by_descriptor = rising(sockets.clone(), rules, |socket| {
        Some(u64::from(socket.holders.first()?.fd))
    });
    let by_inode = rising(sockets, rules, Connection::inode);
    let most = if by_inode.len() > by_descriptor.len() {
        by_inode
    } else {
        by_descriptor
    };
    let others = gaps + 1 - most.len();
    if others * 100 <= gaps * (100 - rules.ordered.min(100)) {
        most
    } else {
        Vec::new()
    }
}

/// The longest run of numbers that rise over time. Sockets that fell silent together may be in any order.
fn rising<'a>(
    mut sockets: Vec<&'a Connection>,
    rules: &Rules,
    number: impl Fn(&Connection) -> Option<u64>,
) -> Vec<&'a Connection> {
    sockets.sort_by_key(|socket| (socket.last_activity(), socket.cookie));
    let mut timed: Vec<(Nanos, u64, &Connection)> = Vec::new();
    for socket in sockets {
        let (Some(at), Some(number)) = (socket.last_activity(), number(socket)) else {
            continue;
        };
        let near = timed
            .last()
            .filter(|last| at.saturating_sub(last.0) <= rules.moment);
        timed.push((near.map_or(at, |last| last.0), number, socket));
    }
    timed.sort_by_key(|&(at, number, _)| (at, number));
    // Patience sorting: of the runs of each length the smallest end, and of each number the one before it.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(timed.len());
    for (place, &(_, number, _)) in timed.iter().enumerate() {
        let length = ends.partition_point(|&end| timed[end].1 < number);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        match ends.get_mut(length) {
            Some(end) => *end = place,
            None => ends.push(place),
        }
    }
    let last = ends.last().copied();
    let mut run: Vec<&Connection> = std::iter::successors(last, |&place| before[place])
        .map(|place| timed[place].2)
        .collect();
    run.sort_by_key(|socket| (socket.last_activity(), socket.cookie));
    run
}
