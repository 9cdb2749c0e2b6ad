//! All Python processes that are known, and the named frames of a capture.

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
};

use connleak_ebpf::{PYTHON_ENTRY, PythonLayout};

use super::{
    super::{Capture, Frame, PythonFrame, Quality, Runtime},
    Native,
    detect::{Interpreter, Unknown, detect},
    names::Code,
    walk::{self, Thread},
};
use crate::{
    event::{Nanos, SECOND},
    owner::ProcessId,
};

/// Most processes that are remembered, Python or not. The map of the kernel programs has as many entries.
const MAX_PROCESSES: usize = 4096;
/// Most functions of one process that are remembered.
const MAX_FUNCTIONS: usize = 8192;
/// When a process that ran no Python is looked at again: it may execute another program, or load a library.
const AGAIN: Nanos = 10 * SECOND;
/// The same for one that was just starting.
const SOON: Nanos = SECOND / 5;

/// A capture's Python frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonStack {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// For each of them: it is the outermost of its call of the evaluating function.
    pub entries: Vec<bool>,
    /// `Exact` from the kernel program, `Approximate` when read later, `Partial` when frames are missing.
    pub quality: Quality,
    /// What the reader has to know.
    pub note: Option<String>,
    evaluates: Range<u64>,
    module: Range<u64>,
}

impl PythonStack {
    /// What the native frame at an address is; a caller's frame by the address of its call, not behind it.
    #[must_use]
    pub fn kind(&self, address: u64) -> Native {
        if self.evaluates.contains(&address) {
            Native::Evaluates
        } else if self.module.contains(&address) {
            Native::Interpreter
        } else {
            Native::Other
        }
    }
}

/// The processes that run Python, as far as they were met.
#[derive(Debug)]
pub struct Pythons {
    root: PathBuf,
    processes: HashMap<ProcessId, Known>,
}

#[derive(Debug)]
enum Known {
    Python(Box<Process>),
    /// None that can be walked, and when to look again.
    Not(Unknown, Nanos),
}

#[derive(Debug)]
struct Process {
    interpreter: Interpreter,
    functions: HashMap<u64, Code>,
}

impl Default for Pythons {
    fn default() -> Self {
        Self::new(Path::new("/proc"))
    }
}

impl Pythons {
    /// Looks at the processes below `root` (`/proc`).
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            processes: HashMap::new(),
        }
    }

    /// Looks whether a process runs Python, unless that is known. A layout is given once, when it was found: it has to
    /// get into the kernel programs' map `PYTHON`, under the pid.
    pub fn prepare(&mut self, process: ProcessId, now: Nanos) -> Option<PythonLayout> {
        // How a thread is found, and its registers, are x86-64's.
        if cfg!(not(target_arch = "x86_64")) {
            return None;
        }
        match self.processes.get(&process) {
            Some(Known::Python(_)) => return None,
            Some(Known::Not(_, again)) if now < *again => return None,
            _ => {}
        }
        if self.processes.len() >= MAX_PROCESSES {
            self.processes
                .retain(|_, known| matches!(known, Known::Python(_)));
            if self.processes.len() >= MAX_PROCESSES {
                return None;
            }
        }
        match detect(&self.root, process.pid) {
            Ok(interpreter) => {
                let layout = interpreter.layout.walk;
                let python = Process {
                    interpreter,
                    functions: HashMap::new(),
                };
                self.processes.insert(process, Known::Python(Box::new(python)));
                Some(layout)
            }
            Err(unknown) => {
                let again = now + if unknown == Unknown::NotYet { SOON } else { AGAIN };
                self.processes.insert(process, Known::Not(unknown, again));
                None
            }
        }
    }

    /// Forgets a process that has ended, or runs another program now. Its entry in the kernel programs' map has to go,
    /// too.
    pub fn forget(&mut self, process: ProcessId) {
        self.processes.remove(&process);
    }

    /// Why a process's Python frames can't be had, if it runs Python.
    #[must_use]
    pub fn refused(&self, process: ProcessId) -> Option<&str> {
        match self.processes.get(&process) {
            Some(Known::Not(Unknown::Refused(reason), _)) => Some(reason),
            _ => None,
        }
    }

    /// The Python frames of a capture whose process was prepared. `None` where it runs no Python, or the thread ran
    /// none. Where nothing fits any more the process is forgotten, to be prepared again.
    pub fn frames(&mut self, capture: &Capture<'_>) -> Option<PythonStack> {
        let Some(Known::Python(python)) = self.processes.get_mut(&capture.process) else {
            return None;
        };
        let mut quality = Quality::Exact;
        let mut notes = Vec::new();
        let mut cut = capture.python_cut;
        let read;
        let mut found = capture.python;
        if found.is_empty() {
            let Some(now) = python.read_now(&self.root, capture) else {
                // Another program by now, perhaps another Python.
                if python.ended() {
                    self.processes.remove(&capture.process);
                }
                return None;
            };
            (read, cut) = now;
            found = &read;
            quality = Quality::Approximate;
            notes.push("Python frames were read after the event");
        }
        let (frames, entries) = python.named(found);
        if frames.len() < found.len() {
            cut = true;
            notes.push("some Python functions were gone before their names were read");
        } else if cut {
            notes.push("there are more Python frames further out");
        }
        if frames.is_empty() {
            if !found.is_empty() {
                self.processes.remove(&capture.process);
            }
            return None;
        }
        let python = &python.interpreter;
        Some(PythonStack {
            frames,
            entries,
            quality: if cut { Quality::Partial } else { quality },
            note: (!notes.is_empty()).then(|| notes.join("; ")),
            evaluates: python.evaluates.clone(),
            module: python.module.clone(),
        })
    }
}

impl Process {
    /// Frames read from outside. `None` where the thread has none.
    fn read_now(&self, root: &Path, capture: &Capture<'_>) -> Option<(Vec<PythonFrame>, bool)> {
        let pid = capture.process.pid;
        let stack = walk::mapping(root, pid, capture.registers.sp).unwrap_or(0..0);
        let thread = self.interpreter.thread(&Thread {
            inner: walk::inner_tid(root, pid, capture.tid)?,
            first: capture.tid == pid,
            stack_pointer: capture.registers.sp,
            stack,
        })?;
        let (frames, cut) = self.interpreter.frames(thread);
        (!frames.is_empty()).then_some((frames, cut))
    }

    /// Frames with names, and which of them are entries. Those whose code object is gone are left out.
    fn named(&mut self, found: &[PythonFrame]) -> (Vec<Frame>, Vec<bool>) {
        let mut frames = Vec::with_capacity(found.len());
        let mut entries: Vec<bool> = Vec::with_capacity(found.len());
        for frame in found {
            let entry = frame.instruction & PYTHON_ENTRY != 0;
            if let Some(named) = self.name(frame.code, frame.instruction & !PYTHON_ENTRY) {
                frames.push(named);
                entries.push(entry);
            } else if entry && let Some(last) = entries.last_mut() {
                *last = true;
            }
        }
        (frames, entries)
    }

    fn name(&mut self, address: u64, instruction: u64) -> Option<Frame> {
        let head = self.interpreter.head(address);
        let known = self.functions.get(&address);
        let fresh = match (head, known) {
            (Some(head), Some(known)) => !known.is(head),
            (Some(_), None) => true,
            // The process has ended meanwhile: what was read of it stays true.
            (None, Some(_)) if self.ended() => false,
            (None, _) => return None,
        };
        if fresh {
            let code = self.interpreter.code(head?)?;
            if self.functions.len() >= MAX_FUNCTIONS {
                self.functions.clear();
            }
            self.functions.insert(address, code);
        }
        let code = self.functions.get(&address)?;
        Some(Frame {
            runtime: Runtime::Python,
            function: Some(code.function.clone()),
            file: Some(code.file.clone()),
            line: self.interpreter.line(code, address, instruction),
            module: None,
            build_id: None,
            offset: None,
            inlined: false,
        })
    }

    /// Nothing can be read any more, not even the runtime itself.
    fn ended(&self) -> bool {
        use crate::callsite::process_memory::Memory as _;
        let runtime = self.interpreter.layout.walk.runtime;
        self.interpreter.memory.u64(runtime).is_none()
    }
}
