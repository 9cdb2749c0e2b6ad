//! Claims: these connections were opened and no request was ever sent on them.
//!
//! Evidence: the kernel's count of sent bytes is zero, for long. Every database protocol begins with a
//! login or a request by the client, so a healthy client sends something at once. What counts is the silence that a
//! snapshot saw: on a host so slow that none has come since the connect, the count is that of the connect.
//!
//! Blind: a client that waits for a server that hangs before its greeting (`MySQL`) looks the same; then the
//! server is to blame.

use super::{Confidence, Kind, Policy, finding::Claim, view::View};
use crate::ledger::Connection;

pub(super) fn claim<'a>(view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    let least = if policy.single_look {
        policy.rules.mute.min(policy.idle)
    } else {
        policy.soon()
    };
    let seen = |connection: &Connection| connection.rest().map(|rest| rest.length());
    let sockets: Vec<&Connection> = view
        .silent_for(least)
        .filter(|connection| connection.never_sent() == Some(true) && seen(connection) >= Some(least))
        .collect();
    let longest = sockets.iter().filter_map(|socket| seen(socket)).max()?;
    let confidence = if longest >= policy.idle {
        Confidence::Certain
    } else if longest >= policy.soon() {
        Confidence::Likely
    } else {
        Confidence::Suspect
    };
    Some(Claim {
        kind: Kind::NeverUsed,
        confidence,
        because: vec!["not one byte was sent to the server".to_owned()],
        but: Vec::new(),
        sockets,
        kept_alive: None,
    })
}
