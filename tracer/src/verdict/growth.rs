//! How fast a number grows: a robust slope, not two points.
//!
//! A number of open connections jumps with every burst and falls back after it. What counts is what stays: of
//! the samples, the *troughs*; of those, the part below which the number never fell again. Growth is claimed when that
//! part rose in several steps, none of which is most of the rise (a pool that fills up is one step), and its
//! pace is the median of the slopes between all pairs of troughs (Theil–Sen: up to 29 % of the points may be
//! anything; <https://en.wikipedia.org/wiki/Theil%E2%80%93Sen_estimator>).
//!
//! Fast leaks show within seconds and slow ones within hours, so the time looked at begins short and doubles
//! until it shows growth. What a longer time shows and a shorter one contradicts is over.

use super::Rules;
use crate::event::{Nanos, SECOND};

/// A number at a moment.
pub type Point = (Nanos, u64);

const MINUTE: Nanos = 60 * SECOND;
/// Points that a slope is taken of; pairs are its square. More are merged, the lowest of each part being kept.
const POINTS: usize = 32;
/// Fewer points than this have no slope worth telling: of four, one outlier is one in four.
const FEWEST: usize = 5;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// How many a minute; never negative.
    pub per_min: f64,
    /// Over how long.
    pub over: Nanos,
}

/// The median of the slopes between all pairs of points, per minute; `None` for too few of them.
#[must_use]
pub fn slope(points: &[Point]) -> Option<f64> {
    if points.len() < FEWEST {
        return None;
    }
    let minutes = |nanos: Nanos| nanos as f64 / MINUTE as f64;
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (index, &(from, low)) in points.iter().enumerate() {
        for &(until, high) in &points[index + 1..] {
            if until > from {
                slopes.push((high as f64 - low as f64) / minutes(until - from));
            }
        }
    }
    slopes.sort_by(f64::total_cmp);
    let middle = slopes.len() / 2;
    match (
        slopes.len() % 2,
        slopes.get(middle.wrapping_sub(1)),
        slopes.get(middle),
    ) {
        (0, Some(below), Some(above)) => Some(f64::midpoint(*below, *above)),
        (_, _, median) => median.copied(),
    }
}

/// The present growth of a sampled number; `None` while that is not known yet, zero when it stays.
#[must_use]
pub fn growth(points: &[Point], rules: &Rules) -> Option<Growth> {
    let (&(first, _), &(last, _)) = (points.first()?, points.last()?);
    let whole = last.saturating_sub(first);
    // What shorter times have shown: how long, and how much stayed.
    let mut shorter: Vec<(Nanos, u64)> = Vec::new();
    let windows = std::iter::successors(Some(rules.pace), |window| window.checked_mul(2));
    for window in windows {
        let from = last.saturating_sub(window);
        let inside = &points[points.partition_point(|&(at, _)| at < from)..];
        let troughs = thin(inside);
        let span = inside.first().map_or(0, |&(at, _)| last.saturating_sub(at));
        let stayed = stays(&troughs);
        let rise = stayed.last()?.saturating_sub(*stayed.first()?);
        if let Some(per_min) = slope(&troughs)
            && per_min > 0.0
            && climbs(&stayed, rules.links)
        {
            let over = |&(time, rose): &(Nanos, u64)| {
                let expected = per_min * (time as f64 / MINUTE as f64);
                expected >= rules.links as f64 && (rose as f64) < expected / 3.0
            };
            let per_min = if shorter.iter().any(over) { 0.0 } else { per_min };
            return Some(Growth { per_min, over: span });
        }
        if window >= whole {
            break;
        }
        shorter.push((window, rise));
    }
    (whole >= rules.pace).then_some(Growth {
        per_min: 0.0,
        over: whole,
    })
}

/// At most [`POINTS`] points: the lowest of equal parts of the time.
pub(super) fn thin(points: &[Point]) -> Vec<Point> {
    let (Some(&(first, _)), Some(&(last, _))) = (points.first(), points.last()) else {
        return Vec::new();
    };
    if points.len() <= POINTS {
        return points.to_vec();
    }
    let part = (last.saturating_sub(first) / POINTS as u64).max(1);
    points
        .chunk_by(|&(before, _), &(after, _)| {
            before.saturating_sub(first) / part == after.saturating_sub(first) / part
        })
        .filter_map(|chunk| chunk.iter().copied().min_by_key(|&(at, value)| (value, at)))
        .collect()
}

/// For each point, the least value from there on: what stayed.
fn stays(points: &[Point]) -> Vec<u64> {
    let mut least = u64::MAX;
    let mut stayed: Vec<u64> = points
        .iter()
        .rev()
        .map(|&(_, value)| {
            least = least.min(value);
            least
        })
        .collect();
    stayed.reverse();
    stayed
}

/// Whether a number that never falls rose in several steps, none of which is more than half of the rise.
fn climbs(stayed: &[u64], least: usize) -> bool {
    let steps: Vec<u64> = stayed
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .filter(|&step| step > 0)
        .collect();
    let (rise, most): (u64, u64) = (steps.iter().sum(), steps.iter().copied().max().unwrap_or(0));
    steps.len() >= least && most <= rise / 2
}

#[cfg(test)]
mod tests;
