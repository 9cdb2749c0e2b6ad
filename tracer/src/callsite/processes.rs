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

use crate::owner::{ProcessId, start_ticks};

/// How often at most.
const PERIOD: Duration = Duration::from_millis(250);
/// At most this part of the time is spent on it: on a host with very many processes it is done less often.
const SHARE: u32 = 200;
/// A process is young for that long: it may still be loading its runtime.
const YOUNG: Duration = Duration::from_secs(3);
/// Processes that are followed. Those beyond are met when they open a connection.
const MOST: usize = 65_536;

/// What has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Processes that began not long ago.
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
        }
    }

    /// What is new; `None` when it is not time to look.
    pub fn look(&mut self) -> Option<News> {
        let began = Instant::now();
        if began < self.next {
            return None;
        }
        let mut before = std::mem::take(&mut self.known);
        let mut news = News::default();
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A number that is used again within a look is taken for the same process, until it is gone.
            let known = before.remove(&pid).or_else(|| {
                let start_ticks = start_ticks(&self.root, pid)?;
                Some((ProcessId { pid, start_ticks }, began))
            });
            let Some((process, seen)) = known else { continue };
            if began.duration_since(seen) < YOUNG {
                news.young.push(process);
            }
            if self.known.len() < MOST {
                self.known.insert(pid, (process, seen));
            }
        }
        news.ended
            .extend(before.into_values().map(|(process, _)| process));
        self.next = began + PERIOD.max(began.elapsed() * SHARE);
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
}
