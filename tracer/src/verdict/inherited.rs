//! Claims: this process holds connections that another process opened and no longer holds, and has never
//! used them. The opener's close, or its end, did not end the session.
//!
//! Evidence: the opener was seen; a snapshot found that it no longer holds the socket and this process does;
//! not a byte went either way since, for `--idle` at least. One such socket may be a daemon that has put itself
//! into the background and waits: `suspect`. Three or more on this host to the same server, in whichever
//! processes, are a habit: `likely`.
//!
//! Blind: sockets from before attach (their opener is not known); a child that holds what its parent holds
//! and uses still (no harm is done yet); a process that was handed its socket in order to wait.

use super::{Confidence, Kind, Policy, finding::Claim, view::View};
use crate::{
    event::{Nanos, State},
    ledger::Connection,
};

pub(super) fn claim<'a>(view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    let sockets: Vec<&Connection> = view
        .connections
        .iter()
        .copied()
        .filter(|connection| unused(connection, view.now, policy.idle))
        .collect();
    let first = sockets.first()?;
    let alike = view
        .ledger
        .connections()
        .filter(|other| other.server == first.server && unused(other, view.now, policy.idle))
        .count();
    let mut but = Vec::new();
    if alike < policy.rules.inherited {
        but.push("they are few: this process may have been started to use them".to_owned());
    }
    Some(Claim {
        kind: Kind::Inherited,
        confidence: if alike < policy.rules.inherited || view.ledger.unsettled() {
            Confidence::Suspect
        } else {
            Confidence::Likely
        },
        because: vec![
            "another process opened them and no longer holds them; not a byte has gone either way since"
                .to_owned(),
        ],
        sockets,
        but,
        kept_alive: None,
    })
}

fn unused(connection: &Connection, now: Nanos, idle: Nanos) -> bool {
    connection.state == State::Established
        && !connection.waiting()
        && !connection.holders.is_empty()
        && connection.handed_at().is_some_and(|handed| {
            connection.last_activity() <= Some(handed) && now.saturating_sub(handed) >= idle
        })
}
