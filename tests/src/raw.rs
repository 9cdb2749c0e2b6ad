//! System calls about descriptors and processes that have no safe wrapper.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use nix::{errno::Errno, libc};

/// The socket's cookie: the kernel's own identity for it, which the agent's lines have too.
pub fn cookie(fd: impl AsFd) -> io::Result<u64> {
    let mut bytes = [0; 8];
    option(fd, libc::SOL_SOCKET, libc::SO_COOKIE, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// The TCP state, as `include/net/tcp_states.h` numbers it: the first byte of `struct tcp_info`.
pub fn tcp_state(fd: impl AsFd) -> io::Result<u8> {
    let mut info = [0; 1];
    option(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    Ok(info[0])
}

/// Dissolves a connection without closing the descriptor: `connect` to `AF_UNSPEC`.
pub fn disconnect(fd: impl AsFd) -> io::Result<()> {
    let nowhere = libc::sockaddr {
        sa_family: libc::sa_family_t::default(),
        sa_data: [0; 14],
    };
    let length = libc::socklen_t::try_from(size_of_val(&nowhere)).unwrap_or(0);
    // SAFETY: the address is valid for `length` bytes during the call.
    let result = unsafe { libc::connect(fd.as_fd().as_raw_fd(), &raw const nowhere, length) };
    Ok(Errno::result(result).map(drop)?)
}

/// Takes over a descriptor number that some system call has just created.
#[must_use]
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the callers pass a number that the kernel has just handed to them, and that nobody else closes.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Closes a descriptor by its number. The caller has given it away with `into_raw_fd` before.
pub fn close(fd: RawFd) -> io::Result<()> {
    // SAFETY: no memory is involved. No `OwnedFd` of this program holds the number, so nothing is closed twice.
    let result = unsafe { libc::close(fd) };
    Ok(Errno::result(result).map(drop)?)
}

/// Makes `to` refer to what `from` refers to.
pub fn dup2(from: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: as in `close`.
    let result = unsafe { libc::dup2(from, to) };
    Ok(Errno::result(result).map(drop)?)
}

/// Closes all descriptors from `first` to `last`.
pub fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: as in `close`.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    Ok(Errno::result(result).map(drop)?)
}

/// A copy of descriptor `fd` of the process `pid`.
pub fn getfd(pid: u32, fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let process = own(number(Errno::result(process)?)?);
    // SAFETY: no memory is involved.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) };
    Ok(own(number(Errno::result(copy)?)?))
}

/// `fork`: the child's pid in the parent, `None` in the child.
pub fn fork() -> io::Result<Option<u32>> {
    // SAFETY: the callers have no other thread that could hold a lock; after a leader's exit the other thread of an
    // actor sleeps in a system call and holds none.
    let pid = Errno::result(unsafe { libc::fork() })?;
    Ok((pid != 0).then_some(pid.cast_unsigned()))
}

/// Ends this thread, and only this one, even when it is the first of the process.
pub fn exit_thread() -> ! {
    // SAFETY: nothing of this thread is used any more; its stack stays mapped, so borrows of it stay valid.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("SYS_exit does not return")
}

/// Whatever a system call returned as `long`, as the `int` that it is.
fn number(value: libc::c_long) -> io::Result<RawFd> {
    RawFd::try_from(value).map_err(io::Error::other)
}

fn option(fd: impl AsFd, level: libc::c_int, name: libc::c_int, bytes: &mut [u8]) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(bytes.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes to `bytes`, which is borrowed exclusively during the call.
    let result = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            level,
            name,
            bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Ok(Errno::result(result).map(drop)?)
}

/// Children of this process leave no zombies.
pub fn ignore_children() -> io::Result<()> {
    // SAFETY: no handler is installed, so none can do harm.
    let result = unsafe {
        nix::sys::signal::signal(
            nix::sys::signal::Signal::SIGCHLD,
            nix::sys::signal::SigHandler::SigIgn,
        )
    };
    Ok(result.map(drop)?)
}

/// A descriptor by its number, for calls that want one.
#[must_use]
pub fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the callers use it for one call. Should the number be closed by then, that call fails with EBADF.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
