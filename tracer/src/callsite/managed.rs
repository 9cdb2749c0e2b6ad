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
    Capture, Frame, Quality,
    java::Machine,
    mapped,
    native::NativeStack,
    node::Isolate,
    process_memory::{AtCapture, ProcessMemory},
};
use crate::owner::ProcessId;

/// Processes that are remembered.
const MAX_PROCESSES: usize = 1024;
/// A process in which no runtime was found is looked at again after this time: it may have loaded one, or become
/// another program.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Reads of memory for one stack, each about a microsecond: 200 Java frames.
const READS: u32 = 8000;

/// What a runtime's reader says of one capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How many native frames stand before these; those behind are the runtime's own, and are replaced by these. More
    /// than there are: all stay.
    pub before: usize,
    /// The runtime's frames, innermost first; empty when there is only a note.
    pub frames: Vec<Frame>,
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
            quality: Quality::Partial,
            note: Some(note.into()),
        }
    }
}

/// The runtime in a process.
enum Runtime {
    Java(Box<Machine>),
    Node(Box<Isolate>),
    None { since: Instant },
}

/// The readers, and what they know of processes. For one thread.
pub struct Managed {
    /// Whether Java machines may be asked for thread dumps.
    thread_dumps: bool,
    processes: HashMap<ProcessId, Runtime>,
}

impl Managed {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(thread_dumps: bool) -> Self {
        Self {
            thread_dumps,
            processes: HashMap::new(),
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
            self.processes.insert(id, detect(id));
        }
        let memory = AtCapture::new(capture, ProcessMemory::new(id.pid, READS)?);
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
            Runtime::None { .. } => None,
        }
    }
}

fn detect(id: ProcessId) -> Runtime {
    let files = mapped::files(Path::new("/proc"), id.pid);
    if let Some(machine) = Machine::detect(id, &files) {
        return Runtime::Java(Box::new(machine));
    }
    if let Some(isolate) = Isolate::detect(id, &files) {
        return Runtime::Node(Box::new(isolate));
    }
    Runtime::None {
        since: Instant::now(),
    }
}
