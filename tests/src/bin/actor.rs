//! `actor [FD]`: a process that does with descriptors what it is told, message by message.
//!
//! The model-based test drives several of them and knows what each holds. The control line is descriptor 0 at first, and
//! 900 from then on, far above the sockets, so that these have small numbers and ranges of them can be closed. Each
//! command is answered by one message: `ok`, maybe with numbers, or `refused`, `pending`, `error …`.

#![forbid(unsafe_code)]

use std::{
    env,
    fs::{self, File},
    io,
    net::SocketAddr,
    os::{
        fd::{AsRawFd as _, IntoRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::{self, Command},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use connleak_tests::{control::Control, raw, uring, wait};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike,
        SockaddrStorage, UnixAddr, connect, getsockname, getsockopt, recv, send, setsockopt, shutdown,
        socket, sockopt,
    },
};

const CONTROL: RawFd = 900;

const RESET: libc::linger = libc::linger {
    l_onoff: 1,
    l_linger: 0,
};

fn main() -> Result<()> {
    let line = if let Some(number) = env::args().nth(1) {
        // After an exec: the line has been kept open.
        let line = Control::new(raw::own(number.parse().context("FD")?));
        line.send("ok", None)?;
        line
    } else {
        raw::ignore_children()?;
        let line = raw::own(fcntl(io::stdin(), FcntlArg::F_DUPFD(CONTROL))?);
        raw::dup2(File::open("/dev/null")?.as_raw_fd(), 0)?;
        Control::new(line)
    };
    serve(line)
}

/// Obeys until the test is gone.
fn serve(line: Control) -> Result<()> {
    while let Some((command, fd)) = line.receive()? {
        if command == "leader_exit" {
            exit_leader(line);
        }
        let answer = match obey(&command, fd) {
            Ok(Some(answer)) => answer,
            Ok(None) => continue,
            Err(error) => format!("error {error:#}"),
        };
        line.send(&answer, None)?;
    }
    Ok(())
}

/// The first thread of the process ends, and others go on: two of them, which share their descriptors without it.
fn exit_leader(line: Control) -> ! {
    thread::spawn(|| {
        loop {
            thread::park();
        }
    });
    thread::spawn(move || {
        let ended = line
            .send("ok", None)
            .map_err(Into::into)
            .and_then(|()| serve(line));
        process::exit(i32::from(ended.is_err()));
    });
    raw::exit_thread()
}

/// Does what the command says; `None` when the answer has been given already.
#[expect(clippy::too_many_lines, reason = "a list: a few lines for each command")]
fn obey(command: &str, fd: Option<OwnedFd>) -> Result<Option<String>> {
    let words: Vec<&str> = command.split(' ').collect();
    let number = |index: usize| -> Result<RawFd> {
        let word: &&str = words.get(index).context("too few words")?;
        Ok(word.parse()?)
    };
    let done = || Ok(Some("ok".to_owned()));
    match words[0] {
        "connect" => {
            let [_, mode, cloexec, address] = words[..] else {
                bail!("connect MODE CLOEXEC ADDRESS")
            };
            let address = parse(address)?;
            let flags = if cloexec == "1" {
                SockFlag::SOCK_CLOEXEC
            } else {
                SockFlag::empty()
            };
            let family = address.family().unwrap_or(AddressFamily::Unix);
            let fd = socket(family, SockType::Stream, flags, None)?.into_raw_fd();
            Ok(Some(connected(fd, mode, &*address)?))
        }
        "reconnect" => {
            let [_, mode, fd, address] = words[..] else {
                bail!("reconnect MODE FD ADDRESS")
            };
            Ok(Some(connected(fd.parse()?, mode, &*parse(address)?)?))
        }
        "disconnect" => {
            raw::disconnect(raw::borrow(number(1)?))?;
            done()
        }
        "dup" => {
            let new = nix::unistd::dup(raw::borrow(number(1)?))?;
            Ok(Some(format!("ok {}", new.into_raw_fd())))
        }
        "dup2" => {
            raw::dup2(number(1)?, number(2)?)?;
            done()
        }
        "cloexec" => {
            let flag = if number(2)? == 1 {
                FdFlag::FD_CLOEXEC
            } else {
                FdFlag::empty()
            };
            fcntl(raw::borrow(number(1)?), FcntlArg::F_SETFD(flag))?;
            done()
        }
        "close" => {
            raw::close(number(1)?)?;
            done()
        }
        "uring_close" => {
            uring::close(number(1)?)?;
            done()
        }
        "close_range" => {
            raw::close_range(number(1)?.cast_unsigned(), number(2)?.cast_unsigned())?;
            done()
        }
        "shutdown" => {
            let how = match words.get(2) {
                Some(&"rd") => Shutdown::Read,
                Some(&"wr") => Shutdown::Write,
                _ => Shutdown::Both,
            };
            shutdown(number(1)?, how)?;
            done()
        }
        "linger" => {
            setsockopt(&raw::borrow(number(1)?), sockopt::Linger, &RESET)?;
            done()
        }
        "send" => {
            let bytes = vec![b'q'; usize::try_from(number(2)?)?];
            let sent = send(number(1)?, &bytes, MsgFlags::MSG_NOSIGNAL)?;
            Ok(Some(format!("ok {sent}")))
        }
        "receive" => {
            let mut bytes = vec![0; usize::try_from(number(2)?)?];
            let received = recv(number(1)?, &mut bytes, MsgFlags::MSG_WAITALL)?;
            Ok(Some(format!("ok {received}")))
        }
        "state" => {
            let state = raw::tcp_state(raw::borrow(number(1)?))?;
            Ok(Some(format!("ok {state}")))
        }
        "fork" => {
            let fd = fd.context("no line for the child")?;
            let Some(pid) = raw::fork()? else {
                // The child: its own line takes the place of its parent's.
                raw::dup2(fd.as_raw_fd(), CONTROL)?;
                return Ok(None);
            };
            Ok(Some(format!("ok {pid}")))
        }
        // The new image answers. (`/proc/self` is the first thread, which may be gone.)
        "exec" => Err(Command::new(fs::read_link("/proc/thread-self/exe")?)
            .arg(CONTROL.to_string())
            .exec()
            .into()),
        "give" => {
            let channel = Control::new(fd.context("no channel")?);
            channel.send("take", Some(&number(1)?))?;
            done()
        }
        "take" => {
            let channel = Control::new(fd.context("no channel")?);
            let (_, taken) = channel.receive()?.context("an empty channel")?;
            let taken = taken.context("no descriptor")?;
            Ok(Some(format!("ok {}", taken.into_raw_fd())))
        }
        "getfd" => {
            let copy = raw::getfd(number(1)?.cast_unsigned(), number(2)?)?;
            Ok(Some(format!("ok {}", copy.into_raw_fd())))
        }
        "exit" => process::exit(0),
        _ => Err(anyhow!("unknown command")),
    }
}

/// Where to connect to.
type Address = dyn SockaddrLike + Sync;

fn parse(address: &str) -> Result<Box<Address>> {
    if address.starts_with('/') {
        return Ok(Box::new(UnixAddr::new(address)?));
    }
    Ok(match address.parse()? {
        SocketAddr::V4(address) => Box::new(SockaddrIn::from(address)),
        SocketAddr::V6(address) => Box::new(SockaddrIn6::from(address)),
    })
}

/// Connects, and says what came of it: descriptor, cookie, local port.
fn connected(fd: RawFd, mode: &str, address: &Address) -> Result<String> {
    let mut outcome = attempt(fd, mode, address);
    if outcome.as_ref().map_err(io::Error::raw_os_error) == Err(Some(libc::ECONNABORTED)) {
        // The end of an attempt that was refused before, and that nobody has asked for yet.
        outcome = attempt(fd, mode, address);
    }
    let word = match outcome.as_ref().map_err(io::Error::raw_os_error) {
        Ok(()) => "ok",
        Err(Some(libc::ECONNREFUSED)) => "refused",
        Err(Some(libc::EINPROGRESS)) => "pending",
        Err(_) => bail!("connect: {outcome:?}"),
    };
    let cookie = raw::cookie(raw::borrow(fd))?;
    Ok(format!("{word} {fd} {cookie} {}", local_port(fd)?))
}

fn attempt(fd: RawFd, mode: &str, address: &Address) -> io::Result<()> {
    // An attempt before this one may have left it non-blocking.
    set_blocking(fd, true)?;
    match mode {
        "block" => Ok(connect(fd, address)?),
        // The thread is gone when the connection is used.
        "thread" => thread::scope(|scope| scope.spawn(|| connect(fd, address)).join())
            .map_err(|_| io::Error::other("the thread panicked"))?
            .map_err(io::Error::from),
        "poll" => connect_and_poll(fd, address),
        "start" => {
            set_blocking(fd, false)?;
            Ok(connect(fd, address)?)
        }
        "uring" => uring::connect(fd, address),
        _ => Err(io::Error::other("unknown mode")),
    }
}

fn connect_and_poll(fd: RawFd, address: &Address) -> io::Result<()> {
    set_blocking(fd, false)?;
    match connect(fd, address) {
        Err(Errno::EINPROGRESS) => {
            let borrowed = raw::borrow(fd);
            let mut fds = [PollFd::new(borrowed, PollFlags::POLLOUT)];
            let patience = PollTimeout::try_from(wait::PATIENCE).unwrap_or(PollTimeout::MAX);
            poll(&mut fds, patience)?;
            match getsockopt(&borrowed, sockopt::SocketError)? {
                0 => {}
                error => return Err(io::Error::from_raw_os_error(error)),
            }
        }
        other => other?,
    }
    set_blocking(fd, true)
}

fn set_blocking(fd: RawFd, blocking: bool) -> io::Result<()> {
    let flag = if blocking {
        OFlag::empty()
    } else {
        OFlag::O_NONBLOCK
    };
    fcntl(raw::borrow(fd), FcntlArg::F_SETFL(flag))?;
    Ok(())
}

/// 0 for a unix socket.
fn local_port(fd: RawFd) -> io::Result<u16> {
    let address: SockaddrStorage = getsockname(fd)?;
    let v4 = address.as_sockaddr_in().map(SockaddrIn::port);
    let v6 = address.as_sockaddr_in6().map(SockaddrIn6::port);
    Ok(v4.or(v6).unwrap_or(0))
}
