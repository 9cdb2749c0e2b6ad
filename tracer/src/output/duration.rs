//! Durations as people say them.

use std::time::Duration;

use jiff::{SignedDuration, Unit, fmt::friendly::SpanPrinter};

use crate::event::Nanos;

/// `340ms`, `6.1s`, `10m 11s`, `3h 5m`.
#[must_use]
pub fn human(nanos: Nanos) -> String {
    let duration = SignedDuration::try_from(Duration::from_nanos(nanos)).unwrap_or(SignedDuration::MAX);
    let seconds = duration.as_secs();
    let (unit, step) = match seconds {
        0 => (Unit::Millisecond, 1),
        1..=59 => (Unit::Millisecond, 100),
        60..=3599 => (Unit::Second, 1),
        _ => (Unit::Minute, 1),
    };
    let rounding = jiff::SignedDurationRound::new()
        .smallest(unit)
        .increment(step)
        .mode(jiff::RoundMode::Trunc);
    let rounded = duration.round(rounding).unwrap_or(duration);
    if rounded.is_zero() {
        return "0s".to_owned();
    }
    let printer = SpanPrinter::new();
    if (1..=59).contains(&seconds) {
        let tenths = rounded.as_millis() / 100;
        return if tenths % 10 == 0 {
            format!("{}s", tenths / 10)
        } else {
            format!("{}.{}s", tenths / 10, tenths % 10)
        };
    }
    printer.duration_to_string(&rounded)
}

/// The same duration in the largest unit that says it exactly: `90s`, `1500ms`, `2h`.
#[must_use]
pub fn exact(nanos: Nanos) -> String {
    let units = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1000, "us"),
    ];
    units
        .iter()
        .find(|(unit, _)| nanos > 0 && nanos.is_multiple_of(*unit))
        .map_or_else(
            || format!("{nanos}ns"),
            |(unit, name)| format!("{}{name}", nanos / unit),
        )
}

/// Parses `300ms`, `10s`, `5m`, `1h`.
///
/// # Errors
/// Says what is wrong and what a duration looks like.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no duration: write 300ms, 10s, 5m or 1h");
    let duration: SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(duration).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let cases = [
            (0, "0s"),
            (340, "340ms"),
            (6_149, "6.1s"),
            (6_000, "6s"),
            (611_200, "10m 11s"),
            (11_100_000, "3h 5m"),
        ];
        for (millis, text) in cases {
            assert_eq!(human(millis * 1_000_000), text);
        }
    }

    #[test]
    fn an_exact_duration_is_the_same_when_it_is_read() {
        for nanos in [
            1,
            1_000,
            1_500_000_000,
            30_000_000_000,
            5_400_000_000_000,
            86_400_000_000_000,
            123_456_789,
        ] {
            assert_eq!(
                parse(&exact(nanos)),
                Ok(Duration::from_nanos(nanos)),
                "{}",
                exact(nanos)
            );
        }
    }

    #[test]
    fn durations_are_parsed_or_refused_with_an_example() {
        assert_eq!(parse("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(parse("1h"), Ok(Duration::from_hours(1)));
        for wrong in ["", "5", "-3s", "soon"] {
            assert!(
                parse(wrong).is_err_and(|message| message.contains("10s")),
                "{wrong}"
            );
        }
    }
}
