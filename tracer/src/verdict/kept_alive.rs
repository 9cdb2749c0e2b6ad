//! Claims: these connections are forgotten, though they are never silent: all that they carry is what keeps them alive, and
//! there are more and more of them.
//!
//! Evidence, all of it seen in full: each was opened in view, and since a moment of its own has carried nothing but a few bytes, the same
//! each time and seldom, as a ping is, and still does. They are a *chain*: each was opened when all that the one before carried was that
//! already, so a pool that has them would have handed that one out. From link to link the fewest that are open at once become more.
//!
//! Three of them over `--idle`, or five, are `suspect`, until they have come up for [`Rules::growth`](super::Rules::growth) times
//! `--idle`, at least five of them that have been pinged [`Rules::beats`](super::Rules::beats) times more, three of these when
//! the first had been so for `--idle`; and one has been so for [`Rules::sure`](super::Rules::sure) times `--idle`. `suspect` still
//! when others were used again after such a time, when no two were opened by the same code, when threads that live may own them, or
//! when events were lost. Never more than `likely`: what the bytes say is not looked at.
//!
//! Blind: workers, a task and a connection each, that come up one by one and ask for work in the same few bytes each time. Pings that
//! are larger or come more often than twice a second. What was opened before attach.

use std::time::Duration;

use super::{
    Confidence, Kind, Policy, Rules,
    finding::Claim,
    habit::{chain_by, other_code, rises},
    view::View,
};
use crate::{
    event::{Nanos, SECOND},
    ledger::{Connection, KeptAlive},
};

pub(super) fn claim<'a>(view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    let rules = &policy.rules;
    let is_pinged = |connection: &&Connection| {
        connection
            .kept_alive()
            .is_some_and(|told| u64::from(told.size) <= rules.ping && goes_on(view, connection, told, rules))
    };
    let mut sockets: Vec<&Connection> = view.repeating().filter(is_pinged).collect();
    let since = |connection: &Connection| connection.kept_alive().map(|told| told.since);
    let links = chain_by(&sockets, rules.grace, since);
    let first = *links.first()?;
    let told = first.kept_alive()?;
    let longest = view.now.saturating_sub(told.since);
    let began = first.opened_at()?;
    let opened: Vec<Nanos> = links.iter().filter_map(|link| link.opened_at()).collect();
    let span = opened.last()?.saturating_sub(began);
    let some = links.len() >= rules.separate || span >= policy.idle;
    if links.len() < rules.links || !some || longest < policy.idle || !rises(view, &links, rules) {
        return None;
    }
    // Those that a pool would have handed out instead, had it had them.
    sockets.retain(|socket| {
        socket.cookie == first.cookie || socket.opened_at() > Some(told.since + rules.grace)
    });
    sockets.sort_by_key(|socket| (since(socket), socket.cookie));
    let ignored = opened.iter().filter(|&&at| at > told.since + policy.idle).count();
    let steady = |link: &&&Connection| {
        let told = link.kept_alive();
        told.is_some_and(|told| told.settled && usize::from(told.beats) >= rules.beats)
    };
    let settled = links.iter().filter_map(|link| link.kept_alive());
    let settled = settled.filter(|told| told.settled).map(|told| told.since);
    let proven = settled.min().map_or(0, |since| view.now.saturating_sub(since));
    let habit = ignored >= rules.links
        && links.iter().filter(steady).count() >= rules.separate
        && span >= policy.idle.saturating_mul(rules.growth) / 100;
    let mut but = Vec::new();
    if !habit || proven < policy.idle.saturating_mul(rules.sure) {
        but.push(
            "this has not been going on for long: an application that starts opens several, too".to_owned(),
        );
    }
    let woken = view.group.woken_after();
    if woken >= policy.idle && woken.saturating_mul(rules.rests) > longest {
        but.push(format!(
            "others like these were used again after {} s",
            woken / SECOND
        ));
    }
    if other_code(&links) {
        but.push(
            "each was opened by other code: they may be single connections, each for a purpose".to_owned(),
        );
    }
    let owned = sockets.iter().filter(|socket| view.owned(socket)).count();
    if owned > 0 {
        but.push(format!(
            "{owned} of them may be kept by the threads that opened them: each lives, and has no other"
        ));
    }
    if view.lost_since(began) {
        but.push("events were lost meanwhile, so that single opens or closes may be missing".to_owned());
    }
    let confidence = if but.is_empty() {
        Confidence::Likely
    } else {
        Confidence::Suspect
    };
    but.push("workers that ask for work in so few bytes look the same".to_owned());
    Some(Claim {
        kind: Kind::Leak,
        confidence,
        because: vec![
            format!(
                "all that they carry is what keeps them alive: {} bytes, the same each time, one of them for {:.0} s",
                told.size,
                Duration::from_nanos(longest).as_secs_f64()
            ),
            format!(
                "{} of them were each opened when the one before carried nothing else already",
                links.len()
            ),
        ],
        sockets,
        but,
        kept_alive: Some(longest),
    })
}

/// Whether the next ping is not long overdue: what has stopped is silent, and has been used a few times before.
fn goes_on(view: &View, connection: &Connection, told: KeptAlive, rules: &Rules) -> bool {
    let Some(silent) = view.silent(connection) else {
        return false;
    };
    let apart = view.now.saturating_sub(silent).saturating_sub(told.since) / (u64::from(told.beats) + 1);
    silent <= apart.saturating_mul(rules.rests).saturating_add(rules.grace)
}
