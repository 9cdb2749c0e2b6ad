//! Reads a thread's Python frames from outside, a moment after the event: what is left where the kernel program could
//! not walk, because the process had not been met before.

use std::{fs, ops::Range, path::Path};

use connleak_ebpf::{ABSENT, PYTHON_ENTRY, PYTHON_FRAMES, PythonLayout};

use super::{detect::Interpreter, memory::word_at};
use crate::callsite::{PythonFrame, process_memory::Memory};

/// Most threads that are looked at.
const MAX_THREADS: usize = 4096;

impl<M: Memory> Interpreter<M> {
    /// The frames of the thread at `thread` (a `PyThreadState`), innermost first, and whether they are not all. The
    /// same as `kernel/python.rs` does.
    pub fn frames(&self, thread: u64) -> (Vec<PythonFrame>, bool) {
        let walk = &self.layout.walk;
        let mut frames: Vec<PythonFrame> = Vec::new();
        let mut next = self.word(thread, walk.thread_frame);
        if walk.cframe_frame != ABSENT {
            next = next.and_then(|cframe| self.word(cframe, walk.cframe_frame));
        }
        for _ in 0..2 * PYTHON_FRAMES {
            let Some(address) = next else {
                return (frames, true);
            };
            if address == 0 {
                return (frames, false);
            }
            if frames.len() == PYTHON_FRAMES {
                break;
            }
            let Some(bytes) = self.memory.vector(address, walk.frame_size as usize) else {
                return (frames, true);
            };
            let (frame, shim) = read(walk, &bytes);
            if !shim {
                frames.push(frame);
            } else if let Some(last) = frames.last_mut() {
                last.instruction |= PYTHON_ENTRY;
            }
            next = word_at(&bytes, walk.frame_previous as usize);
        }
        (frames, true)
    }

    /// The `PyThreadState` of a thread. Before 3.11 none tells which thread of the system it is; but a thread's stack
    /// lies right below its `pthread_self()`, in one mapping, except the first one's.
    pub fn thread(&self, tid: &Thread) -> Option<u64> {
        let walk = &self.layout.walk;
        let mut interpreter = self.word(walk.runtime, walk.interpreters_head)?;
        let mut thread = self.word(interpreter, walk.interpreter_threads)?;
        let mut nearest: Option<(u64, u64)> = None;
        let mut last = None;
        for _ in 0..MAX_THREADS {
            if thread == 0 {
                interpreter = self.word(interpreter, walk.interpreter_next)?;
                if interpreter == 0 {
                    break;
                }
                thread = self.word(interpreter, walk.interpreter_threads)?;
                continue;
            }
            let id = self.word(thread, walk.thread_id)?;
            match self.layout.native_thread_id {
                Some(offset) => {
                    if self.word(thread, offset)? == u64::from(tid.inner) {
                        return Some(thread);
                    }
                }
                None if tid.first => last = Some(thread),
                None => {
                    let close = tid.stack.contains(&id) && id > tid.stack_pointer;
                    if close && nearest.is_none_or(|(nearest, _)| id < nearest) {
                        nearest = Some((id, thread));
                    }
                }
            }
            thread = self.word(thread, walk.thread_next)?;
        }
        // The list begins with the newest.
        nearest.map(|(_, thread)| thread).or(last)
    }

    fn word(&self, base: u64, offset: u32) -> Option<u64> {
        self.memory.u64(base.checked_add(u64::from(offset))?)
    }
}

/// A thread, in the words by which interpreters know them.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its id in its own pid namespace.
    pub inner: u32,
    /// It is the process's first.
    pub first: bool,
    /// Where its stack is.
    pub stack_pointer: u64,
    /// The mapping that the stack pointer is in.
    pub stack: Range<u64>,
}

/// The last number of `NSpid:` in `/proc/PID/task/TID/status`: the thread's id where the process itself lives.
#[must_use]
pub fn inner_tid(root: &Path, pid: u32, tid: u32) -> Option<u32> {
    let path = root.join(format!("{pid}/task/{tid}/status"));
    let status = fs::read_to_string(path).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().next_back()?.parse().ok()
}

/// The mapping of a process that has this address.
#[must_use]
pub fn mapping(root: &Path, pid: u32, address: u64) -> Option<Range<u64>> {
    let maps = fs::read_to_string(root.join(format!("{pid}/maps"))).ok()?;
    maps.lines().find_map(|line| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let range = u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?;
        range.contains(&address).then_some(range)
    })
}

fn read(walk: &PythonLayout, bytes: &[u8]) -> (PythonFrame, bool) {
    let word = |offset: u32| word_at(bytes, offset as usize).unwrap_or(0);
    let marked = bytes.get(walk.frame_mark as usize).copied().unwrap_or(0);
    let entry = walk.entry | u64::from(u32::from(marked) & walk.entry_bit) << 63;
    let frame = PythonFrame {
        code: word(walk.frame_code) & !3,
        instruction: word(walk.frame_instruction) & walk.instruction_mask | entry,
    };
    (frame, u32::from(marked) >= walk.shim_from)
}
