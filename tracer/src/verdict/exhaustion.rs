//! Claims: this server will refuse connections soon, or one process has taken most of what it accepts.
//!
//! Evidence: the server's limit, which somebody has to say (nobody asks the server), and the connections of
//! this host's processes to it:
//!
//! * the limit is reached: `certain`;
//! * they grow (see [`growth`](super::growth)) so that the limit is reached within [`Rules::horizon`]: `likely`
//!   when one of the processes leaks, else `suspect`: rising load, or pools that fill up, look the same;
//! * one process holds [`Rules::most`] percent of the limit: `likely`; or [`Rules::half`], and others need the
//!   server, too: `suspect`: its pool may be meant to be that large.
//!
//! The finding is about the server. It names the process that leaks, or else the one that has the most.
//!
//! Blind: what other hosts have open, so that it may come sooner; a growth that is not linear.

use super::{Confidence, Finding, Kind, Policy, Rules, finding::Claim, outlook::Outlook};
use crate::ledger::Connection;

/// What is known of a server's users.
pub(super) struct Users<'a> {
    /// The connections of the process that is to be named.
    pub sockets: Vec<&'a Connection>,
    /// Whether others have any.
    pub others: bool,
    /// What that process leaks, if it does.
    pub leak: Option<&'a Finding>,
}

pub(super) fn claim<'a>(users: Users<'a>, outlook: &Outlook, policy: &Policy) -> Option<Claim<'a>> {
    let rules: &Rules = &policy.rules;
    let limit = outlook.limit?;
    let own = users.sockets.len() as u64;
    let (mut confidence, mut because, mut but) = (None, Vec::new(), Vec::new());
    let mut say = |level: Confidence, why: String| {
        confidence = confidence.max(Some(level));
        because.push(why);
    };
    let growing = outlook.growth.filter(|growth| growth.per_min > 0.0);
    let ahead = outlook.exhausted_in().filter(|&time| time <= rules.horizon);
    if outlook.open >= limit {
        say(
            Confidence::Certain,
            format!("{} of {limit} are taken, as far as this host sees", outlook.open),
        );
    } else if let (Some(growth), Some(_)) = (growing, ahead)
        && (users.leak.is_some() || growth.over >= rules.pace)
    {
        say(
            if users.leak.is_some() {
                Confidence::Likely
            } else {
                Confidence::Suspect
            },
            format!(
                "{} of {limit} are taken, as far as this host sees, and {:.1} more each minute, over the last {} s",
                outlook.open,
                growth.per_min,
                growth.over / crate::event::SECOND
            ),
        );
        match users.leak {
            Some(leak) => but.push(format!(
                "a forecast: it supposes that the leak [{}] goes on at this pace",
                leak.id
            )),
            None => but.push(
                "no process is known to leak: rising load, or pools that fill up, look the same".to_owned(),
            ),
        }
    }
    let share = |percent: u64| own.saturating_mul(100) >= limit.saturating_mul(percent);
    if share(rules.most) {
        say(
            Confidence::Likely,
            format!("this process alone holds {own} of {limit}"),
        );
    } else if share(rules.half) && users.others {
        say(
            Confidence::Suspect,
            format!("this process holds {own} of {limit}, and others need the server, too"),
        );
        but.push("its pool may be meant to be that large".to_owned());
    }
    but.push("connections of other hosts are not seen: there may be more".to_owned());
    Some(Claim {
        kind: Kind::Exhaustion,
        confidence: confidence?,
        sockets: users.sockets,
        because,
        but,
        kept_alive: None,
    })
}
