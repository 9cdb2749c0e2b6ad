//! Says, at a single look: these connections may be a leak or a pool, and nothing here tells which.
//!
//! For unix sockets that were opened before we looked, the kernel keeps no times, and a server that serves
//! all from one thread (Redis) gives none away either. Then all that is known is how many there are. A few
//! are what any application has; more are worth the command that decides.
//!
//! Blind by its nature; so it never says more than `suspect`, and only where no time will come.

use super::{Confidence, Kind, Policy, finding::Claim, view::View};
use crate::{event::State, ledger::Connection};

pub(super) fn claim<'a>(view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    if !policy.single_look {
        return None;
    }
    let sockets: Vec<&Connection> = view
        .connections
        .iter()
        .copied()
        .filter(|connection| connection.state == State::Established && !connection.holders.is_empty())
        .filter(|connection| connection.last_known_activity().is_none())
        .collect();
    (sockets.len() >= policy.rules.undated).then(|| Claim {
        kind: Kind::Leak,
        confidence: Confidence::Suspect,
        because: vec!["that many are open, and may be idle".to_owned()],
        but: vec![
            "they were opened before connleak looked".to_owned(),
            "nothing on this host tells when they were last used: unix sockets have no times, \
             and this server serves all from one thread"
                .to_owned(),
        ],
        sockets,
        kept_alive: None,
    })
}
