//! The snapshot: every descriptor of every process, in every network namespace, in one pass.
//!
//! Only database sockets come out: TCP ones that the filter accepts, listeners (so that the agent can
//! tell accepted connections from opened ones), and connected unix sockets whose name the agent judges.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_jiffies64, bpf_ktime_get_ns, bpf_seq_write},
    macros::map,
    maps::PerCpuArray,
};
use connleak_ebpf::{
    AF_INET, AF_INET6, AF_UNIX, Activity, Counter, Flow, ROW_LISTENER, ROW_TCP, ROW_UNIX, Row, UnixRow, tcp,
};

use super::{
    Skip, access,
    read::{Checked, Direct, Read, member, offset},
    send::count,
    socket, unix,
};

/// `struct bpf_iter__task_file` of `kernel/bpf/task_iter.c`.
#[repr(C)]
pub struct TaskFile {
    meta: *const Meta,
    task: *const u8,
    fd: u32,
    file: *mut c_void,
}

/// `struct bpf_iter_meta` of `include/linux/bpf.h`.
#[repr(C)]
struct Meta {
    seq: *mut c_void,
    session_id: u64,
    seq_num: u64,
}

/// Where a [`Row`] is put together: two rows are more than a program's 512 bytes of stack.
#[map]
static TCP_ROW: PerCpuArray<Row> = PerCpuArray::with_max_entries(1, 0);
/// Likewise for a [`UnixRow`].
#[map]
static UNIX_ROW: PerCpuArray<UnixRow> = PerCpuArray::with_max_entries(1, 0);

/// `iter/task_file`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn connleak_snapshot(ctx: *mut TaskFile) -> i32 {
    // SAFETY: the kernel hands each iterator program a context of this layout.
    let (meta, task, fd, file) = unsafe { ((*ctx).meta, (*ctx).task, (*ctx).fd, (*ctx).file) };
    // The last call of a walk has neither.
    if task.is_null() || file.is_null() {
        return 0;
    }
    // SAFETY: `meta` is never null.
    let seq = unsafe { (*meta).seq };
    if let Err(Skip::Fault) = visit(seq, task, fd, file) {
        count(Counter::ReadFault);
    }
    0
}

#[inline(always)]
fn visit(seq: *mut c_void, task: *const u8, fd: u32, file: *mut c_void) -> Result<(), Skip> {
    let (owner, sk) = access::of_file(file)?;
    // Two ways to the same row: what the helper gave may be loaded from. The verifier never sees the other way.
    if access::by_helpers() {
        visit_socket::<Direct>(seq, task, fd, owner, sk)
    } else {
        visit_socket::<Checked>(seq, task, fd, owner, sk)
    }
}

#[inline(always)]
fn visit_socket<R: Read>(
    seq: *mut c_void,
    task: *const u8,
    fd: u32,
    owner: *const u8,
    sk: *const u8,
) -> Result<(), Skip> {
    let family: u16 = R::word(sk, offset!(skc_family))?;
    match family {
        AF_INET | AF_INET6 => visit_tcp::<R>(seq, task, fd, owner, sk, family),
        AF_UNIX => visit_unix::<R>(seq, task, fd, owner, sk),
        _ => Err(Skip::Filtered),
    }
}

#[inline(always)]
fn visit_tcp<R: Read>(
    seq: *mut c_void,
    task: *const u8,
    fd: u32,
    owner: *const u8,
    sk: *const u8,
    family: u16,
) -> Result<(), Skip> {
    if R::word::<u16>(sk, offset!(sk_protocol))? != socket::TCP {
        return Err(Skip::Filtered);
    }
    let state: u8 = R::word(sk, offset!(skc_state))?;
    let Some(row) = TCP_ROW.get_ptr_mut(0) else {
        return Err(Skip::Fault);
    };
    // SAFETY: this CPU's own entry; an agent walks once at a time, and a walk stays on its CPU for a call.
    let row = unsafe { &mut *row };
    if state == tcp::LISTEN {
        *row = Row {
            kind: ROW_LISTENER,
            state,
            fd,
            flow: Flow {
                local_port: R::word(sk, offset!(skc_num))?,
                family,
                netns: socket::netns::<R>(sk)?,
                ..Flow::default()
            },
            ..Row::default()
        };
    } else {
        row.flow = socket::wanted_flow::<R>(sk)?;
        row.kind = ROW_TCP;
        row.state = state;
        row.fd = fd;
        (row.pad, row.pad2) = ([0; 2], 0);
        row.shutdown = R::word(sk, offset!(sk_shutdown))?;
        row.error = R::word(sk, offset!(sk_err))?;
        read_tcp::<R>(R::tcp_sock(sk)?, row)?;
        row.inode = inode(owner)?;
        row.cookie = access::identity(sk)?;
    }
    let leader = holder::<R>(task, &mut row.pid, &mut row.process_start)?;
    row.comm = member(leader, offset!(task_comm))?;
    // SAFETY: no arguments.
    (row.at, row.jiffies) = unsafe { (bpf_ktime_get_ns(), bpf_jiffies64()) };
    write(seq, row);
    Ok(())
}

/// What it has carried, and when.
#[inline(always)]
fn read_tcp<R: Read>(tcp: *const u8, row: &mut Row) -> Result<(), Skip> {
    (row.bytes_sent, row.bytes_received) = socket::bytes::<R>(tcp)?;
    row.last_sent = R::word(tcp, offset!(tcp_lsndtime))?;
    row.last_received = R::word(tcp, offset!(icsk_lrcvtime))?;
    row.last_acknowledged = R::optional(tcp, offset!(tcp_rcv_tstamp))?;
    row.segments_sent = R::word(tcp, offset!(tcp_data_segs_out))?;
    row.segments_received = R::word(tcp, offset!(tcp_data_segs_in))?;
    let written: u32 = R::word(tcp, offset!(tcp_write_seq))?;
    row.unacknowledged = written.wrapping_sub(R::word(tcp, offset!(tcp_snd_una))?);
    let arrived: u32 = R::word(tcp, offset!(tcp_rcv_nxt))?;
    let unread = arrived.wrapping_sub(R::word(tcp, offset!(tcp_copied_seq))?);
    row.unread = unread.saturating_sub(socket::fin::<R>(tcp)?);
    Ok(())
}

#[inline(always)]
fn visit_unix<R: Read>(
    seq: *mut c_void,
    task: *const u8,
    fd: u32,
    owner: *const u8,
    sk: *const u8,
) -> Result<(), Skip> {
    let peer: *const u8 = member(sk, offset!(unix_peer))?;
    let unix::Name { address, client } = unix::name(sk, peer)?;
    let Some(row) = UNIX_ROW.get_ptr_mut(0) else {
        return Err(Skip::Fault);
    };
    // SAFETY: as in `visit_tcp`.
    let row = unsafe { &mut *row };
    row.kind = ROW_UNIX;
    row.fd = fd;
    row.peer_inode = 0;
    row.activity = Activity::default();
    row.client = u8::from(client);
    unix::copy_name(address, row)?;
    row.shutdown = member(sk, offset!(sk_shutdown))?;
    row.inode = inode(owner)?;
    let peer_owner: *const u8 = member(peer, offset!(sk_socket))?;
    if !peer_owner.is_null() {
        row.peer_inode = inode(peer_owner)?;
    }
    row.cookie = access::unix_identity(sk)?;
    if client {
        // SAFETY: the map's own entry, copied at once.
        match unsafe { unix::ACTIVITY.get(row.cookie) } {
            Some(activity) => row.activity = *activity,
            // From now on the activity program follows it. Full is not possible: the least recent goes.
            None => {
                let _ = unix::ACTIVITY.insert(row.cookie, Activity::default(), 0);
            }
        }
    }
    let leader = holder::<R>(task, &mut row.pid, &mut row.process_start)?;
    row.comm = member(leader, offset!(task_comm))?;
    // SAFETY: no arguments.
    row.at = unsafe { bpf_ktime_get_ns() };
    write(seq, row);
    Ok(())
}

/// Fills in who holds the descriptor; gives the thread-group leader.
#[inline(always)]
fn holder<R: Read>(task: *const u8, pid: &mut u32, start: &mut u64) -> Result<*const u8, Skip> {
    *pid = R::word(task, offset!(task_tgid))?;
    let (leader, started) = access::leader_of::<R>(task)?;
    *start = started;
    Ok(leader)
}

/// The inode number of a `struct socket`.
#[inline(always)]
fn inode(owner: *const u8) -> Result<u64, Skip> {
    member(owner, offset!(socket_inode) + offset!(inode_ino))
}

#[inline(always)]
fn write<T>(seq: *mut c_void, row: &T) {
    // SAFETY: `seq` is the iterator's own. A full page is not a loss: the kernel grows it and calls again.
    unsafe {
        bpf_seq_write(
            seq.cast(),
            core::ptr::from_ref(row).cast_mut().cast(),
            size_of::<T>() as u32,
        )
    };
}
