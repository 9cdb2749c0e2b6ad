//! The records that travel from kernel to agent, through the ring buffer or the snapshot iterator.

/// First word of a [`Connect`] in the ring buffer.
pub const KIND_CONNECT: u32 = 1;
/// First word of a [`Transition`] that is a state change.
pub const KIND_STATE: u32 = 2;
/// First word of a [`Transition`] that is the end of the socket itself: no descriptor is left.
pub const KIND_DESTROY: u32 = 3;

/// First word of a [`UnixRow`] in the ring buffer: a client's end that carries data for the first time.
pub const KIND_UNIX: u32 = 4;

/// First word of a [`Hello`].
pub const KIND_HELLO: u32 = 7;

/// First word of a [`Row`]: a TCP socket that a database filter accepts.
pub const ROW_TCP: u32 = 11;
/// First word of a [`Row`]: a listening TCP socket (so that accepted connections can be told from opened ones).
pub const ROW_LISTENER: u32 = 12;
/// First word of a [`UnixRow`].
pub const ROW_UNIX: u32 = 13;

/// Bytes that are kept of what a client sends first: a startup message or a log-in fits.
pub const HELLO_LEN: usize = 256;
/// Bytes sent on a connection beyond which nothing that it sends is told in a [`Hello`].
pub const HELLO_WITHIN: u64 = 512;

/// Bytes of a unix-domain socket's name: `UNIX_PATH_MAX` of `include/uapi/linux/un.h`.
pub const UNIX_PATH_LEN: usize = 108;

/// Both ends of a TCP connection, as this host sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// This side's address, network order; IPv4 as v4-mapped IPv6 (RFC 4291, 2.5.5.2).
    pub local: [u8; 16],
    /// The server's address, likewise.
    pub remote: [u8; 16],
    /// This side's port; 0 before the kernel has chosen one, and after the socket has given it back.
    pub local_port: u16,
    /// The server's port.
    pub remote_port: u16,
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    #[doc(hidden)]
    pub pad: u16,
    /// Inode number of the network namespace (`/proc/PID/ns/net`).
    pub netns: u32,
}

/// A TCP state change, or the socket's end.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transition {
    /// [`KIND_STATE`], [`KIND_DESTROY`], or [`KIND_CONNECT`] within a [`Connect`].
    pub kind: u32,
    /// State before (see [`crate::tcp`]).
    pub old_state: u8,
    /// State after.
    pub new_state: u8,
    /// `sk_shutdown`: which directions are shut down.
    pub shutdown: u8,
    /// 1 when no descriptor refers to the socket any more.
    pub orphan: u8,
    /// When.
    pub at: u64,
    /// The socket's cookie: unique from boot to boot, never reused.
    pub cookie: u64,
    /// Both ends.
    pub flow: Flow,
    /// `sk_err`: the pending error number, 0 when there is none.
    pub error: i32,
    /// Payload bytes sent, retransmissions not counted.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
}

/// A connect: the one event that runs in the caller's own context.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connect {
    /// CLOSE → `SYN_SENT`.
    pub transition: Transition,
    /// When the process started, nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub process_start: u64,
    /// Cgroup v2 id of the caller.
    pub cgroup: u64,
    /// Thread-group id (what user space calls pid), in the initial pid namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// User id, in the initial user namespace.
    pub uid: u32,
    #[doc(hidden)]
    pub pad: u32,
    /// The process's name: the thread-group leader's, since threads may rename themselves.
    pub comm: [u8; 16],
}

/// What a client sends early in the life of a connection: the beginning of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// [`KIND_HELLO`].
    pub kind: u32,
    /// Bytes used in `data`.
    pub length: u16,
    /// Bytes used in `path`; 0 for TCP.
    pub path_len: u16,
    /// When.
    pub at: u64,
    /// The socket's cookie.
    pub cookie: u64,
    /// Both ends; all 0 for a unix-domain socket.
    pub flow: Flow,
    /// The server's name, if it has one in the file system, or an abstract name.
    pub path: [u8; UNIX_PATH_LEN],
    /// The first bytes of one send.
    pub data: [u8; HELLO_LEN],
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            kind: KIND_HELLO,
            length: 0,
            path_len: 0,
            at: 0,
            cookie: 0,
            flow: Flow::default(),
            path: [0; UNIX_PATH_LEN],
            data: [0; HELLO_LEN],
        }
    }
}

/// One descriptor that refers to a TCP socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// [`ROW_TCP`] or [`ROW_LISTENER`].
    pub kind: u32,
    /// Thread-group id of the holder, in the initial pid namespace.
    pub pid: u32,
    /// When the holder started, nanoseconds since boot.
    pub process_start: u64,
    /// When this row was read.
    pub at: u64,
    /// The kernel's tick counter at that time.
    pub jiffies: u64,
    /// The socket's cookie.
    pub cookie: u64,
    /// The socket's inode number.
    pub inode: u64,
    /// Both ends.
    pub flow: Flow,
    /// Descriptor number.
    pub fd: u32,
    /// TCP state.
    pub state: u8,
    /// `sk_shutdown`.
    pub shutdown: u8,
    #[doc(hidden)]
    pub pad: [u8; 2],
    /// `sk_err`.
    pub error: i32,
    /// Payload bytes sent, retransmissions not counted.
    pub bytes_sent: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Low word of the tick when data was last sent; the connect's when none was.
    pub last_sent: u32,
    /// Low word of the tick when data was last received; the connect's when none was.
    pub last_received: u32,
    /// Low word of the tick when anything was last acknowledged by the server.
    pub last_acknowledged: u32,
    #[doc(hidden)]
    pub pad2: u32,
    /// Segments with data, sent.
    pub segments_sent: u32,
    /// Segments with data, received.
    pub segments_received: u32,
    /// Bytes written by the application that the peer has not acknowledged.
    pub unacknowledged: u32,
    /// Bytes received that the application has not read.
    pub unread: u32,
    /// The holder's name.
    pub comm: [u8; 16],
}

/// One descriptor that refers to a connected unix-domain stream socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixRow {
    /// [`ROW_UNIX`], or [`KIND_UNIX`] in the ring buffer.
    pub kind: u32,
    /// Thread-group id of the holder.
    pub pid: u32,
    /// When the holder started, nanoseconds since boot.
    pub process_start: u64,
    /// When this row was read.
    pub at: u64,
    /// The socket's cookie.
    pub cookie: u64,
    /// The socket's inode number.
    pub inode: u64,
    /// The peer's inode number; 0 when the peer is gone, or not yet accepted.
    pub peer_inode: u64,
    /// What the activity program has seen; all 0 when nothing.
    pub activity: Activity,
    /// Descriptor number; the user id in a [`KIND_UNIX`] record, which knows no descriptor.
    pub fd: u32,
    /// `sk_shutdown`.
    pub shutdown: u8,
    /// 1: the name is the peer's, so this is the client's end. 0: this is the server's end.
    pub client: u8,
    /// Bytes used in `path`.
    pub path_len: u16,
    /// The server's name in the file system, or an abstract name that begins with NUL.
    pub path: [u8; UNIX_PATH_LEN],
    #[doc(hidden)]
    pub pad: [u8; 4],
    /// The holder's name.
    pub comm: [u8; 16],
}

/// What a unix-domain socket has carried since the agent saw it first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// When data was last sent; 0 for never.
    pub last_sent: u64,
    /// When data was last received; 0 for never.
    pub last_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Calls that sent something.
    pub sends: u64,
}

impl Default for UnixRow {
    fn default() -> Self {
        Self {
            kind: ROW_UNIX,
            pid: 0,
            process_start: 0,
            at: 0,
            cookie: 0,
            inode: 0,
            peer_inode: 0,
            activity: Activity::default(),
            fd: 0,
            shutdown: 0,
            client: 0,
            path_len: 0,
            path: [0; UNIX_PATH_LEN],
            pad: [0; 4],
            comm: [0; 16],
        }
    }
}

/// A record made of plain integers without implicit padding.
///
/// # Safety
///
/// The type is `#[repr(C)]`, has no padding bytes, and every bit pattern is a valid value.
pub unsafe trait Record: Copy {
    /// Reads a record from the start of `bytes`; `None` when they are too few.
    #[must_use]
    fn read_from(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < size_of::<Self>() {
            return None;
        }
        // SAFETY: the length was checked, any bit pattern is valid (the trait's contract), and
        // `read_unaligned` asks for no alignment.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }
}

macro_rules! record {
    ($($type:ty = $size:literal),+ $(,)?) => {$(
        const _: () = assert!(size_of::<$type>() == $size && align_of::<$type>() <= 8);
        // SAFETY: `#[repr(C)]`, integers only, and the size above is the sum of the members' sizes.
        unsafe impl Record for $type {}
    )+};
}

record! {
    Flow = 44,
    Transition = 88,
    Connect = 136,
    Row = 168,
    UnixRow = 224,
    Activity = 40,
    Hello = 432,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_at_any_alignment_and_refused_when_short() {
        let mut bytes = [0u8; size_of::<Transition>() + 1];
        bytes[1] = 2;
        let read = Transition::read_from(&bytes[1..]).expect("long enough");
        assert_eq!(read.kind, KIND_STATE);
        for length in 0..size_of::<Transition>() {
            assert!(Transition::read_from(&bytes[..length]).is_none());
        }
    }
}
