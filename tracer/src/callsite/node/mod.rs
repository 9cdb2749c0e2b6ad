//! JavaScript, on Node: the functions that were at work when a connection was used, without a flag at its start.
//!
//! V8 keeps frame pointers, and the function of each frame at a fixed place from there, so the copied stack has the
//! functions; their names are read from the heap right after. At `connect` there is no function of the application on
//! the stack, since Node connects from its event loop; at a write there is. A stack ends at the last `await`.

#![forbid(unsafe_code)]

pub mod heap;
pub mod positions;

use self::heap::Heap;
use super::{
    Frame, Quality, Runtime,
    managed::Answer,
    mapped::{Mapped, Symbols},
    process_memory::{AtCapture, Memory, ProcessMemory},
};
use crate::owner::ProcessId;

/// Reads for the published numbers: a dozen for each of about 30.
const READS: u32 = 2000;

/// One program with V8 in it.
#[derive(Debug)]
pub struct Isolate {
    heap: Heap,
}

impl Isolate {
    /// V8 in a process, if it is there: in the program itself, or in `libnode.so`.
    #[must_use]
    pub fn detect(id: ProcessId, files: &[Mapped]) -> Option<Self> {
        let memory = ProcessMemory::new(id.pid, READS)?;
        let library =
            |file: &&Mapped| file.name().starts_with("libnode.so") || file.name().starts_with("libv8.so");
        let candidates = files.first().into_iter().chain(files.iter().find(library));
        let heap = candidates
            .filter_map(|file| Symbols::of(&memory, file.base))
            .find_map(|symbols| Heap::of(&memory, &symbols))?;
        Some(Self { heap })
    }

    /// The frames with these frame pointers, innermost first. Each comes with the number of its frame pointer.
    pub fn frames<M: Memory>(
        &self,
        memory: &AtCapture<'_, M>,
        frame_pointers: impl Iterator<Item = (usize, u64)>,
    ) -> Option<Answer> {
        let mut frames = Vec::new();
        let (mut before, mut unread) = (None, 0);
        for (number, fp) in frame_pointers {
            match self.frame(memory, fp) {
                Read::Function(frame) => {
                    before.get_or_insert(number);
                    frames.push(frame);
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
        let mut note =
            "JavaScript names were read a moment later; the stack ends at the last await or callback; \
                        functions that the compiler merged into others are missing"
                .to_owned();
        if unread > 0 {
            note.push_str("; some frames could not be read");
        }
        Some(Answer {
            before: before.unwrap_or_default(),
            frames,
            quality: if unread > 0 {
                Quality::Partial
            } else {
                Quality::Approximate
            },
            note: Some(note),
        })
    }

    fn frame<M: Memory>(&self, memory: &AtCapture<'_, M>, fp: u64) -> Read {
        let heap = &self.heap;
        let slot = |distance: i32| {
            let address = fp.checked_add_signed(i64::from(distance))?;
            let bytes = memory.on_stack(address, 8)?;
            Some(u64::from_ne_bytes(bytes.try_into().ok()?))
        };
        // Frames of other kinds have their kind there, which is a small number.
        let (Some(context), Some(function)) = (slot(heap.frame_context), slot(heap.frame_function)) else {
            return Read::Other;
        };
        if !heap.is_object(context) || !heap.is_object(function) {
            return Read::Other;
        }
        let Some(shared) = heap.shared(memory, function) else {
            return Read::Moved;
        };
        // Functions of the engine itself have no script.
        let Some(script) = heap.script(memory, shared) else {
            return Read::Other;
        };
        let line = || heap.line(memory, script, slot(heap.frame_code)?, slot(heap.frame_offset)?);
        Read::Function(Frame {
            runtime: Runtime::JavaScript,
            function: Some(
                heap.name(memory, shared)
                    .unwrap_or_else(|| "(anonymous)".to_owned()),
            ),
            file: heap.script_name(memory, script),
            line: line(),
            module: None,
            build_id: None,
            offset: None,
            inlined: false,
        })
    }
}

enum Read {
    /// A function of a script.
    Function(Frame),
    /// There was a function, but it is not there any more.
    Moved,
    /// No frame of a function.
    Other,
}
