//! Claims: this process opens connections to this server, uses each for a while, and never again, while
//! connections that it has already are silent; and it keeps on doing so.
//!
//! Evidence, all of it seen in full:
//!
//! * a *chain* of sockets, each opened when the one before had already fallen silent, each silent since for
//!   at least `--idle`, each passed over by a later open;
//! * the *trough* rises: from link to link of the newest three, the fewest connections that were open at
//!   once became more;
//! * the *silence* rises: likewise the fewest that were silent at once. Without it no more than `suspect`;
//! * it is a *habit*: they came up in three episodes with `--idle` between them; or there are five of them,
//!   each opened a good while after the one before was ready; or the chain has five links and such sockets went
//!   on coming up for `--idle` at least. That long, but fewer, is `suspect`: an application that starts opens
//!   some single connections;
//! * nobody *owns* them: a socket is owned by the thread that opened it while that thread lives, holds no
//!   other open connection to the server, and has opened none since. Nor does any of them wait for an answer,
//!   as far as times or counts tell. Without such sockets in the chain there must be a claim still, or it is
//!   no more than `suspect`.
//!
//! Certain is what has been silent for [`Rules::sure`] times `--idle`, too: until then an application whose own
//! rhythm is a few times slower than `--idle` looks the same.
//!
//! Claimed are the sockets of the habit: those in the open count when they were opened while one of the
//! candidates was silent already; those from before attach when they have been used as the chain was, and
//! did not fall silent together.
//!
//! Why a healthy pool does not do that: it hands out an idle connection before it opens another. What it
//! does do is opened at once (a burst: one link, not a chain), or one right after another when it fills up
//! (no habit: that is over in a moment), or replaced one for one (rotation: the trough stays). Two pools of one process
//! that fill up at different times are two episodes. Listeners and monitors are passed over for ever by
//! short connections beside them, but these close (the trough stays). A pool that refills a minimum of idle
//! connections under rising load has more open, and as many silent as before.
//!
//! Blind: three pools of one process that fill up at three different times, and rest all at once; many pools
//! of one connection each that come up one by one (a pool per tenant); tasks that are no threads (goroutines,
//! virtual threads) and keep a connection each: to the kernel, any thread of the runtime opened it. The
//! other way round, a leak of which each live thread has at most one socket is no more than `suspect`, until
//! some thread has two. All stop; a leak does not.

use super::{Confidence, Kind, Policy, Rules, finding::Claim, view::View};
use crate::{event::Nanos, ledger::Connection};

pub(super) fn claim<'a>(view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    let all: Vec<&Connection> = view
        .silent_for(policy.idle)
        .filter(|connection| view.passed_over(connection) > 0)
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
    if let Some(claim) = judge(view, policy, &free) {
        return Some(claim);
    }
    if free.len() == all.len() {
        return None;
    }
    let mut claim = judge(view, policy, &all)?;
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

fn doubt(claim: Claim<'_>, why: String) -> Claim<'_> {
    let mut but = claim.but;
    but.push(why);
    Claim {
        confidence: Confidence::Suspect,
        but,
        ..claim
    }
}

fn judge<'a>(view: &View<'a>, policy: &Policy, candidates: &[&'a Connection]) -> Option<Claim<'a>> {
    let rules = &policy.rules;
    let links = chain(candidates, rules.grace);
    let began = links.first()?.opened_at?;
    let before = began.saturating_sub(1);
    let (opened, closed) = (view.group.opens_after(before), view.group.closes_after(before));
    let went_on = went_on(view, began, policy.idle);
    let habit = episodes(&links, policy.idle) >= rules.links
        || separate(candidates, rules.grace) >= rules.separate
        || went_on && links.len() >= rules.separate;
    if !habit && !went_on || !rises(view, &links, rules) {
        return None;
    }
    let mut sockets = members(candidates, &links, rules);
    sockets.sort_by_key(|socket| socket.last_activity());
    let mut but = Vec::new();
    let mut confidence = Confidence::Certain;
    let longest = links.iter().filter_map(|link| view.silent(link)).max()?;
    if longest < policy.idle.saturating_mul(rules.sure) {
        confidence = Confidence::Likely;
        but.push("the first may be used again yet: none has been silent for long".to_owned());
    }
    if view.lost_since(began) {
        confidence = Confidence::Likely;
        but.push("events were lost meanwhile, so that single opens or closes may be missing".to_owned());
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
    };
    let why = match silence_rises(view, &links, rules) {
        None => "this has been going on for too short a time to tell whether more and more are silent",
        Some(false) => "more are open, but not more are silent: a pool under rising load does that",
        Some(true) if !habit => "they are few: an application that starts opens some single connections",
        Some(true) => return Some(claim),
    };
    Some(doubt(claim, why.to_owned()))
}

/// The longest run of sockets, opened in view, of which each began after the one before was last used.
fn chain<'a>(sockets: &[&'a Connection], grace: Nanos) -> Vec<&'a Connection> {
    let mut seen: Vec<(Nanos, Nanos, &Connection)> = sockets
        .iter()
        .filter_map(|socket| Some((socket.opened_at?, socket.last_activity()?, *socket)))
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

/// The candidates that belong to the habit.
fn members<'a>(
    candidates: &[&'a Connection],
    links: &[&'a Connection],
    rules: &Rules,
) -> Vec<&'a Connection> {
    let first_silence = candidates
        .iter()
        .filter_map(|socket| socket.last_activity())
        .min();
    let first_link = links.first().map(|link| link.cookie);
    let sends = || links.iter().filter_map(|link| link.traffic.sends);
    let as_links = sends().min()..=sends().max();
    let mut moments: Vec<Nanos> = candidates
        .iter()
        .filter(|socket| socket.opened_at.is_none())
        .filter_map(|socket| socket.last_activity())
        .collect();
    moments.sort_unstable();
    let together = |at: Nanos| {
        let from = moments.partition_point(|&moment| moment < at.saturating_sub(rules.together));
        let until = moments.partition_point(|&moment| moment <= at.saturating_add(rules.together));
        until - from > rules.links
    };
    let belongs = |socket: &&&Connection| {
        let passes = socket.opened_at > first_silence.map(|silence| silence.saturating_add(rules.grace));
        match socket.opened_at {
            Some(_) => passes || Some(socket.cookie) == first_link,
            None => as_links.contains(&socket.traffic.sends) && !socket.last_activity().is_some_and(together),
        }
    };
    candidates.iter().filter(belongs).copied().collect()
}

/// Whether the fewest connections that were open at once rose from each of the newest links to the next.
///
/// From the middle of the time between two links on: a pool that fills up has done so by then.
fn rises(view: &View, links: &[&Connection], rules: &Rules) -> bool {
    let Some(newest) = links.len().checked_sub(rules.links) else {
        return false;
    };
    let mut moments: Vec<Nanos> = links[newest..].iter().filter_map(|link| link.opened_at).collect();
    moments.push(view.now);
    let troughs: Vec<i64> = moments
        .windows(2)
        .map(|pair| view.group.trough(pair[0].midpoint(pair[1]), pair[1]))
        .collect();
    troughs.windows(2).all(|pair| pair[0] < pair[1])
}

/// Whether the fewest that were silent at once rose likewise, over the newest links or over a longer time.
///
/// Snapshots come a second apart or less, and other sockets come and go: so the links are taken a second
/// apart at least, then two, four and so on, as far as they reach. `None` when they do not reach anywhere.
fn silence_rises(view: &View, links: &[&Connection], rules: &Rules) -> Option<bool> {
    let opened: Vec<Nanos> = links.iter().filter_map(|link| link.opened_at).collect();
    let span = view.now.saturating_sub(*opened.first()?);
    std::iter::successors(Some(rules.compare), |step| step.checked_mul(2))
        .take_while(|step| step.saturating_mul(2) <= span)
        .map_while(|step| {
            let mut moments = vec![view.now];
            for &at in opened.iter().rev() {
                if moments.len() <= rules.links
                    && moments
                        .last()
                        .is_some_and(|&next| next.saturating_sub(at) >= step)
                {
                    moments.push(at);
                }
            }
            moments.reverse();
            let troughs: Vec<Option<u64>> = moments
                .windows(2)
                .map(|pair| view.group.silent_trough(pair[0].midpoint(pair[1]), pair[1]))
                .collect();
            let rise = |pair: &[Option<u64>]| pair[0].is_some() && pair[0] < pair[1];
            (troughs.len() == rules.links).then(|| troughs.windows(2).all(rise))
        })
        .reduce(|any, rises| any || rises)
}

/// How many times the process opened a link when the one before had been idle for `--idle`, and one.
fn episodes(links: &[&Connection], idle: Nanos) -> usize {
    let apart = |pair: &&[&Connection]| {
        pair[1].opened_at > pair[0].last_activity().map(|last| last.saturating_add(idle))
    };
    1 + links.windows(2).filter(apart).count()
}

/// How many of these were opened a good while after the one before was used last.
fn separate(sockets: &[&Connection], grace: Nanos) -> usize {
    let mut spans: Vec<(Nanos, Nanos)> = sockets
        .iter()
        .filter_map(|socket| Some((socket.opened_at?, socket.last_activity()?)))
        .collect();
    spans.sort_unstable();
    let apart = |pair: &&[(Nanos, Nanos)]| pair[1].0 > pair[0].1.saturating_add(grace);
    1 + spans.windows(2).filter(apart).count()
}

/// Whether sockets that nobody uses any more kept coming up for `--idle` at least, never that long apart.
fn went_on(view: &View, began: Nanos, idle: Nanos) -> bool {
    let mut moments: Vec<Nanos> = view
        .silent_for(view.grace)
        .filter(|connection| view.passed_over(connection) > 0)
        .filter_map(|connection| connection.opened_at)
        .filter(|&opened| opened >= began)
        .collect();
    moments.sort_unstable();
    let mut until = began;
    for opened in moments {
        if opened - until > idle {
            break;
        }
        until = opened;
    }
    until - began >= idle
}
