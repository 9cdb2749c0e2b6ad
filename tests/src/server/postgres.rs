//! PostgreSQL. It refuses to run as root, so it runs as the user that Debian's package made for it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use anyhow::{Context, Result, ensure};
use nix::unistd::{User, chown};

use super::{Server, Shared, borrow, folder, prepare, words};
use crate::port;

pub(super) const USER: &str = "postgres";
/// Where clients look for the socket when nobody tells them otherwise (Debian's and Fedora's build option).
pub const STANDARD_SOCKETS: &str = "/var/run/postgresql";
/// Connections for the tests of a whole process, side by side.
const ROOM: u32 = 300;
/// Settings for TLS: the package `ssl-cert`, which Debian's servers depend on, has made these and given them to the
/// server's group.
const TLS: &str = "ssl = on\nssl_cert_file = '/etc/ssl/certs/ssl-cert-snakeoil.pem'\n\
                   ssl_key_file = '/etc/ssl/private/ssl-cert-snakeoil.key'\n";
/// The port that IANA gave to PostgreSQL.
pub const STANDARD_PORT: u16 = 5432;

/// A server of its own on a free port, its socket in its temporary folder.
pub fn start() -> Result<Server> {
    let folder = folder(USER)?;
    start_in(&folder, port::free()?, &folder, ROOM, "")
}

/// A server of its own that accepts TLS, with the certificate that Debian makes for each machine.
pub fn encrypted() -> Result<Server> {
    let folder = folder(USER)?;
    start_in(&folder, port::free()?, &folder, ROOM, TLS)
}

/// A server of its own that accepts so many connections, superusers' included.
pub fn small(connections: u32) -> Result<Server> {
    let folder = folder(USER)?;
    start_in(&folder, port::free()?, &folder, connections, "")
}

/// The server that the tests of this process share.
pub fn shared() -> Result<&'static Server> {
    static SHARED: Shared = LazyLock::new(|| start().map_err(|error| format!("{error:#}")));
    borrow(&SHARED)
}

/// A server on the standard port and the standard unix socket, shared; none when another server has them.
pub fn standard() -> Result<Option<&'static Server>> {
    static SHARED: LazyLock<Result<Option<Server>, String>> =
        LazyLock::new(|| start_standard().map_err(|error| format!("{error:#}")));
    SHARED
        .as_ref()
        .map(Option::as_ref)
        .map_err(|reason| anyhow::anyhow!("the standard server: {reason}"))
}

fn start_standard() -> Result<Option<Server>> {
    let sockets = Path::new(STANDARD_SOCKETS);
    let taken = sockets.join(format!(".s.PGSQL.{STANDARD_PORT}")).exists();
    if taken || !port::is_free(STANDARD_PORT) {
        return Ok(None);
    }
    // On a system whose /run is fresh, only the packaged service would have made it.
    fs::create_dir_all(sockets)?;
    give_to_server(sockets, 0o2775)?;
    let folder = folder(USER)?;
    Ok(Some(start_in(&folder, STANDARD_PORT, sockets, ROOM, "")?))
}

fn start_in(folder: &Path, port: u16, sockets: &Path, connections: u32, more: &str) -> Result<Server> {
    give_to_server(folder, 0o755)?;
    let data = folder.join("data");
    let data_text = data.display().to_string();
    prepare(&as_server(
        "initdb",
        &[
            "-D",
            &data_text,
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ],
    )?)?;
    fs::write(
        data.join("postgresql.auto.conf"),
        settings(port, sockets, connections) + more,
    )?;
    let socket = sockets.join(format!(".s.PGSQL.{port}"));
    // The last line of this file is what pg_ctl waits for, too.
    let state = data.join("postmaster.pid");
    let ready = || fs::read_to_string(&state).is_ok_and(|text| text.contains("ready"));
    // SIGQUIT is "immediate shutdown": no checkpoint, but shared memory and sockets are removed.
    Server::start(
        (port, socket),
        folder,
        "QUIT",
        &as_server("postgres", &["-D", &data_text])?,
        ready,
    )
}

fn settings(port: u16, sockets: &Path, connections: u32) -> String {
    let sockets = sockets.display();
    // Clients that connect and never log in are a test of their own: the server must not end them.
    format!(
        "port = {port}\nlisten_addresses = '127.0.0.1, ::1'\nunix_socket_directories = '{sockets}'\n\
         max_connections = {connections}\nfsync = off\nsynchronous_commit = off\nautovacuum = off\nshared_buffers = 16MB\n\
         authentication_timeout = 600s\n"
    )
}

/// `program` of the newest installed PostgreSQL, to be run as the server's user.
fn as_server(program: &str, args: &[&str]) -> Result<Vec<String>> {
    let program = binaries()?.join(program).display().to_string();
    let mut command = words(&[
        "setpriv",
        "--reuid",
        USER,
        "--regid",
        USER,
        "--init-groups",
        &program,
    ]);
    command.extend(words(args));
    Ok(command)
}

fn binaries() -> Result<PathBuf> {
    let mut versions = Vec::new();
    for entry in
        fs::read_dir("/usr/lib/postgresql").context("postgresql is not installed: cargo xtask setup")?
    {
        let path = entry?.path();
        let version = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse::<u32>().ok());
        versions.extend(version.map(|version| (version, path.join("bin"))));
    }
    ensure!(!versions.is_empty(), "no version in /usr/lib/postgresql");
    versions.sort();
    versions.pop().map(|(_, path)| path).context("a version")
}

pub(super) fn give_to_server(folder: &Path, mode: u32) -> Result<()> {
    let user = User::from_name(USER)?.context("there is no user postgres")?;
    chown(folder, Some(user.uid), Some(user.gid)).with_context(|| format!("chown {}", folder.display()))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))?;
    Ok(())
}
