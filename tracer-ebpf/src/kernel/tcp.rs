//! TCP connections: opened, established, ended.
//!
//! Nothing is kept in the kernel: what an event means is decided by the ledger. So there is no table
//! that could fill up, and a socket that was opened before attach is reported like any other.

use aya_ebpf::{
    helpers::{
        bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns,
    },
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use aya_log_ebpf::debug;
use connleak_ebpf::{Connect, Counter, KIND_CONNECT, KIND_DESTROY, KIND_STATE, Transition, tcp};

use super::{
    Skip, access,
    read::{self, Direct, Read as _, offset},
    send::{count, send, send_in_place},
    socket, stack,
};

/// `sock/inet_sock_set_state(sk, oldstate, newstate)`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn connleak_state(ctx: BtfTracePointContext) -> i32 {
    match tell(&ctx) {
        // After the event, so that the agent knows the socket when its stack comes.
        TOLD_CONNECT => capture(&ctx),
        FAULT => fault(&ctx),
        _ => {}
    }
    0
}

/// What [`tell`] returns when it has told of a connect …
const TOLD_CONNECT: u32 = 1;
/// … and when it could not read the socket.
const FAULT: u32 = 2;

/// Tells of the change. Not inlined, like the two below: together their places on the stack would be more than the 512
/// bytes that a chain of calls may have.
#[inline(never)]
fn tell(ctx: &BtfTracePointContext) -> u32 {
    let old_state: i32 = ctx.arg(1);
    let new_state: i32 = ctx.arg(2);
    match try_state(ctx.arg(0), old_state as u8, new_state as u8) {
        Ok(true) => TOLD_CONNECT,
        Err(Skip::Fault) => FAULT,
        Ok(false) | Err(Skip::Filtered) => 0,
    }
}

/// Counts and tells that a socket could not be read.
#[inline(never)]
fn fault(ctx: &BtfTracePointContext) {
    let old_state: i32 = ctx.arg(1);
    let new_state: i32 = ctx.arg(2);
    count(Counter::ReadFault);
    debug!(
        ctx,
        "state {} -> {}: a socket could not be read", old_state, new_state
    );
}

/// Takes the stack of the thread that connects.
#[inline(never)]
fn capture(ctx: &BtfTracePointContext) {
    if let (Ok(cookie), Ok((_, process_start))) = (access::identity(ctx.arg(0)), access::leader()) {
        // SAFETY: no arguments.
        stack::opened(cookie, unsafe { bpf_ktime_get_ns() }, process_start);
    }
}

/// `tcp/tcp_destroy_sock(sk)`: the last descriptor is closed and the connection is over.
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn connleak_destroy(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    match try_destroy(sk) {
        Ok(()) | Err(Skip::Filtered) => {}
        Err(Skip::Fault) => {
            count(Counter::ReadFault);
            debug!(&ctx, "destroy: a socket could not be read");
        }
    }
    access::forget(sk);
    0
}

/// Whether it was a connect that was told.
#[inline(always)]
fn try_state(sk: *const u8, old_state: u8, new_state: u8) -> Result<bool, Skip> {
    // A server's own side: SYN_RECV and LISTEN belong to sockets that were never opened by a connect.
    if old_state == tcp::SYN_RECV || old_state == tcp::LISTEN || new_state == tcp::LISTEN {
        return Err(Skip::Filtered);
    }
    let mut transition = read(sk, KIND_STATE, old_state, new_state)?;
    if old_state == tcp::CLOSE && new_state == tcp::SYN_SENT {
        // Nothing has been carried yet.
        transition.kind = KIND_CONNECT;
        // In place: it would be a quarter of the stack.
        send_in_place(|record| connect(record, transition))?;
        Ok(true)
    } else {
        (transition.bytes_sent, transition.bytes_received) = socket::bytes::<Direct>(Direct::tcp_sock(sk)?)?;
        send(transition);
        Ok(false)
    }
}

#[inline(always)]
fn try_destroy(sk: *const u8) -> Result<(), Skip> {
    let mut transition = read(sk, KIND_DESTROY, tcp::CLOSE, tcp::CLOSE)?;
    (transition.bytes_sent, transition.bytes_received) = socket::bytes::<Direct>(Direct::tcp_sock(sk)?)?;
    send(transition);
    Ok(())
}

/// What is the same for all events. The byte counts are left at 0.
#[inline(always)]
fn read(sk: *const u8, kind: u32, old_state: u8, new_state: u8) -> Result<Transition, Skip> {
    let flow = socket::wanted_flow::<Direct>(sk)?;
    // MPTCP has the same tracepoint, and sockets of another structure.
    if Direct::word::<u16>(sk, offset!(sk_protocol))? != socket::TCP {
        return Err(Skip::Filtered);
    }
    let owner: *const u8 = Direct::word(sk, offset!(sk_socket))?;
    Ok(Transition {
        kind,
        old_state,
        new_state,
        shutdown: Direct::word(sk, offset!(sk_shutdown))?,
        orphan: u8::from(owner.is_null()),
        // SAFETY: no arguments.
        at: unsafe { bpf_ktime_get_ns() },
        cookie: access::identity(sk)?,
        flow,
        error: Direct::word(sk, offset!(sk_err))?,
        bytes_sent: 0,
        bytes_received: 0,
    })
}

/// Adds the caller. Only ever called on CLOSE → SYN_SENT, which runs in the caller's own context;
/// every other transition may run in an interrupt, where `current` is somebody else.
#[inline(always)]
fn connect(record: &mut Connect, transition: Transition) -> Result<(), Skip> {
    let pid_tid = bpf_get_current_pid_tgid();
    let leader;
    (leader, record.process_start) = access::leader()?;
    record.transition = transition;
    // SAFETY: no arguments.
    record.cgroup = unsafe { bpf_get_current_cgroup_id() };
    record.pid = (pid_tid >> 32) as u32;
    record.tid = pid_tid as u32;
    record.uid = bpf_get_current_uid_gid() as u32;
    record.pad = 0;
    // Sixteen letters, aligned to nothing: not a word.
    read::into(leader, offset!(task_comm), &mut record.comm)
}
