//! Java, on HotSpot: the frames of a thread, without a flag at the machine's start.
//!
//! [`tables`] reads what the machine publishes about its own structures. [`attach`] asks it for a thread dump, if
//! [`target`] says that it survives being asked and [`budget`] that it was not asked too often; [`dump`] finds the
//! thread in it.

#![forbid(unsafe_code)]

pub mod attach;
pub mod budget;
pub mod dump;
pub mod tables;
pub mod target;

use std::time::{Duration, Instant};

use self::{attach::Refusal, budget::Budget, tables::Tables, target::Target};
use super::{
    Quality, Role,
    managed::Answer,
    mapped::{Mapped, Symbols},
    process_memory::ProcessMemory,
};
use crate::owner::ProcessId;

/// Reads for a machine's tables; they take about 200, a page each.
const READS: u32 = 4000;
/// A dump takes 0.7 ms; a machine that does not stop its threads in this time is not waited for.
const PATIENCE: Duration = Duration::from_millis(20);
/// The first time, the machine starts a thread that listens.
const FIRST_PATIENCE: Duration = Duration::from_millis(100);

/// One virtual machine.
pub struct Machine {
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
        let dumps = match Tables::read(&memory, &symbols) {
            Some(tables) => Target::of(id, &tables, &memory),
            None => Err("the machine is none that is known"),
        };
        Some(Self {
            dumps,
            budget: Budget::new(Instant::now()),
            asked: false,
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
            frames: thread.frames,
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
