//! Dates for unix-domain sockets that were opened before attach.
//!
//! The kernel keeps no times for them. But their server runs on this host, and most servers give each
//! connection a process (`PostgreSQL`) or a thread (`MySQL`, `MariaDB`) of its own, whose start and last run the
//! scheduler does keep. A server that serves all from one thread (Redis) tells nothing: then it stays unknown.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::clock;
use crate::event::{Cookie, Nanos, Place, SECOND, Snapshot};

/// A server's end of a unix-domain connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerEnd {
    /// The client's cookie.
    pub client: Cookie,
    /// The server's process.
    pub pid: u32,
    /// Its descriptor.
    pub fd: u32,
}

/// Threads of one server that are looked at.
const MAX_THREADS: usize = 8192;
/// `/proc/PID/sched` is a few kilobytes; the line we need is among the first.
const SCHED_HEAD: usize = 1024;

/// Fills in when unix sockets that are new to the ledger were opened and last used, where the server's
/// processes or threads tell.
pub fn date(snapshot: &mut Snapshot, ends: &[ServerEnd], known: impl Fn(Cookie) -> bool) {
    let undated = |place: &Place| matches!(place, Place::Unix(_));
    if !snapshot
        .observations
        .iter()
        .any(|row| undated(&row.server.place) && !known(row.cookie))
    {
        return;
    }
    let by_client: HashMap<Cookie, ServerEnd> = ends.iter().map(|end| (end.client, *end)).collect();
    let mut per_process: HashMap<u32, usize> = HashMap::new();
    for end in ends {
        *per_process.entry(end.pid).or_default() += 1;
    }
    let Some(skew) = skew() else { return };
    let mut threads: HashMap<u32, HashMap<u32, PathBuf>> = HashMap::new();
    for row in &mut snapshot.observations {
        if !undated(&row.server.place) || row.traffic.last_received.is_some() || known(row.cookie) {
            continue;
        }
        let Some(end) = by_client.get(&row.cookie) else {
            continue;
        };
        let task = if per_process.get(&end.pid) == Some(&1) {
            PathBuf::from(format!("/proc/{}", end.pid))
        } else {
            let serving = threads
                .entry(end.pid)
                .or_insert_with(|| threads_by_descriptor(end.pid));
            let Some(task) = serving.get(&end.fd) else {
                continue;
            };
            task.clone()
        };
        if let Some(ran) = last_run(&task) {
            let at = ran.saturating_add_signed(skew).min(row.at);
            row.traffic.last_sent = Some(at);
            row.traffic.last_received = Some(at);
        }
    }
}

/// What to add to the scheduler's clock to get `CLOCK_MONOTONIC`: this very thread ran just now.
fn skew() -> Option<i64> {
    let ours = last_run(Path::new("/proc/thread-self"))?;
    i64::try_from(i128::from(clock::monotonic()) - i128::from(ours)).ok()
}

/// When a task was last put on a processor, by the scheduler's clock (`se.exec_start` of `/proc/PID/sched`,
/// milliseconds with six decimals).
fn last_run(task: &Path) -> Option<Nanos> {
    let text = fs::read_to_string(task.join("sched")).ok()?;
    let head = text.get(..SCHED_HEAD.min(text.len())).unwrap_or(&text);
    parse_exec_start(head)
}

fn parse_exec_start(text: &str) -> Option<Nanos> {
    let line = text.lines().find(|line| line.starts_with("se.exec_start"))?;
    let value = line.rsplit(':').next()?.trim();
    let (millis, fraction) = value.split_once('.')?;
    let nanos: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    millis
        .parse::<u64>()
        .ok()?
        .checked_mul(SECOND / 1000)?
        .checked_add(nanos)
}

/// The threads of a server that wait for one descriptor each, by that descriptor.
fn threads_by_descriptor(pid: u32) -> HashMap<u32, PathBuf> {
    let Ok(memory) = fs::File::open(format!("/proc/{pid}/mem")) else {
        return HashMap::new();
    };
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return HashMap::new();
    };
    tasks
        .flatten()
        .take(MAX_THREADS)
        .filter_map(|task| {
            let call = fs::read_to_string(task.path().join("syscall")).ok()?;
            Some((
                waits_for(&call, |address| read_word(&memory, address))?,
                task.path(),
            ))
        })
        .collect()
}

/// The one descriptor that a blocked thread waits for, by its system call and arguments
/// (`/proc/PID/task/TID/syscall`: number, then six arguments in hexadecimal).
fn waits_for(call: &str, word: impl Fn(u64) -> Option<u32>) -> Option<u32> {
    let mut parts = call.split_ascii_whitespace();
    let number: i64 = parts.next()?.parse().ok()?;
    let mut argument = || u64::from_str_radix(parts.next()?.strip_prefix("0x")?, 16).ok();
    let (first, second) = (argument()?, argument()?);
    #[cfg(target_arch = "x86_64")]
    let polls = [libc::SYS_ppoll, libc::SYS_poll];
    #[cfg(not(target_arch = "x86_64"))]
    let polls = [libc::SYS_ppoll];
    if polls.contains(&number) {
        // `struct pollfd` begins with the descriptor. More than one, and it is no connection's own thread.
        return if second == 1 { word(first) } else { None };
    }
    [libc::SYS_recvfrom, libc::SYS_read]
        .contains(&number)
        .then(|| u32::try_from(first).ok())?
}

fn read_word(memory: &fs::File, address: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    memory.read_exact_at(&mut bytes, address).ok()?;
    Some(u32::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedulers_time_is_read_to_the_nanosecond() {
        let text = "psql (7, #threads: 1)\n---\nse.exec_start       :     492992.329497\nse.vruntime : 1.0\n";
        assert_eq!(parse_exec_start(text), Some(492_992_329_497));
        for wrong in [
            "",
            "se.exec_start",
            "se.exec_start : x.y",
            "se.exec_start : 99999999999999999999.0",
        ] {
            assert_eq!(parse_exec_start(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_blocked_thread_tells_its_descriptor() {
        let word = |address| (address == 0x7f00).then_some(42);
        assert_eq!(
            waits_for("7 0x7f00 0x1 0x1388 0x0 0x0 0x0 0x7ffc 0x7fba", word),
            Some(42)
        );
        assert_eq!(
            waits_for("45 0x2a 0x1 0x2 0x0 0x0 0x0 0x7ffc 0x7fba", word),
            Some(42)
        );
        for none in [
            "running",
            "",
            "7 0x7f00 0x2 0x0",
            "232 0x4 0x7f00 0x1",
            "7 zz",
            "-1 0x0 0x0",
        ] {
            assert_eq!(waits_for(none, word), None, "{none:?}");
        }
    }
}
