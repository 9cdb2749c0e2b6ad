//! Has the kernel count what the programs run: for a moment now and then, ever less often, since counting reads the clock twice in each
//! run, which is most of a short run, and to begin and to end it stops all processors (it patches the kernel's code).

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use aya::sys::{Stats, enable_stats};

/// How long it counts, at least: until the next tick after that.
const ON: Duration = Duration::from_millis(100);
/// From the first beginning, which is the start, so that a short run has figures, too, to the second one. Then four times as long …
const PERIOD: Duration = Duration::from_secs(10);
const FACTOR: u32 = 4;
/// … each time, up to this.
const LONGEST: Duration = Duration::from_secs(320);

/// See the module's head.
pub(super) struct Meter {
    /// When it began to count, or would have, if it could.
    began: Option<Instant>,
    /// From then to the next time.
    period: Duration,
    /// The kernel counts as long as this is open.
    counting: Option<OwnedFd>,
    /// It was asked for, and the kernel has not refused.
    works: bool,
}

impl Meter {
    /// Begins to count, if that is wanted.
    pub(super) fn new(wanted: bool) -> Self {
        let mut meter = Self {
            began: None,
            period: PERIOD / FACTOR,
            counting: None,
            works: wanted,
        };
        meter.tick(Instant::now());
        meter
    }

    /// Whether there are figures: without them the summary has no run times, and nothing else changes.
    pub(super) fn works(&self) -> bool {
        self.works
    }

    /// To be called now and then.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.works && self.begins(now) {
            self.counting = enable_stats(Stats::RunTime).ok();
            self.works = self.counting.is_some();
        } else if self.since(now) >= Some(ON) {
            self.counting = None;
        }
    }

    /// How long it may wait for the next tick, while it counts.
    pub(super) fn until_next(&self, now: Instant) -> Option<Duration> {
        let since = self.since(now).filter(|_| self.counting.is_some());
        since.map(|since| ON.saturating_sub(since))
    }

    fn since(&self, now: Instant) -> Option<Duration> {
        self.began.map(|began| now.saturating_duration_since(began))
    }

    /// Whether it is to count from now on.
    fn begins(&mut self, now: Instant) -> bool {
        let begins = self.since(now).is_none_or(|since| since >= self.period);
        if begins {
            self.began = Some(now);
            self.period = (self.period * FACTOR).min(LONGEST);
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_once_and_then_ever_less_often() {
        let mut meter = Meter {
            began: None,
            period: PERIOD / FACTOR,
            counting: None,
            works: true,
        };
        let start = Instant::now();
        let begun: Vec<u64> = (0..1000)
            .filter(|&second| meter.begins(start + Duration::from_secs(second)))
            .collect();
        assert_eq!(begun, [0, 10, 50, 210, 530, 850]);
    }

    #[test]
    fn what_is_not_wanted_is_not_counted() {
        let mut meter = Meter::new(false);
        meter.tick(Instant::now() + PERIOD);
        assert!(!meter.works() && meter.counting.is_none());
    }
}
