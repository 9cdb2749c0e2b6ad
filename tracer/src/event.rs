//! What happened, in the words of the pure core: no kernel layouts, no file descriptors of ours, no clock.
//!
//! The shell (`probes`) makes events, the [`crate::ledger`] folds them. Times come in with the events, as
//! `CLOCK_MONOTONIC` nanoseconds, so that the same events always give the same findings.

#![forbid(unsafe_code)]

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    callsite::{Role, SiteId},
    owner::ProcessId,
    server::{System, wire::Identity},
};

/// `CLOCK_MONOTONIC` nanoseconds.
pub type Nanos = u64;

/// One second in [`Nanos`].
pub const SECOND: Nanos = 1_000_000_000;

/// A socket's cookie: the kernel's own identity for it, never reused until the next boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cookie(pub u64);

/// Where a database listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// An IP address (v4-mapped ones as IPv4) and port.
    Tcp(SocketAddr),
    /// A unix-domain socket's name; an abstract one begins with `@`.
    Unix(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

/// A database server, as a client names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Server {
    /// What speaks there.
    pub system: System,
    /// Where.
    pub place: Place,
}

/// Bytes and times of one socket, as far as the kernel keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// When data was last sent; `None` when unknown. Never sent counts as the time of the connect.
    pub last_sent: Option<Nanos>,
    /// When data was last received, likewise.
    pub last_received: Option<Nanos>,
    /// Payload bytes sent; `None` when the kernel does not count them (unix sockets opened before attach).
    pub bytes_sent: Option<u64>,
    /// Payload bytes received, likewise.
    pub bytes_received: Option<u64>,
    /// Segments (TCP) or calls (unix) that carried data to the server.
    pub sends: Option<u32>,
    /// Segments that carried data from the server; `None` for unix sockets.
    pub receives: Option<u32>,
    /// Written bytes that the server has not acknowledged.
    pub unacknowledged: u32,
    /// Received bytes that the application has not read.
    pub unread: u32,
    /// There were no times at first sight, but from then on any data is noticed.
    pub followed: bool,
}

impl Traffic {
    /// What may be believed of a socket that was opened before attach: where the kernel keeps no counts,
    /// those made since attach are no totals.
    #[must_use]
    pub fn of_before_attach(self) -> Self {
        if !self.followed {
            return self;
        }
        Self {
            bytes_sent: None,
            bytes_received: None,
            sends: None,
            receives: None,
            ..self
        }
    }
}

/// A TCP state that matters to a client; a unix socket is `Established` or `PeerClosed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// The handshake is under way.
    Connecting,
    /// Open on both sides.
    Established,
    /// The server has closed, this side has not (`CLOSE_WAIT`).
    PeerClosed,
    /// This side has closed or shut down; the end of the connection is under way.
    Closing,
    /// The connection is over; a descriptor may still refer to the socket.
    Closed,
}

impl State {
    /// The name that `ss` and the kernel use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "SYN_SENT",
            Self::Established => "ESTABLISHED",
            Self::PeerClosed => "CLOSE_WAIT",
            Self::Closing => "FIN_WAIT",
            Self::Closed => "CLOSE",
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// The application closed first.
    Local,
    /// The server closed first, then the application.
    Peer,
    /// A reset, or an error such as a time-out of retransmissions.
    Reset,
    /// Not seen: a snapshot no longer found it.
    Unseen,
}

impl Cause {
    /// Word for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Peer => "peer",
            Self::Reset => "reset",
            Self::Unseen => "unseen",
        }
    }
}

/// A process calls connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// When.
    pub at: Nanos,
    /// Which socket.
    pub cookie: Cookie,
    /// Who calls.
    pub process: ProcessId,
    /// Which of its threads.
    pub tid: u32,
    /// The process's name, for those that are gone before anybody can ask.
    pub name: String,
    /// Its user.
    pub uid: u32,
    /// To where.
    pub server: Arc<Server>,
    /// Network namespace (inode number).
    pub netns: u32,
}

/// A TCP state change after the connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When.
    pub at: Nanos,
    /// Which socket.
    pub cookie: Cookie,
    /// The state that it has now.
    pub state: State,
    /// The state that it had.
    pub from: State,
    /// This end, once the kernel has chosen it.
    pub client: Option<SocketAddr>,
    /// The socket's pending error number; 0 for none.
    pub error: i32,
    /// Both directions are shut down by this side: a close, or `shutdown(SHUT_RDWR)`.
    pub shut: bool,
    /// No descriptor refers to the socket any more.
    pub released: bool,
    /// Payload bytes so far.
    pub bytes_sent: u64,
    /// Payload bytes so far.
    pub bytes_received: u64,
}

/// A descriptor of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// Whose.
    pub process: ProcessId,
    /// Its number.
    pub fd: u32,
}

/// One descriptor that a snapshot found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// When this row was read.
    pub at: Nanos,
    /// Which socket.
    pub cookie: Cookie,
    /// Who holds it.
    pub holder: Holder,
    /// To where.
    pub server: Arc<Server>,
    /// This end; `None` for unix sockets.
    pub client: Option<SocketAddr>,
    /// Network namespace (inode number); 0 for unix sockets.
    pub netns: u32,
    /// Inode number: rises with time, roughly (batches per CPU).
    pub inode: u64,
    /// State.
    pub state: State,
    /// What it has carried.
    pub traffic: Traffic,
    /// When the server accepted it, if the server runs here and can be asked.
    pub accepted_at: Option<Nanos>,
}

/// All database sockets that are held by a descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When the walk began.
    pub began: Nanos,
    /// When it was over.
    pub ended: Nanos,
    /// One for each descriptor.
    pub observations: Vec<Observation>,
    /// It has no rows for sockets whose connection is over, though a descriptor may refer to them: `sock_diag` does not
    /// list them.
    #[serde(default)]
    pub open_only: bool,
}

/// Why events did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Loss {
    /// The ring buffer was full.
    RingFull,
    /// Kernel memory could not be read.
    ReadFault,
    /// The map of sockets was full, so that one may be taken for another.
    MapFull,
}

impl Loss {
    /// Word for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::ReadFault => "read_fault",
            Self::MapFull => "map_full",
        }
    }
}

/// Threads of a process that have opened connections, and whether they live. Told once, and again when that
/// has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threads {
    /// When they were asked for.
    pub at: Nanos,
    /// Whose.
    pub process: ProcessId,
    /// Those that live, in order.
    pub alive: Vec<u32>,
    /// Those that have ended, in order.
    pub ended: Vec<u32>,
}

/// Which code opened or used a connection. A use is told when it is other code's than the one before: it stands until
/// another one is told, whatever is sent meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// When the thread did that.
    pub at: Nanos,
    /// Which socket.
    pub cookie: Cookie,
    /// What it did.
    pub role: Role,
    /// Whose thread.
    pub process: ProcessId,
    /// The call site; who wants its frames asks [`crate::case::Case`] for them. [`SiteId::UNKNOWN`] for a use that is
    /// not known: then whatever was told before is of an earlier one.
    pub site: SiteId,
}

/// A client said in clear who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// When.
    pub at: Nanos,
    /// On which socket.
    pub cookie: Cookie,
    /// What it said.
    pub identity: Identity,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A connection is being opened.
    Connect(Connect),
    /// A connection changed its state, or its socket is gone.
    Change(Change),
    /// A walk over all descriptors is complete.
    Snapshot(Snapshot),
    /// Events were lost before this moment.
    Lost {
        /// When that was noticed.
        at: Nanos,
        /// Why.
        cause: Loss,
        /// How many.
        count: u64,
    },
    /// Somebody looked whether opening threads live.
    Threads(Threads),
    /// A thread's stack was read.
    Stack(Stack),
    /// A client said who it is.
    Hello(Hello),
}

/// An address as users write it: v4-mapped IPv6 as IPv4.
#[must_use]
pub fn canonical(address: [u8; 16]) -> IpAddr {
    IpAddr::from(address).to_canonical()
}
