//! Where the programs connect to: listeners that the test accepts from, one that refuses, and one that never answers.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixListener,
    },
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use connleak_tests::{port, wait};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind, listen,
    setsockopt, socket, sockopt,
};
use tempfile::TempDir;

use crate::truth::{End, Kind};

/// One set for each thread that runs programs, so that whoever connected last is whom the test accepts next.
pub struct Servers {
    pub open: u16,
    pub refusing: u16,
    pub silent: u16,
    pub path: PathBuf,
    v4: TcpListener,
    v6: TcpListener,
    unix: UnixListener,
    _bound: [OwnedFd; 3],
    /// Fills the queue of the silent listener.
    _filler: TcpStream,
    _folder: TempDir,
}

impl Servers {
    pub fn start() -> Result<Self> {
        let (open, refusing, silent) = (port::free()?, port::free()?, port::free()?);
        let folder = tempfile::Builder::new().prefix("connleak-model-").tempdir()?;
        let path = folder.path().join("db.sock");
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, open))?;
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, open))?;
        let unix = UnixListener::bind(&path)?;
        v4.set_nonblocking(true)?;
        v6.set_nonblocking(true)?;
        unix.set_nonblocking(true)?;
        // Bound and not listening: nobody else gets the port, and a connect is refused.
        let refusing_v4 = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, refusing)))?;
        let refusing_v6 = bound(SocketAddr::from((Ipv6Addr::LOCALHOST, refusing)))?;
        // A queue for one, and it is taken: the kernel drops every further SYN.
        let full = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, silent)))?;
        listen(&full, Backlog::new(0)?)?;
        let filler = TcpStream::connect((Ipv4Addr::LOCALHOST, silent))?;
        Ok(Self {
            open,
            refusing,
            silent,
            path,
            v4,
            v6,
            unix,
            _bound: [refusing_v4, refusing_v6, full],
            _filler: filler,
            _folder: folder,
        })
    }

    /// The flags that make the agent look at these servers alone.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        for port in [self.open, self.refusing, self.silent] {
            flags.extend(["--port".to_owned(), format!("{port}=postgresql")]);
            for server in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
                flags.extend(["--server".to_owned(), server]);
            }
        }
        flags.extend([
            "--server".to_owned(),
            format!("{}=postgresql", self.path.display()),
        ]);
        flags
    }

    /// What an application has to connect to, and what the agent calls that.
    pub fn address(&self, kind: Kind, port: u16) -> (String, String) {
        match kind {
            Kind::V4 => (format!("127.0.0.1:{port}"), format!("127.0.0.1:{port}")),
            Kind::V6 => (format!("[::1]:{port}"), format!("[::1]:{port}")),
            Kind::Mapped => (format!("[::ffff:127.0.0.1]:{port}"), format!("127.0.0.1:{port}")),
            Kind::Unix => (self.path.display().to_string(), self.path.display().to_string()),
        }
    }

    /// The server's end of the connection that was made last.
    pub fn accept(&self, kind: Kind) -> Result<End> {
        let tcp = |listener: &TcpListener| {
            let stream = patiently(|| listener.accept())?.0;
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(wait::PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(End::Tcp(stream))
        };
        match kind {
            Kind::V4 | Kind::Mapped => tcp(&self.v4),
            Kind::V6 => tcp(&self.v6),
            Kind::Unix => {
                let stream = patiently(|| self.unix.accept())?.0;
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(wait::PATIENCE))?;
                Ok(End::Unix(stream))
            }
        }
    }
}

fn patiently<T>(mut accept: impl FnMut() -> io::Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && start.elapsed() < wait::PATIENCE => {
                thread::sleep(Duration::from_micros(100));
            }
            other => return other.context("accept"),
        }
    }
}

fn bound(address: SocketAddr) -> Result<OwnedFd> {
    let (family, address): (_, Box<dyn SockaddrLike>) = match address {
        SocketAddr::V4(v4) => (AddressFamily::Inet, Box::new(SockaddrIn::from(v4))),
        SocketAddr::V6(v6) => (AddressFamily::Inet6, Box::new(SockaddrIn6::from(v6))),
    };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    if family == AddressFamily::Inet6 {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    bind(fd.as_raw_fd(), &*address)?;
    Ok(fd)
}
