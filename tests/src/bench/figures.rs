//! Figures from rounds: medians, and differences within a round.

/// A median and where it lies in 19 of 20 repetitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The middle value.
    pub median: f64,
    /// Its lower bound.
    pub low: f64,
    /// Its upper bound.
    pub high: f64,
}

impl Estimate {
    /// What is said beside a figure that is not fine enough to tell whether at most `most` was reached; else nothing.
    #[must_use]
    pub fn doubt(self, most: f64) -> &'static str {
        if self.low <= most && self.high > most {
            ", the reach within the noise"
        } else {
            ""
        }
    }

    /// Of some values; zero of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else {
            return Self {
                median: 0.0,
                low: 0.0,
                high: 0.0,
            };
        };
        let median = f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)]);
        let edge = edge(sorted.len());
        Self {
            median,
            low: sorted[edge],
            high: sorted[last - edge],
        }
    }

    /// In another unit, so many times as large.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        Self {
            median: self.median * factor,
            low: self.low * factor,
            high: self.high * factor,
        }
    }

    /// Whether it may as well be zero.
    #[must_use]
    pub fn is_noise(&self) -> bool {
        self.low <= 0.0 && self.high >= 0.0
    }

    /// `1.23 (1.10 … 1.40)`, with that many digits after the point, a unit and, for differences, a sign.
    #[must_use]
    pub fn show(&self, digits: usize, unit: &str) -> String {
        let Self { median, low, high } = self;
        format!("{median:.digits$}{unit} ({low:.digits$} … {high:.digits$})")
    }
}

/// How many of the smallest, and as many of the largest, of `count` values lie beyond the median's bounds: each half of them
/// is above the true median with even odds, so the number below it is binomial, and both tails together are to have
/// at most one in twenty. The smallest and the largest themselves where there are too few values for that.
fn edge(count: usize) -> usize {
    let all = 2f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let (mut ways, mut tail) = (1.0, 0.0);
    for below in 0..count / 2 {
        tail += ways / all;
        if tail > 0.025 {
            return below.saturating_sub(1);
        }
        ways *= (count - below) as f64 / (below + 1) as f64;
    }
    0
}

/// One variant's values, round by round.
#[derive(Clone, Debug)]
pub struct Series {
    /// The variant.
    pub name: String,
    /// A value for each round.
    pub values: Vec<f64>,
}

impl Series {
    /// The middle of its values.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        Estimate::of(&self.values)
    }

    /// How much more than `base` it has, within each round.
    #[must_use]
    pub fn added_to(&self, base: &Self) -> Estimate {
        let differences: Vec<f64> = self.pairs(base).map(|(own, base)| own - base).collect();
        Estimate::of(&differences)
    }

    /// How much less than `base` it has, within each round, in percent of `base`.
    #[must_use]
    pub fn percent_below(&self, base: &Self) -> Estimate {
        let shares: Vec<f64> = self
            .pairs(base)
            .map(|(own, base)| 100.0 * (base - own) / base)
            .collect();
        Estimate::of(&shares)
    }

    fn pairs(&self, base: &Self) -> impl Iterator<Item = (f64, f64)> {
        self.values
            .iter()
            .copied()
            .zip(base.values.iter().copied())
            .collect::<Vec<_>>()
            .into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Series {
        Series {
            name: String::new(),
            values: values.to_vec(),
        }
    }

    #[test]
    fn bounds_hold_the_median_in_nineteen_of_twenty_repetitions() {
        // Of nine: the second and the second last, in 96 of 100; of 25: the eighth, in 96 of 100 (D'Agostino and Stephens,
        // or any table of the sign test).
        let edges = [0, 1, 3, 5, 6, 8, 9, 11, 12, 15, 25].map(edge);
        assert_eq!(edges, [0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 7]);
    }

    #[test]
    fn the_median_is_the_middle_of_the_values() {
        let [odd, even, none] = [
            &[9.0, 1.0, 3.0, 2.0, 100.0, 4.0, 5.0, 6.0, 7.0][..],
            &[4.0, 2.0],
            &[],
        ]
        .map(|values| Estimate::of(values).show(0, ""));
        assert_eq!(odd, "5 (2 … 9)");
        assert_eq!(even, "3 (2 … 4)");
        assert_eq!(none, "0 (0 … 0)");
    }

    #[test]
    fn differences_are_taken_within_a_round() {
        // The machine slows down from round to round; the difference stays.
        let (base, other) = (series(&[10.0, 20.0, 30.0]), series(&[11.0, 21.0, 31.0]));
        assert_eq!(
            other.added_to(&base),
            Estimate {
                median: 1.0,
                low: 1.0,
                high: 1.0
            }
        );
        assert!(!other.added_to(&base).is_noise());
        let wavering = series(&[9.0, 21.0, 30.0]);
        assert!(wavering.added_to(&base).is_noise());
        assert!((other.percent_below(&base).median - -5.0).abs() < 1e-9);
    }
}
