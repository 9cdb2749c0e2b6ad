//! What is growth, and what is none.

use proptest::{collection::vec, prelude::*};

use super::*;

/// A sample each second.
fn seconds(values: impl IntoIterator<Item = u64>) -> Vec<Point> {
    let at = (100..).map(|second: u64| second * SECOND);
    at.zip(values).collect()
}

fn of(points: &[Point]) -> Option<f64> {
    growth(points, &Rules::default()).map(|growth| growth.per_min)
}

#[test]
fn a_straight_line_has_its_own_slope() {
    let line = seconds((0..120).map(|second| second / 5));
    assert!(
        of(&line).is_some_and(|rate| (11.0..13.0).contains(&rate)),
        "{:?}",
        of(&line)
    );
    assert!(slope(&line).is_some_and(|rate| (11.9..12.1).contains(&rate)));
}

#[test]
fn growth_begins_to_show_before_a_minute_is_over() {
    let line = seconds((0..8).map(|second| 5 * second));
    assert!(of(&line).is_some_and(|rate| (rate - 300.0).abs() < 1.0));
    assert_eq!(of(&line[..3]), None);
}

#[test]
fn a_number_that_stays_does_not_grow_and_says_so_after_a_minute() {
    assert_eq!(of(&seconds(vec![7; 30])), None);
    assert_eq!(of(&seconds(vec![7; 90])), Some(0.0));
}

#[test]
fn a_leak_that_begins_after_an_hour_of_health_shows_soon() {
    let values = (0..3600).map(|_| 4).chain((0..60).map(|second| 4 + second / 5));
    assert!(of(&seconds(values)).is_some_and(|rate| (10.0..14.0).contains(&rate)));
}

#[test]
fn a_slow_leak_shows_over_a_longer_time() {
    // One each four minutes.
    let values = (0..7200).map(|second| second / 240);
    let rate = of(&seconds(values));
    assert!(rate.is_some_and(|rate| (0.2..0.3).contains(&rate)), "{rate:?}");
}

#[test]
fn a_leak_that_has_stopped_does_not_grow_any_more() {
    let values = (0..600).map(|second| second / 5).chain(vec![120; 120]);
    assert_eq!(of(&seconds(values)), Some(0.0));
}

#[test]
fn a_pool_that_fills_up_at_once_is_a_step_and_no_growth() {
    let values = vec![0; 60].into_iter().chain(vec![20; 60]);
    assert_eq!(of(&seconds(values)), Some(0.0));
}

#[test]
fn bursts_do_not_hide_a_leak_nor_look_like_one() {
    let burst = |second: u64| if second % 10 < 5 { 40 } else { 0 };
    let leak = of(&seconds((0..240).map(|second| second / 5 + burst(second))));
    assert!(leak.is_some_and(|rate| (9.0..15.0).contains(&rate)), "{leak:?}");
    assert_eq!(of(&seconds((0..240).map(burst))), Some(0.0));
}

proptest! {
    #[test]
    fn a_slope_lies_among_the_slopes_and_no_points_panic(
        points in vec((any::<u64>(), 0..1000u64), 0..60),
        sorted in any::<bool>(),
    ) {
        let mut points = points;
        if sorted {
            points.sort_unstable();
        }
        prop_assert!(slope(&points).is_none_or(f64::is_finite));
        let growth = growth(&points, &Rules::default());
        prop_assert!(growth.is_none_or(|growth| growth.per_min >= 0.0 && growth.per_min.is_finite()));
    }

    #[test]
    fn outliers_do_not_move_the_slope(
        pace in 1..50u64,
        outliers in vec((0..40usize, 0..100_000u64), 0..5),
    ) {
        let mut points = seconds((0..40).map(|second| second * pace));
        for (place, value) in outliers {
            points[place].1 = value;
        }
        // Five of forty points touch 22 % of the pairs at most.
        let expected = 60.0 * pace as f64;
        let slope = slope(&points);
        prop_assert!(slope.is_some_and(|slope| (slope - expected).abs() < expected * 0.01), "{:?}", slope);
    }

    #[test]
    fn what_only_falls_and_comes_back_does_not_grow(
        top in 1..100u64,
        dips in vec(0..100u64, 60..200),
    ) {
        // The first sample is as high as it ever gets, and the last is as low as the lowest: nothing has come to stay.
        let mut values: Vec<u64> = dips.iter().map(|dip| top.saturating_sub(*dip)).collect();
        values.insert(0, top);
        values.push(0);
        let rate = of(&seconds(values));
        prop_assert!(rate.is_none_or(|rate| rate == 0.0), "{:?}", rate);
    }

    #[test]
    fn few_points_have_no_growth(points in vec((0..100u64, 0..100u64), 0..FEWEST)) {
        let mut points: Vec<Point> = points.into_iter().map(|(at, value)| (at * SECOND / 10, value)).collect();
        points.sort_unstable();
        prop_assert_eq!(slope(&points), None);
        prop_assert_eq!(of(&points), None);
    }
}
