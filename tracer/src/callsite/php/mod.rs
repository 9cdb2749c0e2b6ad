//! PHP: the frames that the engine keeps in its heap, read while the thread still waits in the call that was captured.
//!
//! `executor_globals` is a symbol of every build without threads. Where it has the running frame is found by what is
//! beside it (the stack of the engine's virtual machine, which has 256 KiB), and where a function has its file by what a
//! file's name looks like and its lines being around the running one. So no table of versions is needed; what does not
//! look like it should is no frame. Tried on PHP 8.2.
//!
//! <https://github.com/php/php-src/blob/PHP-8.2/Zend/zend_compile.h>, `zend_globals.h`

#![forbid(unsafe_code)]

use super::{
    Frame, Runtime,
    mapped::{Mapped, Symbols},
    process_memory::{Memory, ProcessMemory},
};
use crate::owner::ProcessId;

const READS: u32 = 500;
/// Deepest stack that is read.
const MAX_FRAMES: usize = 256;
/// Longest name or path.
const MAX_TEXT: u64 = 1024;

// `zend_execute_data`, unchanged since 7.1.
const RUNNING_OPLINE: u64 = 0;
const RUNNING_FUNCTION: u64 = 24;
const RUNNING_BEFORE: u64 = 48;
// What internal functions and functions in PHP have in common.
const FUNCTION_NAME: u64 = 8;
const FUNCTION_CLASS: u64 = 16;
const CLASS_NAME: u64 = 8;
/// `zend_op.lineno`.
const OPLINE_LINE: u64 = 24;
/// `ZEND_VM_STACK_PAGE_SIZE`.
const PAGE: u64 = 256 << 10;

/// One process's engine.
#[derive(Debug)]
pub struct Engine {
    /// The file that it is in.
    pub path: String,
    /// Where the running frame is noted.
    running: u64,
}

impl Engine {
    /// The engine in a process: in the program, or in a web server's module.
    #[must_use]
    pub fn detect(id: ProcessId, files: &[Mapped]) -> Option<Self> {
        let memory = ProcessMemory::new(id.pid, READS)?;
        let library = |file: &&Mapped| file.name().starts_with("libphp");
        let mut candidates = files.first().into_iter().chain(files.iter().find(library));
        candidates.find_map(|file| {
            let globals = Symbols::of(&memory, file.base)?.address(&memory, "executor_globals")?;
            Some(Self::at(file.path.clone(), running(&memory, globals)?))
        })
    }

    /// An engine that notes its running frame at this address.
    #[must_use]
    pub fn at(path: String, running: u64) -> Self {
        Self { path, running }
    }

    /// The frames as they are now, innermost first; `None` when they don't look like frames.
    pub fn frames(&self, memory: &impl Memory) -> Option<Vec<Frame>> {
        let mut frames = Vec::new();
        let mut at = memory.pointer(self.running)?;
        // Those without a function count, too: they may be a ring.
        for _ in 0..MAX_FRAMES {
            if at == 0 {
                break;
            }
            // Frames that the engine puts between two calls have no function.
            if let Some(function) = memory.pointer(at.checked_add(RUNNING_FUNCTION)?) {
                frames.push(frame(memory, at, function)?);
            }
            at = memory.u64(at.checked_add(RUNNING_BEFORE)?)?;
        }
        (at == 0 && !frames.is_empty()).then_some(frames)
    }
}

/// The virtual machine's stack (top, end, current page), the page's size, the running frame: in this order.
fn running(memory: &impl Memory, globals: u64) -> Option<u64> {
    const FROM: u64 = 256;
    const TO: u64 = 1024;
    (FROM..TO).step_by(8).find_map(|offset| {
        let at = globals.checked_add(offset)?;
        let [top, end, page, size] = [0, 8, 16, 24].map(|next| memory.u64(at.checked_add(next)?));
        let (top, end, page) = (top?, end?, page?);
        let right = size? == PAGE && page != 0 && page < top && top <= end && end - page <= PAGE;
        right.then_some(at.checked_add(32)?)
    })
}

fn frame(memory: &impl Memory, at: u64, function: u64) -> Option<Frame> {
    const INTERNAL: u8 = 1;
    const USER: u8 = 2;
    let kind = memory.u8(function)?;
    let name = match memory.u64(function.checked_add(FUNCTION_NAME)?)? {
        // The code of a file outside its functions.
        0 => "{main}".to_owned(),
        name => text(memory, name)?,
    };
    let function_name = match memory.u64(function.checked_add(FUNCTION_CLASS)?)? {
        0 => name,
        class => format!(
            "{}::{name}",
            text(memory, memory.pointer(class.checked_add(CLASS_NAME)?)?)?
        ),
    };
    let (file, line) = match kind {
        INTERNAL => (None, None),
        USER => {
            let line = memory.u32(
                memory
                    .pointer(at.checked_add(RUNNING_OPLINE)?)?
                    .checked_add(OPLINE_LINE)?,
            )?;
            (Some(file(memory, function, line)?), Some(line))
        }
        _ => return None,
    };
    Some(Frame {
        runtime: Runtime::Php,
        function: Some(function_name),
        file,
        line,
        module: None,
        build_id: None,
        offset: None,
        inlined: false,
    })
}

/// A function's file: a string, and behind it the function's first and last line.
fn file(memory: &impl Memory, function: u64, line: u32) -> Option<String> {
    const FROM: u64 = 120;
    const TO: u64 = 224;
    (FROM..TO).step_by(8).find_map(|offset| {
        let at = function.checked_add(offset)?;
        let (first, last) = (memory.u32(at.checked_add(8)?)?, memory.u32(at.checked_add(12)?)?);
        if first == 0 || !(first..=last).contains(&line) {
            return None;
        }
        text(memory, memory.pointer(at)?)
    })
}

/// A `zend_string`.
fn text(memory: &impl Memory, string: u64) -> Option<String> {
    const LENGTH: u64 = 16;
    const BYTES: u64 = 24;
    let length = memory.u64(string.checked_add(LENGTH)?)?;
    if length == 0 || length > MAX_TEXT {
        return None;
    }
    let bytes = memory.vector(string.checked_add(BYTES)?, usize::try_from(length).ok()?)?;
    // Names of anonymous classes and functions go on with a NUL and a place.
    let shown = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = std::str::from_utf8(shown).ok()?;
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
