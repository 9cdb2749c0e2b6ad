//! Dates for unix-domain sockets that were opened before attach.
//!
//! The kernel keeps no times for them. But their server runs on this host, and most servers give each
//! connection a process (`PostgreSQL`) or a thread (`MySQL`, `MariaDB`) of its own, whose start and last run the
//! scheduler does keep. A server that serves all from one thread (Redis) tells nothing: then it stays unknown.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
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
    let mut threads: HashMap<u32, HashMap<u32, PathBuf>> = HashMap::new();
    let mut runs = Vec::new();
    for (index, row) in snapshot.observations.iter().enumerate() {
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
        if let Some(run) = last_run(&task) {
            runs.push((index, run));
        }
    }
    let skews = skews(runs.iter().map(|(_, run)| run.processor).collect());
    for (index, run) in runs {
        // No skew: a processor that we are not allowed on.
        if let Some(skew) = skews.get(&run.processor) {
            let row = &mut snapshot.observations[index];
            let at = run.at.saturating_add_signed(*skew).min(row.at);
            row.traffic.last_sent = Some(at);
            row.traffic.last_received = Some(at);
        }
    }
}

/// When a task was last put on a processor.
#[derive(Clone, Copy)]
struct Run {
    /// By that processor's scheduler clock.
    at: Nanos,
    processor: usize,
}

/// What to add to each processor's scheduler clock to get `CLOCK_MONOTONIC`.
///
/// That clock leaves out the time that the processor spent on interrupts and that a hypervisor took from it
/// (`update_rq_clock_task` of the kernel's `sched/core.c`), so two processors of one machine were seen 14 seconds apart
/// after five hours. Hence a thread of ours goes to each of them: it has run there just now.
fn skews(processors: BTreeSet<usize>) -> HashMap<usize, i64> {
    let measure = || processors.into_iter().filter_map(|one| Some((one, skew(one)?)));
    thread::scope(|scope| scope.spawn(|| measure().collect()).join()).unwrap_or_default()
}

/// The same for one; moves this thread there.
fn skew(processor: usize) -> Option<i64> {
    let mut only = CpuSet::new();
    only.set(processor).ok()?;
    sched_setaffinity(Pid::from_raw(0), &only).ok()?;
    let ours = last_run(Path::new("/proc/thread-self"))?;
    i64::try_from(i128::from(clock::monotonic()) - i128::from(ours.at)).ok()
}

/// When and where a task last ran: `se.exec_start` of `/proc/PID/sched` (milliseconds with six decimals) and
/// `processor` of `/proc/PID/stat`. One that runs between the two is in use.
fn last_run(task: &Path) -> Option<Run> {
    let text = fs::read_to_string(task.join("sched")).ok()?;
    let head = text.get(..SCHED_HEAD.min(text.len())).unwrap_or(&text);
    Some(Run {
        at: parse_exec_start(head)?,
        processor: parse_processor(&fs::read(task.join("stat")).ok()?)?,
    })
}

/// Field 39 of `/proc/PID/stat` (proc(5)). Field 2 is the name, in brackets, and may hold anything.
fn parse_processor(stat: &[u8]) -> Option<usize> {
    let name_ends = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_ends + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(39 - 3)?.parse().ok()
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
    fn the_processor_is_read_whatever_the_name_is() {
        let rest = (3..=52)
            .map(|field| field.to_string())
            .collect::<Vec<_>>()
            .join(" ");
        for name in ["psql", "a) R 1 (b", "\u{fffd} 1 2"] {
            let stat = format!("7 ({name}) {rest}\n");
            assert_eq!(parse_processor(stat.as_bytes()), Some(39), "{name}");
        }
        for wrong in [&b""[..], b"7 (psql", b"7 (psql) R 1 2", b"\xff) \xff"] {
            assert_eq!(parse_processor(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn each_processor_says_now() {
        let all: BTreeSet<usize> = (0..thread::available_parallelism().map_or(1, usize::from)).collect();
        for (processor, skew) in skews(all) {
            // On that processor, a task that runs now.
            let ran = thread::scope(|scope| {
                let here = || skew_and_run(processor).map(|run| run.at);
                scope.spawn(here).join().unwrap_or_default()
            });
            let told = ran.map(|at| at.saturating_add_signed(skew));
            let now = clock::monotonic();
            assert!(
                told.is_some_and(|at| now.abs_diff(at) < SECOND),
                "{processor}: {told:?}, {now}"
            );
        }
    }

    fn skew_and_run(processor: usize) -> Option<Run> {
        skew(processor)?;
        last_run(Path::new("/proc/thread-self"))
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
