//! One system call through `io_uring`, waited for: what no syscall tracepoint shows.
//!
//! <https://github.com/torvalds/linux/blob/v6.18/include/uapi/linux/io_uring.h>

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{errno::Errno, libc, sys::socket::SockaddrLike};

use crate::raw;

/// `IORING_OP_CONNECT`.
const CONNECT: u8 = 16;
/// `IORING_OP_CLOSE`.
const CLOSE: u8 = 19;
/// `IORING_ENTER_GETEVENTS`.
const GET_EVENTS: libc::c_uint = 1;
/// `IORING_OFF_SQ_RING`, which is both rings' since `IORING_FEAT_SINGLE_MMAP` (5.4).
const RINGS: libc::off_t = 0;
/// `IORING_OFF_SQES`.
const ENTRIES: libc::off_t = 0x1000_0000;

/// `struct io_sqring_offsets`.
#[repr(C)]
#[derive(Default)]
struct SubmissionOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    resv1: u32,
    user_addr: u64,
}

/// `struct io_cqring_offsets`.
#[repr(C)]
#[derive(Default)]
struct CompletionOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    overflow: u32,
    cqes: u32,
    flags: u32,
    resv1: u32,
    user_addr: u64,
}

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Default)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    resv: [u32; 3],
    sq_off: SubmissionOffsets,
    cq_off: CompletionOffsets,
}

/// `struct io_uring_sqe`, as far as it is used.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Submission {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    addr: u64,
    rest: [u64; 5],
}

const _: () = assert!(size_of::<Params>() == 120 && size_of::<Submission>() == 64);

/// `connect(fd, address)`, waiting until it is connected or has failed.
pub fn connect(fd: RawFd, address: &dyn SockaddrLike) -> io::Result<()> {
    run(Submission {
        opcode: CONNECT,
        fd,
        // The kernel copies the address when the entry is submitted, which is during `run`.
        off: u64::from(address.len()),
        addr: address.as_ptr() as u64,
        ..Submission::default()
    })
}

/// `close(fd)`.
pub fn close(fd: RawFd) -> io::Result<()> {
    run(Submission {
        opcode: CLOSE,
        fd,
        ..Submission::default()
    })
}

/// A mapping of a ring, unmapped on drop.
struct Mapping {
    start: NonNull<libc::c_void>,
    length: usize,
}

impl Mapping {
    fn new(ring: &OwnedFd, length: usize, offset: libc::off_t) -> io::Result<Self> {
        // SAFETY: a new mapping, at an address of the kernel's choice, of memory that the ring owns.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                ring.as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { start, length })
    }

    /// A shared counter of the ring.
    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: the kernel gave the offset of an aligned 32-bit word within the mapping, which both sides use atomically.
        unsafe { &*self.start.as_ptr().byte_add(offset as usize).cast::<AtomicU32>() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing borrows from the mapping any more. A failure leaves it mapped, which harms nobody.
        unsafe { libc::munmap(self.start.as_ptr(), self.length) };
    }
}

/// A ring for this one entry: set up, submitted, waited for, and gone.
fn run(entry: Submission) -> io::Result<()> {
    let mut params = Params::default();
    // SAFETY: the kernel reads and writes the parameters, which are valid and borrowed exclusively.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, ptr::from_mut(&mut params)) };
    let fd = Errno::result(fd)?;
    let ring = raw::own(RawFd::try_from(fd).map_err(io::Error::other)?);

    let submissions = params.sq_off.array as usize + params.sq_entries as usize * size_of::<u32>();
    // A completion is 16 bytes: user_data, res, flags.
    let completions = params.cq_off.cqes as usize + params.cq_entries as usize * 16;
    let rings = Mapping::new(&ring, submissions.max(completions), RINGS)?;
    let entries = Mapping::new(
        &ring,
        size_of::<Submission>() * params.sq_entries as usize,
        ENTRIES,
    )?;

    // SAFETY: the mapping holds at least one entry, and the kernel reads it only after the tail has moved.
    unsafe { entries.start.as_ptr().cast::<Submission>().write(entry) };
    rings.word(params.sq_off.array).store(0, Ordering::Relaxed);
    rings.word(params.sq_off.tail).store(1, Ordering::Release);
    loop {
        // Once the kernel has taken the entry there is nothing to submit: an interrupted wait goes on waiting.
        let waiting = 1 - rings.word(params.sq_off.head).load(Ordering::Acquire);
        // SAFETY: no memory but the ring's own is involved, and the address that the entry points to, which outlives this.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                ring.as_raw_fd(),
                waiting,
                1,
                GET_EVENTS,
                ptr::null::<libc::c_void>(),
                0,
            )
        };
        match Errno::result(result) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if rings.word(params.cq_off.tail).load(Ordering::Acquire) == 1 {
            break;
        }
    }
    let result = rings
        .word(params.cq_off.cqes + 8)
        .load(Ordering::Relaxed)
        .cast_signed();
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Ok(())
}
