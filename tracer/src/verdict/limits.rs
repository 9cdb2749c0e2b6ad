//! Claims: a limit of the policy is broken. Counted, so `certain`; whether that does harm is the policy's word.
//!
//! `max_open` counts the connections of one process to one server, `longest_idle` those that are silent for
//! longer, `headroom` what this host's processes leave free of the server's limit.
//!
//! Blind: to what other hosts have open at the server; to the time between two snapshots.

use super::{Confidence, Kind, Limits, finding::Claim, outlook::Outlook, view::View};
use crate::{
    event::{Nanos, SECOND, State},
    ledger::Connection,
};

/// Which limit, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Connections of one process to one server.
    MaxOpen {
        /// The limit.
        allowed: u64,
        /// What there is.
        actual: u64,
    },
    /// Silence.
    LongestIdle {
        /// The limit.
        allowed: Nanos,
        /// What there is.
        actual: Nanos,
    },
    /// What is free of the server's limit.
    Headroom {
        /// The least that should be.
        allowed: u64,
        /// What there is.
        actual: u64,
    },
}

impl Breach {
    /// The limit's name in a policy file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MaxOpen { .. } => "max_open",
            Self::LongestIdle { .. } => "longest_idle",
            Self::Headroom { .. } => "headroom",
        }
    }
}

/// What a group breaks by itself.
pub(super) fn broken<'a>(view: &View<'a>, limits: &Limits) -> Vec<(Breach, Claim<'a>)> {
    let held = view.connections.iter().copied().filter(|connection| {
        connection.established() && !matches!(connection.state, State::Connecting | State::Closing)
    });
    let most = limits.max_open.and_then(|allowed| {
        let sockets: Vec<&Connection> = held.collect();
        let actual = sockets.len() as u64;
        let why = format!("{actual} are open, {allowed} are allowed (max_open)");
        (actual > allowed).then(|| (Breach::MaxOpen { allowed, actual }, claim(sockets, why)))
    });
    let idle = limits.longest_idle.and_then(|allowed| {
        let sockets: Vec<&Connection> = view
            .silent_for(allowed)
            .filter(|socket| socket.last_known_activity().is_some())
            .collect();
        let actual = sockets.iter().filter_map(|socket| view.silent(socket)).max()?;
        let why = format!(
            "silent for up to {} s, {} s are allowed (longest_idle)",
            actual / SECOND,
            allowed / SECOND
        );
        Some((Breach::LongestIdle { allowed, actual }, claim(sockets, why)))
    });
    most.into_iter().chain(idle).collect()
}

/// What the processes of this host break together; the sockets are those of the one that has the most.
pub(super) fn headroom<'a>(
    sockets: &[&'a Connection],
    outlook: &Outlook,
    limits: &Limits,
) -> Option<(Breach, Claim<'a>)> {
    let (limit, allowed) = (outlook.limit?, limits.headroom?);
    let actual = limit.saturating_sub(outlook.open);
    let why = format!(
        "{} of {limit} are taken, as far as this host sees; {allowed} must stay free (headroom)",
        outlook.open
    );
    (actual < allowed).then(|| (Breach::Headroom { allowed, actual }, claim(sockets.to_vec(), why)))
}

fn claim(sockets: Vec<&Connection>, why: String) -> Claim<'_> {
    Claim {
        kind: Kind::Policy,
        confidence: Confidence::Certain,
        sockets,
        because: vec![why],
        but: Vec::new(),
        kept_alive: None,
    }
}
