//! `PgBouncer` before a `PostgreSQL` server. It refuses to run as root, so it runs as that server's user.

use std::{fs, net::TcpStream};

use anyhow::{Context, Result};

use super::{Server, folder, postgres, words};
use crate::{port, wait};

/// A proxy, and its process.
pub struct Proxy {
    /// Where clients connect to.
    pub server: Server,
    /// The proxy's own process: it is an application, too, to the server behind it.
    pub pid: u32,
}

/// A proxy of its own on a free port, with at most ten connections to the server on `server_port`.
pub fn start(server_port: u16) -> Result<Proxy> {
    let folder = folder("pgbouncer")?;
    let (port, user) = (port::free()?, postgres::USER);
    let (ini, pid_file) = (folder.join("pgbouncer.ini"), folder.join("pgbouncer.pid"));
    let shown = folder.display();
    fs::write(
        &ini,
        format!(
            "[databases]\n* = host=127.0.0.1 port={server_port} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir = {shown}\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 10\nmax_client_conn = 200\npidfile = {}\nignore_startup_parameters = extra_float_digits\n",
            pid_file.display()
        ),
    )?;
    postgres::give_to_server(&folder, 0o755)?;
    postgres::give_to_server(&ini, 0o644)?;
    let command = words(&[
        "setpriv",
        "--reuid",
        user,
        "--regid",
        user,
        "--init-groups",
        "pgbouncer",
        &ini.display().to_string(),
    ]);
    let socket = folder.join(format!(".s.PGSQL.{port}"));
    let ready = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let server = Server::start((port, socket), &folder, "TERM", &command, ready)?;
    let pid = wait::until("pgbouncer's pid file", || {
        Ok(fs::read_to_string(&pid_file)
            .ok()
            .and_then(|text| text.trim().parse().ok()))
    })
    .context("pgbouncer")?;
    Ok(Proxy { server, pid })
}
