//! Free ports for test servers.
//!
//! They are taken below the ephemeral range, since the clients of a test that runs at the same time use up ports
//! of that range by the ten thousand; and away from every database's default port, so that a port is a database only
//! where the test says so.

use std::{
    net::{Ipv6Addr, SocketAddr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Result, bail};

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
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST} to {}", FIRST + COUNT)
}

/// Whether nothing listens on `port`, neither over IPv4 nor over IPv6.
#[must_use]
pub fn is_free(port: u16) -> bool {
    // A dual-stack listener: it clashes with a listener of either family.
    TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).is_ok()
}
