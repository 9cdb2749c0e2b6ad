//! The attach protocol of HotSpot: asks a running virtual machine for a thread dump.
//!
//! The machine listens on a socket `/tmp/.java_pidN`, once it was asked to: by a file `/tmp/.attach_pidN` and the
//! signal SIGQUIT. That signal kills a process that has no handler for it, and makes a machine that must not be attached
//! to write the dump into its own output, so the caller has read from the machine's memory that neither is the case
//! ([`super::target`]).
//! <https://github.com/openjdk/jdk17u/blob/master/src/hotspot/os/linux/attachListener_linux.cpp>
//!
//! The folder and the socket are the process's, in its own mount namespace: paths are resolved below its root, links
//! are not followed, the socket's owner is checked, and every wait has an end.

#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fchown, openat, openat2, statat, unlinkat,
    },
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
    process::{PidfdFlags, Signal, getegid, geteuid, pidfd_open, pidfd_send_signal},
    thread::{set_thread_res_gid, set_thread_res_uid},
};

use super::target::Target;
use crate::owner;

/// Bytes of a dump that are read: 5,000 threads with 50 frames each have 20 MB.
const MAX_DUMP: u64 = 32 << 20;
/// Version 1, the command, and its three arguments, all empty.
const REQUEST: &[u8] = b"1\0threaddump\0\0\0\0";

/// Why there is no dump, in words for a stack's note.
pub type Refusal = &'static str;

/// Asks for a dump, and waits for it until `deadline`.
///
/// # Errors
/// When the machine does not answer in time, or there is no way to it.
pub fn thread_dump(target: &Target, deadline: Instant) -> Result<String, Refusal> {
    let folder = folder(target)?;
    let socket = match socket(&folder, target) {
        Some(socket) => socket,
        None => start_listener(&folder, target, deadline)?,
    };
    let mut stream = connect_as(target, &socket)?;
    read(&mut stream, deadline)
}

/// The machine's `/tmp`: it takes no other folder, whatever it is told about temporary files.
fn folder(target: &Target) -> Result<OwnedFd, Refusal> {
    let root = format!("/proc/{}/root", target.id.pid);
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, directory, Mode::empty()).map_err(|_| "its files can't be reached")?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(&root, "tmp", directory, Mode::empty(), inside).map_err(|_| "it has no /tmp")
}

/// The machine's socket, if it listens; not followed anywhere, and its own.
fn socket(folder: &OwnedFd, target: &Target) -> Option<OwnedFd> {
    let name = format!(".java_pid{}", target.inner_pid);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = openat(folder, name, flags, Mode::empty()).ok()?;
    let about = rustix::fs::fstat(&socket).ok()?;
    let right = FileType::from_raw_mode(about.st_mode) == FileType::Socket && about.st_uid == target.uid;
    right.then_some(socket)
}

fn start_listener(folder: &OwnedFd, target: &Target, deadline: Instant) -> Result<OwnedFd, Refusal> {
    let name = format!(".attach_pid{}", target.inner_pid);
    let _trigger = Trigger::create(folder, name, target)?;
    let cannot = "it can't be signalled";
    let pid = i32::try_from(target.id.pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let process = pidfd_open(pid.ok_or(cannot)?, PidfdFlags::empty()).map_err(|_| cannot)?;
    // With the handle in hand the pid can't become another process's between this look and the signal.
    if owner::start_ticks(Path::new("/proc"), target.id.pid) != Some(target.id.start_ticks)
        || !target.handles_sigquit()
    {
        return Err("it is gone");
    }
    pidfd_send_signal(&process, Signal::QUIT).map_err(|_| cannot)?;
    loop {
        if let Some(socket) = socket(folder, target) {
            return Ok(socket);
        }
        if Instant::now() >= deadline {
            return Err("the machine did not begin to listen in time");
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// The file that tells the machine what the signal means; gone when dropped.
struct Trigger<'a> {
    folder: &'a OwnedFd,
    name: String,
}

impl<'a> Trigger<'a> {
    fn create(folder: &'a OwnedFd, name: String, target: &Target) -> Result<Self, Refusal> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let cannot = "its /tmp can't be written to";
        let file = match openat(folder, &name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => file,
            // Somebody else attaches just now, or was killed while doing so: the machine's owner's file will do.
            Err(Errno::EXIST) => {
                let about = statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| cannot)?;
                let right = about.st_uid == target.uid || about.st_uid == 0;
                return if right {
                    Ok(Self { folder, name })
                } else {
                    Err(cannot)
                };
            }
            Err(_) => return Err(cannot),
        };
        let trigger = Self { folder, name };
        // The machine takes the file of its own user only (JDK 8), or root's too, if it knows root (not in a user
        // namespace).
        fchown(
            &file,
            Some(Uid::from_raw(target.uid)),
            Some(Gid::from_raw(target.gid)),
        )
        .map_err(|_| cannot)?;
        Ok(trigger)
    }
}

impl Drop for Trigger<'_> {
    fn drop(&mut self) {
        // The machine's own tools remove it as well; it may be gone.
        let _ = unlinkat(self.folder, &self.name, AtFlags::empty());
    }
}

/// Connects as the machine's own user, since it may accept no other: in a thread of its own, so that no other code of
/// this process runs as that user. Credentials are a thread's, as far as the kernel is concerned.
fn connect_as(target: &Target, socket: &OwnedFd) -> Result<UnixStream, Refusal> {
    let (uid, gid) = (Uid::from_raw(target.uid), Gid::from_raw(target.gid));
    if geteuid() == uid && getegid() == gid {
        return connect_to(socket);
    }
    thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            // Only the effective ones: the process's owners must not be able to signal this process meanwhile.
            set_thread_res_gid(None, gid, None)
                .and_then(|()| set_thread_res_uid(None, uid, None))
                .map_err(|_| "this process can't act as its user")?;
            connect_to(socket)
        });
        connecting
            .join()
            .unwrap_or(Err("this process can't act as its user"))
    })
}

fn connect_to(socket: &OwnedFd) -> Result<UnixStream, Refusal> {
    // Never waits: somebody may have filled the queue of a socket that only looks like the machine's.
    let stream = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|_| "no socket can be made")?;
    // By descriptor: the very file that was checked.
    let path = format!("/proc/self/fd/{}", socket.as_fd().as_raw_fd());
    let address = SocketAddrUnix::new(path.as_str()).map_err(|_| "no socket can be made")?;
    connect(&stream, &address).map_err(|_| "the machine does not accept")?;
    Ok(UnixStream::from(stream))
}

fn read(stream: &mut UnixStream, deadline: Instant) -> Result<String, Refusal> {
    let late = "the machine did not answer in time";
    stream.set_nonblocking(false).map_err(|_| late)?;
    stream
        .set_write_timeout(Some(left(deadline).ok_or(late)?))
        .map_err(|_| late)?;
    stream
        .write_all(REQUEST)
        .map_err(|_| "the machine does not accept")?;
    let mut answer = Vec::new();
    let mut piece = vec![0; 64 << 10];
    while (answer.len() as u64) < MAX_DUMP {
        stream
            .set_read_timeout(Some(left(deadline).ok_or(late)?))
            .map_err(|_| late)?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(piece.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(late),
        }
    }
    // The result's number comes first.
    match answer.strip_prefix(b"0\n") {
        Some(dump) => Ok(String::from_utf8_lossy(dump).into_owned()),
        None => Err("the machine refused"),
    }
}

fn left(deadline: Instant) -> Option<Duration> {
    deadline
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
}

/// `/proc/PID/status`, bounded.
pub(super) fn status(pid: u32) -> Option<String> {
    bounded(&format!("/proc/{pid}/status"))
}

/// The same of one thread.
pub(super) fn status_of_thread(pid: u32, thread: u32) -> Option<String> {
    bounded(&format!("/proc/{pid}/task/{thread}/status"))
}

fn bounded(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(64 << 10)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
