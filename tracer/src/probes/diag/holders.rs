//! Who holds which socket, and which network namespaces there are, from `/proc`.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, DirEntry},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::owner::start_ticks;

/// A descriptor of a process.
pub(super) struct Holder {
    pub pid: u32,
    /// Nanoseconds since boot, as the kernel's own `start_boottime` in whole ticks.
    pub start: u64,
    pub fd: u32,
}

/// A network namespace, by a process that is in it.
pub(super) struct NetworkNamespace {
    /// Inode number.
    pub inode: u32,
    /// `/proc/PID/ns/net`.
    pub path: PathBuf,
}

/// Nanoseconds of a tick in `/proc/PID/stat` (`USER_HZ`).
const NANOS_PER_TICK: u64 = 10_000_000;

/// Every network namespace that a process is in.
pub(super) fn network_namespaces() -> Result<Vec<NetworkNamespace>> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for process in processes()? {
        let path = process.join("ns/net");
        let named = numbered(&path, "net:[").map(|inode| (path, inode));
        let Some((path, inode)) = named.or_else(|| {
            threads(&process).find_map(|thread| {
                let path = thread.join("ns/net");
                numbered(&path, "net:[").map(|inode| (path, inode))
            })
        }) else {
            continue;
        };
        let Ok(inode) = u32::try_from(inode) else { continue };
        if seen.insert(inode) {
            found.push(NetworkNamespace { inode, path });
        }
    }
    Ok(found)
}

/// Every descriptor that refers to one of these sockets.
pub(super) fn walk(inodes: &HashSet<u64>) -> Result<HashMap<u64, Vec<Holder>>> {
    let mut found: HashMap<u64, Vec<Holder>> = HashMap::new();
    if inodes.is_empty() {
        return Ok(found);
    }
    for process in processes()? {
        let Some(pid) = process.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
            continue;
        };
        let mut start = None;
        for descriptor in descriptors(&process) {
            let Some(inode) = numbered(&descriptor.path(), "socket:[") else {
                continue;
            };
            if !inodes.contains(&inode) {
                continue;
            }
            let Some(fd) = descriptor.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let Some(ticks) = start.or_else(|| start_ticks(Path::new("/proc"), pid)) else {
                break;
            };
            start = Some(ticks);
            let start = ticks.saturating_mul(NANOS_PER_TICK);
            found.entry(inode).or_default().push(Holder { pid, start, fd });
        }
    }
    Ok(found)
}

/// The descriptors of a process; none once it has exited.
///
/// Those of its first thread, which stands for the process in `/proc`. When that one has exited and others go on, it
/// has none any more, and any other thread has them all.
fn descriptors(process: &Path) -> Vec<DirEntry> {
    let list = |task: &Path| {
        let entries = fs::read_dir(task.join("fd")).ok()?;
        let found: Vec<DirEntry> = entries.flatten().collect();
        (!found.is_empty()).then_some(found)
    };
    list(process)
        .or_else(|| threads(process).find_map(|thread| list(&thread)))
        .unwrap_or_default()
}

/// Every thread of a process but the first.
fn threads(process: &Path) -> impl Iterator<Item = PathBuf> {
    let first = process.file_name().map(ToOwned::to_owned);
    let entries = fs::read_dir(process.join("task")).into_iter().flatten();
    entries
        .flatten()
        .filter(move |thread| Some(thread.file_name()) != first)
        .map(|thread| thread.path())
}

fn processes() -> Result<impl Iterator<Item = PathBuf>> {
    let entries = fs::read_dir("/proc").context("can't list the processes in /proc")?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
    }))
}

/// The number in a link such as `socket:[81233]`.
fn numbered(link: &Path, prefix: &str) -> Option<u64> {
    let target = fs::read_link(link).ok()?;
    target
        .to_str()?
        .strip_prefix(prefix)?
        .strip_suffix(']')?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_socket_is_found_with_its_holder() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let fd = u32::try_from(std::os::fd::AsRawFd::as_raw_fd(&socket)).expect("a descriptor");
        let inode = numbered(Path::new(&format!("/proc/self/fd/{fd}")), "socket:[").expect("an inode");
        let found = walk(&HashSet::from([inode])).expect("/proc");
        let holders = &found[&inode];
        assert_eq!(
            (holders.len(), holders[0].pid, holders[0].fd),
            (1, std::process::id(), fd)
        );
        assert!(holders[0].start > 0);
    }
}
