//! A listener that accepts and reads until the client is gone: the other end of connections that are not about any
//! database.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    thread,
};

use anyhow::Result;

use crate::port;

/// Listens on a free port of 127.0.0.1 until this process ends, and returns that port.
pub fn start() -> Result<u16> {
    let port = port::free()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A reset is one of the ways in which clients of these tests say goodbye.
            drop(stream.and_then(|mut stream| io::copy(&mut stream, &mut io::sink())));
        }
    });
    Ok(port)
}
