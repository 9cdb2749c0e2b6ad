//! Who holds a socket: the kernel gives a number, the reader of a finding needs a name.
//!
//! A finding that says "pid 4121" sends a tired person to `ps`; one that says "payments, container 9f2c…,
//! unit payments.service" sends them to the right team. A pid alone is also wrong in time: the kernel gives
//! it to the next process once this one is gone. So everything here is keyed by [`ProcessId`], pid *and*
//! start time, and an answer is only given when both match.
//!
//! - [`cgroup`] reads container, pod and unit out of a cgroup path. Pure.
//! - [`process`] reads one process from `/proc`. Everything there is written by others, so reads are bounded.
//! - `passwd` names a user. No directory server is asked.
//! - [`cache`] remembers, so that a process that has exited still has its name.

#![forbid(unsafe_code)]

pub mod cache;
pub mod cgroup;
mod passwd;
pub mod process;

use serde::{Deserialize, Serialize};

pub use cache::Owners;
pub use process::{Process, start_ticks};

/// Nanoseconds in one tick of `/proc/PID/stat`: `USER_HZ` is 100 on x86-64 and arm64, whatever the kernel's
/// own `HZ` is, because user space compiled it in long ago.
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/asm-generic/param.h>
pub(crate) const NANOS_PER_TICK: u64 = 1_000_000_000 / 100;

/// One process, for as long as the host is up: a pid that is used again comes with another start time.
// Twelve bytes, not sixteen, so that a number beside it (a descriptor's, a thread's) costs four and not eight: each
// connection in the books has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(Rust, packed(4))]
pub struct ProcessId {
    /// The process (thread group) in the host's pid namespace.
    pub pid: u32,
    /// Start time since boot in ticks of `USER_HZ`, field 22 of `/proc/PID/stat`.
    pub start_ticks: u64,
}

impl ProcessId {
    /// The identity of a process as a kernel program sees it: `start_boottime` of the thread group's
    /// *leader* (another thread's start is not the process's).
    ///
    /// `/proc/PID/stat` prints the same field through `nsec_to_clock_t`, a truncating division by
    /// `NSEC_PER_SEC / USER_HZ`, so both sides agree exactly:
    /// <https://github.com/torvalds/linux/blob/v6.12/fs/proc/array.c> (`do_task_stat`) and
    /// <https://github.com/torvalds/linux/blob/v6.12/kernel/time/time.c> (`nsec_to_clock_t`).
    /// `/proc` adds the reader's time-namespace offset and the kernel's field does not, so the agent must
    /// run in the host's time namespace.
    #[must_use]
    pub const fn from_kernel(pid: u32, start_boottime_ns: u64) -> Self {
        Self {
            pid,
            start_ticks: start_boottime_ns / NANOS_PER_TICK,
        }
    }

    /// Start time in milliseconds of the Unix epoch, given when the host booted.
    #[must_use]
    pub const fn start_unix_ms(self, boot_unix_ms: i64) -> i64 {
        const MILLIS_PER_TICK: u64 = NANOS_PER_TICK / 1_000_000;
        let since_boot = self.start_ticks.saturating_mul(MILLIS_PER_TICK);
        boot_unix_ms.saturating_add_unsigned(since_boot)
    }
}

#[cfg(test)]
mod tests {
    use super::ProcessId;

    #[test]
    fn kernel_time_is_truncated_to_ticks_like_proc_does() {
        assert_eq!(
            { ProcessId::from_kernel(7, 1_273_959_999_999).start_ticks },
            127_395
        );
        assert_eq!({ ProcessId::from_kernel(7, 0).start_ticks }, 0);
    }

    #[test]
    fn start_time_counts_from_boot_and_saturates() {
        let id = ProcessId {
            pid: 7,
            start_ticks: 150,
        };
        assert_eq!(id.start_unix_ms(1_000), 2_500);
        assert_eq!(
            ProcessId {
                pid: 7,
                start_ticks: u64::MAX
            }
            .start_unix_ms(1_000),
            i64::MAX
        );
    }
}
