//! The way to the agent: one ring buffer, no wake-up per record, and a count of whatever did not fit.

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};
use connleak_ebpf::Counter;

use super::Skip;

/// Waiting bytes at which the reader is woken before its next tick. Far above what a tick brings on a
/// quiet host, far below the ring's size (a wake-up costs 8–12 µs, a record 0.5 µs): the agent sets it before the programs
/// run. To 0 while nothing happens, so that it need not look whether anything does.
#[map]
static WAKE_AT: Array<u64> = Array::with_max_entries(1, 0);

/// Events on their way to the agent. The agent sets the size before load.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1024 * 1024, 0);

/// What was sent and what was lost, by [`Counter`].
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::SLOTS, 0);

/// `BPF_RB_AVAIL_DATA` of `include/uapi/linux/bpf.h`.
pub(super) const AVAILABLE_DATA: u64 = 0;
/// `BPF_RB_NO_WAKEUP`.
pub(super) const NO_WAKEUP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP`.
pub(super) const FORCE_WAKEUP: u64 = 2;

/// Adds one to a counter of this CPU.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a per-CPU slot; tracing programs do not nest on one of these counters except across
        // an interrupt, where one of two increments may be lost. The ring's own accounting is not affected.
        unsafe { *slot += 1 };
    }
}

/// Sends a record, or counts that it did not fit.
#[inline(always)]
pub(crate) fn send<T: Copy + 'static>(record: T) {
    match EVENTS.reserve::<T>(0) {
        Some(mut entry) => {
            entry.write(record);
            entry.submit(wake_up(size_of::<T>()));
            count(Counter::Sent);
        }
        None => count(Counter::RingFull),
    }
}

/// Like [`send`], for a record that is too large for the stack: `fill` writes each of its members.
#[inline(always)]
pub(crate) fn send_in_place<T: Copy + 'static>(
    fill: impl FnOnce(&mut T) -> Result<(), Skip>,
) -> Result<(), Skip> {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        count(Counter::RingFull);
        return Ok(());
    };
    // SAFETY: records are plain integers, for which every bit pattern is valid, and `fill` writes them all.
    let filled = fill(unsafe { entry.assume_init_mut() });
    if filled.is_ok() {
        entry.submit(wake_up(size_of::<T>()));
        count(Counter::Sent);
    } else {
        entry.discard(NO_WAKEUP);
    }
    filled
}

/// Whether to wake the reader: once when the mark is passed, not for each record beyond it.
#[inline(always)]
fn wake_up(size: usize) -> u64 {
    let Some(&mark) = WAKE_AT.get(0) else {
        return NO_WAKEUP;
    };
    let waiting = EVENTS.query(AVAILABLE_DATA);
    if waiting >= mark && waiting < mark + 4 * size as u64 {
        FORCE_WAKEUP
    } else {
        NO_WAKEUP
    }
}
