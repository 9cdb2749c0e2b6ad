//! Verdicts: rules over the ledger, each in its own file with what it claims and where it is blind.
//!
//! Pure, like the ledger. A rule looks at one group (a process and a server) and makes at most one claim; a
//! claim becomes a [`Finding`] here, and [`track`] follows findings over time.

#![forbid(unsafe_code)]

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

mod close_wait;
mod code;
mod exhaustion;
mod finding;
mod glance;
pub mod growth;
mod habit;
mod inherited;
mod kept_alive;
mod knob;
mod leak;
mod limits;
mod never_used;
mod outlook;
mod policy;
mod rules;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod track;
mod undated;
mod unreturned;
mod view;

pub use code::{Code, Share};
pub use finding::{Confidence, Finding, FindingId, Kind};
pub use knob::{Knob, Unit};
pub use limits::Breach;
pub use outlook::Outlook;
pub use policy::{Exception, Limits, Policy};
pub use rules::Rules;
use view::View;

use crate::{
    event::{Nanos, Server},
    ledger::{GroupKey, Ledger},
    owner::ProcessId,
};

/// What processes are called, as far as the policy asks for it.
pub type Names = BTreeMap<ProcessId, String>;

/// Applies every rule to every group and every server; strongest and largest findings first.
#[must_use]
pub fn judge(ledger: &Ledger, now: Nanos, policy: &Policy, names: &Names) -> Vec<Finding> {
    let outlooks = outlook::all(ledger, policy);
    let outlook_of = |server| outlooks.get(server).copied().unwrap_or_default();
    let mut findings = Vec::new();
    let mut users: BTreeMap<&Arc<Server>, Vec<(&GroupKey, View<'_>)>> = BTreeMap::new();
    for (key, group, connections) in ledger.groups() {
        let view = View::new(group, connections, now, ledger, policy.rules.grace);
        // They explain the same sockets: the surest has the word, of equals the last.
        let idle = [
            undated::claim(&view, policy),
            kept_alive::claim(&view, policy),
            glance::claim(&view, policy),
            unreturned::claim(&view, policy),
            leak::claim(&view, policy),
        ];
        let idle = idle.into_iter().flatten().max_by_key(|claim| claim.confidence);
        let claims = [
            idle,
            close_wait::claim(key.process, &view, policy),
            inherited::claim(&view, policy),
            never_used::claim(&view, policy),
        ];
        let outlook = outlook_of(&key.server);
        let found = |claim| Finding::new(key, &view, policy, outlook, claim);
        findings.extend(claims.into_iter().flatten().map(found));
        let limits = policy.limits_of(names.get(&key.process).map(String::as_str), &key.server);
        let broken = limits::broken(&view, &limits);
        findings.extend(
            broken
                .into_iter()
                .map(|(breach, claim)| found(claim).of_breach(breach)),
        );
        users.entry(&key.server).or_default().push((key, view));
    }
    for (server, users) in users {
        let about = whole_server(server, users, outlook_of(server), policy, &findings);
        findings.extend(about);
    }
    findings
        .sort_by(|a, b| (b.confidence, b.sockets.len(), &a.id).cmp(&(a.confidence, a.sockets.len(), &b.id)));
    findings
}

/// How long after attach a single look should go on, because it will know more about what it suspects then; `None` when
/// it knows all that it can.
#[must_use]
pub fn look_until(ledger: &Ledger, now: Nanos, policy: &Policy) -> Option<Nanos> {
    let groups = ledger.groups();
    let times = groups.filter_map(|(_, group, connections)| {
        let view = View::new(group, connections, now, ledger, policy.rules.grace);
        glance::decided_after(&view, policy)
    });
    times.min()
}

/// The findings about a server as a whole. They name the process that leaks, or else the one that has the most.
fn whole_server(
    server: &Server,
    users: Vec<(&GroupKey, View<'_>)>,
    outlook: Outlook,
    policy: &Policy,
    findings: &[Finding],
) -> Vec<Finding> {
    let limits = policy.limits_of(None, server);
    if limits.server_limit.is_none() {
        return Vec::new();
    }
    let leaks = |finding: &&Finding| {
        *finding.server == *server
            && finding.confidence >= Confidence::Likely
            && matches!(
                finding.kind,
                Kind::Leak | Kind::Unreturned | Kind::Inherited | Kind::NeverUsed
            )
    };
    let leak = findings
        .iter()
        .filter(leaks)
        .max_by_key(|leak| leak.sockets.len());
    let mut users: Vec<_> = users
        .into_iter()
        .map(|(key, view)| (view.taken(), key, view))
        .filter(|(taken, ..)| !taken.is_empty())
        .collect();
    users.sort_by_key(|(taken, key, _)| {
        let leaks = leak.is_some_and(|leak| leak.process == key.process);
        (!leaks, Reverse(taken.len()), key.process)
    });
    let others = users.len() > 1;
    let Some((sockets, key, view)) = users.into_iter().next() else {
        return Vec::new();
    };
    let found = |claim| Finding::new(key, &view, policy, outlook, claim);
    let broken = limits::headroom(&sockets, &outlook, &limits);
    let broken = broken.map(|(breach, claim)| found(claim).of_breach(breach));
    let users = exhaustion::Users {
        sockets,
        others,
        leak,
    };
    let full = exhaustion::claim(users, &outlook, policy).map(|claim| Finding {
        id: FindingId::of_server(Kind::Exhaustion, server),
        ..found(claim)
    });
    broken.into_iter().chain(full).collect()
}
