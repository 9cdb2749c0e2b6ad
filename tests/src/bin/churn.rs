//! `churn PORT COUNT`: connects to 127.0.0.1:PORT and closes again, COUNT times, as fast as it can.
//!
//! A process of its own, so that the agent sees one client with one pid. One connection in eight ends the long way
//! (FIN, the server's FIN, TIME-WAIT); the others end with a reset, which gives the port back at once: ephemeral ports are
//! fewer than the connections of a test.

use std::{
    env,
    io::{self, Read},
    net::{Ipv4Addr, Shutdown, TcpStream},
};

use anyhow::{Context, Result, bail};
use nix::sys::socket::{setsockopt, sockopt::Linger};

const RESET: nix::libc::linger = nix::libc::linger {
    l_onoff: 1,
    l_linger: 0,
};

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [port, count] = args.as_slice() else {
        bail!("usage: churn PORT COUNT")
    };
    let port: u16 = port.parse().context("PORT")?;
    let count: u32 = count.parse().context("COUNT")?;
    for index in 0..count {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connect")?;
        if index % 8 == 0 {
            part_politely(stream)
        } else {
            setsockopt(&stream, Linger, &RESET).map_err(io::Error::from)
        }
        .with_context(|| format!("connection {index}"))?;
    }
    Ok(())
}

/// Closes, and returns once the server has closed too: the connection is over then, and not a moment later.
fn part_politely(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}
