//! What a TCP `struct sock` holds.

use connleak_ebpf::{AF_INET, AF_INET6, Flow};

use super::{
    Skip, filter,
    read::{Direct, Read, load, offset},
};

/// `IPPROTO_TCP`.
pub(crate) const TCP: u16 = 6;

/// Reads both ends, if the remote one is a database's.
#[inline(always)]
pub(crate) fn wanted_flow<R: Read>(sk: *const u8) -> Result<Flow, Skip> {
    let remote_port = u16::from_be(R::word(sk, offset!(skc_dport))?);
    if !filter::port_wanted(remote_port) {
        return Err(Skip::Filtered);
    }
    let family: u16 = R::word(sk, offset!(skc_family))?;
    let (local, remote) = match family {
        AF_INET => (
            mapped(R::word(sk, offset!(skc_rcv_saddr))?),
            mapped(R::word(sk, offset!(skc_daddr))?),
        ),
        AF_INET6 => (
            R::address(sk, offset!(skc_v6_rcv_saddr))?,
            R::address(sk, offset!(skc_v6_daddr))?,
        ),
        _ => return Err(Skip::Filtered),
    };
    if !filter::address_wanted(remote) {
        return Err(Skip::Filtered);
    }
    Ok(Flow {
        local,
        remote,
        local_port: R::word(sk, offset!(skc_num))?,
        remote_port,
        family,
        pad: 0,
        netns: netns::<R>(sk)?,
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
            AF_INET => Ok(mapped(load(sk, offset!(skc_daddr)))),
            _ => Direct::address(sk, offset!(skc_v6_daddr)),
        }
        .is_ok_and(filter::address_wanted)
}

/// The inode number of the socket's network namespace.
#[inline(always)]
pub(crate) fn netns<R: Read>(sk: *const u8) -> Result<u32, Skip> {
    let net: *const u8 = R::word(sk, offset!(skc_net))?;
    R::word(net, offset!(net_inum))
}

/// `SOCK_DONE` of `enum sock_flags` in `include/net/sock.h`: the server's FIN has arrived.
const DONE: u64 = 1 << 1;

/// 1 when the server's FIN has arrived: the kernel counts it among the received bytes (`tcp_rcv_nxt_update`).
#[inline(always)]
pub(crate) fn fin<R: Read>(sk: *const u8) -> Result<u32, Skip> {
    let flags: u64 = R::word(sk, offset!(skc_flags))?;
    Ok(u32::from(flags & DONE != 0))
}

/// Payload bytes (sent without retransmissions, received without the FIN) of a `struct tcp_sock`.
#[inline(always)]
pub(crate) fn bytes<R: Read>(tcp: *const u8) -> Result<(u64, u64), Skip> {
    let sent: u64 = R::word(tcp, offset!(tcp_bytes_sent))?;
    let again: u64 = R::optional(tcp, offset!(tcp_bytes_retrans))?;
    let received: u64 = R::word(tcp, offset!(tcp_bytes_received))?;
    Ok((
        sent.saturating_sub(again),
        received.saturating_sub(u64::from(fin::<R>(tcp)?)),
    ))
}

/// An IPv4 address, in network order, as a v4-mapped IPv6 one.
#[inline(always)]
fn mapped(address: u32) -> [u8; 16] {
    let [a, b, c, d] = address.to_ne_bytes();
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}
