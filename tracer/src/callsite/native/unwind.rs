//! The walk up a copied stack: which code called which, and how far that can be believed.
//!
//! A frame is left by the compiler's tables, or by Go's. Where neither has the address (code that a program made for
//! itself, a libc that was built without tables) there is only the chain of frame pointers, and a function that keeps no
//! frame pointer is then left out without a trace. So each frame says how it was found, and a stack with such frames is
//! never called complete here; who knows the runtime may know better (V8 and Go keep frame pointers, HotSpot doesn't).

#![forbid(unsafe_code)]

use std::{fmt, io, sync::Arc};

use gimli::UnwindContext;

use super::{
    cfi::Step,
    known::{Key, KnownStacks},
    module::Module,
    modules::{Modules, Place},
    registers::{FRAME, Registers, Witnesses},
};
use crate::{
    callsite::{Capture, Quality, SiteId},
    fnv,
};

/// Most frames of a stack. With 64 KiB of stack there can't be many more.
const MAX_FRAMES: usize = 1_024;
/// Go's functions that nothing calls (`TOPFRAME` in its assembly).
const GO_ROOTS: &[&str] = &[
    "runtime.goexit",
    "runtime.mstart",
    "runtime.rt0_go",
    "runtime.mcall",
    "runtime.morestack",
];
/// A program's entry is this long at most; it ends in a call that doesn't return.
const MAX_ENTRY: u64 = 64;

/// How a frame was found, seen from the frame before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is where the thread is.
    Registers,
    /// By the compiler's or Go's tables: as sure as the program itself is when it throws an exception.
    Tables,
    /// By the frame pointer: callers may be missing between the two.
    FramePointer,
}

/// One frame.
#[derive(Clone, Debug)]
pub struct NativeFrame {
    /// Where the code goes on, as an address in the process.
    pub address: u64,
    /// The file that has the code. `None`: code that has no file, or none that could be read.
    pub module: Option<Arc<Module>>,
    /// The instruction in the file's own counting: the one that waits, or within the call that has not returned yet.
    /// 0 without a file.
    pub offset: u64,
    /// Bytes from the beginning of the copied stack to this frame.
    pub sp: u32,
    /// Bytes from the beginning of the copied stack to where the frame pointer points, for frames that were left by it:
    /// those of V8, whose objects are at fixed places from there.
    pub fp: Option<u32>,
    /// How it was found.
    pub found: Found,
}

/// Why a walk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// At the thread's first function.
    Root,
    /// The copy of the stack ends there.
    CopyEnded,
    /// No table has the code of the last frame, and no frame pointer leads on. Path of the file, if it has one.
    NoTables(Option<String>),
    /// What leads on is not in the copied stack: it is on another stack, or damaged.
    Lost,
    /// There are more frames than anybody reads.
    TooDeep,
    /// The process ended before its mappings could be read.
    ProcessGone,
    /// The process runs 32-bit code, or another processor's.
    Foreign,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("down to the thread's start"),
            Self::CopyEnded => f.write_str("cut where the copy of the stack ends"),
            Self::NoTables(Some(path)) => write!(f, "cut in {path}, which has no unwind information there"),
            Self::NoTables(None) => f.write_str("cut in code that has no file"),
            Self::Lost => f.write_str("cut where the stack leads out of its copy"),
            Self::Foreign => f.write_str(
                "unknown: its program is not 64-bit code of this processor, which is not supported",
            ),
            Self::TooDeep => write!(f, "cut after {MAX_FRAMES} frames"),
            Self::ProcessGone => {
                f.write_str("unknown: the process ended before its memory map could be read")
            }
        }
    }
}

/// A stack, innermost frame first. It holds no addresses of data: it is the same wherever the stack was.
#[derive(Clone, Debug)]
pub struct NativeStack {
    /// Innermost first.
    pub frames: Vec<NativeFrame>,
    /// Why there are no more.
    pub end: End,
}

impl NativeStack {
    /// Down to the thread's first function, by tables alone: nothing can be missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.end == End::Root && self.frames.iter().all(|frame| frame.found != Found::FramePointer)
    }

    /// How far it may be believed, as long as nobody knows more of the runtime.
    #[must_use]
    pub fn quality(&self) -> Quality {
        if self.is_complete() {
            Quality::Exact
        } else {
            Quality::Partial
        }
    }

    /// What the reader has to know. `None` for a complete stack.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        if self.end != End::Root {
            return Some(format!("the stack is {}", self.end));
        }
        let by_frame_pointer = self
            .frames
            .iter()
            .filter(|frame| frame.found == Found::FramePointer)
            .count();
        (by_frame_pointer > 0).then(|| {
            format!("callers may be missing: {by_frame_pointer} frames were found by frame pointers alone")
        })
    }

    /// Which: a hash over each frame's file and offset. Frames without a file count, but not where they are: that
    /// differs from process to process.
    #[must_use]
    pub fn id(&self) -> SiteId {
        let frames = self.frames.iter();
        SiteId(frames.fold(fnv::START, |id, frame| frame.identify(id)))
    }
}

impl NativeFrame {
    /// A site's hash with this frame in it: its file, and its place there.
    #[must_use]
    pub fn identify(&self, id: u64) -> u64 {
        let module = self.module.as_ref().map_or(0, |module| module.identity());
        fnv::hash(fnv::hash(id, &module.to_le_bytes()), &self.offset.to_le_bytes())
    }
}

/// Walks stacks. It is for one thread; what it gives away can be read by any.
#[derive(Debug)]
pub struct Unwinder {
    modules: Modules,
    context: Context,
    known: KnownStacks,
}

/// `gimli`'s scratch memory.
struct Context(UnwindContext<usize>);

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context")
    }
}

impl Default for Unwinder {
    fn default() -> Self {
        Self::new()
    }
}

impl Unwinder {
    /// Without any knowledge yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            modules: Modules::default(),
            context: Context(UnwindContext::new()),
            known: KnownStacks::default(),
        }
    }

    /// The stack of a capture: remembered, if the same was walked before in this process, else walked. Call it soon after
    /// the capture: a process that has gone can only be unwound if another of its stacks was before.
    pub fn unwind(&mut self, capture: &Capture<'_>) -> Arc<NativeStack> {
        let key = self
            .modules
            .reading(capture.process)
            .map(|reading| Key::new(capture, reading));
        if let Some(known) = key.and_then(|key| self.known.find(key, capture)) {
            return known;
        }
        if let Err(error) = self.modules.look(capture.process, capture.at) {
            return Arc::new(unreadable(capture, &error));
        }
        if self.modules.is_foreign(capture.process) {
            return Arc::new(NativeStack {
                frames: Vec::new(),
                end: End::Foreign,
            });
        }
        let Self { modules, context, .. } = self;
        let mut find = |address| modules.find(capture.process, address, capture.at);
        let (stack, witnesses) = walk_with(&mut context.0, capture, &mut find);
        let stack = Arc::new(stack);
        if let Some(reading) = self.modules.reading(capture.process) {
            self.known
                .add(Key::new(capture, reading), witnesses, Arc::clone(&stack));
        }
        self.modules.trim();
        stack
    }
}

#[cfg(test)]
impl Unwinder {
    /// Forgets stacks, and keeps files.
    pub(super) fn forget_stacks(&mut self) {
        self.known = KnownStacks::default();
    }
}

/// Walks a captured stack. `find` tells where an address of the process is.
///
/// Returns the stack, and what its shape rested on.
pub fn walk(capture: &Capture<'_>, mut find: impl FnMut(u64) -> Place) -> (NativeStack, Witnesses) {
    let mut context = UnwindContext::new();
    walk_with(&mut context, capture, &mut find)
}

fn walk_with(
    context: &mut UnwindContext<usize>,
    capture: &Capture<'_>,
    find: &mut dyn FnMut(u64) -> Place,
) -> (NativeStack, Witnesses) {
    let mut registers = Registers::new(capture);
    let mut frames = Vec::new();
    let mut found = Found::Registers;
    // The thread is at an instruction, a caller behind its call; behind the call may be another function already.
    let mut behind_call = 0;
    let end = loop {
        let address = registers.pc();
        let place = find(address.wrapping_sub(behind_call));
        let (module, offset) = match place {
            Place::Module(module, offset) => (Some(module), offset),
            Place::Unnamed => (None, 0),
            // By tables, 0 is what the creator of a thread left as its end.
            Place::Nowhere if address == 0 && found == Found::Tables => break End::Root,
            Place::Nowhere => break End::Lost,
        };
        if frames.len() == MAX_FRAMES {
            break End::TooDeep;
        }
        let Some(sp) = registers.distance(registers.sp()) else {
            break End::Lost;
        };
        frames.push(NativeFrame {
            address,
            module: module.clone(),
            offset,
            sp,
            fp: None,
            found,
        });
        let fp = registers.fp().and_then(|fp| registers.distance(fp));
        match leave(context, module.as_deref(), offset, &mut registers) {
            Left::Caller(how, signal) => {
                // A caller's frame is above; only the innermost function may have none of its own.
                if registers.distance(registers.sp()).is_none_or(|above| above <= sp) {
                    break if capture.cut { End::CopyEnded } else { End::Lost };
                }
                if how == Found::FramePointer
                    && let Some(frame) = frames.last_mut()
                {
                    frame.fp = fp;
                }
                found = how;
                behind_call = u64::from(!signal);
            }
            Left::Root => break End::Root,
            Left::NoTables => break End::NoTables(module.map(|module| module.path().to_owned())),
            Left::Unreadable => break if capture.cut { End::CopyEnded } else { End::Lost },
        }
    };
    (NativeStack { frames, end }, registers.into_witnesses())
}

/// Goes to the caller of the code at `offset`.
fn leave(
    context: &mut UnwindContext<usize>,
    module: Option<&Module>,
    offset: u64,
    registers: &mut Registers<'_>,
) -> Left {
    if let Some(module) = module {
        if let Some(left) = leave_go(module, offset, registers) {
            return left;
        }
        let step = module
            .tables()
            .map(|tables| tables.step(context, offset, registers));
        match step {
            Some(Step::Caller { signal }) => return Left::Caller(Found::Tables, signal),
            Some(Step::Root) => return Left::Root,
            Some(Step::Unreadable) => return Left::Unreadable,
            Some(Step::Unknown) | None => {}
        }
        let entry = module.elf().entry;
        // The ABI has a program begin with a frame pointer of 0.
        if registers.use_address(FRAME) == Some(0)
            && offset.checked_sub(entry).is_some_and(|into| into < MAX_ENTRY)
        {
            return Left::Root;
        }
    }
    match registers.follow_frame_pointer() {
        Some(()) => Left::Caller(Found::FramePointer, false),
        None => Left::NoTables,
    }
}

enum Left {
    Caller(Found, bool),
    Root,
    NoTables,
    Unreadable,
}

/// By Go's table, if the code is Go's: it has the size of each function's frame at each instruction. (On aarch64 the
/// return address is elsewhere; frame pointers do there.)
fn leave_go(module: &Module, offset: u64, registers: &mut Registers<'_>) -> Option<Left> {
    if cfg!(target_arch = "aarch64") {
        return None;
    }
    let table = module.go()?;
    let name = table.outer_function(offset)?;
    if GO_ROOTS.contains(&name.as_str()) || name.starts_with("_rt0_") {
        return Some(Left::Root);
    }
    let size = table.stack_size(offset)?;
    let sp = registers.sp();
    let caller = sp.checked_add(size).and_then(|frame| frame.checked_add(8));
    let Some(caller) = caller else {
        return Some(Left::Unreadable);
    };
    Some(match registers.return_to(caller) {
        Some(()) => {
            // A function with a frame has put the caller's frame pointer at its top.
            if size >= 8 {
                registers.restore_frame_pointer(caller - 16);
            }
            Left::Caller(Found::Tables, false)
        }
        None => Left::Unreadable,
    })
}

/// All that is known without the mappings: where the thread was.
fn unreadable(capture: &Capture<'_>, error: &io::Error) -> NativeStack {
    log::debug!(
        "no stack of process {}: its memory map can't be read: {error}",
        capture.process.pid
    );
    let frame = NativeFrame {
        address: capture.registers.ip,
        module: None,
        offset: 0,
        sp: 0,
        fp: None,
        found: Found::Registers,
    };
    NativeStack {
        frames: vec![frame],
        end: End::ProcessGone,
    }
}
