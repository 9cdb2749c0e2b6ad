//! Claims, from sockets that were opened before we looked: these look like a leak.
//!
//! Evidence: many sockets, each silent since a moment of its own (*staggered*), the moments in the order of
//! opening (descriptor or inode numbers), each having carried little. Opened one after another, used once,
//! never again.
//!
//! A pool looks different: silent since the same moment (a burst that ended), or in another order than they
//! were opened in, or with much traffic on each.
//!
//! In a watch, sockets that have been used more or less often each, by a process that has opened nothing since
//! attach for `--idle`, are claimed as `unreturned`: connections that were lent out before and did not come
//! back the last time. A leak that has stopped and whose requests differ much looks the same.
//!
//! Blind: a pool whose idle connections were rotated one by one, or a last-in-first-out pool under falling
//! load, can look just like this at a single look. So this rule never says more than `likely`, and less when
//! the sockets are few or the last one is long ago.

use super::{Confidence, Kind, Policy, finding::Claim, view::View};
use crate::{
    event::{Nanos, State},
    ledger::Connection,
};

pub(super) fn claim<'a>(view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    let rules = &policy.rules;
    let attached_at = view.ledger.attached_at()?;
    if !policy.single_look && view.now.saturating_sub(attached_at) < rules.patience.min(policy.soon()) {
        return None;
    }
    let before = |connection: &&Connection| connection.opened_at.is_none();
    let mut sockets: Vec<&Connection> = view
        .silent_for(0)
        .filter(before)
        // Those have a verdict of their own.
        .filter(|connection| connection.never_sent() != Some(true))
        .filter(|connection| connection.last_activity().is_some_and(|at| at < attached_at))
        .collect();
    sockets.sort_by_key(|socket| (socket.last_activity(), socket.cookie));
    let count = sockets.len();
    if count < rules.few {
        return None;
    }
    let moments: Vec<Nanos> = sockets
        .iter()
        .filter_map(|socket| socket.last_activity())
        .collect();
    let spread = moments.last()? - moments.first()?;
    let distinct = 1 + moments
        .windows(2)
        .filter(|pair| pair[1] - pair[0] > rules.moment)
        .count();
    let staggered =
        spread >= rules.spread && distinct >= rules.few && distinct * 100 >= count * rules.staggered;
    let order = in_order(&sockets, |socket| Some(u64::from(socket.holders.first()?.fd)))
        .max(in_order(&sockets, |socket| socket.inode));
    if !staggered || order < rules.ordered {
        return None;
    }

    let used_again = view
        .connections
        .iter()
        .filter(|connection| before(connection) && connection.state == State::Established)
        .any(|connection| connection.last_activity().is_some_and(|at| at >= attached_at));
    let mut sends: Vec<u32> = sockets.iter().filter_map(|socket| socket.traffic.sends).collect();
    sends.sort_unstable();
    let used_once = sends
        .get(sends.len() / 2)
        .is_none_or(|&median| u64::from(median) <= rules.used_once);
    let since_last = view.now.saturating_sub(*moments.last()?);
    let recent = since_last <= rules.recent.max(spread);

    let mut but = vec!["they were opened before connleak looked".to_owned()];
    if used_again {
        but.push("others of this process's connections are being used again, as a pool does".to_owned());
    }
    if !used_once {
        but.push("each has carried much, as pooled connections do".to_owned());
    }
    let longest = view.now.saturating_sub(*moments.first()?);
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
    let enough = count >= rules.many || recent && count >= rules.some;
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
    let confidence = if enough && used_once && !used_again && !next_in_line && waiting * 2 < count {
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

/// Percent of pairs (neighbours up to four apart) whose order of opening agrees with the order of last use.
fn in_order(sockets: &[&Connection], number: impl Fn(&Connection) -> Option<u64>) -> u64 {
    let numbers: Vec<u64> = sockets.iter().filter_map(|socket| number(socket)).collect();
    let (mut agree, mut pairs) = (0u64, 0u64);
    for (index, first) in numbers.iter().enumerate() {
        for second in numbers.iter().skip(index + 1).take(4) {
            pairs += 1;
            agree += u64::from(first < second);
        }
    }
    (agree * 100).checked_div(pairs).unwrap_or(0)
}
