//! Java, on HotSpot: the frames of a thread, without a flag at the machine's start.
//!
//! [`tables`] reads what the machine publishes about its own structures, [`layout`] what a [`walk`] of the copied stack
//! needs of it, and [`method`] the names. So the process is not stopped, and the frames are those of the moment.
//!
//! Where that fails (a machine of another make or age, a stack that was cut), [`attach`] asks for a thread dump, if
//! [`target`] says that the machine survives being asked and [`budget`] that it was not asked too often; [`dump`] finds
//! the thread in it.

#![forbid(unsafe_code)]

pub mod attach;
pub mod budget;
mod compressed;
pub mod dump;
pub mod layout;
pub mod method;
pub mod tables;
pub mod target;
pub mod walk;

use std::time::{Duration, Instant};

use self::walk::Cursor;
use self::{attach::Refusal, budget::Budget, tables::Tables, target::Target};
use super::{
    Capture, Quality, Role,
    managed::Answer,
    mapped::{Mapped, Symbols},
    native::{End, NativeStack},
    process_memory::{AtCapture, Memory, ProcessMemory},
};
use crate::owner::ProcessId;

/// Reads for a machine's tables; they take about 200, a page each.
const READS: u32 = 4000;
/// A dump takes 0.7 ms; a machine that does not stop its threads in this time is not waited for.
const PATIENCE: Duration = Duration::from_millis(20);
/// The first time, the machine starts a thread that listens.
const FIRST_PATIENCE: Duration = Duration::from_millis(100);

/// One virtual machine.
#[derive(Debug)]
pub struct Machine {
    /// How its stacks are walked.
    pub layout: Option<layout::Layout>,
    dumps: Result<Target, Refusal>,
    budget: Budget,
    asked: bool,
}

impl Machine {
    /// The machine in a process, if there is one.
    #[must_use]
    pub fn detect(id: ProcessId, files: &[Mapped]) -> Option<Self> {
        let library = files.iter().find(|file| file.name() == "libjvm.so")?;
        let memory = ProcessMemory::new(id.pid, READS)?;
        let symbols = Symbols::of(&memory, library.base)?;
        let tables = Tables::read(&memory, &symbols);
        let dumps = match &tables {
            Some(tables) => Target::of(id, tables, &memory),
            None => Err("the machine is none that is known"),
        };
        Some(Self {
            layout: tables.and_then(|tables| layout::Layout::of(&tables, &memory)),
            dumps,
            budget: Budget::new(Instant::now()),
            asked: false,
        })
    }

    /// The frames of a captured thread: from its stack, or, where that fails, by a thread dump.
    pub fn frames<M: Memory>(
        &mut self,
        memory: &AtCapture<'_, M>,
        capture: &Capture<'_>,
        native: &NativeStack,
        thread_dumps: bool,
    ) -> Option<Answer> {
        let walked = self.walk(memory, capture, native);
        match walked {
            Some(answer) if !answer.frames.is_empty() => return Some(answer),
            // The machine's own threads have no Java frames.
            None => return None,
            Some(_) if !thread_dumps => return walked,
            Some(_) => {}
        }
        Some(self.dump(capture.tid, capture.role))
    }

    /// `None` when the thread was not in Java.
    fn walk<M: Memory>(
        &self,
        memory: &AtCapture<'_, M>,
        capture: &Capture<'_>,
        native: &NativeStack,
    ) -> Option<Answer> {
        let unknown = || Some(Answer::nothing("the machine is none that is known"));
        let Some(layout) = &self.layout else {
            return unknown();
        };
        let found = native
            .frames
            .iter()
            .position(|frame| walk::is_code(layout, frame.address));
        let Some((before, frame)) = found.and_then(|number| Some((number, native.frames.get(number)?)))
        else {
            // Cut before it came there.
            return (native.end != End::Root)
                .then(|| Answer::nothing("the stack ends before the Java frames"));
        };
        let at = |distance: u32| capture.registers.sp.checked_add(u64::from(distance));
        let cursor = Cursor {
            pc: frame.address,
            sp: at(frame.sp)?,
            fp: frame.fp.and_then(at).unwrap_or_default(),
        };
        let walk = walk::walk(layout, memory, cursor);
        Some(Answer {
            before,
            instead: Vec::new(),
            quality: if walk.complete {
                Quality::Exact
            } else {
                Quality::Partial
            },
            note: (!walk.complete).then(|| "some Java frames could not be read".to_owned()),
            frames: walk.frames,
        })
    }

    /// Asks for a thread's frames by a thread dump. `thread` is its number in the host's pid namespace.
    pub fn dump(&mut self, thread: u32, role: Role) -> Answer {
        match self.try_dump(thread, role) {
            Ok(answer) => answer,
            Err(refusal) => Answer::nothing(format!("no thread dump: {refusal}")),
        }
    }

    fn try_dump(&mut self, thread: u32, role: Role) -> Result<Answer, Refusal> {
        let target = self.dumps?;
        let inner = inner_thread(target.id.pid, thread).ok_or("the thread is gone")?;
        let start = Instant::now();
        if !self.budget.take(start) {
            return Err("the process was asked too often lately");
        }
        let patience = if self.asked { PATIENCE } else { FIRST_PATIENCE };
        let dump = match attach::thread_dump(&target, start + patience) {
            Ok(dump) => dump,
            Err(refusal) => {
                self.budget.failed(Instant::now());
                return Err(refusal);
            }
        };
        self.asked = true;
        self.budget.succeeded();
        let thread = dump::thread(&dump, inner).ok_or("the thread is not in it")?;
        if thread.carries_virtual {
            return Err("a virtual thread's frames are not in it");
        }
        if !dump::at_work(&thread.frames, role) {
            return Err("the thread had moved on");
        }
        Ok(Answer {
            before: usize::MAX,
            frames: thread.frames,
            instead: Vec::new(),
            quality: Quality::Approximate,
            note: Some(format!(
                "Java frames from a thread dump, within {} ms",
                start.elapsed().as_millis() + 1
            )),
        })
    }
}

/// A thread's number in its innermost pid namespace.
fn inner_thread(pid: u32, thread: u32) -> Option<u32> {
    let status = attach::status_of_thread(pid, thread)?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_ascii_whitespace().next_back()?.parse().ok()
}
