//! What a TCP `struct sock` holds.

use connleak_ebpf::{AF_INET, AF_INET6, Flow};

use super::{
    Skip, filter,
    read::{load, member, offset, optional},
};

/// `IPPROTO_TCP`.
pub(crate) const TCP: u16 = 6;

/// Reads both ends, if the remote one is a database's.
#[inline(always)]
pub(crate) fn wanted_flow(sk: *const u8) -> Result<Flow, Skip> {
    let remote_port = u16::from_be(member(sk, offset!(skc_dport))?);
    if !filter::port_wanted(remote_port) {
        return Err(Skip::Filtered);
    }
    let family: u16 = member(sk, offset!(skc_family))?;
    let (local, remote) = match family {
        AF_INET => (
            mapped(member(sk, offset!(skc_rcv_saddr))?),
            mapped(member(sk, offset!(skc_daddr))?),
        ),
        AF_INET6 => (
            member(sk, offset!(skc_v6_rcv_saddr))?,
            member(sk, offset!(skc_v6_daddr))?,
        ),
        _ => return Err(Skip::Filtered),
    };
    if !filter::address_wanted(remote) {
        return Err(Skip::Filtered);
    }
    Ok(Flow {
        local,
        remote,
        local_port: member(sk, offset!(skc_num))?,
        remote_port,
        family,
        pad: 0,
        netns: netns(sk)?,
    })
}

/// Whether this is a TCP socket whose remote end is a database's. Asked on every send of every socket, so by plain
/// loads, the port first of what tells.
#[inline(always)]
pub(crate) fn wanted(sk: *const u8) -> bool {
    let family: u16 = load(sk, offset!(skc_family));
    if family != AF_INET && family != AF_INET6 {
        return false;
    }
    let port: u16 = load(sk, offset!(skc_dport));
    if !filter::port_wanted(u16::from_be(port)) || load::<u16>(sk, offset!(sk_protocol)) != TCP {
        return false;
    }
    !filter::only_servers()
        || match family {
            AF_INET => member(sk, offset!(skc_daddr)).map(mapped),
            _ => member(sk, offset!(skc_v6_daddr)),
        }
        .is_ok_and(filter::address_wanted)
}

/// The inode number of the socket's network namespace.
#[inline(always)]
pub(crate) fn netns(sk: *const u8) -> Result<u32, Skip> {
    let net: *const u8 = member(sk, offset!(skc_net))?;
    member(net, offset!(net_inum))
}

/// `SOCK_DONE` of `enum sock_flags` in `include/net/sock.h`: the server's FIN has arrived.
const DONE: u64 = 1 << 1;

/// 1 when the server's FIN has arrived: the kernel counts it among the received bytes (`tcp_rcv_nxt_update`).
#[inline(always)]
pub(crate) fn fin(sk: *const u8) -> Result<u32, Skip> {
    let flags: u64 = member(sk, offset!(skc_flags))?;
    Ok(u32::from(flags & DONE != 0))
}

/// Payload bytes (sent without retransmissions, received without the FIN).
#[inline(always)]
pub(crate) fn bytes(sk: *const u8) -> Result<(u64, u64), Skip> {
    let sent: u64 = member(sk, offset!(tcp_bytes_sent))?;
    let again: u64 = optional(sk, offset!(tcp_bytes_retrans))?;
    let received: u64 = member(sk, offset!(tcp_bytes_received))?;
    Ok((
        sent.saturating_sub(again),
        received.saturating_sub(u64::from(fin(sk)?)),
    ))
}

/// An IPv4 address as a v4-mapped IPv6 one.
#[inline(always)]
fn mapped(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}
