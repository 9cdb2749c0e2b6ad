//! Which processes have begun and which have ended, by looking at `/proc` now and then.
//!
//! Nobody waits for this: a process that is met late has its runtime's frames read from outside, and marked so. So the
//! kernel is not asked to tell each `exec` of the host.

#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::owner::{NANOS_PER_TICK, ProcessId, start_ticks};

/// How often at most.
const PERIOD: Duration = Duration::from_millis(250);
/// The same where no process or thread has begun since the last look.
const QUIET: Duration = Duration::from_secs(5);
/// At most this part of the time is spent on it: on a host with very many processes it is done less often.
const SHARE: u32 = 200;
/// A process is young for that long: it may still be loading its runtime.
const YOUNG: Duration = Duration::from_secs(3);
/// Processes that are followed. Those beyond are met when they open a connection.
const MOST: usize = 65_536;

/// What has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Processes that began not long ago; the first time all there are.
    pub young: Vec<ProcessId>,
    /// Processes that are gone.
    pub ended: Vec<ProcessId>,
}

/// The processes that were there at the last look.
#[derive(Debug)]
pub struct Processes {
    root: PathBuf,
    known: HashMap<u32, (ProcessId, Instant)>,
    next: Instant,
    /// The number that was given out last, at the last look.
    newest: Option<u32>,
    /// When to look even if that is the same: nothing else tells who has ended.
    due: Instant,
}

impl Default for Processes {
    fn default() -> Self {
        Self::new(Path::new("/proc"))
    }
}

impl Processes {
    /// Looks below `root` (`/proc`).
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            known: HashMap::new(),
            next: Instant::now(),
            newest: None,
            due: Instant::now(),
        }
    }

    /// The number of the newest process or thread: one short file, where a look reads a folder of all processes. The last
    /// field of `/proc/loadavg`, see `proc_loadavg(5)`.
    fn newest(&self) -> Option<u32> {
        let text = fs::read_to_string(self.root.join("loadavg")).ok()?;
        text.trim_end().rsplit(' ').next()?.parse().ok()
    }

    /// For how long the host runs: `proc_uptime(5)`.
    fn uptime(&self) -> Option<Duration> {
        let text = fs::read_to_string(self.root.join("uptime")).ok()?;
        Duration::try_from_secs_f64(text.split(' ').next()?.parse().ok()?).ok()
    }

    /// What is new; `None` when it is not time to look.
    pub fn look(&mut self) -> Option<News> {
        let began = Instant::now();
        if began < self.next {
            return None;
        }
        let newest = self.newest();
        if newest.is_some() && newest == self.newest && began < self.due {
            self.next = began + PERIOD;
            return None;
        }
        // What was there before this began to look is told once, and followed only if it has just begun.
        let uptime = self.newest.is_none().then(|| self.uptime()).flatten();
        self.newest = newest;
        let mut before = std::mem::take(&mut self.known);
        let mut news = News::default();
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A number that is used again within a look is taken for the same process, until it is gone.
            let known = before.remove(&pid);
            let is_new = known.is_none();
            let first_met = || {
                let start_ticks = start_ticks(&self.root, pid)?;
                let started = Duration::from_nanos(start_ticks.saturating_mul(NANOS_PER_TICK));
                let age = uptime.map_or(Duration::ZERO, |uptime| uptime.saturating_sub(started));
                Some((
                    ProcessId { pid, start_ticks },
                    began.checked_sub(age).unwrap_or(began),
                ))
            };
            let Some((process, seen)) = known.or_else(first_met) else {
                continue;
            };
            if is_new || began.duration_since(seen) < YOUNG {
                news.young.push(process);
            }
            if self.known.len() < MOST {
                self.known.insert(pid, (process, seen));
            }
        }
        news.ended
            .extend(before.into_values().map(|(process, _)| process));
        self.next = began + PERIOD.max(began.elapsed() * SHARE);
        // Who is young is looked at again.
        self.due = if news.young.is_empty() {
            began + QUIET
        } else {
            began
        };
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(root: &Path, pid: u32) {
        let folder = root.join(pid.to_string());
        fs::create_dir_all(&folder).expect("a folder");
        let fields: Vec<String> = (4..=22).map(|field| field.to_string()).collect();
        let stat = format!("{pid} (name) S {}", fields.join(" "));
        fs::write(folder.join("stat"), stat).expect("a file");
    }

    #[test]
    fn processes_that_begin_and_end_are_told() {
        let root = tempfile::tempdir().expect("a folder");
        process(root.path(), 7);
        fs::create_dir(root.path().join("sys")).expect("a folder");
        let mut processes = Processes::new(root.path());
        let id = |pid| ProcessId { pid, start_ticks: 22 };
        let news = processes.look().expect("the first look");
        assert_eq!((news.young, news.ended), (vec![id(7)], vec![]));
        assert!(processes.look().is_none(), "not so soon again");
        fs::remove_dir_all(root.path().join("7")).expect("there");
        process(root.path(), 8);
        processes.next = Instant::now();
        let news = processes.look().expect("time to look");
        assert_eq!((news.young, news.ended), (vec![id(8)], vec![id(7)]));
    }

    #[test]
    fn a_process_that_was_there_long_before_is_told_once() {
        let root = tempfile::tempdir().expect("a folder");
        // It began 22 ticks after the host did, which is 0.22 seconds.
        process(root.path(), 7);
        fs::write(root.path().join("uptime"), "100.00 90.00\n").expect("a file");
        fs::write(root.path().join("loadavg"), "0.1 0.2 0.3 1/99 7\n").expect("a file");
        let mut processes = Processes::new(root.path());
        assert_eq!(processes.look().map(|news| news.young.len()), Some(1));
        processes.next = Instant::now();
        assert_eq!(processes.look().map(|news| news.young.len()), Some(0));
    }

    #[test]
    fn all_processes_are_listed_when_one_has_begun_while_one_is_young_and_now_and_then() {
        let root = tempfile::tempdir().expect("a folder");
        let begun = |newest: u32| {
            fs::write(
                root.path().join("loadavg"),
                format!("0.1 0.2 0.3 1/99 {newest}\n"),
            )
            .expect("a file");
        };
        begun(7);
        let mut processes = Processes::new(root.path());
        let looks = |processes: &mut Processes| {
            processes.next = Instant::now();
            processes.look().is_some()
        };
        assert!(looks(&mut processes), "the first time");
        assert!(!looks(&mut processes), "nothing has begun");
        begun(8);
        process(root.path(), 8);
        assert!(looks(&mut processes), "one has begun");
        assert!(looks(&mut processes), "it is young");
        processes.known.values_mut().for_each(|(_, seen)| *seen -= YOUNG);
        assert!(looks(&mut processes), "it was young");
        assert!(!looks(&mut processes), "nothing has begun");
        processes.due = Instant::now();
        assert!(looks(&mut processes), "some may have ended");
    }
}
