//! Claims: this process opens connections to this server, uses each for a while, and never again, while
//! connections that it has already are silent; and it keeps on doing so.
//!
//! Evidence, all of it seen in full:
//!
//! * a *chain* of sockets, each opened when the one before had already fallen silent, each silent since for
//!   at least `--idle`, each passed over by a later open;
//! * the *trough* rises: from link to link of the newest three, the fewest connections that were open at
//!   once became more;
//! * it is a *habit*: such sockets went on coming up for `--idle` at least; or in three episodes with
//!   `--idle` between them; or five of them, each opened a good while after the one before was ready.
//!
//! Why a healthy pool does not do that: it hands out an idle connection before it opens another. What it
//! does do is opened at once (a burst: one link, not a chain), or one right after another when it fills up
//! (no habit: that is over in a moment), or replaced one for one (rotation: the trough stays). Two pools of one process
//! that fill up at different times are two episodes. Listeners and monitors are passed over for ever by
//! short connections beside them, but these close (the trough stays).
//!
//! Blind: three pools of one process that fill up at three different times, and rest all at once; a pool
//! that refills a minimum of idle connections while load rises slowly; one connection per thread while
//! threads come up one by one and then rest. All stop; a leak does not.

use super::{
    Confidence, Kind, Policy,
    finding::Claim,
    view::{GRACE, View},
};
use crate::{event::Nanos, ledger::Connection};

/// Links that make a claim. Two can be chance (a request for each of two pools); three in a row, each with
/// its predecessors idle, is the least that shows a habit.
const LINKS: usize = 3;

/// Separate openings that make a habit even when they stop soon. An application may well open a few single
/// connections as it starts: for a lock, a listener, a monitor, a migration.
const SEPARATE: usize = 5;

pub(super) fn claim<'a>(view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    let mut sockets: Vec<&Connection> = view
        .silent_for(policy.idle)
        .filter(|connection| view.passed_over(connection) > 0)
        // Those have a verdict of their own.
        .filter(|connection| connection.never_sent() != Some(true))
        .collect();
    let links = chain(&sockets);
    let began = links.first()?.opened_at?;
    let before = began.saturating_sub(1);
    let (opened, closed) = (view.group.opens_after(before), view.group.closes_after(before));
    let habit = episodes(&links, policy.idle) >= LINKS
        || went_on(view, began, policy.idle)
        || separate(&sockets) >= SEPARATE;
    if !habit || !rises(view, &links) {
        return None;
    }
    sockets.sort_by_key(|socket| socket.last_activity());
    let lost = view.lost_since(began);
    let mut but = Vec::new();
    if lost {
        but.push("events were lost meanwhile, so that single opens or closes may be missing".to_owned());
    }
    Some(Claim {
        kind: Kind::Leak,
        confidence: if lost {
            Confidence::Likely
        } else {
            Confidence::Certain
        },
        because: vec![
            format!(
                "{} of them were each opened after the one before had fallen silent",
                links.len()
            ),
            format!("{opened} opened and {closed} closed in that time"),
        ],
        sockets,
        but,
    })
}

/// The longest run of sockets, opened in view, of which each began after the one before was last used.
fn chain<'a>(sockets: &[&'a Connection]) -> Vec<&'a Connection> {
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
            free_from = last.saturating_add(GRACE);
        }
    }
    links
}

/// Whether the fewest connections that were open at once rose from each of the newest links to the next.
///
/// From the middle of the time between two links on: a pool that fills up has done so by then.
fn rises(view: &View, links: &[&Connection]) -> bool {
    let Some(newest) = links.len().checked_sub(LINKS) else {
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

/// How many times the process opened a link when the one before had been idle for `--idle`, and one.
fn episodes(links: &[&Connection], idle: Nanos) -> usize {
    let apart = |pair: &&[&Connection]| {
        pair[1].opened_at > pair[0].last_activity().map(|last| last.saturating_add(idle))
    };
    1 + links.windows(2).filter(apart).count()
}

/// How many of these were opened a good while after the one before was used last.
fn separate(sockets: &[&Connection]) -> usize {
    let mut spans: Vec<(Nanos, Nanos)> = sockets
        .iter()
        .filter_map(|socket| Some((socket.opened_at?, socket.last_activity()?)))
        .collect();
    spans.sort_unstable();
    let apart = |pair: &&[(Nanos, Nanos)]| pair[1].0 > pair[0].1.saturating_add(GRACE);
    1 + spans.windows(2).filter(apart).count()
}

/// Whether sockets that nobody uses any more kept coming up for `--idle` at least, never that long apart.
fn went_on(view: &View, began: Nanos, idle: Nanos) -> bool {
    let mut moments: Vec<Nanos> = view
        .silent_for(GRACE)
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
