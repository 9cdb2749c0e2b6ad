//! A number of the policy as a user meets it: name, meaning, unit, and what makes sense.

use std::ops::RangeInclusive;

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Multiples.
    Times,
    /// Hundredths.
    Percent,
    /// Nanoseconds; written as `30s`.
    Span,
}

/// One number of a `T`.
pub struct Knob<T> {
    /// Its name in a policy file.
    pub name: &'static str,
    /// What it means and why it has its default, a line of source each.
    pub doc: &'static [&'static str],
    /// What it counts.
    pub unit: Unit,
    /// What makes sense.
    pub range: RangeInclusive<u64>,
    /// Its value; `None` while it is not set.
    pub get: fn(&T) -> Option<u64>,
    /// Sets it.
    pub set: fn(&mut T, u64),
}

/// A number that a knob can turn.
pub trait Quantity: Copy {
    /// As every knob has it.
    fn number(self) -> u64;
    /// From what every knob has.
    fn of(number: u64) -> Self;
}

impl Quantity for u64 {
    fn number(self) -> u64 {
        self
    }

    fn of(number: u64) -> Self {
        number
    }
}

impl Quantity for usize {
    fn number(self) -> u64 {
        self as u64
    }

    fn of(number: u64) -> Self {
        Self::try_from(number).unwrap_or(Self::MAX)
    }
}
