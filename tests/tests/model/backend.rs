//! The ways to ask the kernel, and what each cannot know by its nature. Anything else is a mismatch.
//!
//! `docs/backends.md` says the same to users. There is no other tolerance: not for owners, not for closing causes, not for
//! states or byte counts of what is seen at all.

use std::{env, path::Path, process::Command};

use anyhow::{Context as _, Result, bail, ensure};

use crate::truth::{Cause, Socket, Wire};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// What the agent chooses.
    Best,
    Memory,
    Diag,
    Tracepoint,
}

impl Backend {
    /// What `CONNLEAK_BACKEND` asks for.
    pub fn from_environment() -> Result<Self> {
        match env::var("CONNLEAK_BACKEND").as_deref() {
            Err(_) | Ok("btf") => Ok(Self::Best),
            Ok("memory") => Ok(Self::Memory),
            Ok("diag") => Ok(Self::Diag),
            Ok("tracepoint") => Ok(Self::Tracepoint),
            Ok(other) => bail!("CONNLEAK_BACKEND={other} is no back-end"),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Memory => "memory",
            Self::Diag => "diag",
            Self::Tracepoint => "tracepoint",
        }
    }

    /// The flags that choose it.
    pub fn flags(self) -> Vec<String> {
        if self == Self::Best {
            return Vec::new();
        }
        vec!["--backend".to_owned(), self.name().to_owned()]
    }

    /// The agent calls TCP sockets by the kernel's cookies. Where it can't, the numbers in its lines are its own: whole
    /// histories are compared then, and a socket of a scan is known by who holds it.
    pub fn has_cookies(self) -> bool {
        matches!(self, Self::Best | Self::Diag)
    }

    /// The number by which the agent calls a unix socket: the cookie, or one made from the inode's number.
    pub fn unix_number(self, socket: &Socket) -> u64 {
        if self == Self::Memory {
            1 << 63 | socket.inode
        } else {
            socket.cookie
        }
    }

    fn iterates(self) -> bool {
        matches!(self, Self::Best | Self::Memory)
    }

    /// A snapshot cannot find this socket, though a process holds it.
    ///
    /// `sock_diag` lists what the kernel finds by its ends. A TCP socket whose connection is over has left that
    /// table; its descriptor in `/proc` does not say what it was. And of a unix socket whose server is gone it does
    /// not say any more who that was.
    pub fn is_blind_to(self, socket: &Socket) -> bool {
        let gone = if socket.is_unix() {
            socket.ended == Some(Cause::Peer)
        } else {
            socket.wire == Wire::Over
        };
        !self.iterates() && gone
    }

    /// The end of this socket's last connection is not told until it connects anew.
    ///
    /// `connect(AF_UNSPEC)` on a connection that is over changes no state, so no tracepoint tells of it; after a shutdown it
    /// looks like the server's answer. A close with
    /// `SO_LINGER` 0 after a shutdown does the same within. And the socket has no server from then on, so its destruction is not known to be one of a database's. An iterator no longer
    /// finds it among the server's sockets. `sock_diag` has not listed it before either.
    pub fn misses_the_end_of(self, socket: &Socket) -> bool {
        !self.iterates() && socket.dissolved
    }

    /// Such an end may be told all the same: when a snapshot passes before the change of state has been read, or when
    /// another socket takes its address in the kernel's memory, by which the classic tracepoints name sockets.
    pub fn may_tell_late(self) -> bool {
        !self.iterates()
    }

    /// Makes what it needs: the classic tracepoints need tracefs.
    pub fn prepare(self) -> Result<Option<Tracefs>> {
        if self == Self::Tracepoint {
            Tracefs::mount()
        } else {
            Ok(None)
        }
    }
}

/// Mounted by this test, which leaves the host as it found it.
pub struct Tracefs;

const TRACEFS: &str = "/sys/kernel/tracing";

impl Tracefs {
    fn mount() -> Result<Option<Self>> {
        if Path::new(TRACEFS).join("events").exists() {
            return Ok(None);
        }
        let mut mount = Command::new("mount");
        mount.args(["-t", "tracefs", "connleak-model", TRACEFS]);
        ensure!(mount.status().context("mount")?.success(), "can't mount tracefs");
        Ok(Some(Self))
    }
}

impl Drop for Tracefs {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(TRACEFS).status());
    }
}
