//! Redis, without persistence.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::LazyLock,
};

use anyhow::Result;

use super::{Server, Shared, borrow, folder, words};
use crate::port;

/// A server of its own on a free port, its socket in its temporary folder.
pub fn start() -> Result<Server> {
    let folder = folder("redis")?;
    let port = port::free()?;
    let socket = folder.join("redis.sock");
    let (port_text, folder_text) = (port.to_string(), folder.display().to_string());
    let socket_text = socket.display().to_string();
    let command = words(&[
        "redis-server",
        "--port",
        &port_text,
        "--bind",
        "127.0.0.1",
        "::1",
        "--unixsocket",
        &socket_text,
        "--dir",
        &folder_text,
        "--save",
        "",
        "--appendonly",
        "no",
        "--maxclients",
        "1000",
    ]);
    Server::start((port, socket), &folder, "KILL", &command, || answers(port))
}

/// The server that the tests of this process share.
pub fn shared() -> Result<&'static Server> {
    static SHARED: Shared = LazyLock::new(|| start().map_err(|error| format!("{error:#}")));
    borrow(&SHARED)
}

fn answers(port: u16) -> bool {
    let ping = |mut stream: TcpStream| {
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    TcpStream::connect(("127.0.0.1", port))
        .and_then(ping)
        .is_ok_and(|answer| &answer == b"+PONG\r\n")
}
