//! Claims, from sockets that were opened before we looked: these look like a leak.
//!
//! Evidence: many sockets, each silent since a moment of its own (*staggered*), the moments in the order of
//! opening (descriptor or inode numbers), each having carried little. Opened one after another, used once,
//! never again. If all the silent ones show no such order, the most that have sent about as much are looked at by
//! themselves: what leaks has been used by the same code, and a pool beside it has carried more, or nothing.
//!
//! A pool looks different: silent since the same moment (a burst that ended), or in another order than they
//! were opened in, or with much traffic on each, or one of them is used again.
//!
//! In a watch, sockets that have been used more or less often each, by a process that has opened nothing since
//! attach for `--idle`, are claimed as `unreturned`: connections that were lent out before and did not come
//! back the last time. A leak that has stopped and whose requests differ much looks the same.
//!
//! Blind: a pool whose idle connections were rotated one by one, or a last-in-first-out pool under falling
//! load, can look just like this at a single look. So this rule never says more than `likely`, and less when
//! the sockets are few or the last one is long ago.

use super::{Confidence, Kind, Policy, Rules, finding::Claim, view::View};
use crate::{
    event::{Nanos, State},
    ledger::Connection,
};

pub(super) fn claim<'a>(view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    let attached_at = view.ledger.attached_at()?;
    if !policy.single_look
        && view.now.saturating_sub(attached_at) < (policy.rules.patience / 2).min(policy.soon())
    {
        return None;
    }
    let silent: Vec<&Connection> = view
        .silent_for(0)
        .filter(|connection| connection.opened_at().is_none())
        // Those have a verdict of their own.
        .filter(|connection| connection.never_sent() != Some(true))
        .filter(|connection| connection.last_activity().is_some_and(|at| at < attached_at))
        .collect();
    let pattern = |sockets| staggered(view, policy, attached_at, sockets);
    let sockets = pattern(silent.clone()).or_else(|| pattern(alike(silent.clone())))?;
    judge(view, policy, attached_at, silent.len(), sockets)
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
    let (spread, distinct) = moments(&sockets, rules);
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
    let among = |other: &&Connection| {
        let little = most.map(|most| most.saturating_mul(rules.at_work));
        other.inode() < newest && (little.is_none() || other.traffic().bytes_sent <= little)
    };
    let used_again = others.iter().any(among);
    // One that is newer is the next of them.
    let alone = silent == count && others.iter().all(|other| other.inode() > newest);
    let mut sends: Vec<u32> = sockets
        .iter()
        .filter_map(|socket| socket.traffic().sends)
        .collect();
    sends.sort_unstable();
    let used_once = sends
        .get(sends.len() / 2)
        .is_none_or(|&median| u64::from(median) <= rules.used_once);
    let since_last = view.silent(sockets.last()?)?;
    // Beside others, at work or at rest, and for a look that cannot wait, it has to go on at its own pace.
    let pace = spread / (distinct - 1).max(1);
    let recent = if alone && !policy.single_look {
        since_last <= rules.recent.max(spread)
    } else {
        since_last <= pace.saturating_mul(2).saturating_add(rules.compare)
    };

    let mut but = vec!["they were opened before connleak looked".to_owned()];
    if used_again {
        but.push("others of this process's connections are being used again, as a pool does".to_owned());
    }
    if !used_once {
        but.push("each has carried much, as pooled connections do".to_owned());
    }
    let longest = view.silent(sockets.first()?)?;
    let next_in_line = longest < view.group.closed_after().saturating_mul(policy.rules.rests);
    if next_in_line {
        but.push("others were closed after they had been silent for about as long".to_owned());
    }
    if !recent {
        but.push("none was added lately".to_owned());
    }
    let waiting = sockets.iter().filter(|socket| socket.maybe_waiting()).count();
    if waiting > 0 {
        but.push(format!("{waiting} of them may wait for an answer"));
    }
    let enough = if alone {
        count >= rules.many || recent && count >= rules.some
    } else {
        // A minimum of idle connections is fewer, and looks the same while load rises.
        count >= rules.many && recent
    };
    if !enough {
        but.push("they are few".to_owned());
    }
    // What is used once has sent about as much each time; what was lent out before has not.
    let differ = match sends.as_slice() {
        [least, .., most] => u64::from(*most) * 100 >= u64::from(*least) * rules.differ,
        _ => false,
    };
    let kind = if policy.single_look || !differ || view.group.opens_after(attached_at) > 0 {
        Kind::Leak
    } else if view.now.saturating_sub(attached_at) >= policy.idle {
        but.push("whether anybody waits for them cannot be seen at the socket".to_owned());
        Kind::Unreturned
    } else {
        return None;
    };
    let looked = view.now.saturating_sub(attached_at);
    let patient = policy.single_look || looked >= rules.patience.min(policy.soon().saturating_mul(2));
    if !patient {
        but.push("connleak has only just begun to look".to_owned());
    }
    let confidence = if patient && enough && used_once && !used_again && !next_in_line && waiting * 2 < count
    {
        Confidence::Likely
    } else {
        Confidence::Suspect
    };
    Some(Claim {
        kind,
        confidence,
        sockets,
        because: vec![format!(
            "silent since {distinct} different moments, in the order in which they were opened"
        )],
        but,
    })
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
