//! Real database servers, each in a temporary folder, on a free port and a unix socket.
//!
//! What differs between them (creating the data, options, what "ready" means) is in a file each; what they share is
//! here: the folder, the keeper process that ends them, and the log that a failed start shows.

pub mod mariadb;
pub mod pgbouncer;
pub mod postgres;
pub mod redis;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::wait;

/// A running server. Dropping it stops the server and removes its folder.
pub struct Server {
    /// The TCP port, on `127.0.0.1` and `::1`.
    pub port: u16,
    /// The unix-domain socket.
    pub socket: PathBuf,
    keeper: Child,
}

impl Server {
    /// Runs `command` under a keeper that owns `folder`, and returns once `ready` says so.
    ///
    /// `signal` is the one that ends this server fast and still lets it clean up after itself.
    fn start(
        (port, socket): (u16, PathBuf),
        folder: &Path,
        signal: &str,
        command: &[String],
        mut ready: impl FnMut() -> bool,
    ) -> Result<Self> {
        let keeper = Command::new("sh")
            .args(["-c", include_str!("keeper.sh"), "keeper"])
            .arg(folder)
            .arg(signal)
            .args(command)
            .stdin(Stdio::piped())
            .spawn()
            .context("start the keeper")?;
        let server = Self { port, socket, keeper };
        wait::until("the server to be ready", || Ok(ready().then_some(())))
            .with_context(|| log_of(folder))
            .with_context(|| format!("start {}", command.join(" ")))?;
        Ok(server)
    }

    /// The socket's path as text, for arguments and for comparing with the log.
    #[must_use]
    pub fn socket_text(&self) -> String {
        self.socket.display().to_string()
    }

    /// The arguments that make `connleak` look at this server's IPv4 address and port alone.
    #[must_use]
    pub fn only_this(&self, system: &str) -> [String; 4] {
        only("127.0.0.1", self.port, system)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input is what the keeper waits for.
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}

/// The arguments that make `connleak` take `port` for a `system` database and look at `address` alone.
#[must_use]
pub fn only(address: &str, port: u16, system: &str) -> [String; 4] {
    let server = if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    };
    [
        "--port".into(),
        format!("{port}={system}"),
        "--server".into(),
        server,
    ]
}

/// A new folder under the system's temporary one, which the keeper removes.
fn folder(name: &str) -> Result<PathBuf> {
    let folder = tempfile::Builder::new()
        .prefix(&format!("connleak-{name}-"))
        .tempdir()?;
    Ok(folder.keep())
}

/// Runs a command that prepares a server, and shows its output when it fails.
fn prepare(command: &[String]) -> Result<()> {
    let [program, args @ ..] = command else {
        return Err(anyhow!("an empty command"));
    };
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("run {program}"))?;
    ensure!(
        output.status.success(),
        "{} failed: {}{}",
        command.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The last lines that the server wrote, or that there are none.
fn log_of(folder: &Path) -> String {
    let log = fs::read_to_string(folder.join("server.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    format!(
        "its log ends with:\n{}",
        lines[lines.len().saturating_sub(15)..].join("\n")
    )
}

/// `words` as an argument list.
fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// A server that all tests of one process use, or why it could not start.
type Shared = std::sync::LazyLock<Result<Server, String>>;

fn borrow(shared: &'static Shared) -> Result<&'static Server> {
    shared
        .as_ref()
        .map_err(|reason| anyhow!("the shared server: {reason}"))
}
