//! How a program gets at sockets: through the kernel's helpers where it may call them, by reading memory where
//! it may not. The agent tries the first way and falls back to the second; of the two branches on
//! [`by_helpers`] the verifier of an old kernel never sees the one that it would refuse.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{
        bpf_get_current_task, bpf_get_current_task_btf, bpf_get_smp_processor_id, bpf_get_socket_cookie,
        bpf_ktime_get_ns, bpf_sock_from_file,
    },
    macros::map,
    maps::HashMap,
};

use connleak_ebpf::Counter;

use super::{
    Skip,
    read::{Checked, Direct, Read, member, offset},
    send::count,
};

/// 1: by helpers. 0: by reading memory. Set before load.
#[unsafe(no_mangle)]
static BY_HELPERS: u32 = 1;

/// The numbers that stand for cookies, by the socket's address: used only without helpers, and made small by the
/// agent where there are helpers.
#[map]
static IDENTITIES: HashMap<u64, u64> = HashMap::with_max_entries(65_536, 0);

/// `BPF_NOEXIST` of `include/uapi/linux/bpf.h`.
const NEW_ONLY: u64 = 1;
/// `SOCKFS_MAGIC` of `include/uapi/linux/magic.h`.
const SOCKFS: u64 = 0x534f_434b;
/// Marks the number of a unix socket, so that it is none of a TCP socket's.
const UNIX: u64 = 1 << 63;

/// Whether `bpf_get_socket_cookie` (5.12, kernel commit c5dbb89fc2ac), `bpf_sock_from_file` (5.11, b60da4955f53) and
/// `bpf_get_current_task_btf` (5.11, 3ca1032ab7ab) may be called here.
#[inline(always)]
pub(crate) fn by_helpers() -> bool {
    // SAFETY: a live static, set before load.
    unsafe { core::ptr::read_volatile(&raw const BY_HELPERS) == 1 }
}

/// What a TCP socket is known by from its connect, or from when it was seen first, to its end.
///
/// That is the kernel's cookie. Without the helper it cannot be had: the kernel makes it when it is asked for, and
/// nobody may have asked; once somebody does (`ss` is enough), the name would change in the middle of a
/// connection. So then it is a number of our own, kept until [`forget`].
#[inline(always)]
pub(crate) fn identity(sk: *const u8) -> Result<u64, Skip> {
    if by_helpers() {
        // SAFETY: `sk` is the tracepoint's own argument or was loaded from the iterator's socket, which holds a
        // reference to it; the verifier sees to that.
        return Ok(unsafe { bpf_get_socket_cookie(sk.cast_mut().cast()) });
    }
    let address = sk as u64;
    // SAFETY: entries are removed at the socket's end alone, and this one is alive.
    if let Some(known) = unsafe { IDENTITIES.get(address) } {
        return Ok(*known);
    }
    // No two sockets are seen first by one processor in one nanosecond.
    // SAFETY: no arguments.
    let number = unsafe { bpf_ktime_get_ns() << 8 | u64::from(bpf_get_smp_processor_id() & 0xff) } & !UNIX;
    // Another processor may be just as far: the first one's number stands.
    let _ = IDENTITIES.insert(address, number, NEW_ONLY);
    // SAFETY: as above.
    if let Some(number) = unsafe { IDENTITIES.get(address) } {
        return Ok(*number);
    }
    count(Counter::MapFull);
    // The map is full. The address has to do: it is right until it is used again. Read from memory, because the
    // verifier refuses arithmetic on what it knows to be a pointer.
    member::<u64>((&raw const address).cast(), 0)
}

/// What a unix socket is known by, as long as a descriptor refers to it.
#[inline(always)]
pub(crate) fn unix_identity(sk: *const u8) -> Result<u64, Skip> {
    if by_helpers() {
        return identity(sk);
    }
    // Its end is not seen, so nothing could be kept for it. But its inode has a number of its own.
    let owner: *const u8 = member(sk, offset!(sk_socket))?;
    Ok(UNIX | member::<u64>(owner, offset!(socket_inode) + offset!(inode_ino))?)
}

/// The socket is no more, and its address will be used again.
#[inline(always)]
pub(crate) fn forget(sk: *const u8) {
    if !by_helpers() {
        // Most sockets were none of a database's, and have no entry.
        let _ = IDENTITIES.remove(sk as u64);
    }
}

/// The calling thread's group leader, and when that started (nanoseconds since boot).
#[inline(always)]
pub(crate) fn leader() -> Result<(*const u8, u64), Skip> {
    if by_helpers() {
        // SAFETY: no arguments.
        leader_of::<Direct>(unsafe { bpf_get_current_task_btf() }.cast_const().cast())
    } else {
        // SAFETY: no arguments.
        leader_of::<Checked>(unsafe { bpf_get_current_task() } as *const u8)
    }
}

/// Likewise for any thread.
#[inline(always)]
pub(crate) fn leader_of<R: Read>(task: *const u8) -> Result<(*const u8, u64), Skip> {
    let leader: *const u8 = R::word(task, offset!(task_group_leader))?;
    Ok((leader, R::word(leader, offset!(task_start))?))
}

/// The `struct socket` and the `struct sock` of an open file, if it is a socket.
#[inline(always)]
pub(crate) fn of_file(file: *mut c_void) -> Result<(*const u8, *const u8), Skip> {
    let (owner, sk): (*const u8, *const u8);
    if by_helpers() {
        // SAFETY: `file` is the iterator's own; the helper gives null when it is no socket.
        owner = unsafe { bpf_sock_from_file(file.cast()) }.cast();
        if owner.is_null() {
            return Err(Skip::Filtered);
        }
        // A direct load, not a probe read: so the verifier keeps knowing that this is a `struct sock`.
        sk = Direct::word(owner, offset!(socket_sk))?;
    } else {
        let inode: *const u8 = member(file.cast(), offset!(file_inode))?;
        let file_system: *const u8 = member(inode, offset!(inode_sb))?;
        if member::<u64>(file_system, offset!(super_block_magic))? != SOCKFS {
            return Err(Skip::Filtered);
        }
        // Null where a socket's inode was opened by its path alone (`O_PATH`), which gives no socket.
        owner = member(file.cast(), offset!(file_private_data))?;
        if owner.is_null() {
            return Err(Skip::Filtered);
        }
        sk = member(owner, offset!(socket_sk))?;
    }
    if sk.is_null() {
        return Err(Skip::Filtered);
    }
    Ok((owner, sk))
}
