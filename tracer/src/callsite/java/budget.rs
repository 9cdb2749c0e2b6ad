//! How often a process may be asked for a thread dump: each one stops all its threads for about a millisecond.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// Least time between two dumps of one process.
const APART: Duration = Duration::from_millis(200);
/// Most dumps of one process in a minute.
const PER_MINUTE: u32 = 60;
const MINUTE: Duration = Duration::from_mins(1);
/// After a failure the process is left alone for this long, twice as long after the next one, and so on.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest pause, as a power of two of the first: 320 s.
const MAX_DOUBLINGS: u32 = 6;

/// One process's.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    not_before: Instant,
    minute: Instant,
    in_minute: u32,
    failures: u32,
}

impl Budget {
    /// Nothing spent.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            not_before: now,
            minute: now,
            in_minute: 0,
            failures: 0,
        }
    }

    /// Takes one dump, if there is one left.
    pub fn take(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.minute) >= MINUTE {
            self.minute = now;
            self.in_minute = 0;
        }
        if now < self.not_before || self.in_minute >= PER_MINUTE {
            return false;
        }
        self.in_minute += 1;
        self.not_before = now + APART;
        true
    }

    /// The dump that was taken last came.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// It did not come.
    pub fn failed(&mut self, now: Instant) {
        self.not_before = now + PAUSE * (1 << self.failures.min(MAX_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &mut Budget, start: Instant, milliseconds: impl Iterator<Item = u64>) -> usize {
        milliseconds
            .filter(|at| budget.take(start + Duration::from_millis(*at)))
            .count()
    }

    #[test]
    fn five_a_second_and_sixty_a_minute() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert_eq!(taken(&mut budget, start, 0..1000), 5);
        assert_eq!(taken(&mut budget, start, 1000..60_000), 55);
        assert_eq!(taken(&mut budget, start, 60_000..61_000), 5);
    }

    #[test]
    fn a_process_that_does_not_answer_is_left_alone_for_longer_each_time() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        for pause in [5, 10, 20, 40, 80, 160, 320, 320] {
            budget.failed(start);
            let pause = Duration::from_secs(pause);
            assert!(!budget.clone().take(start + pause / 2));
            assert!(budget.clone().take(start + pause));
        }
        budget.succeeded();
        budget.failed(start);
        assert!(budget.take(start + Duration::from_secs(5)));
    }
}
