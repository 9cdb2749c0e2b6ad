//! Verdicts: rules over the ledger, each in its own file with what it claims and where it is blind.
//!
//! Pure, like the ledger. A rule looks at one group (a process and a server) and makes at most one claim; a
//! claim becomes a [`Finding`] here, and [`track`] follows findings over time.

#![forbid(unsafe_code)]

mod close_wait;
mod code;
mod finding;
mod glance;
mod habit;
mod inherited;
mod knob;
mod leak;
mod never_used;
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
pub use policy::{Exception, Limits, Policy};
pub use rules::Rules;
use view::View;

use crate::{event::Nanos, ledger::Ledger};

/// Applies every rule to every group; strongest and largest findings first.
#[must_use]
pub fn judge(ledger: &Ledger, now: Nanos, policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, group, connections) in ledger.groups() {
        let view = View::new(group, connections, now, ledger, policy.rules.grace);
        // They explain the same sockets: the surest has the word, of equals the last.
        let idle = [
            undated::claim(&view, policy),
            glance::claim(&view, policy),
            unreturned::claim(&view, policy),
            leak::claim(&view, policy),
        ];
        let idle = idle.into_iter().flatten().max_by_key(|claim| claim.confidence);
        let claims = [
            idle,
            close_wait::claim(&view, policy),
            inherited::claim(&view, policy),
            never_used::claim(&view, policy),
        ];
        findings.extend(
            claims
                .into_iter()
                .flatten()
                .map(|claim| Finding::new(key, &view, policy, claim)),
        );
    }
    findings
        .sort_by(|a, b| (b.confidence, b.sockets.len(), &a.id).cmp(&(a.confidence, a.sockets.len(), &b.id)));
    findings
}
