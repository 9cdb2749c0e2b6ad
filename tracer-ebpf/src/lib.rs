//! The ABI between the kernel programs and the agent.
//!
//! Both sides are compiled from this one definition: records are `#[repr(C)]` with explicit padding,
//! their sizes are asserted below, and every bit pattern is a valid value, so that a record can be read
//! from untrusted bytes. Times are `CLOCK_MONOTONIC` nanoseconds unless a name says otherwise.

#![cfg_attr(target_arch = "bpf", no_std)]

pub mod classic;
mod offsets;
mod python;
mod record;
mod stack;

pub use offsets::{ABSENT, Offsets};
pub use python::{PYTHON_ENTRY, PYTHON_FRAME_BYTES, PYTHON_FRAMES, PYTHON_SHIM, PythonFrame, PythonLayout};
pub use record::{
    Activity, Connect, Flow, HELLO_LEN, HELLO_WITHIN, Hello, KIND_CONNECT, KIND_DESTROY, KIND_HELLO,
    KIND_STATE, KIND_UNIX, ROW_LISTENER, ROW_TCP, ROW_UNIX, Record, Row, Transition, UNIX_PATH_LEN, UnixRow,
};
pub use stack::{
    PIECE, STACK_BYTES_MAX, STACK_CUT, STACK_KNOWN, STACK_NO_USER, STACK_OPENED, STACK_PYTHON_CUT,
    STACK_REFUSED, STACK_USED, StackHead, name_hash,
};

/// `AF_UNIX` of `include/linux/socket.h`.
pub const AF_UNIX: u16 = 1;
/// `AF_INET` of `include/linux/socket.h`.
pub const AF_INET: u16 = 2;
/// `AF_INET6` of `include/linux/socket.h`.
pub const AF_INET6: u16 = 10;

/// TCP states, as `include/net/tcp_states.h` numbers them.
pub mod tcp {
    /// The handshake is done, neither side has closed.
    pub const ESTABLISHED: u8 = 1;
    /// This side has sent SYN.
    pub const SYN_SENT: u8 = 2;
    /// A server's half-open connection.
    pub const SYN_RECV: u8 = 3;
    /// This side closed (or shut down) first.
    pub const FIN_WAIT1: u8 = 4;
    /// This side closed first, the peer has acknowledged that.
    pub const FIN_WAIT2: u8 = 5;
    /// Both closed; only a mini-socket without descriptor is left.
    pub const TIME_WAIT: u8 = 6;
    /// No connection (never, or no longer).
    pub const CLOSE: u8 = 7;
    /// The peer closed first, this side has not.
    pub const CLOSE_WAIT: u8 = 8;
    /// The peer closed first, then this side.
    pub const LAST_ACK: u8 = 9;
    /// A listening socket.
    pub const LISTEN: u8 = 10;
    /// Both closed at once.
    pub const CLOSING: u8 = 11;
}

/// Bit of `sk_shutdown`: nothing more will be received (`RCV_SHUTDOWN`, `include/net/sock.h`).
pub const RCV_SHUTDOWN: u8 = 1;
/// Bit of `sk_shutdown`: nothing more will be sent (`SEND_SHUTDOWN`, `include/net/sock.h`).
pub const SEND_SHUTDOWN: u8 = 2;

/// What the kernel side counts, each in its own slot of the `COUNTERS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Records handed to the ring buffer.
    Sent = 0,
    /// Records lost because the ring buffer was full.
    RingFull = 1,
    /// Reads of kernel memory that failed: the record was not sent.
    ReadFault = 2,
    /// Sockets for which the map of our own numbers had no room: their address stands for them, which is reused.
    MapFull = 3,
    /// Stacks handed to their ring buffer.
    StacksSent = 4,
    /// Stacks lost because that was full.
    StackRingFull = 5,
    /// Stacks that were not copied, because there had been too many of late.
    StacksRefused = 6,
}

impl Counter {
    /// Every counter, in slot order.
    pub const ALL: [Self; 7] = [
        Self::Sent,
        Self::RingFull,
        Self::ReadFault,
        Self::MapFull,
        Self::StacksSent,
        Self::StackRingFull,
        Self::StacksRefused,
    ];
    /// How many slots the `COUNTERS` map has.
    pub const SLOTS: u32 = 7;
}

/// Words of the port filter: one bit for each of the 65,536 ports.
pub const PORT_WORDS: usize = 65_536 / 64;
