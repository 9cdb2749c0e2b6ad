//! Free ports for test servers.
//!
//! They are taken below the ephemeral range, since the clients of a test that runs at the same time use up ports
//! of that range by the ten thousand; and away from every database's default port, so that a port is a database only
//! where the test says so.

use std::{
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener},
    os::fd::AsRawFd as _,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Result, bail};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn6, bind, setsockopt, socket, sockopt};

const FIRST: u32 = 20_000;
const COUNT: u32 = 6_000;

/// A port on which nothing listens, and which no other caller in this process gets.
pub fn free() -> Result<u16> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Two test processes at once start at different places.
    let start = process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + start.wrapping_add(step) % COUNT)?;
        if is_untouched(port)? {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST} to {}", FIRST + COUNT)
}

/// Whether nobody has `port` at all: not even a connection in `TIME_WAIT` that an earlier test's server left behind.
/// Those are no obstacle to a listener of the standard library, but to a socket without `SO_REUSEADDR`.
fn is_untouched(port: u16) -> Result<bool> {
    let probe = socket(
        AddressFamily::Inet6,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&probe, sockopt::Ipv6V6Only, &false)?;
    let everywhere = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0));
    Ok(bind(probe.as_raw_fd(), &everywhere).is_ok())
}

/// Whether nothing listens on `port`, neither over IPv4 nor over IPv6.
#[must_use]
pub fn is_free(port: u16) -> bool {
    // A dual-stack listener: it clashes with a listener of either family.
    TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    #[test]
    fn a_port_with_a_connection_in_time_wait_is_not_handed_out() -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free()?))?;
        let address = listener.local_addr()?;
        let client = TcpStream::connect(address)?;
        // Who closes first keeps the port in TIME_WAIT: the server.
        drop(listener.accept()?);
        drop(client);
        drop(listener);
        assert!(is_free(address.port()), "a listener may have it");
        assert!(!is_untouched(address.port())?, "others may not");
        Ok(())
    }
}
