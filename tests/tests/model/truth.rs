//! What is true about one socket, by the rules of TCP alone: nothing in here asks the kernel or the agent.
//!
//! The closing cause (`closed_by`) says who ended the *connection*, and so where to look: the first FIN or RST decides.
//!
//! * `local`: this side was first, with whatever it did: the last close, an exit, a kill, `shutdown`, an abort
//!   (`SO_LINGER` 0, data unread), `connect(AF_UNSPEC)`. That the server answers with a reset of its own changes nothing.
//! * `peer`: the server's FIN was first: an idle time-out, a restart, a fail-over. That the application then writes, and gets
//!   a reset because nobody is left to read it, or that it aborts, is a consequence.
//! * `reset`: the server's RST was first.
//! * `unseen`: a snapshot no longer found it. Of unix sockets, whose end no tracepoint tells, that is all there is to say unless
//!   a snapshot saw before that the server had closed. Of TCP sockets, never, as long as the agent has lost nothing.
//!
//! The line is due when the connection is over *and* no descriptor is left: until then the socket is held.

use std::fmt::Write as _;

use connleak_tests::raw;

/// The client's end of a connection, as the kernel would call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Never connected, refused, or dissolved: no database socket.
    Unconnected,
    /// `SYN_SENT`.
    Pending,
    /// `ESTABLISHED`.
    Established,
    /// `CLOSE_WAIT`: the server has closed, or shut down sending.
    PeerClosed,
    /// `FIN_WAIT2`: this side has shut down sending, the server has not.
    HalfClosed,
    /// `CLOSE`: over; whatever descriptors are left lead nowhere.
    Over,
}

impl Wire {
    /// The state in the agent's lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "SYN_SENT",
            Self::Established => "ESTABLISHED",
            Self::PeerClosed => "CLOSE_WAIT",
            Self::HalfClosed => "FIN_WAIT",
            Self::Unconnected | Self::Over => "CLOSE",
        }
    }

    /// The state's number in `struct tcp_info`.
    pub fn number(self) -> u8 {
        match self {
            Self::Established => 1,
            Self::Pending => 2,
            Self::HalfClosed => 5,
            Self::Unconnected | Self::Over => 7,
            Self::PeerClosed => 8,
        }
    }

    /// There is, or was, a connection, and it has not been dissolved.
    pub fn connected(self) -> bool {
        !matches!(self, Self::Unconnected | Self::Pending)
    }
}

/// `closed_by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Local,
    Peer,
    Reset,
    Unseen,
}

impl Cause {
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Peer => "peer",
            Self::Reset => "reset",
            Self::Unseen => "unseen",
        }
    }
}

/// Where a client connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    V4,
    V6,
    /// An IPv6 socket that speaks IPv4.
    Mapped,
    Unix,
}

/// The server's end of a connection, held by the test.
pub enum End {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl End {
    /// Whether the client's FIN or RST has arrived.
    pub fn has_heard(&self) -> bool {
        match self {
            // Neither ESTABLISHED nor FIN_WAIT1 or FIN_WAIT2.
            Self::Tcp(stream) => raw::tcp_state(stream).is_ok_and(|state| !matches!(state, 1 | 4 | 5)),
            Self::Unix(_) => true,
        }
    }
}

/// A socket's whole history.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, as in the kernel"
)]
pub struct Socket {
    pub cookie: u64,
    /// Only of unix sockets.
    pub inode: u64,
    pub kind: Kind,
    pub wire: Wire,
    /// Who ended the connection, once somebody has.
    pub ended: Option<Cause>,
    /// Who called connect.
    pub opener: u32,
    /// The server as the agent's lines have it.
    pub server: String,
    /// This end's port; 0 for unix sockets.
    pub port: u16,
    /// `SO_LINGER` with 0 is set: closing aborts.
    pub linger: bool,
    /// `shutdown(SHUT_RD)` was called.
    pub deaf: bool,
    /// `shutdown(SHUT_WR)` was called.
    pub mute: bool,
    /// Bytes that wait for the application.
    pub unread: usize,
    pub sent: usize,
    pub received: usize,
    /// No descriptor is left, anywhere.
    pub released: bool,
    /// The server's end, until it is closed.
    pub end: Option<End>,
    /// The server has shut down sending.
    pub end_is_mute: bool,
    /// The last connection was over, or this side had shut down, and then it was dissolved by `connect(AF_UNSPEC)`.
    pub dissolved: bool,
    /// What the agent has to say about it, line by line.
    pub lines: Vec<String>,
}

impl Socket {
    /// A socket that has just tried to connect.
    pub fn new(cookie: u64, inode: u64, kind: Kind) -> Self {
        Self {
            cookie,
            inode,
            kind,
            wire: Wire::Unconnected,
            ended: None,
            opener: 0,
            server: String::new(),
            port: 0,
            linger: false,
            deaf: false,
            mute: false,
            unread: 0,
            sent: 0,
            received: 0,
            released: false,
            end: None,
            end_is_mute: false,
            dissolved: false,
            lines: Vec::new(),
        }
    }

    /// A new life begins: somebody has called connect.
    pub fn connects(&mut self, opener: u32, server: String, port: u16) {
        (self.opener, self.server, self.port) = (opener, server, port);
        (self.ended, self.end, self.end_is_mute) = (None, None, false);
        (self.unread, self.sent, self.received) = (0, 0, 0);
        (self.deaf, self.mute, self.dissolved) = (false, false, false);
    }

    pub fn established(&mut self, end: End) {
        self.wire = Wire::Established;
        self.end = Some(end);
        self.lines.push(open_line(self.opener, &self.server, self.port));
    }

    pub fn failed(&mut self) {
        self.wire = Wire::Unconnected;
        self.lines.push(failed_line(self.opener, &self.server));
    }

    /// The server sends FIN.
    pub fn server_finishes(&mut self) {
        match self.wire {
            Wire::Established => {
                self.wire = Wire::PeerClosed;
                self.ended = Some(Cause::Peer);
            }
            Wire::HalfClosed => self.wire = Wire::Over,
            Wire::Unconnected | Wire::Pending | Wire::PeerClosed | Wire::Over => {}
        }
    }

    /// The server sends RST.
    pub fn server_resets(&mut self) {
        if matches!(self.wire, Wire::Established | Wire::PeerClosed | Wire::HalfClosed) {
            self.wire = Wire::Over;
            self.ended.get_or_insert(Cause::Reset);
        }
    }

    /// This side sends FIN, and the server acknowledges it.
    pub fn client_finishes(&mut self) {
        match self.wire {
            Wire::Established => {
                self.wire = Wire::HalfClosed;
                self.ended = Some(Cause::Local);
            }
            Wire::PeerClosed => self.wire = Wire::Over,
            Wire::Unconnected | Wire::Pending | Wire::HalfClosed | Wire::Over => {}
        }
    }

    /// No descriptor refers to the connection any more: the last one was closed, or the connection was dissolved.
    pub fn let_go(&mut self) {
        match self.wire {
            Wire::Unconnected => {}
            Wire::Pending => self.failed(),
            _ => {
                let cause = self.ended.unwrap_or(Cause::Local);
                self.lines
                    .push(close_line(cause.name(), self.opener, &self.server));
                self.ended = Some(cause);
            }
        }
    }

    pub fn is_unix(&self) -> bool {
        self.kind == Kind::Unix
    }

    /// A single look can't tell a connection that is over from one that was refused, if it carried nothing.
    pub fn undecidable(&self) -> bool {
        self.wire == Wire::Over && self.sent == 0 && self.received == 0
    }

    /// What a scan says of a socket with these holders. `None`: nothing.
    pub fn scan_line(&self, holders: &[(u32, i32)]) -> Option<String> {
        if self.released || holders.is_empty() || self.wire == Wire::Unconnected {
            return None;
        }
        let mut line = format!("{} to {}", self.wire.name(), self.server);
        if !self.is_unix() {
            // The kernel takes the port back when a connection is over.
            let port = if self.wire == Wire::Over { 0 } else { self.port };
            let _ = write!(
                line,
                " from {port}, {} sent, {} received",
                self.sent, self.received
            );
        }
        for (pid, fd) in holders {
            let _ = write!(line, ", {pid}/{fd}");
        }
        Some(line)
    }
}

pub fn open_line(opener: u32, server: &str, port: u16) -> String {
    format!("open {opener} {server} from {port}")
}

pub fn failed_line(opener: u32, server: &str) -> String {
    format!("failed {opener} {server}")
}

pub fn close_line(cause: &str, opener: u32, server: &str) -> String {
    format!("close {opener} {server} by {cause}")
}
