//! How a server stands: what this host's processes have open there, how fast that grows, and when it is full.
//!
//! Only this host is seen. Others may have connections to the same server, so it may be full sooner; and a
//! server that is reached by two addresses is two servers here.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Policy,
    growth::{Growth, growth},
};
use crate::{
    event::{Nanos, SECOND, Server},
    ledger::Ledger,
};

/// See the module's head.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outlook {
    /// Connections that the server accepts in all, if somebody said.
    pub limit: Option<u64>,
    /// Connections that this host's processes have to it: the fewer of the last two snapshots.
    pub open: u64,
    /// How that grows; `None` while it is not known.
    pub growth: Option<Growth>,
}

impl Outlook {
    /// How long until the limit is reached at this pace; `None` without a limit or a pace.
    #[must_use]
    pub fn full_in(&self, per_min: f64) -> Option<Nanos> {
        let free = self.limit?.saturating_sub(self.open);
        if free == 0 {
            return Some(0);
        }
        let seconds = free as f64 * 60.0 / per_min;
        // A century is no forecast, and more does not fit.
        let sane = per_min > 0.0 && seconds < 3e9;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be positive and small"
        )]
        sane.then_some((seconds * SECOND as f64) as Nanos)
    }

    /// The same at the measured growth.
    #[must_use]
    pub fn exhausted_in(&self) -> Option<Nanos> {
        self.full_in(self.growth.map_or(0.0, |growth| growth.per_min))
    }
}

/// How every server stands.
pub(super) fn all(ledger: &Ledger, policy: &Policy) -> BTreeMap<Arc<Server>, Outlook> {
    let outlook = |(server, points): (&Arc<Server>, Vec<(Nanos, u64)>)| {
        // A server that refuses a connection has accepted it first: for a moment there are more than its limit.
        let lately = points.iter().rev().take(2);
        let outlook = Outlook {
            limit: policy.limits_of(None, server).server_limit,
            open: lately.map(|&(_, open)| open).min().unwrap_or(0),
            growth: growth(&points, &policy.rules),
        };
        (Arc::clone(server), outlook)
    };
    ledger.servers().map(outlook).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlook(limit: Option<u64>, open: u64) -> Outlook {
        Outlook {
            limit,
            open,
            growth: None,
        }
    }

    #[test]
    fn what_is_free_divided_by_the_pace_is_the_time_left() {
        assert_eq!(outlook(Some(100), 76).full_in(12.0), Some(120 * SECOND));
        assert_eq!(outlook(Some(100), 100).full_in(0.0), Some(0));
        assert_eq!(outlook(Some(100), 200).full_in(12.0), Some(0));
    }

    #[test]
    fn nothing_is_foretold_without_a_limit_or_a_pace() {
        assert_eq!(outlook(None, 76).full_in(12.0), None);
        for pace in [0.0, -1.0, 1e-300, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(outlook(Some(100), 76).full_in(pace), None, "{pace}");
        }
    }
}
