//! Claims: the server has closed these connections and the application still holds the descriptors.
//!
//! Evidence: `CLOSE_WAIT` (or closed altogether) with a descriptor that refers to the socket. A descriptor
//! is all that such a socket still costs, but each is one of the process's limit, and the code that keeps it
//! believes that it has a connection.
//!
//! Blind: a pool that finds out only when it hands the connection out next is told the same; it is true of
//! it, too, and harmless there if the pool is small.

use super::{Confidence, Kind, Policy, finding::Claim, view::View};
use crate::{event::State, ledger::Connection};

pub(super) fn claim<'a>(view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    let since = |connection: &Connection| {
        view.now
            .saturating_sub(connection.peer_closed_at().unwrap_or(connection.first_seen))
    };
    let sockets: Vec<&Connection> = view
        .connections
        .iter()
        .copied()
        .filter(|connection| matches!(connection.state, State::PeerClosed | State::Closed))
        .filter(|connection| connection.established() && !connection.holders.is_empty())
        .filter(|connection| policy.single_look || since(connection) >= policy.soon())
        .collect();
    let longest = sockets.iter().map(|socket| since(socket)).max()?;
    // When the server closed before attach, nobody knows how long ago: silence began before that.
    let certain = longest >= policy.idle;
    Some(Claim {
        kind: Kind::CloseWait,
        confidence: if certain {
            Confidence::Certain
        } else {
            Confidence::Likely
        },
        because: vec!["the server's end is closed, the descriptors are still held".to_owned()],
        but: Vec::new(),
        sockets,
    })
}
