//! Stacks of managed runtimes: what a program written in Java, JavaScript, Ruby or PHP was doing.
//!
//! Their frames are not on the native stack, or have no names there. Each runtime has a reader of its own, which is
//! asked right after the event, while the process is there. None of them makes a frame up: what can't be verified is
//! left out, and a note says why.

#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Capture, Frame, Quality, java, mapped, moment,
    native::{NativeFrame, NativeStack},
    node,
    perf_map::{self, PerfMap, PerfMaps},
    php,
    process_memory::{AtCapture, Pages, ProcessMemory},
    ruby,
};
use crate::{event::Nanos, owner::ProcessId, probes::clock};

/// Processes that are remembered.
const MAX_PROCESSES: usize = 1024;
/// A process in which no runtime was found is looked at again after this time: it may have loaded one, or become
/// another program.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Reads of memory for one stack, each about a microsecond: 200 Java frames.
const READS: u32 = 8000;

/// Where runtimes keep their frames is known of this processor alone.
const SUPPORTED: bool = cfg!(target_arch = "x86_64");

/// What a runtime's reader says of one capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How many native frames stand before these; those behind are the runtime's own, and are replaced by these. More
    /// than there are: all stay.
    pub before: usize,
    /// The runtime's frames, innermost first; empty when there is only a note.
    pub frames: Vec<Frame>,
    /// Names of single native frames, by their numbers.
    pub instead: Vec<(usize, Frame)>,
    /// How far they may be believed.
    pub quality: Quality,
    /// What the reader has to know.
    pub note: Option<String>,
}

impl Answer {
    /// No frames, and why.
    #[must_use]
    pub fn nothing(note: impl Into<String>) -> Self {
        Self {
            before: usize::MAX,
            frames: Vec::new(),
            instead: Vec::new(),
            quality: Quality::Partial,
            note: Some(note.into()),
        }
    }
}

/// The runtime in a process.
#[derive(Debug)]
enum Runtime {
    Java(Box<java::Machine>),
    Node(Box<node::Isolate>),
    Php(php::Engine),
    Ruby(ruby::Machine),
    /// One that no reader is for, but that writes down the names of what it compiles.
    Compiles,
    None {
        since: Instant,
    },
}

/// The readers, and what they know of processes. For one thread.
#[derive(Debug)]
pub struct Managed {
    /// Whether Java machines may be asked for thread dumps.
    thread_dumps: bool,
    budget: Budget,
    processes: HashMap<ProcessId, Runtime>,
    maps: PerfMaps,
}

/// How many stacks are read in a second: at some 0.2 ms each.
#[derive(Debug)]
struct Budget {
    left: u64,
    reckoned: Nanos,
}

impl Budget {
    const PER_SECOND: u64 = 300;
    const MOST: u64 = 2 * Self::PER_SECOND;

    fn take(&mut self, now: Nanos) -> bool {
        const EACH: Nanos = 1_000_000_000 / Budget::PER_SECOND;
        let new = now.saturating_sub(self.reckoned) / EACH;
        if new > 0 {
            self.left = self.left.saturating_add(new).min(Self::MOST);
            // What is left over counts towards the next one.
            self.reckoned += new * EACH;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

impl Managed {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(thread_dumps: bool) -> Self {
        Self {
            thread_dumps,
            budget: Budget {
                left: Budget::MOST,
                reckoned: 0,
            },
            processes: HashMap::new(),
            maps: PerfMaps::new("/proc"),
        }
    }

    /// What the runtime of the captured thread's process says; `None` without a runtime, or when it has nothing to say.
    /// To be asked at once, and for each capture: two threads with one native stack may be in different functions.
    pub fn frames(&mut self, capture: &Capture<'_>, native: &NativeStack) -> Option<Answer> {
        let id = capture.process;
        let old = match self.processes.get(&id) {
            None => true,
            Some(Runtime::None { since }) => since.elapsed() >= LOOK_AGAIN,
            Some(_) => false,
        };
        if old {
            if self.processes.len() >= MAX_PROCESSES {
                self.processes.clear();
            }
            let runtime = match detect(id) {
                Runtime::None { .. } if self.maps.exists(id) => Runtime::Compiles,
                runtime => runtime,
            };
            self.processes.insert(id, runtime);
        }
        if !self.is_managed(id) {
            return None;
        }
        if !SUPPORTED {
            return Some(Answer::nothing(
                "its runtime's frames can be read on x86-64 alone",
            ));
        }
        if !self.budget.take(capture.at) {
            return Some(Answer::nothing(
                "there were too many stacks to read its runtime's frames of each",
            ));
        }
        let now = ProcessMemory::new(id.pid, READS)?;
        let memory = AtCapture::new(capture, Pages::new(&now));
        match self.processes.get_mut(&id)? {
            Runtime::Java(machine) => machine.frames(&memory, capture, native, self.thread_dumps),
            Runtime::Node(isolate) => {
                let frames = native.frames.iter().enumerate();
                let pointers = frames.filter_map(|(number, frame)| {
                    let fp = capture.registers.sp.checked_add(u64::from(frame.fp?))?;
                    Some((number, fp))
                });
                isolate.frames(&memory, pointers)
            }
            Runtime::Php(engine) => while_it_waits(&now, capture, native, "PHP", &engine.path, 1, |memory| {
                engine.frames(memory)
            }),
            Runtime::Ruby(machine) => match machine.unknown_version() {
                Some(version) => Some(Answer::nothing(format!(
                    "Ruby {version} is a version that can't be read"
                ))),
                None => while_it_waits(&now, capture, native, "Ruby", &machine.path, 3, |memory| {
                    machine.frames(memory, capture.registers.sp)
                }),
            },
            Runtime::Compiles => by_map(self.maps.of(id)?, native),
            Runtime::None { .. } => None,
        }
    }

    /// Whether this process's stacks are worth little when they are read late.
    #[must_use]
    pub fn is_urgent(&self, id: ProcessId) -> bool {
        matches!(
            self.processes.get(&id),
            Some(Runtime::Node(_) | Runtime::Php(_) | Runtime::Ruby(_))
        )
    }

    /// Whether a runtime runs in this process, so that one native stack may belong to many functions.
    #[must_use]
    pub fn is_managed(&self, id: ProcessId) -> bool {
        !matches!(self.processes.get(&id), None | Some(Runtime::None { .. }))
    }
}

/// Whether a process is an interpreter's whose stacks are worth little when they are read late, by its program's name:
/// before anything of it is read.
#[must_use]
pub fn looks_urgent(id: ProcessId) -> bool {
    let Ok(program) = std::fs::read_link(format!("/proc/{}/exe", id.pid)) else {
        return false;
    };
    let name = program.file_name().unwrap_or_default().as_encoded_bytes();
    [b"php".as_slice(), b"ruby", b"node"]
        .iter()
        .any(|start| name.starts_with(start))
}

/// Names of machine code that no file has. Whoever compiled it can move it: believed as far as the stack is.
fn by_map(map: &PerfMap, native: &NativeStack) -> Option<Answer> {
    let compiled = native.frames.iter().enumerate();
    let compiled = compiled.filter(|(_, frame)| frame.module.is_none());
    // Its call is before the place where it goes on.
    let instead: Vec<(usize, Frame)> = compiled
        .filter_map(|(number, frame)| {
            let name = map.find(frame.address.checked_sub(1)?)?;
            Some((number, perf_map::frame(name)))
        })
        .collect();
    (!instead.is_empty()).then(|| Answer {
        before: usize::MAX,
        frames: Vec::new(),
        instead,
        quality: Quality::Approximate,
        note: Some("names of compiled code are from the process's own perf map".to_owned()),
    })
}

/// The kernel's mark of a file that was replaced since.
const DELETED: &str = " (deleted)";

/// Frames that an interpreter keeps in its heap: those of the captured moment only if the thread still waits in the same
/// call of the interpreter's, before they are read and after: the innermost place on its stack with so many `calls` of
/// the interpreter's one after another.
fn while_it_waits<'m>(
    memory: &'m ProcessMemory,
    capture: &Capture<'_>,
    native: &NativeStack,
    language: &str,
    interpreter: &str,
    calls: usize,
    read: impl FnOnce(&Pages<&'m ProcessMemory>) -> Option<Vec<Frame>>,
) -> Option<Answer> {
    let is_interpreter = |frame: &NativeFrame| {
        let path = frame.module.as_ref().map(|module| module.path());
        path.is_some_and(|path| path.trim_end_matches(DELETED) == interpreter.trim_end_matches(DELETED))
    };
    // A library calls single functions of the interpreter's, too: to wait without its lock, to catch errors.
    let inside = native
        .frames
        .windows(calls)
        .position(|frames| frames.iter().all(is_interpreter));
    // A thread of another kind, or one whose stack was cut before.
    let before = inside.filter(|before| *before > 0)?;
    let frame = native.frames.get(before)?;
    let call = moment::Call::into_frame(capture, frame)?;
    let moved = || {
        let late = clock::monotonic().saturating_sub(capture.at) / 1000;
        let late = match late {
            0..=9_999 => format!("{late} µs"),
            _ => format!("{} ms", late / 1000),
        };
        Some(Answer::nothing(format!(
            "the thread had moved on before its {language} frames could be read, {late} later"
        )))
    };
    if !call.lasts(memory) {
        return moved();
    }
    let Some(frames) = read(&Pages::new(memory)) else {
        return Some(Answer::nothing(format!(
            "its {language} frames could not be read"
        )));
    };
    if !call.lasts(memory) {
        return moved();
    }
    Some(Answer {
        before,
        frames,
        instead: Vec::new(),
        quality: Quality::Approximate,
        note: Some(format!(
            "{language} frames were read a moment later, while the thread waited in the same call"
        )),
    })
}

fn detect(id: ProcessId) -> Runtime {
    let files = mapped::files(Path::new("/proc"), id.pid);
    if let Some(machine) = java::Machine::detect(id, &files) {
        return Runtime::Java(Box::new(machine));
    }
    if let Some(isolate) = node::Isolate::detect(id, &files) {
        return Runtime::Node(Box::new(isolate));
    }
    if let Some(engine) = php::Engine::detect(id, &files) {
        return Runtime::Php(engine);
    }
    if let Some(machine) = ruby::Machine::detect(id, &files) {
        return Runtime::Ruby(machine);
    }
    Runtime::None {
        since: Instant::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_of_stacks_is_read_in_a_second() {
        let mut managed = Managed::new(false);
        let second = 1_000_000_000;
        let taken = |managed: &mut Managed, from: Nanos| {
            (0..10_000)
                .filter(|at| managed.budget.take(from + at * 100_000))
                .count()
        };
        assert!((600..=901).contains(&taken(&mut managed, second)));
        assert!((299..=301).contains(&taken(&mut managed, 2 * second)));
    }

    #[test]
    fn a_process_without_a_runtime_is_left_alone() {
        let id = ProcessId {
            pid: std::process::id(),
            start_ticks: 0,
        };
        assert!(matches!(detect(id), Runtime::None { .. }));
        assert!(!looks_urgent(id));
    }
}
