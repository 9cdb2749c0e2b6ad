//! Claims: this process opens connections to this server, uses each for a while, and never again, while
//! connections that it has already are silent.
//!
//! Evidence, all of it seen in full: a *chain* of sockets, each opened when the one before had already
//! fallen silent, each silent since for at least `--idle`, each passed over by a later open; and the number
//! of open connections has risen by as much since the chain began.
//!
//! Why a healthy pool does not do that: it hands out an idle connection before it opens another. What it
//! does do is opened at once (a burst: one link, not a chain), or replaced one for one (rotation: no rise).
//!
//! Blind: a pool that refills a minimum of idle connections while load rises slowly; one connection per
//! thread while threads come up one by one and then rest. Both stop; a leak does not.

use super::{
    Confidence, Kind, Policy,
    finding::Claim,
    view::{GRACE, View},
};
use crate::{event::Nanos, ledger::Connection};

/// Links that make a claim. Two can be chance (a request for each of two pools); three in a row, each with
/// its predecessors idle, is the least that shows a habit.
const LINKS: u64 = 3;

pub(super) fn claim<'a>(view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    let mut sockets: Vec<&Connection> = view
        .silent_for(policy.idle)
        .filter(|connection| view.passed_over(connection) > 0)
        .collect();
    let links = chain(&sockets);
    let began = links.first()?.opened_at?;
    if (links.len() as u64) < LINKS {
        return None;
    }
    let (opened, closed) = (
        view.group.opens_after(began - 1),
        view.group.closes_after(began - 1),
    );
    let rise = opened.saturating_sub(closed);
    if rise < LINKS {
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
            free_from = last + GRACE;
        }
    }
    links
}
