//! A line to an actor: messages of text, either way, each with a descriptor or without one.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use nix::{
    cmsg_space, libc,
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg,
        sendmsg, setsockopt, socketpair, sockopt::ReceiveTimeout,
    },
    sys::time::TimeVal,
};

use crate::{raw, wait};

/// Longer than any message.
const LONGEST: usize = 512;

/// One end of the line.
#[derive(Debug)]
pub struct Control(OwnedFd);

/// A message, and the descriptor that came with it.
pub type Message = (String, Option<OwnedFd>);

impl Control {
    /// Both ends. The first gives up after a while when no answer comes; the other waits for ever.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = channel()?;
        let patience = TimeVal::new(libc::time_t::try_from(wait::PATIENCE.as_secs()).unwrap_or(60), 0);
        setsockopt(&ours, ReceiveTimeout, &patience)?;
        Ok((Self(ours), theirs))
    }

    /// Takes over an end.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Sends `text`, and with it a copy of `fd`.
    pub fn send(&self, text: &str, fd: Option<&dyn AsRawFd>) -> io::Result<()> {
        let fds = fd.map(AsRawFd::as_raw_fd);
        let rights = fds.as_slice();
        let message = [ControlMessage::ScmRights(rights)];
        let message = if rights.is_empty() { &[] } else { &message[..] };
        let text = [IoSlice::new(text.as_bytes())];
        sendmsg::<UnixAddr>(self.0.as_raw_fd(), &text, message, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// The next message; `None` when the other side is gone.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        let mut bytes = [0; LONGEST];
        let mut space = cmsg_space!(libc::c_int);
        let (length, fd) = {
            let mut text = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let message = match recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut text, Some(&mut space), flags) {
                // What a process that was killed had not read yet.
                Err(nix::errno::Errno::ECONNRESET) => return Ok(None),
                other => other?,
            };
            let fd = message.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::ScmRights(fds) => fds.first().copied().map(raw::own),
                _ => None,
            });
            (message.bytes, fd)
        };
        if length == 0 {
            return Ok(None);
        }
        Ok(Some((String::from_utf8_lossy(&bytes[..length]).into_owned(), fd)))
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A pair of connected sockets that keep messages apart, closed on exec.
pub fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}
