//! Sentences about limits: how long until a server is full, and what of the policy is broken.

use super::{duration::human, text};
use crate::{
    owner::Process,
    server::default_limit::default_limit,
    verdict::{Breach, Finding},
};

/// The least growth that is worth a word: below it, what is printed would be +0.0.
const NOTABLE: f64 = 0.05;

/// `+12/min`, `about +0.5/min`; nothing when nothing is known to grow.
#[must_use]
pub fn pace(finding: &Finding) -> Option<String> {
    let rate = finding.growth_per_min.filter(|&rate| rate >= NOTABLE)?;
    let about = if finding.growth_estimated { "about " } else { "" };
    Some(if rate >= 10.0 {
        format!("{about}+{rate:.0}/min")
    } else {
        format!("{about}+{rate:.1}/min")
    })
}

/// How long the server has still room, for a finding about something that grows.
#[must_use]
pub fn left(finding: &Finding) -> Option<String> {
    let pace = pace(finding)?;
    let open = finding.outlook.open;
    if let Some(limit) = finding.outlook.limit {
        let time = finding.exhausted_in().filter(|_| open < limit)?;
        return Some(format!(
            "the limit of {limit} is reached in {} at {pace}; {open} are taken, as far as this host sees",
            human(time)
        ));
    }
    let (limit, setting) = default_limit(finding.server.system)?;
    Some(format!(
        "the server's limit is not known here (--server-limit N); {setting} is {limit} by default, and {open} are taken"
    ))
}

/// The sentence that matters, of a server that is or gets full.
#[must_use]
pub fn exhaustion(finding: &Finding, process: &Process) -> String {
    let (who, to) = (text::name(process), text::server(&finding.server));
    let (open, own) = (finding.outlook.open, finding.sockets.len());
    let limit = finding.outlook.limit.unwrap_or(open);
    if open >= limit {
        return format!("{to} is full: {open} of {limit} connections are taken; {who} holds {own}");
    }
    match (finding.exhausted_in(), pace(finding)) {
        (Some(time), Some(pace)) => format!(
            "{to} will be full in {} at {pace}: {open} of {limit} connections are taken; {who} holds {own}",
            human(time)
        ),
        _ => format!("{who} holds {own} of the {limit} connections that {to} accepts"),
    }
}

/// The sentence that matters, of a limit of the policy.
#[must_use]
pub fn breach(finding: &Finding, process: &Process) -> String {
    let (who, to) = (text::name(process), text::server(&finding.server));
    let own = finding.sockets.len();
    match finding.breach {
        Some(Breach::MaxOpen { allowed, actual }) => {
            format!("{who} has {actual} connections to {to} open: the policy allows {allowed}")
        }
        Some(Breach::LongestIdle { allowed, actual }) => format!(
            "{who} keeps {} to {to} idle, for up to {}: the policy allows {}",
            text::plural(own, "connection"),
            human(actual),
            human(allowed)
        ),
        Some(Breach::Headroom { allowed, actual }) => format!(
            "{to} has {actual} of {} connections free: the policy wants {allowed}; {who} holds {own}",
            finding.outlook.limit.unwrap_or_default()
        ),
        None => format!("{who} breaks the policy at {to}"),
    }
}

/// That a limit is kept again.
#[must_use]
pub fn below(finding: &Finding, process: &Process) -> String {
    let (who, to) = (text::name(process), text::server(&finding.server));
    match finding.breach {
        Some(breach) => format!("{who} keeps to the policy's {} at {to} again", breach.name()),
        None => format!("{to} no longer runs towards its limit"),
    }
}
