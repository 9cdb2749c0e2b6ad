//! The kernel's clocks, and what its ticks are worth.

use nix::time::{ClockId, clock_gettime};

use crate::event::{Nanos, SECOND};

/// `CLOCK_MONOTONIC`, the clock of `bpf_ktime_get_ns`.
#[must_use]
pub fn monotonic() -> Nanos {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Nanoseconds of the Unix epoch at `CLOCK_MONOTONIC` zero, as of now.
#[must_use]
pub fn epoch() -> i128 {
    i128::from(read(ClockId::CLOCK_REALTIME)) - i128::from(monotonic())
}

fn read(id: ClockId) -> Nanos {
    let Ok(time) = clock_gettime(id) else { return 0 };
    // Neither clock is ever negative or beyond the year 2554.
    u64::try_from(time.tv_sec()).unwrap_or(0) * SECOND + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

/// Ticks a second that kernels are configured with (`kernel/Kconfig.hz`, and 1024 on alpha).
const RATES: [u64; 5] = [100, 250, 300, 1000, 1024];
/// Where the 32-bit tick counter starts: five minutes before it wraps (`INITIAL_JIFFIES`, `include/linux/jiffies.h`).
const BEFORE_WRAP_SECONDS: u64 = 300;

/// The kernel's tick rate, from one reading of both clocks.
///
/// The kernel does not tell its `CONFIG_HZ`. But ticks and `CLOCK_MONOTONIC` start together, so only one
/// rate fits a pair of readings.
#[must_use]
pub fn tick_rate(jiffies: u64, monotonic: Nanos) -> u64 {
    let off_by = |rate: &u64| {
        let since_start = i128::from(monotonic) * i128::from(*rate) / i128::from(SECOND);
        let start = (1i128 << 32) - i128::from(BEFORE_WRAP_SECONDS * rate);
        (i128::from(jiffies) - start - since_start).abs()
    };
    RATES.into_iter().min_by_key(off_by).unwrap_or(250)
}

/// When something happened that the kernel stamped with the low word of its tick counter.
#[must_use]
pub fn tick_time(stamp: u32, jiffies: u64, at: Nanos, rate: u64) -> Nanos {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low word is what the kernel keeps"
    )]
    let ago = (jiffies as u32).wrapping_sub(stamp);
    // A stamp of this very tick may be taken just after the counter was read.
    if ago > u32::MAX / 2 {
        return at;
    }
    at.saturating_sub(u64::from(ago) * SECOND / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tick_rate_follows_from_one_pair_of_readings() {
        for rate in [100, 250, 300, 1000] {
            for uptime in [3, 299, 301, 86_400, 40_000_000] {
                let jiffies = (1u64 << 32) - 300 * rate + uptime * rate + 2;
                assert_eq!(
                    tick_rate(jiffies, uptime * SECOND),
                    rate,
                    "{rate} after {uptime} s"
                );
            }
        }
    }

    #[test]
    fn a_stamp_is_dated_across_the_counters_wrap() {
        let jiffies = (1u64 << 32) + 50;
        assert_eq!(tick_time(u32::MAX - 49, jiffies, 10 * SECOND, 100), 9 * SECOND);
        assert_eq!(tick_time(50, jiffies, 10 * SECOND, 100), 10 * SECOND);
        assert_eq!(tick_time(51, jiffies, 10 * SECOND, 100), 10 * SECOND);
    }
}
