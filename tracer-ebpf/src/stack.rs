//! A thread's stack on its way to the agent: a [`StackHead`], then Python's frames, then the copied bytes.
//!
//! Stacks travel in a ring buffer of their own, so that a flood of them never costs an event.

use crate::record::{Record, UNIX_PATH_LEN};

/// The stack of a thread that opens a connection.
pub const STACK_OPENED: u32 = 1;
/// The stack of a thread that sends on one.
pub const STACK_USED: u32 = 2;

/// Flag: the copy ended at its size limit, not at the end of the stack.
pub const STACK_CUT: u32 = 1;
/// Flag: Python has more frames than were handed up, or the walk failed on the way.
pub const STACK_PYTHON_CUT: u32 = 1 << 1;
/// Flag: this is the kernel's own thread (`io_uring`'s workers, too): there is no stack in user space.
pub const STACK_NO_USER: u32 = 1 << 2;
/// Flag: the fingerprint alone; a stack with the same one was sent before.
pub const STACK_KNOWN: u32 = 1 << 3;
/// Flag: another use than before, but there were too many of them to copy its stack.
pub const STACK_REFUSED: u32 = 1 << 4;

/// Most bytes that are copied of a stack.
pub const STACK_BYTES_MAX: u32 = 64 * 1024;
/// The size of a page, or a divisor of it: what one read of user memory never goes beyond, since the next page may
/// not be there.
pub const PIECE: u32 = 4096;

/// What is known of a thread beside its stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackHead {
    /// [`STACK_OPENED`] or [`STACK_USED`].
    pub kind: u32,
    /// `STACK_…` flags.
    pub flags: u32,
    /// When.
    pub at: u64,
    /// The socket's cookie.
    pub cookie: u64,
    /// When the process started, nanoseconds since boot.
    pub process_start: u64,
    /// Thread-group id, in the initial pid namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Instruction pointer in user space.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub fp: u64,
    /// Link register; 0 where the machine has none.
    pub lr: u64,
    /// What tells this use of a socket from another one; 0 for an opening.
    pub fingerprint: u64,
    /// Frames of Python that follow.
    pub python_frames: u32,
    /// Bytes of the stack that follow them.
    pub stack_bytes: u32,
}

const _: () = assert!(size_of::<StackHead>() == 88 && align_of::<StackHead>() == 8);
// SAFETY: `#[repr(C)]`, integers only, and the size above is the sum of the members' sizes.
unsafe impl Record for StackHead {}

/// What stands for a unix socket's name in a map: FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>.
#[inline]
#[must_use]
pub fn name_hash(name: &[u8; UNIX_PATH_LEN], length: u16) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut index = 0;
    while index < UNIX_PATH_LEN {
        if index >= usize::from(length) {
            break;
        }
        hash = (hash ^ u64::from(name[index])).wrapping_mul(0x0100_0000_01b3);
        index += 1;
    }
    hash
}
