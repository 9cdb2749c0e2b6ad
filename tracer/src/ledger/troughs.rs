//! A number over time, as far as its low points matter: bounded, by forgetting when exactly they were.

use std::collections::VecDeque;

use crate::event::Nanos;

/// Low points that are kept. When there are more, neighbours become one.
const KEEP: usize = 1024;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Troughs {
    points: VecDeque<(Nanos, u64)>,
}

impl Troughs {
    pub(super) fn push(&mut self, at: Nanos, value: u64) {
        if self.points.back().is_some_and(|&(last, _)| last >= at) {
            return;
        }
        if self.points.len() >= KEEP {
            self.halve();
        }
        self.points.push_back((at, value));
    }

    /// The least value from one moment until before another; when none was taken then, the next one.
    pub(super) fn least(&self, from: Nanos, until: Nanos) -> Option<u64> {
        let first = self.points.partition_point(|&(at, _)| at < from);
        let mut points = self.points.iter().skip(first);
        let next = points.next()?;
        points
            .take_while(|&&(at, _)| at < until)
            .chain([next])
            .map(|&(_, value)| value)
            .min()
    }

    /// The points, oldest first.
    pub(super) fn points(&self) -> Vec<(Nanos, u64)> {
        self.points.iter().copied().collect()
    }

    fn halve(&mut self) {
        let old: Vec<(Nanos, u64)> = self.points.drain(..).collect();
        self.points.extend(old.chunks(2).filter_map(|pair| {
            let &(at, _) = pair.last()?;
            Some((at, pair.iter().map(|&(_, value)| value).min()?))
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_a_time_is_kept_though_memory_is_bounded() {
        let mut troughs = Troughs::default();
        for at in 0..10 * KEEP as u64 {
            troughs.push(at, if at == 5000 { 1 } else { 7 });
        }
        assert!(troughs.points.len() <= KEEP);
        assert_eq!(troughs.least(4000, 6000), Some(1));
        assert_eq!(troughs.least(6000, 7000), Some(7));
        assert_eq!(troughs.least(9 * KEEP as u64, Nanos::MAX), Some(7));
        assert_eq!(troughs.least(10 * KEEP as u64, Nanos::MAX), None);
    }

    #[test]
    fn a_time_without_points_has_the_next_one() {
        let mut troughs = Troughs::default();
        troughs.push(10, 3);
        troughs.push(20, 4);
        troughs.push(15, 0);
        assert_eq!(troughs.least(11, 12), Some(4));
        assert_eq!(troughs.least(5, 20), Some(3));
    }
}
