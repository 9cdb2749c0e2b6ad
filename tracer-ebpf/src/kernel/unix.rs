//! Unix-domain sockets have no state tracepoint and no timestamps. Snapshots find them; this program
//! notes when those that were found carry data (`sock_send_length` and `sock_recv_length`, since 6.3).

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{btf_tracepoint, map},
    maps::LruHashMap,
    programs::BtfTracePointContext,
};
use connleak_ebpf::{AF_UNIX, Activity};

use super::{
    access,
    read::{member, offset},
};

/// What each followed socket has carried, by cookie. The snapshot program adds sockets; the least
/// recently used go when it is full, and count as new when they are met again.
#[map]
pub(crate) static ACTIVITY: LruHashMap<u64, Activity> = LruHashMap::with_max_entries(65_536, 0);

/// `sock/sock_send_length(sk, ret, flags)`.
#[btf_tracepoint(function = "sock_send_length")]
pub fn connleak_send(ctx: BtfTracePointContext) -> i32 {
    let length: i32 = ctx.arg(1);
    note(
        ctx.arg(0),
        |activity, now| {
            activity.last_sent = now;
            activity.sends += 1;
            activity.bytes_sent += u64::from(length.cast_unsigned());
        },
        length,
    );
    0
}

/// `sock/sock_recv_length(sk, ret, flags)`.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn connleak_receive(ctx: BtfTracePointContext) -> i32 {
    let length: i32 = ctx.arg(1);
    note(
        ctx.arg(0),
        |activity, now| {
            activity.last_received = now;
            activity.bytes_received += u64::from(length.cast_unsigned());
        },
        length,
    );
    0
}

#[inline(always)]
fn note(sk: *const u8, update: impl FnOnce(&mut Activity, u64), length: i32) {
    if length <= 0 || !matches!(member::<u16>(sk, offset!(skc_family)), Ok(AF_UNIX)) {
        return;
    }
    let Ok(cookie) = access::unix_identity(sk) else {
        return;
    };
    if let Some(activity) = ACTIVITY.get_ptr_mut(cookie) {
        // SAFETY: the entry is live for this program's run. Two threads may send on one socket at once;
        // then one addition may be lost, the times are still right.
        update(unsafe { &mut *activity }, unsafe { bpf_ktime_get_ns() });
    }
}
