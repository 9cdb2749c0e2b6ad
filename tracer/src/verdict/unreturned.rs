//! Claims: connections were taken out of this process's pool, one by one, and not given back. It opens no
//! others: the pool is at its ceiling.
//!
//! Evidence, from history: since the first of them fell silent the process has not opened more connections
//! than it closed, and a socket is *missing* from the pool's own order. When a pool hands out a connection,
//! it prefers one of the idle ones: the one that has rested least (a stack), longest (a queue), or that comes
//! first in a list. So each time that one of the process's sockets is used while another rests, the other was
//! not preferred. A socket that since it fell silent was passed over by one that had rested longer *and* by
//! one that had rested less, both of which are silent themselves now, and which itself had been preferred to
//! one of those before, is in no such order: it is not there to be handed out. It must have been passed over as
//! often as there are silent ones, since chance passes over some, too: one such socket is `suspect`. The order is the
//! pool's: once two sockets have shown that there is none, others need not show both halves again, nor so often: that
//! one was preferred to them to which they had been preferred is enough. Three are a habit, and then those that fell
//! silent after the first are counted, too.
//!
//! They must have been silent for `--idle`, and twice as long as any rest that began since the first fell
//! silent and ended (a health check, or a round of a long queue, comes back), or that ended when another's did
//! (work began).
//!
//! `likely` at most: that somebody waits for them cannot be seen at the socket. `suspect` when less than half as
//! much is sent as before: there may be less work. And where some are closed meanwhile, they are silent twice as long as any
//! of this process was when it was closed: somebody sweeps away what visitors leave behind.
//!
//! Blind: pools that hand out at random or prefer by thread; a pool under falling load beside another one of
//! the same process; a pool of which each connection was lost at its very first use; and, as snapshots are
//! up to a second apart, pools that are drained within a few seconds.

use std::collections::BTreeSet;

use super::{Confidence, Kind, Policy, finding::Claim, view::View};
use crate::{
    event::{Cookie, Nanos, SECOND},
    ledger::{Connection, Rest},
};

pub(super) fn claim<'a>(view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    // Nothing was used again, so nothing was passed over.
    if view.group.rests().is_empty() {
        return None;
    }
    let mut silent: Vec<(Nanos, &Connection)> = view
        .silent_for(policy.idle)
        .filter(|connection| connection.never_sent() != Some(true) && !view.owned(connection))
        .filter(|connection| !connection.maybe_waiting())
        .filter_map(|connection| Some((connection.last_activity()?, connection)))
        .collect();
    let habit = policy.rules.missing;
    if silent.len() < habit {
        return None;
    }
    silent.sort_by_key(|&(since, connection)| (since, connection.cookie));
    let fellows: BTreeSet<Cookie> = silent.iter().map(|(_, connection)| connection.cookie).collect();
    let rests: Vec<&Rest> = view
        .group
        .rests()
        .iter()
        .filter(|rest| fellows.contains(&rest.cookie))
        .collect();
    let looks: Vec<(Nanos, Absence)> = silent
        .iter()
        .map(|&(since, connection)| {
            let absence = absence(connection.cookie, since, &rests, fellows.len(), view.grace);
            (since, absence)
        })
        .collect();
    // The order is the pool's: what one has shown of it may hold for the others, what two have shown does.
    let shown = looks.iter().filter(|look| look.1 == Absence::Shown).count();
    let passed_over = looks.iter().filter(|look| look.1 != Absence::No);
    let missing: Vec<Nanos> = passed_over.map(|&(since, _)| since).collect();
    if shown == 0 {
        return None;
    }
    let first = *missing.first()?;
    let longest = view
        .group
        .rests()
        .iter()
        .filter(|rest| rest.from >= first || ended_together(rest, &rests))
        .map(Rest::length)
        .max()
        .unwrap_or(0);
    let closed = view.group.closes_after(first);
    let longest = if closed > 0 {
        longest.max(view.group.closed_after())
    } else {
        longest
    };
    let bounded = view.group.opens_after(first) <= closed;
    silent.retain(|&(since, _)| {
        since >= first && view.now.saturating_sub(since) >= longest.saturating_mul(policy.rules.rests)
    });
    if silent.len() < habit || !bounded {
        return None;
    }
    let at_work = view.connections.len() - silent.len();
    let load = if at_work == 0 {
        "none is left to carry anything".to_owned()
    } else {
        format!("the other {at_work} carry all since")
    };
    let mut but = vec!["whether anybody waits for them cannot be seen at the socket".to_owned()];
    let stopped = at_work == 0 || !load_goes_on(view, first, &silent, policy);
    if stopped {
        but.push("less is sent than before, as when there is less work".to_owned());
    }
    let few = shown < SHOWN || missing.len() < habit;
    if few {
        but.push("they are few: chance passes over some, too".to_owned());
    }
    let lost = view.lost_since(first);
    if lost {
        but.push("events were lost meanwhile".to_owned());
    }
    Some(Claim {
        kind: Kind::Unreturned,
        confidence: if lost || stopped || few {
            Confidence::Suspect
        } else {
            Confidence::Likely
        },
        because: vec![
            format!(
                "no more were opened than closed since the first of them fell silent, {} s ago; {load}",
                view.now.saturating_sub(first) / SECOND
            ),
            format!(
                "{shown} of them were passed over by connections that had rested longer and by others that had \
                 rested less, {} by some to which they had been preferred before",
                missing.len()
            ),
        ],
        sockets: silent.into_iter().map(|(_, connection)| connection).collect(),
        but,
        kept_alive: None,
    })
}

/// Whether another of these was taken up again at the same look: then work began, and it was not that one more was
/// missing.
fn ended_together(rest: &Rest, rests: &[&Rest]) -> bool {
    let long = |other: &Rest| other.length() * 2 >= rest.length();
    rests
        .iter()
        .any(|other| other.seen == rest.seen && other.cookie != rest.cookie && long(other))
}

/// Whether the process has sent as often since the newest of these fell silent as while they did so, one by one.
fn load_goes_on(view: &View, first: Nanos, silent: &[(Nanos, &Connection)], policy: &Policy) -> bool {
    let Some(&(newest, _)) = silent.last() else {
        return false;
    };
    let (before, since) = (newest.saturating_sub(first), view.now.saturating_sub(newest));
    let time = before.min(since);
    let then = view.group.sends(newest.saturating_sub(time), newest);
    let now = view.group.sends(view.now.saturating_sub(time), view.now);
    now.saturating_mul(100) >= then.saturating_mul(policy.rules.load)
}

/// Sockets that must show by themselves that the pool has no order. One may be chance: worth a word, no more.
const SHOWN: usize = 2;

/// What others did shows of one that is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absence {
    /// Nothing, or too little.
    No,
    /// It was passed over for one to which it had been preferred: it does not come last in a list. A stack or a queue may
    /// have done that, or chance.
    Passed,
    /// In no order of which we know could it have been passed over, if it had been there to be handed out.
    Shown,
}

fn absence(cookie: Cookie, since: Nanos, rests: &[&Rest], fellows: usize, grace: Nanos) -> Absence {
    // Both were idle when the snapshot looked, and the other one was used after that.
    let passed = || {
        rests
            .iter()
            .filter(|rest| rest.cookie != cookie && rest.seen > since.saturating_add(grace))
    };
    let no_stack = passed().any(|rest| rest.from.saturating_add(grace) < since);
    let no_queue = passed().any(|rest| rest.from > since.saturating_add(grace));
    // A pool that hands out at random passes over each of its idle ones some times, too.
    let often = passed().count() >= fellows;
    let preferred_to_it: BTreeSet<Cookie> = passed().map(|rest| rest.cookie).collect();
    let own = || rests.iter().filter(|rest| rest.cookie == cookie);
    let no_list = own().any(|own| {
        rests.iter().any(|other| {
            preferred_to_it.contains(&other.cookie) && other.from <= own.seen && own.seen <= other.seen
        })
    });
    match (no_list, often && no_stack && no_queue) {
        (false, _) => Absence::No,
        (true, false) => Absence::Passed,
        (true, true) => Absence::Shown,
    }
}
