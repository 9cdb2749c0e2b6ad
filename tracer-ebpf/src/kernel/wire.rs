//! What a client sends first: the beginning of it goes to the agent, which reads who the client says it is.
//!
//! A program of its own, so that connleak works where the verifier or the kernel will not have it; `connleak_send` goes on
//! to it by a tail call, so that a send which is not among a connection's first costs nothing more. It runs in the
//! sender's context, after the send: the sender's buffer is where its system call said. Sends by `io_uring`,
//! `sendfile` and kernel threads have no such buffer, and are passed by.

use aya_ebpf::{
    helpers::{bpf_get_current_task_btf, bpf_ktime_get_ns, bpf_task_pt_regs, generated},
    macros::{btf_tracepoint, map},
    maps::ProgramArray,
    programs::BtfTracePointContext,
};
use connleak_ebpf::{ABSENT, AF_UNIX, Flow, HELLO_LEN, HELLO_WITHIN, Hello, KIND_HELLO, UNIX_PATH_LEN};

use super::{
    Skip, access,
    read::{self, Direct, Read as _, member, offset},
    send::send_in_place,
    socket,
    unix::{self, ACTIVITY, FAMILY_LEN},
};

/// System calls that send, of x86-64 (`arch/x86/entry/syscalls/syscall_64.tbl`). The agent resolves the registers
/// below on no other machine.
mod call {
    pub const WRITE: u64 = 1;
    pub const WRITEV: u64 = 20;
    pub const SENDTO: u64 = 44;
    pub const SENDMSG: u64 = 46;
    pub const SENDMMSG: u64 = 307;
}

/// `msg_iov` in user space's `struct msghdr`.
const MSG_IOV: u64 = 16;

/// Has [`connleak_hello`], once the agent has put it there.
#[map]
static HELLO: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Bytes that have been sent when a send of `length` may have been among the first.
#[inline(always)]
pub(crate) fn within(length: u32) -> u64 {
    HELLO_WITHIN + u64::from(length)
}

/// Whether a send on a TCP socket that is a database's was among its first.
#[inline(always)]
pub(crate) fn is_first(sk: *const u8, length: u32) -> bool {
    Direct::tcp_sock(sk)
        .and_then(|tcp| Direct::word::<u64>(tcp, offset!(tcp_bytes_sent)))
        .is_ok_and(|sent| sent <= within(length))
}

/// Goes on to [`connleak_hello`], and does not come back, if it is there.
#[inline(always)]
pub(crate) fn go_on(ctx: &BtfTracePointContext) {
    // SAFETY: the context is the one that the kernel gave; the program in the slot is for the same tracepoint, which the
    // kernel sees to.
    unsafe { HELLO.tail_call(ctx, 0) };
}

/// `sock/sock_send_length(sk, ret, flags)`, after `connleak_send`.
#[btf_tracepoint(function = "sock_send_length")]
pub fn connleak_hello(ctx: BtfTracePointContext) -> i32 {
    let length: i32 = ctx.arg(1);
    if length > 0 && offset!(regs_orig_ax) != ABSENT {
        // What cannot be read says nothing, and the connection is judged without.
        let _ = try_hello(ctx.arg(0), length.cast_unsigned());
    }
    0
}

#[inline(always)]
fn try_hello(sk: *const u8, length: u32) -> Result<(), Skip> {
    let within = within(length);
    if Direct::word::<u16>(sk, offset!(skc_family))? == AF_UNIX {
        let cookie = access::unix_identity(sk)?;
        // `connleak_send` has just been here.
        let activity = ACTIVITY.get_ptr(cookie).ok_or(Skip::Filtered)?;
        // SAFETY: the entry is live for this program's run.
        if unsafe { (*activity).bytes_sent } > within {
            return Err(Skip::Filtered);
        }
        let peer: *const u8 = member(sk, offset!(unix_peer))?;
        let name = unix::name(sk, peer)?;
        if !name.client {
            return Err(Skip::Filtered);
        }
        return tell(cookie, Flow::default(), name.address, length);
    }
    let flow = socket::wanted_flow::<Direct>(sk)?;
    let tcp = Direct::tcp_sock(sk)?;
    if Direct::word::<u64>(tcp, offset!(tcp_bytes_sent))? > within {
        return Err(Skip::Filtered);
    }
    tell(access::identity(sk)?, flow, core::ptr::null(), length)
}

#[inline(always)]
fn tell(cookie: u64, flow: Flow, unix_name: *const u8, length: u32) -> Result<(), Skip> {
    let sent = buffer()?;
    let known = length.min(HELLO_LEN as u32);
    send_in_place(|hello: &mut Hello| {
        hello.kind = KIND_HELLO;
        // SAFETY: no arguments.
        hello.at = unsafe { bpf_ktime_get_ns() };
        hello.cookie = cookie;
        hello.flow = flow;
        hello.length = known as u16;
        hello.path_len = 0;
        hello.path = [0; UNIX_PATH_LEN];
        hello.data = [0; HELLO_LEN];
        if !unix_name.is_null() {
            let length: u32 = member(unix_name, offset!(unix_address_len))?;
            hello.path_len = length.saturating_sub(FAMILY_LEN).min(UNIX_PATH_LEN as u32) as u16;
            read::into(
                unix_name,
                offset!(unix_address_name) + FAMILY_LEN,
                &mut hello.path,
            )?;
        }
        // SAFETY: `data` has room for `known` bytes; the helper checks the address and fails on a bad one.
        let failed = unsafe {
            generated::bpf_probe_read_user(
                hello.data.as_mut_ptr().cast(),
                known & (2 * HELLO_LEN as u32 - 1),
                sent as *const _,
            )
        };
        if failed == 0 { Ok(()) } else { Err(Skip::Filtered) }
    })
}

/// Where the running system call's data begins in user space.
#[inline(always)]
fn buffer() -> Result<u64, Skip> {
    // SAFETY: the task is the current one; its registers lie at the end of its own kernel stack.
    let registers: *const u8 = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const u8;
    let second: u64 = member(registers, offset!(regs_si))?;
    match member::<u64>(registers, offset!(regs_orig_ax))? {
        call::WRITE | call::SENDTO => Ok(second),
        call::WRITEV => user_word(second),
        call::SENDMSG | call::SENDMMSG => user_word(user_word(second + MSG_IOV)?),
        _ => Err(Skip::Filtered),
    }
}

/// A word of the current process's memory.
#[inline(always)]
fn user_word(address: u64) -> Result<u64, Skip> {
    // SAFETY: the helper checks the address and fails on a bad one.
    unsafe { aya_ebpf::helpers::bpf_probe_read_user(address as *const u64) }.map_err(|_| Skip::Filtered)
}
