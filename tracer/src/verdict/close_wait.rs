//! Claims: the server has closed these connections, and the application will not close its end.
//!
//! Evidence: `CLOSE_WAIT` (or closed altogether) with a descriptor that refers to the socket, while the process has gone
//! on to open others: it works, and does not miss them. A descriptor is all that such a socket still costs, but each
//! is one of the process's limit, and the code that keeps it believes that it has a connection. A descriptor that the
//! process only inherited is in no pool of its own, and needs no such evidence.
//!
//! Or it has no other connection to the server left: that is all it has, and each is dead.
//!
//! Not a claim but a `suspect`: dead ones beside others that live, while none was opened since, since a pool finds out when it
//! hands one out next; and those of a process that was seen to close others late.
//!
//! Blind: a pool that rests as a whole, and one lost connection among those that a pool clears late.

use super::{Confidence, Kind, Policy, finding::Claim, view::View};
use crate::{event::State, ledger::Connection, owner::ProcessId};

pub(super) fn claim<'a>(process: ProcessId, view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    let died = |connection: &Connection| connection.peer_closed_at().unwrap_or(connection.first_seen);
    let sockets: Vec<&Connection> = view
        .connections
        .iter()
        .copied()
        .filter(|connection| matches!(connection.state, State::PeerClosed | State::Closed))
        .filter(|connection| connection.established() && !connection.holders.is_empty())
        .filter(|connection| policy.single_look || view.now.saturating_sub(died(connection)) >= policy.soon())
        .collect();
    let first_died = sockets.iter().map(|socket| died(socket)).min()?;
    let longest = view.now.saturating_sub(first_died);
    let inherited =
        |connection: &Connection| connection.opener.is_some_and(|opener| opener.process != process);
    let opened_since = view
        .group
        .opens_after(first_died.saturating_add(policy.rules.grace));
    let mut because = vec!["the server's end is closed, the descriptors are still held".to_owned()];
    let mut but = Vec::new();
    let confidence = if view.group.cleared() > 0 {
        but.push(format!(
            "it has closed {} others after their server had, as a pool does when it is asked for one",
            view.group.cleared()
        ));
        Confidence::Suspect
    } else if opened_since > 0 || sockets.iter().all(|socket| inherited(socket)) {
        if opened_since > 0 {
            because.push(format!("it has opened {opened_since} others since"));
        }
        // When the server closed before attach, nobody knows how long ago: silence began before that.
        if longest >= policy.idle {
            Confidence::Certain
        } else {
            Confidence::Likely
        }
    } else if view.taken().is_empty() {
        Confidence::Likely
    } else {
        but.push("it has opened no other since: a pool notices when it is asked for one".to_owned());
        Confidence::Suspect
    };
    Some(Claim {
        kind: Kind::CloseWait,
        confidence,
        because,
        but,
        sockets,
        kept_alive: None,
    })
}
