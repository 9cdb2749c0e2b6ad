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
    native::NativeStack,
    node, php,
    process_memory::{AtCapture, Memory, ProcessMemory},
    ruby,
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
    Java(Box<java::Machine>),
    Node(Box<node::Isolate>),
    Php(php::Engine),
    Ruby(ruby::Machine),
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
            Runtime::Php(engine) => {
                while_it_waits(&memory.rest, capture, native, "PHP", &engine.path, |memory| {
                    engine.frames(memory)
                })
            }
            Runtime::Ruby(machine) => match machine.unknown_version() {
                Some(version) => Some(Answer::nothing(format!(
                    "Ruby {version} is a version that can't be read"
                ))),
                None => while_it_waits(&memory.rest, capture, native, "Ruby", &machine.path, |memory| {
                    machine.frames(memory, capture.registers.sp)
                }),
            },
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

/// Frames that an interpreter keeps in its heap: those of the captured moment only if the thread still waits in the same
/// call of the interpreter's, before they are read and after.
fn while_it_waits<M: Memory>(
    memory: &M,
    capture: &Capture<'_>,
    native: &NativeStack,
    language: &str,
    interpreter: &str,
    read: impl FnOnce(&M) -> Option<Vec<Frame>>,
) -> Option<Answer> {
    let mut frames = native.frames.iter().enumerate();
    let is_interpreter =
        |module: &str| module.trim_end_matches(" (deleted)") == interpreter.trim_end_matches(" (deleted)");
    let inside = frames.find(|(number, frame)| {
        *number > 0
            && frame
                .module
                .as_ref()
                .is_some_and(|module| is_interpreter(module.path()))
    });
    // A thread of another kind, or one whose stack was cut before.
    let (before, frame) = inside?;
    let call = moment::Call::into_frame(capture, frame)?;
    let moved = || {
        Some(Answer::nothing(format!(
            "the thread had moved on before its {language} frames could be read"
        )))
    };
    if !call.lasts(memory) {
        return moved();
    }
    let Some(frames) = read(memory) else {
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
