//! In which order sockets from before attach fell silent: one by one as they were opened, or one generation after another.

use super::{
    super::{Policy, Rules, view::View},
    opened::{Number, numbers},
};
use crate::{event::Nanos, ledger::Connection};

/// Sockets that fell silent before attach, in an order that tells of a leak.
pub struct Pattern<'a> {
    /// In the order in which they fell silent.
    pub sockets: Vec<&'a Connection>,
    /// What shows that they were opened in that order.
    pub number: Number,
    /// How many others there are that are silent since before attach, and these.
    pub silent: usize,
    /// Over how long they fell silent.
    pub spread: Nanos,
    /// At how many moments.
    pub distinct: u64,
    /// Each moment is that of a whole generation.
    pub in_generations: bool,
}

/// Looks for one by one first, then for those among them that are alike, then for generations.
pub fn pattern<'a>(view: &View<'a>, policy: &Policy, attached_at: Nanos) -> Option<Pattern<'a>> {
    let silent: Vec<&Connection> = view
        .silent_for(0)
        .filter(|connection| connection.opened_at().is_none())
        // Those have a verdict of their own.
        .filter(|connection| connection.never_sent() != Some(true))
        .filter(|connection| connection.last_activity().is_some_and(|at| at < attached_at))
        .collect();
    // No pool opens more while these rest.
    let passed_over = !policy.single_look && view.group.opens_after(attached_at) > 0;
    let rules = &policy.rules;
    if silent.len() < rules.few {
        return None;
    }
    let numbers = numbers(&view.connections);
    let pattern = staggered(&silent, &silent, &numbers, passed_over, rules)
        .or_else(|| staggered(&silent, &alike(silent.clone()), &numbers, passed_over, rules));
    pattern.or_else(|| generations(silent, &numbers, rules).filter(|_| passed_over))
}

/// Those of these that fell silent one by one, in the order in which they were opened; `None` when there is no order.
fn staggered<'a>(
    silent: &[&'a Connection],
    sockets: &[&'a Connection],
    numbers: &[Number],
    passed_over: bool,
    rules: &Rules,
) -> Option<Pattern<'a>> {
    let (sockets, number) = in_order(sockets, numbers, rules)?;
    let all: Vec<Nanos> = sockets
        .iter()
        .filter_map(|socket| socket.last_activity())
        .collect();
    let spread = all.last()? - all.first()?;
    let apart = |pair: &&[Nanos]| pair[1] - pair[0] > rules.moment;
    let distinct = 1 + all.windows(2).filter(apart).count();
    if sockets.len() < rules.few || spread < rules.spread || distinct < rules.few {
        return None;
    }
    // Several at once is what a pool does, too.
    let bursts = distinct * 100 < sockets.len() * rules.staggered;
    (!bursts || passed_over).then_some(Pattern {
        sockets,
        number,
        silent: silent.len(),
        spread,
        distinct: distinct as u64,
        in_generations: false,
    })
}

/// All of these, if they fell silent several at once, about as many each time, and each of a generation was opened after all of
/// the one before: a pool that is made anew, and the old one kept.
fn generations<'a>(
    mut silent: Vec<&'a Connection>,
    numbers: &[Number],
    rules: &Rules,
) -> Option<Pattern<'a>> {
    silent.sort_by_key(|socket| (socket.last_activity(), socket.cookie));
    let (first, last) = (silent.first()?.last_activity()?, silent.last()?.last_activity()?);
    let spread = last - first;
    // Further apart than they are on average, twice.
    let apart = spread.saturating_mul(2) / (silent.len() as u64 - 1).max(1);
    let one = |before: &&Connection, next: &&Connection| {
        next.last_activity() <= before.last_activity().map(|at| at.saturating_add(apart))
    };
    let all: Vec<&[&Connection]> = silent.chunk_by(one).collect();
    let sizes: Vec<usize> = all.iter().map(|generation| generation.len()).collect();
    // Some of the newest may have been at work yet.
    let smallest = sizes[..sizes.len() - 1].iter().min()?;
    let alike = *sizes.iter().max()? <= smallest.saturating_mul(2);
    let distinct = all.len();
    if distinct < rules.few || spread < rules.spread || !alike {
        return None;
    }
    let shows = |number: &&Number| {
        let shows = |batch| in_turn(&all, number, batch, rules);
        shows(u64::MAX) || number.batch().is_some_and(shows)
    };
    let number = numbers.iter().rfind(shows)?.clone();
    Some(Pattern {
        silent: silent.len(),
        sockets: silent,
        number,
        spread,
        distinct: distinct as u64,
        in_generations: true,
    })
}

/// Whether nearly all of each generation have a higher number than those of the one before, where both are in one `batch` of so many
/// numbers. Connections that are made side by side leave gaps, which are filled later: each looks up a name, say, with a
/// socket of its own meanwhile.
fn in_turn(generations: &[&[&Connection]], number: &Number, batch: u64, rules: &Rules) -> bool {
    let numbers = |generation: &&[&Connection]| -> Vec<u64> {
        let mut numbers: Vec<u64> = generation.iter().filter_map(|socket| number.of(socket)).collect();
        numbers.sort_unstable();
        numbers
    };
    let all: Vec<Vec<u64>> = generations.iter().map(numbers).collect();
    let (mut pairs, mut higher) = (0, 0);
    for pair in all.windows(2) {
        let [before, next] = pair else { continue };
        let known = pairs;
        for number in next {
            let first = number - number % batch;
            let begin = before.partition_point(|&before| before < first);
            let end = before.partition_point(|&before| before - before % batch <= first);
            pairs += end - begin;
            higher += before[begin..end].partition_point(|before| before < number);
        }
        if pairs == known {
            return false;
        }
    }
    higher * 100 >= pairs * rules.ordered
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

/// Those that were used last in the order in which they were opened, and by which number; `None` when too few of them were.
fn in_order<'a>(
    sockets: &[&'a Connection],
    numbers: &[Number],
    rules: &Rules,
) -> Option<(Vec<&'a Connection>, Number)> {
    let gaps = sockets.len().checked_sub(1)?;
    let most_others = gaps * (100 - rules.ordered.min(100)) / 100;
    let mut by_time = sockets.to_vec();
    by_time.sort_by_key(|socket| (socket.last_activity(), socket.cookie));
    let (most, number) = numbers
        .iter()
        .map(|number| (rising(&by_time, rules, number, most_others), number))
        .max_by_key(|(run, _)| run.len())?;
    (gaps + 1 - most.len() <= most_others).then(|| (most, number.clone()))
}

/// The longest run of numbers that rise over time. Sockets that fell silent together may be in any order. None, if it can be
/// seen at once that more than `most_others` are not in it: most pools are in no order at all.
fn rising<'a>(
    by_time: &[&'a Connection],
    rules: &Rules,
    number: &Number,
    most_others: usize,
) -> Vec<&'a Connection> {
    let mut timed: Vec<(Nanos, u64, &Connection)> = Vec::with_capacity(by_time.len());
    for &socket in by_time {
        let (Some(at), Some(number)) = (socket.last_activity(), number.of(socket)) else {
            continue;
        };
        let near = timed
            .last()
            .filter(|last| at.saturating_sub(last.0) <= rules.moment);
        timed.push((near.map_or(at, |last| last.0), number, socket));
    }
    // One that is not in the run has two neighbours.
    let falls = |pair: &&[(Nanos, u64, &Connection)]| pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1;
    if timed.windows(2).filter(falls).count() > 2 * most_others {
        return Vec::new();
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
