//! JavaScript, on Node: the functions that were at work when a connection was used, without a flag at its start.
//!
//! V8 keeps frame pointers, and the function of each frame at a fixed place from there, so the copied stack has the
//! functions; their names are read from the heap right after. At `connect` there is no function of the application on
//! the stack, since Node connects from its event loop; at a write there is. A stack ends at the last `await`: who awaits is
//! read from the heap, too ([`awaits`]).

#![forbid(unsafe_code)]

pub mod awaits;
pub mod heap;
pub mod positions;

use self::{
    awaits::{Awaits, Waiting},
    heap::Heap,
};
use super::{
    Frame, Origin, Quality, Runtime,
    managed::Answer,
    mapped::{Mapped, Symbols},
    process_memory::{AtCapture, Memory, ProcessMemory},
};
use crate::owner::ProcessId;

/// Reads for the published numbers: a dozen for each of about 30.
const READS: u32 = 2000;

/// Frames, from the innermost, whose arguments are looked at for what somebody awaits: Node's own streams have seven between
/// the library and the system call.
const GIVEN: usize = 16;

/// One program with V8 in it.
#[derive(Debug)]
pub struct Isolate {
    heap: Heap,
    /// `None` where the program does not publish enough.
    awaits: Option<Awaits>,
}

impl Isolate {
    /// V8 in a process, if it is there: in the program itself, or in `libnode.so`.
    #[must_use]
    pub fn detect(id: ProcessId, files: &[Mapped]) -> Option<Self> {
        let memory = ProcessMemory::new(id.pid, READS)?;
        let library =
            |file: &&Mapped| file.name().starts_with("libnode.so") || file.name().starts_with("libv8.so");
        let candidates = files.first().into_iter().chain(files.iter().find(library));
        let mut all = candidates.filter_map(|file| Symbols::of(&memory, file.base));
        all.find_map(|symbols| {
            Some(Self {
                heap: Heap::of(&memory, &symbols)?,
                awaits: Awaits::of(&memory, &symbols),
            })
        })
    }

    /// The frames with these frame pointers, innermost first, and behind them who awaits them. Each frame pointer comes with
    /// its frame's number.
    pub fn frames<M: Memory>(
        &self,
        memory: &AtCapture<'_, M>,
        frame_pointers: impl Iterator<Item = (usize, u64)>,
    ) -> Option<Answer> {
        let frame_pointers: Vec<(usize, u64)> = frame_pointers.collect();
        // Before names are read, since it doesn't last: the server's answer ends the waiting.
        let givers = frame_pointers.iter().map(|&(_, fp)| self.givers(memory, fp));
        let givers = givers
            .take(GIVEN)
            .find(|waiting| !waiting.is_empty())
            .unwrap_or_default();
        let mut frames = Vec::new();
        let (mut before, mut unread, mut awaiting) = (None, 0, None);
        for (number, fp) in frame_pointers {
            match self.frame(memory, fp) {
                Read::Function(frame) => {
                    before.get_or_insert(number);
                    frames.push(frame);
                    self.add(memory, &self.callers(memory, fp), &mut frames, &mut awaiting);
                }
                Read::Moved => unread += 1,
                Read::Other => {}
            }
        }
        if frames.is_empty() {
            return (unread > 0).then(|| {
                Answer::nothing(format!(
                    "{unread} JavaScript frames could not be read: their functions were moved or freed meanwhile"
                ))
            });
        }
        // Where the application's own code is on the stack, that is who sent.
        if !frames
            .iter()
            .any(|frame| Origin::of(frame) == Origin::Application)
        {
            self.add(memory, &givers, &mut frames, &mut awaiting);
        }
        Some(Answer {
            before: before.unwrap_or_default(),
            instead: Vec::new(),
            quality: if unread > 0 {
                Quality::Partial
            } else {
                Quality::Approximate
            },
            note: Some(note(awaiting.as_deref(), unread)),
            frames,
        })
    }

    /// Adds functions that await; the first of all is noted.
    fn add<M: Memory>(
        &self,
        memory: &AtCapture<'_, M>,
        waiting: &[Waiting],
        frames: &mut Vec<Frame>,
        first: &mut Option<String>,
    ) {
        for one in waiting {
            let place = one.code.zip(one.place);
            if let Read::Function(frame) = self.function(memory, one.function, place) {
                first.get_or_insert_with(|| frame.function.clone().unwrap_or_default());
                frames.push(frame);
            }
        }
    }

    /// Who awaits the call that this frame is of.
    fn callers<M: Memory>(&self, memory: &AtCapture<'_, M>, fp: u64) -> Vec<Waiting> {
        let slot = |distance| slot(memory, fp, distance);
        let found = || {
            let (function, code) = (slot(self.heap.frame_function)?, slot(self.heap.frame_code)?);
            let awaits = self.awaits.as_ref()?;
            Some(awaits.of_call(&self.heap, memory, function, code, slot))
        };
        found().unwrap_or_default()
    }

    /// Who awaits what this frame's function was given.
    fn givers<M: Memory>(&self, memory: &AtCapture<'_, M>, fp: u64) -> Vec<Waiting> {
        let awaits = self.awaits.as_ref();
        awaits.map_or_else(Vec::new, |awaits| {
            awaits.of_arguments(&self.heap, memory, |distance| slot(memory, fp, distance))
        })
    }

    fn frame<M: Memory>(&self, memory: &AtCapture<'_, M>, fp: u64) -> Read {
        let heap = &self.heap;
        let slot = |distance| slot(memory, fp, distance);
        // Frames of other kinds have their kind there, which is a small number.
        let (Some(context), Some(function)) = (slot(heap.frame_context), slot(heap.frame_function)) else {
            return Read::Other;
        };
        if !heap.is_object(context) || !heap.is_object(function) {
            return Read::Other;
        }
        self.function(
            memory,
            function,
            slot(heap.frame_code).zip(slot(heap.frame_offset)),
        )
    }

    /// What is known of a function. `place`: byte code, and where in it.
    fn function<M: Memory>(
        &self,
        memory: &AtCapture<'_, M>,
        function: u64,
        place: Option<(u64, u64)>,
    ) -> Read {
        let heap = &self.heap;
        let Some(shared) = heap.shared(memory, function) else {
            return Read::Moved;
        };
        // Functions of the engine itself have no script.
        let Some(script) = heap.script(memory, shared) else {
            return Read::Other;
        };
        Read::Function(Frame {
            runtime: Runtime::JavaScript,
            function: Some(
                heap.name(memory, shared)
                    .unwrap_or_else(|| "(anonymous)".to_owned()),
            ),
            file: heap.script_name(memory, script),
            line: place.and_then(|(code, offset)| heap.line(memory, script, code, offset)),
            module: None,
            build_id: None,
            offset: None,
            inlined: false,
        })
    }
}

/// A word of the captured stack.
fn slot<M: Memory>(memory: &AtCapture<'_, M>, fp: u64, distance: i32) -> Option<u64> {
    let address = fp.checked_add_signed(i64::from(distance))?;
    let bytes = memory.on_stack(address, 8)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

/// How the frames were come by. `awaiting`: the first function that is not on the stack.
fn note(awaiting: Option<&str>, unread: usize) -> String {
    let end = awaiting.map_or_else(
        || "the stack ends at the last await or callback".to_owned(),
        |first| format!("{first} and what follows await it, and are not on the stack"),
    );
    let mut note = format!("names were read a moment later; {end}; inlined functions are missing");
    if unread > 0 {
        note.push_str("; some frames could not be read");
    }
    note
}

enum Read {
    /// A function of a script.
    Function(Frame),
    /// There was a function, but it is not there any more.
    Moved,
    /// No frame of a function.
    Other,
}
