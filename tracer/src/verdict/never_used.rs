//! Claims: these connections were opened and no request was ever sent on them.
//!
//! Evidence: the kernel's count of sent bytes is zero, for long. Every database protocol begins with a
//! login or a request by the client, so a healthy client sends something at once.
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
    let sockets: Vec<&Connection> = view
        .silent_for(least)
        .filter(|connection| connection.never_sent() == Some(true))
        .collect();
    let longest = sockets.iter().filter_map(|socket| view.silent(socket)).max()?;
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
    })
}
