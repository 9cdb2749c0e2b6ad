//! One process as `/proc` tells it.
//!
//! All of it is chosen by the process itself (its name, its arguments) or by whoever started it, so every
//! read has a bound, nothing is trusted to be UTF-8, and a file that is missing costs one field, not the
//! answer. `/proc/PID/cmdline` takes the process's memory-map lock and can block behind it: read processes off
//! the path that drains events.

use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use nix::time::{ClockId, clock_gettime};

use super::{ProcessId, cgroup};

/// Bounds for what is kept of a command line: enough to tell two Java services apart.
const MAX_ARGUMENTS: usize = 64;
const MAX_COMMAND_LINE: usize = 4096;
/// Bound for every other file; `status` is the longest, with about 1.5 KiB, and `cgroup` of v1 the widest.
const MAX_FILE: usize = 64 * 1024;
/// `TASK_COMM_LEN` is 16, but kernel workers print up to 64:
/// <https://github.com/torvalds/linux/blob/v6.12/fs/proc/array.c> (`proc_task_name`)
const MAX_COMM: usize = 64;

/// What is known of a process. Only `id` and `name` are sure to be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Pid and start time.
    pub id: ProcessId,
    /// The command name, as `ps -o comm` shows it.
    pub name: String,
    /// The program file in the process's own mount namespace, without the kernel's ` (deleted)` mark.
    pub executable: Option<String>,
    /// The program file was removed or replaced after the start: a deployment without a restart.
    pub executable_deleted: bool,
    /// The arguments, at most 64 and 4 KiB.
    pub command_line: Vec<String>,
    /// There are more arguments than `command_line` holds.
    pub command_line_truncated: bool,
    /// Effective user id.
    pub uid: Option<u32>,
    /// The host's name for that user.
    pub user: Option<String>,
    /// Container id (LXC: name), from the cgroup.
    pub container_id: Option<String>,
    /// `docker`, `containerd`, `cri-o`, `podman`, `lxc`.
    #[serde(skip)]
    pub container_runtime: Option<&'static str>,
    /// Kubernetes pod uid.
    pub pod: Option<String>,
    /// systemd unit.
    pub unit: Option<String>,
    /// Start time in milliseconds of the Unix epoch, by the wall clock at the time of reading.
    pub start_unix_ms: Option<i64>,
}

impl Process {
    /// Reads a process below `root` (`/proc`), all but its user's name. `None` if it has exited, or if the pid is another
    /// process by now.
    #[must_use]
    pub fn read(root: &Path, id: ProcessId) -> Option<Self> {
        let directory = root.join(id.pid.to_string());
        let mut process = Self::named(id, text(&directory, "comm", MAX_COMM)?.trim_end_matches('\n'));
        if let Ok(link) = std::fs::read_link(directory.join("exe")) {
            let (path, deleted) = executable(&link.to_string_lossy());
            process.executable = Some(path);
            process.executable_deleted = deleted;
        }
        if let Some(bytes) = read_bounded(&directory.join("cmdline"), MAX_COMMAND_LINE + 1) {
            (process.command_line, process.command_line_truncated) = command_line(&bytes);
        }
        process.uid = text(&directory, "status", MAX_FILE)
            .as_deref()
            .and_then(effective_uid);
        let membership = cgroup::parse(&text(&directory, "cgroup", MAX_FILE).unwrap_or_default());
        process.container_id = membership.container_id;
        process.container_runtime = membership.runtime;
        process.pod = membership.pod_uid;
        process.unit = membership.unit;
        // Last, and once: a process that is there now with this start time was there all along, so what
        // was read before is its own.
        if start_ticks(root, id.pid) != Some(id.start_ticks) {
            return None;
        }
        Some(process)
    }

    /// What a kernel event alone says: enough to name a process that was gone before `/proc` could be read.
    /// No I/O.
    #[must_use]
    pub fn from_event(id: ProcessId, comm: &str, uid: u32) -> Self {
        Self {
            uid: Some(uid),
            ..Self::named(id, comm)
        }
    }

    pub(super) fn named(id: ProcessId, name: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            executable: None,
            executable_deleted: false,
            command_line: Vec::new(),
            command_line_truncated: false,
            uid: None,
            user: None,
            container_id: None,
            container_runtime: None,
            pod: None,
            unit: None,
            start_unix_ms: boot_unix_ms().map(|boot| id.start_unix_ms(boot)),
        }
    }
}

/// Start time of a process below `root` (`/proc`), in ticks: the other half of its [`ProcessId`].
#[must_use]
pub fn start_ticks(root: &Path, pid: u32) -> Option<u64> {
    // Field 22; the command, field 2, is in parentheses and may itself contain `)` and spaces, so count from
    // the last one: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    let stat = text(&root.join(pid.to_string()), "stat", MAX_FILE)?;
    let (_, after_command) = stat.rsplit_once(')')?;
    after_command.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// When the host booted by the present wall clock, to 10 ms, which is as exact as start times are.
fn boot_unix_ms() -> Option<i64> {
    let milliseconds = |clock| {
        let time = clock_gettime(clock).ok()?;
        time.tv_sec()
            .checked_mul(1000)?
            .checked_add(time.tv_nsec() / 1_000_000)
    };
    let boot = milliseconds(ClockId::CLOCK_REALTIME)?.checked_sub(milliseconds(ClockId::CLOCK_BOOTTIME)?)?;
    Some(boot - boot.rem_euclid(10))
}

/// Splits the kernel's mark from a link. A file really called `x (deleted)` can't be told from a removed `x`.
/// <https://man7.org/linux/man-pages/man5/proc_pid_exe.5.html>
fn executable(link: &str) -> (String, bool) {
    match link.strip_suffix(" (deleted)") {
        Some(path) => (path.to_owned(), true),
        None => (link.to_owned(), false),
    }
}

/// Arguments end with a NUL each; a process that rewrote its title leaves one string and padding.
fn command_line(bytes: &[u8]) -> (Vec<String>, bool) {
    let cut = bytes.len() > MAX_COMMAND_LINE;
    let mut kept = &bytes[..bytes.len().min(MAX_COMMAND_LINE)];
    if cut {
        // Don't show half a character where the bound fell.
        if let Err(error) = std::str::from_utf8(kept)
            && error.error_len().is_none()
        {
            kept = &kept[..error.valid_up_to()];
        }
    } else {
        while let Some(shorter) = kept.strip_suffix(b"\0") {
            kept = shorter;
        }
    }
    if kept.is_empty() {
        return (Vec::new(), cut);
    }
    let mut arguments = kept
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned());
    let first: Vec<_> = arguments.by_ref().take(MAX_ARGUMENTS).collect();
    let more = arguments.next().is_some();
    (first, cut || more)
}

/// The second of real, effective, saved and file-system uid: the one `ps` shows.
/// <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>
fn effective_uid(status: &str) -> Option<u32> {
    // `Name:` comes first and its newlines are escaped, so no process can forge this line.
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    uids.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn text(directory: &Path, file: &str, limit: usize) -> Option<String> {
    let bytes = read_bounded(&directory.join(file), limit)?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_bounded(path: &PathBuf, limit: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(limit as u64)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests;
