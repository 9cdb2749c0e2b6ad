//! Has the kernel count what the programs run: in one second of ten, since counting reads the clock twice in each run,
//! which is most of a short run.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use aya::sys::{Stats, enable_stats};

/// How long it counts …
const ON: Duration = Duration::from_secs(1);
/// … each time that this has passed. From the start on, so that a short run has figures, too.
const PERIOD: Duration = Duration::from_secs(10);

/// See the module's head.
pub(super) struct Meter {
    began: Instant,
    /// The kernel counts as long as this is open.
    counting: Option<OwnedFd>,
    /// It was asked for, and the kernel has not refused.
    works: bool,
}

impl Meter {
    /// Begins to count, if that is wanted.
    pub(super) fn new(wanted: bool) -> Self {
        let mut meter = Self {
            began: Instant::now(),
            counting: None,
            works: wanted,
        };
        meter.tick(meter.began);
        meter
    }

    /// Whether there are figures: without them the summary has no run times, and nothing else changes.
    pub(super) fn works(&self) -> bool {
        self.works
    }

    /// To be called now and then.
    pub(super) fn tick(&mut self, now: Instant) {
        let wanted = self.works && counts(now.saturating_duration_since(self.began));
        if !wanted {
            self.counting = None;
        } else if self.counting.is_none() {
            self.counting = enable_stats(Stats::RunTime).ok();
            self.works = self.counting.is_some();
        }
    }
}

/// Whether it counts so long after its start.
fn counts(since: Duration) -> bool {
    since.as_nanos() % PERIOD.as_nanos() < ON.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_second_of_each_ten_is_counted() {
        let counted: Vec<u64> = (0..=40)
            .filter(|half| counts(Duration::from_millis(500 * half)))
            .collect();
        assert_eq!(counted, [0, 1, 20, 21, 40]);
    }
}
