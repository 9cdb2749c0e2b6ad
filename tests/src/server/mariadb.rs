//! MariaDB, which speaks MySQL's protocol. Nobody needs a password: grants are off.

use std::{io::Read, net::TcpStream, sync::LazyLock};

use anyhow::Result;

use super::{Server, Shared, borrow, folder, prepare, words};
use crate::port;

/// A server of its own on a free port, its socket in its temporary folder.
pub fn start() -> Result<Server> {
    let folder = folder("mariadb")?;
    let data = format!("--datadir={}", folder.join("data").display());
    prepare(&words(&[
        "mariadb-install-db",
        "--no-defaults",
        &data,
        "--user=root",
        "--skip-test-db",
        "--auth-root-authentication-method=normal",
    ]))?;
    let port = port::free()?;
    // The name that clients know, so that it is recognised as MySQL's wherever it lies.
    let socket = folder.join("mysqld.sock");
    let command = words(&[
        "mariadbd",
        "--no-defaults",
        &data,
        "--user=root",
        "--skip-grant-tables",
        "--bind-address=127.0.0.1,::1",
        &format!("--port={port}"),
        &format!("--socket={}", socket.display()),
        &format!("--pid-file={}", folder.join("mariadbd.pid").display()),
        "--max-connections=300",
        "--innodb-buffer-pool-size=16M",
        "--innodb-flush-log-at-trx-commit=0",
    ]);
    Server::start((port, socket), &folder, "KILL", &command, || greets(port))
}

/// The server that the tests of this process share.
pub fn shared() -> Result<&'static Server> {
    static SHARED: Shared = LazyLock::new(|| start().map_err(|error| format!("{error:#}")));
    borrow(&SHARED)
}

/// The server speaks first, so that one byte means that it serves.
fn greets(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port))
        .and_then(|mut stream| stream.read_exact(&mut [0]))
        .is_ok()
}
