//! How often a watch takes snapshots: often while something happens, seldom while nothing does, and never so often
//! that it costs more of a processor than it may.
//!
//! Pure: what has been seen comes in, a time comes out. Events reach the agent whatever the pace is (the kernel
//! keeps them), so slowing down delays a verdict only where no event tells: sockets that fall silent. Those are
//! looked at at full pace until they have been silent for `--idle`, and then ever less often: by half of the silence
//! since then, or, where a finding stands, by a tenth of it, so that what time alone makes surer is told a tenth late.

use std::time::Duration;

/// Snapshots refresh idle times at least this often while something happens …
const FULL: Duration = Duration::from_secs(1);
/// … and, with a short `--idle`, more often, but never beyond this.
pub const FASTEST: Duration = Duration::from_millis(250);
/// The longest that a quiet host waits for the next snapshot. What changes without an event (a unix socket that
/// is closed) is noticed that late, then.
const RELAXED: Duration = Duration::from_secs(10);
/// The same where a finding stands: that one of its sockets is used again is noticed that late.
const ATTENTIVE: Duration = Duration::from_secs(5);

/// What the pace depends on.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Silence after which a connection counts as idle.
    pub idle: Duration,
    /// Share of one processor that snapshots may take, in percent.
    pub budget: f64,
}

/// What has been seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// For how long nothing has opened, closed or carried data.
    pub quiet: Duration,
    /// Processor time that the last snapshot took, with its merge and the rules.
    pub cost: Duration,
    /// A finding stands: it may grow, become surer, or be over.
    pub suspicious: bool,
}

impl Pace {
    /// Time from one snapshot to the next. However much snapshots cost, there is one each `--idle`: with fewer there
    /// is nothing to judge by.
    #[must_use]
    pub fn between_snapshots(self, seen: Seen) -> Duration {
        let affordable = seen.cost.mul_f64(100.0 / self.budget);
        self.wanted(seen).max(affordable.min(self.idle.max(FULL)))
    }

    /// Idle times must be fresher than what they are compared with.
    fn full(self) -> Duration {
        (self.idle / 4).clamp(FASTEST, FULL)
    }

    fn wanted(self, seen: Seen) -> Duration {
        let (part, longest) = if seen.suspicious {
            (10, ATTENTIVE)
        } else {
            (2, RELAXED)
        };
        (seen.quiet.saturating_sub(self.idle) / part).clamp(self.full(), longest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USUAL: Pace = Pace {
        idle: Duration::from_secs(30),
        budget: 1.0,
    };

    fn quiet_for(seconds: u64) -> Seen {
        Seen {
            quiet: Duration::from_secs(seconds),
            ..Seen::default()
        }
    }

    #[test]
    fn a_host_that_is_quiet_for_longer_than_idle_is_looked_at_less_and_less_often() {
        let after = |seconds| USUAL.between_snapshots(quiet_for(seconds));
        assert_eq!(after(0), FULL);
        assert_eq!(after(30), FULL);
        assert_eq!(after(38), Duration::from_secs(4));
        assert_eq!(after(3600), RELAXED);
    }

    #[test]
    fn a_standing_finding_is_followed_closely_enough_to_become_surer_a_tenth_late() {
        let after = |seconds| {
            USUAL.between_snapshots(Seen {
                suspicious: true,
                ..quiet_for(seconds)
            })
        };
        assert_eq!(after(40), FULL);
        assert_eq!(after(60), Duration::from_secs(3));
        assert_eq!(after(3600), ATTENTIVE);
    }

    #[test]
    fn a_short_idle_is_looked_at_more_often() {
        let pace = Pace {
            idle: Duration::from_secs(2),
            ..USUAL
        };
        assert_eq!(pace.between_snapshots(quiet_for(0)), Duration::from_millis(500));
        let shorter = Pace {
            idle: Duration::from_millis(100),
            ..USUAL
        };
        assert_eq!(shorter.between_snapshots(quiet_for(0)), FASTEST);
    }

    proptest! {
        #[test]
        fn snapshots_never_take_more_than_their_share(
            cost in 0u64..600_000, budget in 0.1f64..100.0, quiet in 0u64..100_000, suspicious: bool
        ) {
            let seen = Seen {
                quiet: Duration::from_secs(quiet),
                cost: Duration::from_micros(cost),
                suspicious,
            };
            let pace = Pace { budget, ..USUAL };
            let period = pace.between_snapshots(seen);
            prop_assert!((FULL..=USUAL.idle).contains(&period));
            let share = 100.0 * seen.cost.as_secs_f64() / period.as_secs_f64();
            prop_assert!(share <= budget * 1.001 || period == USUAL.idle, "{share} % of {budget} %");
        }
    }
}
