//! Claims: this process opens connections to this server, uses each for a while, and never again, while
//! connections that it has already are silent; and it keeps on doing so.
//!
//! Evidence, all of it seen in full, among sockets that are for the same user, database, application and purpose,
//! as far as the client says that in clear:
//!
//! * a *chain* of sockets, each opened when the one before had already fallen silent, each silent since for
//!   at least `--idle`, each passed over by a later open;
//! * the *trough* rises: from link to link of the newest three, the fewest connections that were open at
//!   once became more;
//! * the *silence* rises: likewise the fewest that were silent at once, over most pairs of the newest links.
//!   Without it no more than `suspect`;
//! * it is a *habit* that goes on ([`Growth`]): more came up when the first had been silent for `--idle`, and they
//!   did so for a good while, or in episodes. Shorter is `suspect`: an application that starts opens some single
//!   connections, and a pool may be filled one by one;
//! * nobody *owns* them: a socket is owned by the thread that opened it while that thread lives, holds no
//!   other open connection to the server, and has opened none since. Nor does any of them wait for an answer,
//!   as far as times or counts tell. Without such sockets in the chain there must be a claim still, or it is
//!   no more than `suspect`;
//! * none like them came back after a rest half as long, or it is `suspect`: so do sessions of people, and jobs;
//! * they are not each opened by other code, where call sites are known, or it is `suspect`.
//!
//! Certain is what has gone on for [`Rules::sure`] times `--idle` and been silent for as long, too: until then an
//! application whose own rhythm is a few times slower than `--idle` looks the same.
//!
//! Connections of many identities may be pools for tenants: `suspect`, and `likely` where one identity would be
//! certain. A listener's or subscriber's silence says nothing, only that there are more and more for the same
//! channels; so what it is told does not count as use, and it takes all of the evidence to be `likely`.
//!
//! Claimed are the sockets of the habit: those in the open count when they were opened while one of the
//! candidates was silent already; those from before attach when they have been used as the chain was, and
//! did not fall silent together.
//!
//! Why a healthy pool does not do that: it hands out an idle connection before it opens another. What it
//! does do is opened at once (a burst: one link, not a chain), or one right after another when it fills up
//! (no habit: that is over in a moment), or replaced one for one (rotation: the trough stays). Two pools of one process
//! that fill up at different times are two episodes, and of other sizes. Listeners and monitors are passed over
//! for ever by short connections beside them, but these close (the trough stays). A pool that refills a minimum of
//! idle connections under rising load has more open, and as many silent as before.
//!
//! Blind: pools and single connections of one identity that come up at three different times, about as many each,
//! and rest all at once; encrypted pools of one connection each that come up one by one (a pool per tenant); tasks that
//! are no threads (goroutines, virtual threads) and keep a connection each: to the kernel, any thread of the
//! runtime opened it. The other way round, a leak of which each live thread has at most one socket is no more than
//! `suspect`, until some thread has two, and so is one that is over soon.

use std::collections::BTreeMap;

use super::{
    Confidence, Kind, Policy, Rules,
    finding::Claim,
    habit::{Growth, chain, other_code, rises, separate},
    view::View,
};
use crate::{
    event::{Nanos, SECOND},
    ledger::{Connection, Who},
};

pub(super) fn claim<'a>(view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    let all: Vec<&Connection> = view
        .silent_for(policy.idle)
        // Those have a verdict of their own.
        .filter(|connection| connection.never_sent() != Some(true))
        .collect();
    if all.len() < policy.rules.links {
        return None;
    }
    let free: Vec<&Connection> = all
        .iter()
        .copied()
        .filter(|connection| !view.owned(connection) && !connection.maybe_waiting())
        .collect();
    if let Some(claim) = by_identity(view, policy, &free) {
        return Some(claim);
    }
    if free.len() == all.len() {
        return None;
    }
    let mut claim = by_identity(view, policy, &all)?;
    let waiting = all.iter().filter(|connection| connection.maybe_waiting()).count();
    if waiting > 0 {
        claim = doubt(
            claim,
            format!(
                "{waiting} of them may wait for an answer: more was sent than came back, within one tick"
            ),
        );
    }
    let owned = all.iter().filter(|connection| view.owned(connection)).count();
    if owned > 0 {
        claim = doubt(
            claim,
            format!(
                "{owned} of them may be kept by the threads that opened them: each lives, and has no other"
            ),
        );
    }
    Some(claim)
}

/// Judges those of each identity by themselves, and all together when that says nothing.
fn by_identity<'a>(view: &View<'a>, policy: &Policy, silent: &[&'a Connection]) -> Option<Claim<'a>> {
    let mut groups: BTreeMap<Who, Vec<&Connection>> = BTreeMap::new();
    for &connection in silent {
        groups.entry(connection.who()).or_default().push(connection);
    }
    // Of whom nothing is known may be anybody's.
    let known = groups.keys().filter(|&&who| who != Who::default()).count();
    if known < 2 {
        return judge(view, policy, silent, None);
    }
    let each = groups
        .iter()
        .filter(|(_, group)| group.len() >= policy.rules.links);
    let claims = each.filter_map(|(&who, group)| judge(view, policy, group, Some(who)));
    let surest = claims.max_by_key(|claim| (claim.confidence, claim.sockets.len()));
    if surest.is_some() {
        return surest;
    }
    let claim = judge(view, policy, silent, None)?;
    // No two alike, and few: a purpose, a tenant or a user's session each.
    let few = groups.len() == silent.len() && silent.len() < policy.rules.dozen;
    let bounded = few || claim.confidence < Confidence::Certain;
    let why = format!(
        "they are for {known} different users, databases, applications or channels: a pool for each tenant looks like that"
    );
    Some(if bounded {
        doubt(claim, why)
    } else {
        Claim {
            confidence: Confidence::Likely,
            but: vec![why],
            ..claim
        }
    })
}

fn doubt(claim: Claim<'_>, why: String) -> Claim<'_> {
    let mut but = claim.but;
    but.push(why);
    Claim {
        confidence: Confidence::Suspect,
        but,
        ..claim
    }
}

/// Judges the silent ones of one identity, or of all.
fn judge<'a>(
    view: &View<'a>,
    policy: &Policy,
    silent: &[&'a Connection],
    who: Option<Who>,
) -> Option<Claim<'a>> {
    let rules = &policy.rules;
    let opens = view
        .group
        .opens()
        .filter(|open| who.is_none_or(|who| open.1 == who));
    let last_open = opens.last().map(|(at, _)| at);
    let passed = |connection: &&&Connection| {
        let passable = connection.last_use().map(|last| last.saturating_add(rules.grace));
        passable < last_open
    };
    let candidates: Vec<&Connection> = silent.iter().filter(passed).copied().collect();
    let links = chain(&candidates, rules.grace);
    let first = *links.first()?;
    let began = first.opened_at()?;
    let before = began.saturating_sub(1);
    let (opened, closed) = (view.group.opens_after(before), view.group.closes_after(before));
    let growth = Growth::of(view, policy, began, who);
    let habit = growth.is_habit(policy, &candidates, &links, closed);
    let some = separate(&candidates, rules.grace) >= rules.separate || growth.steady >= policy.idle;
    if !habit && !some || !rises(view, &links, rules) {
        return None;
    }
    let mut sockets = members(&candidates, &links, rules);
    sockets.sort_by_key(|socket| socket.last_use());
    let mut but = Vec::new();
    let mut confidence = Confidence::Certain;
    let longest = links.iter().filter_map(|link| view.silent(link)).max()?;
    let sure = policy.idle.saturating_mul(rules.sure);
    let rising = silence_rises(view, &growth.opened, rules);
    if longest < sure || growth.span < sure || links.len() < rules.separate {
        confidence = Confidence::Likely;
        but.push("the first may be used again yet: none has been silent for long".to_owned());
    }
    if view.lost_since(began) {
        confidence = Confidence::Likely;
        but.push("events were lost meanwhile, so that single opens or closes may be missing".to_owned());
    }
    if confidence == Confidence::Certain && rising != Some(100) {
        confidence = Confidence::Likely;
        but.push("more are silent than before, but not at every moment".to_owned());
    }
    let claim = Claim {
        kind: Kind::Leak,
        confidence,
        because: vec![
            format!(
                "{} of them were each opened after the one before had fallen silent",
                links.len()
            ),
            format!("{opened} opened and {closed} closed in that time"),
        ],
        sockets,
        but,
        kept_alive: None,
    };
    let waits = links.iter().find_map(|link| link.identity()?.purpose);
    let came_back = came_back(view, policy, first, who);
    let why = match rising.map(|share| share >= rules.rising) {
        None => {
            "this has been going on for too short a time to tell whether more and more are silent".to_owned()
        }
        Some(false) => {
            "more are open, but not more are silent: a pool under rising load does that".to_owned()
        }
        Some(true) if !habit => {
            "they are few, or came up in a short time: an application that starts does that".to_owned()
        }
        Some(true) if came_back.saturating_mul(rules.rests) > longest => format!(
            "others like these were used again after up to {} s",
            came_back / SECOND
        ),
        Some(true) if other_code(&links) => {
            "each was opened by other code: they may be single connections, each for a purpose".to_owned()
        }
        Some(true) => match waits {
            None => return Some(claim),
            // Nobody knows when there will be something to say to them. But no two do the same for long.
            Some(_) if confidence == Confidence::Certain && closed == 0 => {
                return Some(Claim {
                    confidence: Confidence::Likely,
                    ..claim
                });
            }
            Some(purpose) => format!("each is a {}, which waits by design", purpose.name()),
        },
    };
    Some(doubt(claim, why))
}

/// The longest that others like these have rested and been used again: opened, as they were, since the first of them
/// was. Sessions of people have pauses, and those that were there first show them first.
fn came_back(view: &View, policy: &Policy, first: &Connection, who: Option<Who>) -> Nanos {
    let since = first.opened_at();
    let like = |cookie| {
        let other = view.ledger.connection(cookie);
        other.is_some_and(|other| other.opened_at() >= since && who.is_none_or(|who| other.who() == who))
    };
    let rests = view.group.rests().iter();
    rests
        .map(|rest| (rest.length(), rest.cookie))
        .filter(|&(time, cookie)| time >= policy.idle && like(cookie))
        .map(|(time, _)| time)
        .max()
        .unwrap_or(0)
}

/// The candidates that belong to the habit.
fn members<'a>(
    candidates: &[&'a Connection],
    links: &[&'a Connection],
    rules: &Rules,
) -> Vec<&'a Connection> {
    let first_silence = candidates.iter().filter_map(|socket| socket.last_use()).min();
    let first_link = links.first().map(|link| link.cookie);
    let sends = || links.iter().filter_map(|link| link.traffic().sends);
    let as_links = sends().min()..=sends().max();
    let mut moments: Vec<Nanos> = candidates
        .iter()
        .filter(|socket| socket.opened_at().is_none())
        .filter_map(|socket| socket.last_use())
        .collect();
    moments.sort_unstable();
    let together = |at: Nanos| {
        let from = moments.partition_point(|&moment| moment < at.saturating_sub(rules.together));
        let until = moments.partition_point(|&moment| moment <= at.saturating_add(rules.together));
        until - from > rules.links
    };
    let belongs = |socket: &&&Connection| {
        let passes = socket.opened_at() > first_silence.map(|silence| silence.saturating_add(rules.grace));
        match socket.opened_at() {
            Some(_) => passes || Some(socket.cookie) == first_link,
            None => as_links.contains(&socket.traffic().sends) && !socket.last_use().is_some_and(together),
        }
    };
    candidates.iter().filter(belongs).copied().collect()
}

/// Whether more and more are silent: the fewest that were so before one link, and before later ones.
///
/// Of the newest links, as many as make a habit and a good while apart. Gives the share of all pairs that rise, in
/// percent; `None` when they do not reach far enough.
fn silence_rises(view: &View, opened: &[Nanos], rules: &Rules) -> Option<u64> {
    let mut moments = vec![view.now];
    for &at in opened.iter().rev() {
        let apart = moments
            .last()
            .is_some_and(|&next| next.saturating_sub(at) >= rules.compare);
        if apart && moments.len() <= rules.separate {
            moments.push(at);
        }
    }
    moments.reverse();
    let troughs: Vec<u64> = moments
        .windows(2)
        .filter_map(|pair| view.group.silent_trough(pair[0].midpoint(pair[1]), pair[1]))
        .collect();
    let pairs = troughs
        .iter()
        .enumerate()
        .flat_map(|(place, before)| troughs[place + 1..].iter().map(move |later| before < later));
    let (mut all, mut rising) = (0u64, 0u64);
    for rises in pairs {
        all += 1;
        rising += u64::from(rises);
    }
    (troughs.len() >= rules.links).then(|| rising * 100 / all)
}
