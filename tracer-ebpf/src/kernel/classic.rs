//! TCP connections on kernels without BTF: the same two tracepoints, read by their published format.
//!
//! There the structures cannot be read, so there is no cookie, no namespace, no byte count and no word on
//! what was shut down. The socket's address stands for the cookie; the agent knows that it is reused.
//! The agent compares the format below with the kernel's (`events/*/format` in tracefs) before load.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_ktime_get_ns},
    macros::tracepoint,
    programs::TracePointContext,
};
use connleak_ebpf::{
    AF_INET, AF_INET6, Connect, Counter, Flow, KIND_CONNECT, KIND_DESTROY, KIND_STATE, Transition, classic,
    tcp,
};

use super::{
    Skip, filter,
    send::{count, send},
};

/// 1 when `tcp_destroy_sock` has no family, as on 5.10. Set before load.
#[unsafe(no_mangle)]
static OLD_DESTROY: u32 = 0;

/// `sock/inet_sock_set_state`.
#[tracepoint]
pub fn connleak_classic(ctx: TracePointContext) -> u32 {
    if let Err(Skip::Fault) = try_state(&ctx) {
        count(Counter::ReadFault);
    }
    0
}

/// `tcp/tcp_destroy_sock`.
#[tracepoint]
pub fn connleak_classic_destroy(ctx: TracePointContext) -> u32 {
    if let Err(Skip::Fault) = try_destroy(&ctx) {
        count(Counter::ReadFault);
    }
    0
}

#[inline(always)]
fn field<T>(ctx: &TracePointContext, offset: usize) -> Result<T, Skip> {
    // SAFETY: the agent has checked the offset against the kernel's format of this tracepoint.
    unsafe { ctx.read_at(offset) }.map_err(|_| Skip::Fault)
}

#[inline(always)]
fn try_state(ctx: &TracePointContext) -> Result<(), Skip> {
    use classic::state;
    let flow = wanted_flow(ctx, state::SPORT, state::DPORT, state::SADDR_V6, state::DADDR_V6)?;
    let family: u16 = field(ctx, state::FAMILY)?;
    if family != AF_INET && family != AF_INET6 {
        return Err(Skip::Filtered);
    }
    if field::<u16>(ctx, state::PROTOCOL)? != 6
    /* IPPROTO_TCP */
    {
        return Err(Skip::Filtered);
    }
    let (old_state, new_state) = (
        field::<i32>(ctx, state::OLD_STATE)? as u8,
        field::<i32>(ctx, state::NEW_STATE)? as u8,
    );
    if old_state == tcp::SYN_RECV || old_state == tcp::LISTEN || new_state == tcp::LISTEN {
        return Err(Skip::Filtered);
    }
    let mut transition = Transition {
        kind: KIND_STATE,
        old_state,
        new_state,
        // SAFETY: no arguments.
        at: unsafe { bpf_ktime_get_ns() },
        cookie: field(ctx, state::SKADDR)?,
        flow,
        ..Transition::default()
    };
    if old_state == tcp::CLOSE && new_state == tcp::SYN_SENT {
        transition.kind = KIND_CONNECT;
        let pid_tid = bpf_get_current_pid_tgid();
        send(Connect {
            transition,
            pid: (pid_tid >> 32) as u32,
            tid: pid_tid as u32,
            uid: bpf_get_current_uid_gid() as u32,
            comm: bpf_get_current_comm().map_err(|_| Skip::Fault)?,
            ..Connect::default()
        });
    } else {
        send(transition);
    }
    Ok(())
}

#[inline(always)]
fn try_destroy(ctx: &TracePointContext) -> Result<(), Skip> {
    use classic::destroy;
    // SAFETY: a live static, set before load.
    let old = unsafe { core::ptr::read_volatile(&raw const OLD_DESTROY) } == 1;
    // Of the two, the verifier sees the one that this kernel has.
    let flow = if old {
        wanted_flow(
            ctx,
            destroy::SPORT,
            destroy::DPORT,
            destroy::OLD_SADDR_V6,
            destroy::OLD_DADDR_V6,
        )?
    } else {
        wanted_flow(
            ctx,
            destroy::SPORT,
            destroy::DPORT,
            destroy::SADDR_V6,
            destroy::DADDR_V6,
        )?
    };
    send(Transition {
        kind: KIND_DESTROY,
        old_state: tcp::CLOSE,
        new_state: tcp::CLOSE,
        // SAFETY: no arguments.
        at: unsafe { bpf_ktime_get_ns() },
        cookie: field(ctx, destroy::SKADDR)?,
        flow,
        ..Transition::default()
    });
    Ok(())
}

#[inline(always)]
fn wanted_flow(
    ctx: &TracePointContext,
    sport: usize,
    dport: usize,
    saddr: usize,
    daddr: usize,
) -> Result<Flow, Skip> {
    let remote_port = field(ctx, dport)?;
    if !filter::port_wanted(remote_port) {
        return Err(Skip::Filtered);
    }
    let remote: [u8; 16] = field(ctx, daddr)?;
    if !filter::address_wanted(remote) {
        return Err(Skip::Filtered);
    }
    Ok(Flow {
        local: field(ctx, saddr)?,
        remote,
        local_port: field(ctx, sport)?,
        remote_port,
        // The tracepoints write an IPv4 address as a mapped one, too.
        family: match remote {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..] => AF_INET,
            _ => AF_INET6,
        },
        pad: 0,
        netns: 0,
    })
}
