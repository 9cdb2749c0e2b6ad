//! Unix-domain sockets have no state tracepoint and no timestamps. Two programs see them when they carry
//! data (`sock_send_length` and `sock_recv_length`, since 6.3): the first time tells that a connection is
//! there, and who uses it; later ones keep its times. Snapshots find those that never carry any, and tell
//! when one is gone.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns},
    macros::{btf_tracepoint, fentry, map},
    maps::LruHashMap,
    programs::{BtfTracePointContext, FEntryContext},
};
use connleak_ebpf::{ABSENT, AF_UNIX, Activity, Counter, KIND_UNIX, UNIX_PATH_LEN, UnixRow};

use super::{
    Skip, access,
    read::{self, Direct, Read as _, member, offset},
    send::{count, send_in_place},
    socket, stack, wire as hello,
};

/// What each client's end has carried, by cookie. The least recently used go when it is full, and count as
/// new when they are met again; the ledger knows them by their cookies.
#[map]
pub(crate) static ACTIVITY: LruHashMap<u64, Activity> = LruHashMap::with_max_entries(65_536, 0);

/// `SOCK_STREAM` of `include/linux/net.h`.
const STREAM: u16 = 1;
/// Bytes before the path in `struct sockaddr_un`: `sun_family`.
pub(crate) const FAMILY_LEN: u32 = 2;

/// `sock/sock_send_length(sk, ret, flags)`: for TCP sockets, too, of which only the sender's code is of interest.
#[btf_tracepoint(function = "sock_send_length")]
pub fn connleak_send(ctx: BtfTracePointContext) -> i32 {
    let length: i32 = ctx.arg(1);
    if length <= 0 {
        return 0;
    }
    let first = if socket::wanted(ctx.arg(0)) {
        if stack::follows_uses() {
            // Its cookie is there: the connect asked for it, or the first snapshot.
            if let Ok(cookie) = access::identity(ctx.arg(0)) {
                stack::used(cookie);
            }
        }
        hello::is_first(ctx.arg(0), length.cast_unsigned())
    } else {
        let mut sent = u64::MAX;
        note(ctx.arg(0), length, true, |activity, now| {
            activity.last_sent = now;
            activity.sends += 1;
            activity.bytes_sent += u64::from(length.cast_unsigned());
            sent = activity.bytes_sent;
        });
        sent <= hello::within(length.cast_unsigned())
    };
    if first {
        hello::go_on(&ctx);
    }
    0
}

/// `tcp_sendmsg(sk, msg, size)`, entered: for kernels that lack `sock_send_length`.
#[fentry(function = "tcp_sendmsg")]
pub fn connleak_tcp_send(ctx: FEntryContext) -> i32 {
    if stack::follows_uses()
        && socket::wanted(ctx.arg(0))
        && let Ok(cookie) = access::identity(ctx.arg(0))
    {
        stack::used(cookie);
    }
    0
}

/// `sock/sock_recv_length(sk, ret, flags)`.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn connleak_receive(ctx: BtfTracePointContext) -> i32 {
    let length: i32 = ctx.arg(1);
    note(ctx.arg(0), length, false, |activity, now| {
        activity.last_received = now;
        activity.bytes_received += u64::from(length.cast_unsigned());
    });
    0
}

#[inline(always)]
fn note(sk: *const u8, length: i32, sends: bool, update: impl FnOnce(&mut Activity, u64)) {
    // Of most sends and receives this is all that is looked at.
    if length <= 0 || !matches!(Direct::word::<u16>(sk, offset!(skc_family)), Ok(AF_UNIX)) {
        return;
    }
    let Ok(cookie) = access::unix_identity(sk) else {
        return;
    };
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(activity) = ACTIVITY.get_ptr_mut(cookie) {
        // SAFETY: the entry is live for this program's run. Two threads may send on one socket at once;
        // then one addition may be lost, the times are still right.
        update(unsafe { &mut *activity }, now);
        if sends {
            stack::used_unix(cookie);
        }
        return;
    }
    let mut activity = Activity::default();
    update(&mut activity, now);
    if let Err(Skip::Fault) = discover(sk, cookie, now, activity) {
        count(Counter::ReadFault);
    }
}

/// A socket that was not followed yet: if it is a client's end, it is told, and followed from now on.
#[inline(always)]
fn discover(sk: *const u8, cookie: u64, now: u64, activity: Activity) -> Result<(), Skip> {
    let peer: *const u8 = member(sk, offset!(unix_peer))?;
    let Name {
        address,
        client: true,
    } = name(sk, peer)?
    else {
        return Err(Skip::Filtered);
    };
    let mut name = 0;
    send_in_place(|row: &mut UnixRow| {
        row.kind = KIND_UNIX;
        row.at = now;
        row.cookie = cookie;
        row.activity = activity;
        row.client = 1;
        row.shutdown = 0;
        row.pad = [0; 4];
        row.inode = 0;
        row.peer_inode = 0;
        row.pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        row.fd = bpf_get_current_uid_gid() as u32;
        copy_name(address, row)?;
        name = connleak_ebpf::name_hash(&row.path, row.path_len);
        let leader;
        (leader, row.process_start) = access::leader()?;
        row.comm = member(leader, offset!(task_comm))?;
        Ok(())
    })?;
    // Full is not possible: the least recent goes.
    let _ = ACTIVITY.insert(cookie, activity, 0);
    stack::opened_unix(cookie, now, name);
    Ok(())
}

/// The server's name, and whose end of the connection a socket is.
pub(crate) struct Name {
    /// `struct unix_address`.
    pub address: *const u8,
    /// The name is the peer's: this is the client's end.
    pub client: bool,
}

/// Finds the name of a connected stream socket's server.
#[inline(always)]
pub(crate) fn name(sk: *const u8, peer: *const u8) -> Result<Name, Skip> {
    if offset!(unix_addr) == ABSENT || member::<u16>(sk, offset!(sk_type))? != STREAM || peer.is_null() {
        return Err(Skip::Filtered);
    }
    // Accepted sockets carry the listener's name, connecting ones rarely have any of their own.
    let own: *const u8 = member(sk, offset!(unix_addr))?;
    if !own.is_null() {
        return Ok(Name {
            address: own,
            client: false,
        });
    }
    let address: *const u8 = member(peer, offset!(unix_addr))?;
    if address.is_null() {
        return Err(Skip::Filtered);
    }
    Ok(Name {
        address,
        client: true,
    })
}

/// Copies a name into a row.
#[inline(always)]
pub(crate) fn copy_name(address: *const u8, row: &mut UnixRow) -> Result<(), Skip> {
    let length: u32 = member(address, offset!(unix_address_len))?;
    row.path_len = length.saturating_sub(FAMILY_LEN).min(UNIX_PATH_LEN as u32) as u16;
    read::into(address, offset!(unix_address_name) + FAMILY_LEN, &mut row.path)
}
