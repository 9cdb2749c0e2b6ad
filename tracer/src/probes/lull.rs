//! How often the ring buffers are read: their writers wake nobody, unless much is waiting, since a wake-up costs the
//! application 8 to 12 µs.

use std::time::Duration;

/// While there is something in them.
const TICK: Duration = Duration::from_millis(50);
/// After how long a silence, and how often then: the first event after it may wait as long.
const LULLS: [(Duration, Duration); 2] = [
    (Duration::from_secs(30), Duration::from_millis(500)),
    (Duration::from_secs(2), Duration::from_millis(250)),
];

/// Time from one look to the next, when nothing has come for so long.
#[must_use]
pub fn between_reads(still: Duration) -> Duration {
    let lull = LULLS.iter().find(|(lull, _)| still > *lull);
    lull.map_or(TICK, |&(_, tick)| tick)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_nothing_comes_the_less_often_anybody_looks() {
        let after = |seconds| between_reads(Duration::from_secs(seconds)).as_millis();
        assert_eq!([2, 3, 30, 31].map(after), [50, 250, 250, 500]);
    }
}
