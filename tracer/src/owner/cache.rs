//! Remembers who was who.
//!
//! The process that leaked may be gone by the time its finding is written, and a short-lived one may be gone
//! before `/proc` could be read at all. So the first event seeds a name, the first look completes it, and
//! both outlive the process. The memory is bounded: a host that starts a thousand processes a second must
//! not make the agent grow.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZero,
    path::PathBuf,
    sync::Arc,
    thread,
};

use super::{Process, ProcessId, passwd::Users};

/// Some 4 MiB with command lines of usual length: far more processes than hold database sockets on one host.
const CAPACITY: usize = 4096;

/// More threads than this wait for the kernel's locks instead.
const MOST_READERS: usize = 4;

/// The processes seen so far. When full, the one that was seen first is forgotten; if it still runs, it is
/// read again when asked for.
#[derive(Debug)]
pub struct Owners {
    root: PathBuf,
    capacity: usize,
    known: HashMap<ProcessId, Known>,
    order: VecDeque<ProcessId>,
    users: Users,
    /// What was read since it was taken last, for a journal; `None` when nobody keeps one.
    readings: Option<Vec<Arc<Process>>>,
}

#[derive(Debug)]
struct Known {
    process: Arc<Process>,
    source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// An event; nothing was looked up yet.
    Event,
    /// An event, and the user's name looked up, since `/proc` had nothing any more.
    EventAndUser,
    Proc,
}

impl Default for Owners {
    fn default() -> Self {
        Self::new("/proc")
    }
}

impl Owners {
    /// Over a `/proc` at `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::with_capacity(root, CAPACITY)
    }

    /// With another bound than 4,096 processes (at least one).
    #[must_use]
    pub fn with_capacity(root: impl Into<PathBuf>, capacity: usize) -> Self {
        Self {
            root: root.into(),
            capacity: capacity.max(1),
            known: HashMap::new(),
            order: VecDeque::new(),
            users: Users::default(),
            readings: None,
        }
    }

    /// The process, read from `/proc` the first time; after its exit, what was known of it.
    pub fn get(&mut self, id: ProcessId) -> Option<Arc<Process>> {
        match self.known.get(&id) {
            Some(known) if known.source == Source::Proc => Some(Arc::clone(&known.process)),
            _ => self.refresh(id),
        }
    }

    /// Like [`Self::get`], but looks again: a process that was first seen between fork and exec still had its
    /// parent's name.
    pub fn refresh(&mut self, id: ProcessId) -> Option<Arc<Process>> {
        if let Some(process) = Process::read(&self.root, id) {
            self.learn(process);
        }
        let known = self.known.get_mut(&id)?;
        if known.source == Source::Event {
            let process = Arc::make_mut(&mut known.process);
            process.user = process.uid.and_then(|uid| self.users.name(uid));
            known.source = Source::EventAndUser;
        }
        let process = Arc::clone(&known.process);
        if let Some(readings) = &mut self.readings {
            readings.push(Arc::clone(&process));
        }
        Some(process)
    }

    /// Reads these processes side by side, as far as they are not known: some 60 µs each, of which a scan may have
    /// hundreds to wait for.
    pub fn prefetch(&mut self, mut ids: Vec<ProcessId>) {
        ids.retain(|id| {
            self.known
                .get(id)
                .is_none_or(|known| known.source != Source::Proc)
        });
        let threads = thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(MOST_READERS);
        let root = self.root.as_path();
        let read: Vec<Process> = thread::scope(|scope| {
            let readers: Vec<_> = ids
                .chunks(ids.len().div_ceil(threads).max(1))
                .map(|ids| scope.spawn(|| ids.iter().filter_map(|&id| Process::read(root, id)).collect()))
                .collect();
            // What a reader has not read is read when it is asked for.
            readers
                .into_iter()
                .flat_map(|reader| reader.join().unwrap_or_else(|_| Vec::new()))
                .collect()
        });
        for process in read {
            let process = self.learn(process);
            if let Some(readings) = &mut self.readings {
                readings.push(process);
            }
        }
    }

    fn learn(&mut self, mut process: Process) -> Arc<Process> {
        process.user = process.uid.and_then(|uid| self.users.name(uid));
        let process = Arc::new(process);
        let known = Known {
            process: Arc::clone(&process),
            source: Source::Proc,
        };
        self.insert(process.id, known);
        process
    }

    /// Like [`get`](Self::get); a process that nobody knows anything of is named `?`.
    pub fn describe(&mut self, id: ProcessId) -> Arc<Process> {
        self.get(id).unwrap_or_else(|| Arc::new(Process::named(id, "?")))
    }

    /// Seeds a name from a kernel event, for a process that may exit before [`Self::get`] asks. Does nothing
    /// if the process is known: an event carries the name of the *thread*, which says less. Does no I/O,
    /// so that it may be called where events are drained.
    pub fn note_name(&mut self, id: ProcessId, comm: &str, uid: u32) {
        if !self.known.contains_key(&id) {
            let process = Arc::new(Process::from_event(id, comm, uid));
            self.insert(
                id,
                Known {
                    process,
                    source: Source::Event,
                },
            );
        }
    }

    /// From now on, what is read is kept for [`take_readings`](Self::take_readings).
    pub fn note_readings(&mut self) {
        self.readings = Some(Vec::new());
    }

    /// What was read since the last call.
    pub fn take_readings(&mut self) -> Vec<Process> {
        let readings = self.readings.as_mut().map(std::mem::take).unwrap_or_default();
        readings.iter().map(|process| Process::clone(process)).collect()
    }

    /// Takes over what was known of a process elsewhere: from a journal.
    pub fn remember(&mut self, process: Process) {
        self.insert(
            process.id,
            Known {
                process: Arc::new(process),
                source: Source::Proc,
            },
        );
    }

    fn insert(&mut self, id: ProcessId, known: Known) {
        if self.known.insert(id, known).is_some() {
            return;
        }
        self.order.push_back(id);
        while self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{Owners, ProcessId};

    fn start(root: &Path, pid: u32, comm: &str) -> ProcessId {
        let directory = root.join(pid.to_string());
        fs::create_dir_all(&directory).expect("a folder");
        let stat = format!("{pid} ({comm}) S {}77 0", "0 ".repeat(18));
        fs::write(directory.join("stat"), stat).expect("a file");
        fs::write(directory.join("comm"), format!("{comm}\n")).expect("a file");
        fs::write(directory.join("status"), "Name:\tx\nUid:\t0\t0\t0\t0\n").expect("a file");
        ProcessId { pid, start_ticks: 77 }
    }

    fn name(owners: &mut Owners, id: ProcessId) -> Option<String> {
        owners.get(id).map(|process| process.name.clone())
    }

    #[test]
    fn a_name_outlives_its_process() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let id = start(root.path(), 10, "payments");
        let mut owners = Owners::new(root.path());
        assert_eq!(name(&mut owners, id).as_deref(), Some("payments"));
        fs::remove_dir_all(root.path().join("10")).expect("gone");
        assert_eq!(name(&mut owners, id).as_deref(), Some("payments"));
        assert!(owners.refresh(id).is_some());
    }

    #[test]
    fn an_event_names_what_proc_no_longer_can() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let mut owners = Owners::new(root.path());
        let gone = ProcessId {
            pid: 11,
            start_ticks: 5,
        };
        assert_eq!(owners.get(gone), None);
        owners.note_name(gone, "short", 0);
        let process = owners.get(gone).expect("seeded");
        assert_eq!(
            (process.name.as_str(), process.uid, process.user.as_deref()),
            ("short", Some(0), Some("root"))
        );
    }

    #[test]
    fn processes_read_side_by_side_are_known_like_others() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let ids: Vec<_> = (20..30)
            .map(|pid| start(root.path(), pid, &format!("worker-{pid}")))
            .collect();
        let mut owners = Owners::new(root.path());
        let gone = ProcessId {
            pid: 31,
            start_ticks: 77,
        };
        owners.prefetch([&ids[..], &[gone]].concat());
        fs::remove_dir_all(root.path()).expect("all are gone");
        for id in ids {
            let expected = format!("worker-{}", { id.pid });
            assert_eq!(name(&mut owners, id).as_deref(), Some(expected.as_str()));
        }
        assert_eq!(owners.get(gone), None);
        owners.prefetch(Vec::new());
    }

    #[test]
    fn proc_knows_better_than_an_event_and_is_asked_once() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let id = start(root.path(), 12, "java");
        let mut owners = Owners::new(root.path());
        owners.note_name(id, "http-nio-8080", 0);
        assert_eq!(name(&mut owners, id).as_deref(), Some("java"));
        owners.note_name(id, "http-nio-8080", 0);
        assert_eq!(
            owners.get(id).and_then(|it| it.user.clone()).as_deref(),
            Some("root")
        );
        start(root.path(), 12, "renamed");
        assert_eq!(name(&mut owners, id).as_deref(), Some("java"));
        assert_eq!(
            owners.refresh(id).map(|process| process.name.clone()).as_deref(),
            Some("renamed")
        );
    }

    #[test]
    fn the_oldest_is_forgotten_and_a_running_one_found_again() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let running = start(root.path(), 20, "running");
        let mut owners = Owners::with_capacity(root.path(), 2);
        assert!(owners.get(running).is_some());
        let exited = |pid| ProcessId { pid, start_ticks: 1 };
        for pid in 21..24 {
            owners.note_name(exited(pid), "x", 0);
        }
        assert_eq!((owners.known.len(), owners.order.len()), (2, 2));
        assert_eq!(owners.get(exited(21)), None);
        assert!(owners.get(exited(23)).is_some());
        assert!(owners.get(running).is_some());
        assert_eq!((owners.known.len(), owners.order.len()), (2, 2));
    }
}
