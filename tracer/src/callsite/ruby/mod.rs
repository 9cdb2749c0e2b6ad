//! Ruby (CRuby 3.1): a thread's frames, read while it still waits in the call that was captured.
//!
//! The machine's threads are a ring; ours is the one on whose native stack we are. Its control frames say which code is
//! running and where. Offsets are those of one minor version, and of no other: with another one there is a note instead.
//! Functions written in C have no name here, and are left out: the native frames have them.
//!
//! Offsets: `vm_core.h`, `iseq.h` and `ractor_core.h` of <https://github.com/ruby/ruby/tree/v3_1_2>, as
//! `rbspy-ruby-structs` has compiled them; checked on Debian's 3.1.2.

#![forbid(unsafe_code)]

use super::{
    Frame, Runtime,
    mapped::{Mapped, Symbols},
    process_memory::{Memory, ProcessMemory},
};
use crate::owner::ProcessId;

const READS: u32 = 200;
/// Deepest stack that is read.
const MAX_FRAMES: usize = 512;
/// Threads that are looked through.
const MAX_THREADS: usize = 1024;
/// Longest name or path.
const MAX_TEXT: u64 = 1024;

/// The only version whose offsets are here.
const VERSION: &[u8] = b"3.1.";

mod vm {
    pub const MAIN_THREAD: u64 = 40;
}
mod thread {
    pub const VM: u64 = 32;
    pub const CONTEXT: u64 = 40;
}
mod context {
    pub const STACK: u64 = 0;
    pub const STACK_WORDS: u64 = 8;
    pub const FRAME: u64 = 16;
    pub const MACHINE_START: u64 = 144;
    pub const MACHINE_SIZE: u64 = 160;
}
mod frame {
    pub const INSTRUCTION: u64 = 0;
    pub const CODE: u64 = 16;
    pub const SIZE: u64 = 64;
}
mod code {
    pub const BODY: u64 = 16;
    pub const WORDS: u64 = 4;
    pub const FIRST: u64 = 8;
    pub const PATH: u64 = 64;
    pub const LABEL: u64 = 80;
    pub const LINES: u64 = 120;
}

/// One process's machine.
#[derive(Debug)]
pub struct Machine {
    /// The file that it is in.
    pub path: String,
    /// The `rb_vm_t`; `Err` has the version that is not known.
    vm: Result<u64, String>,
}

impl Machine {
    /// The machine in a process: in `libruby`, or in the program.
    #[must_use]
    pub fn detect(id: ProcessId, files: &[Mapped]) -> Option<Self> {
        let memory = ProcessMemory::new(id.pid, READS)?;
        let library = |file: &&Mapped| file.name().starts_with("libruby");
        let mut candidates = files.iter().find(library).into_iter().chain(files.first());
        candidates.find_map(|file| {
            let symbols = Symbols::of(&memory, file.base)?;
            let vm = memory.pointer(symbols.address(&memory, "ruby_current_vm_ptr")?)?;
            let version = memory.c_string(symbols.address(&memory, "ruby_version")?, 16)?;
            let path = file.path.clone();
            let vm = if version.starts_with(VERSION) {
                Ok(vm)
            } else {
                Err(String::from_utf8_lossy(&version).into_owned())
            };
            Some(Self { path, vm })
        })
    }

    /// A machine of the known version, whose `rb_vm_t` is at this address.
    #[must_use]
    pub fn at(path: String, vm: u64) -> Self {
        Self { path, vm: Ok(vm) }
    }

    /// The version, if it is one that can't be read.
    #[must_use]
    pub fn unknown_version(&self) -> Option<&str> {
        self.vm.as_ref().err().map(String::as_str)
    }

    /// The frames of the thread with this native stack pointer, innermost first.
    pub fn frames(&self, memory: &impl Memory, sp: u64) -> Option<Vec<Frame>> {
        let vm = *self.vm.as_ref().ok()?;
        let context = context(memory, vm, sp)?;
        let at = |field: u64| memory.u64(context.checked_add(field)?);
        let (stack, words) = (at(context::STACK)?, at(context::STACK_WORDS)?);
        let end = stack.checked_add(words.checked_mul(8)?)?;
        let mut frame = at(context::FRAME)?;
        let mut frames = Vec::new();
        // Frames grow downwards from the end; there is an empty one first.
        for _ in 0..MAX_FRAMES {
            if frame < stack || frame.checked_add(2 * frame::SIZE)? > end {
                break;
            }
            let code = memory.u64(frame.checked_add(frame::CODE)?)?;
            let instruction = memory.u64(frame.checked_add(frame::INSTRUCTION)?)?;
            // A function in C has neither.
            if code != 0 && instruction != 0 {
                frames.push(named(memory, code, instruction)?);
            }
            frame = frame.checked_add(frame::SIZE)?;
        }
        (!frames.is_empty()).then_some(frames)
    }
}

/// The context of the thread whose native stack has this address.
fn context(memory: &impl Memory, vm: u64, sp: u64) -> Option<u64> {
    let first = memory.pointer(vm.checked_add(vm::MAIN_THREAD)?)?;
    let mut node = first;
    for _ in 0..MAX_THREADS {
        // The ring's head is no thread.
        if memory.u64(node.checked_add(thread::VM)?)? == vm {
            let context = memory.pointer(node.checked_add(thread::CONTEXT)?)?;
            let start = memory.u64(context.checked_add(context::MACHINE_START)?)?;
            let size = memory.u64(context.checked_add(context::MACHINE_SIZE)?)?;
            if start.checked_sub(sp).is_some_and(|depth| depth < size) {
                return Some(context);
            }
        }
        node = memory.pointer(node)?;
        if node == first {
            break;
        }
    }
    None
}

fn named(memory: &impl Memory, code: u64, instruction: u64) -> Option<Frame> {
    // An internal object (0x1a), of the kind that holds code (7).
    let flags = memory.u64(code)?;
    if flags & 0x1f != 0x1a || flags >> 12 & 0xf != 7 {
        return None;
    }
    let body = memory.pointer(code.checked_add(code::BODY)?)?;
    let at = |field: u64| body.checked_add(field);
    let words = memory.u32(at(code::WORDS)?)?;
    let first = memory.u64(at(code::FIRST)?)?;
    let index = u32::try_from(instruction.checked_sub(first)? / 8).ok()?;
    if index > words {
        return None;
    }
    let path = memory.pointer(at(code::PATH)?)?;
    Some(Frame {
        runtime: Runtime::Ruby,
        function: Some(text(memory, memory.pointer(at(code::LABEL)?)?)?),
        file: path_of(memory, path),
        // The instruction counter is one ahead.
        line: line(memory, at(code::LINES)?, index.saturating_sub(1)),
        module: None,
        build_id: None,
        offset: None,
        inlined: false,
    })
}

/// A path, or a pair of it and its true form.
fn path_of(memory: &impl Memory, object: u64) -> Option<String> {
    const ARRAY: u64 = 7;
    const EMBEDDED: u64 = 1 << 13;
    let flags = memory.u64(object)?;
    if flags & 0x1f != ARRAY {
        return text(memory, object);
    }
    let items = object.checked_add(16)?;
    let first = if flags & EMBEDDED == 0 {
        memory.pointer(items.checked_add(16)?)?
    } else {
        items
    };
    text(memory, memory.pointer(first)?)
}

fn text(memory: &impl Memory, string: u64) -> Option<String> {
    const STRING: u64 = 5;
    const NOT_EMBEDDED: u64 = 1 << 13;
    let flags = memory.u64(string)?;
    if flags & 0x1f != STRING {
        return None;
    }
    let place = string.checked_add(16)?;
    let (length, bytes) = if flags & NOT_EMBEDDED == 0 {
        (flags >> 14 & 0x1f, place)
    } else {
        (memory.u64(place)?, memory.pointer(place.checked_add(8)?)?)
    };
    if length == 0 || length > MAX_TEXT {
        return None;
    }
    let text = String::from_utf8(memory.vector(bytes, usize::try_from(length).ok()?)?).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

/// The line of an instruction: a bit for each instruction with which a new entry begins, in a table that counts them.
/// <https://github.com/ruby/ruby/blob/v3_1_2/iseq.c> (`succ_index_lookup`)
fn line(memory: &impl Memory, lines: u64, index: u32) -> Option<u32> {
    const ENTRIES: u64 = 0;
    const COUNT: u64 = 16;
    const TABLE: u64 = 24;
    const ENTRY: u64 = 12;
    let count = memory.u32(lines.checked_add(COUNT)?)?;
    let entry = match count {
        0 => return None,
        1 => 0,
        _ => ordinal(memory, memory.pointer(lines.checked_add(TABLE)?)?, index)?.checked_sub(1)?,
    };
    if entry >= count {
        return None;
    }
    let entries = memory.pointer(lines.checked_add(ENTRIES)?)?;
    let line = memory.u32(entries.checked_add(u64::from(entry) * ENTRY)?)?;
    (line != 0 && line <= i32::MAX.unsigned_abs()).then_some(line)
}

/// How many entries have begun at this instruction.
fn ordinal(memory: &impl Memory, table: u64, index: u32) -> Option<u32> {
    /// The first instructions' are there at once, in seven bits each, nine in a word.
    const AT_ONCE: u32 = 54;
    const AT_ONCE_BYTES: u64 = 48;
    /// Then come blocks of 512: the count before, that before each word but the first in nine bits, the words.
    const BLOCK: u32 = 512;
    const BLOCK_BYTES: u64 = 16 + 64;
    let Some(index) = index.checked_sub(AT_ONCE) else {
        let word = memory.u64(table.checked_add(u64::from(index / 9) * 8)?)?;
        return u32::try_from(word >> (index % 9 * 7) & 0x7f).ok();
    };
    let block = table
        .checked_add(AT_ONCE_BYTES)?
        .checked_add(u64::from(index / BLOCK) * BLOCK_BYTES)?;
    let (word, bit) = (index % BLOCK / 64, index % 64);
    let before_block = memory.u32(block)?;
    let before_words = memory.u64(block.checked_add(8)?)?;
    let before_word = match word.checked_sub(1) {
        None => 0,
        Some(word) => u32::try_from(before_words >> (word * 9) & 0x1ff).ok()?,
    };
    let bits = memory.u64(block.checked_add(16 + u64::from(word) * 8)?)?;
    before_block
        .checked_add(before_word)?
        .checked_add((bits << (63 - bit)).count_ones())
}

#[cfg(test)]
mod tests;
