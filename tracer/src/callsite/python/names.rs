//! From a code object's address to what people call it: function, file, line.
//!
//! Code objects live as long as their functions, so they are read a moment after the frames were. Each pointer is
//! believed only where the object behind it has the type that it must have: an address that is no code object any
//! more gives no frame, rather than a made-up one.

use super::{
    detect::Interpreter,
    lines,
    memory::{half_at, word_at},
    offsets::{BYTES_SIZE, BYTES_TEXT, OBJECT_TYPE, TEXT_LENGTH, TEXT_STATE},
};
use crate::callsite::process_memory::Memory;

/// Most characters of a file's name, and of a function's: `PATH_MAX`, and more than a page is wide.
const MAX_FILE: usize = 4096;
const MAX_FUNCTION: usize = 512;
/// Most bytes of a line table. The longest in the standard library has about 20 KiB; beyond, lines are not known.
const MAX_LINES: u64 = 256 * 1024;
/// Most bytes of a code object's fixed part; 216 in 3.14.
const MAX_CODE: u32 = 1024;

/// A function, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// Its qualified name since 3.11, its name before.
    pub function: String,
    /// Its source file, as the compiler was told it.
    pub file: String,
    first_line: u32,
    /// `None` where it could not be read; one line has an empty one.
    lines: Option<Vec<u8>>,
    head: Head,
}

/// What tells a code object from another one at the same address later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    first_line: u32,
    file: u64,
    function: u64,
    lines: u64,
}

impl<M: Memory> Interpreter<M> {
    /// The identity of the code object at `address`; `None` when there is none.
    pub fn head(&self, address: u64) -> Option<Head> {
        let layout = &self.layout.code;
        let size = layout.lines.max(layout.function).max(layout.first_line) + 8;
        let bytes = self.memory.vector(address, size.min(MAX_CODE) as usize)?;
        if word_at(&bytes, OBJECT_TYPE)? != self.code_type {
            return None;
        }
        Some(Head {
            first_line: half_at(&bytes, layout.first_line as usize)?,
            file: word_at(&bytes, layout.file as usize)?,
            function: word_at(&bytes, layout.function as usize)?,
            lines: word_at(&bytes, layout.lines as usize)?,
        })
    }

    /// Reads the code object at `address`, whose head was just read.
    pub fn code(&self, head: Head) -> Option<Code> {
        Some(Code {
            function: self.text(head.function, MAX_FUNCTION)?,
            file: self.text(head.file, MAX_FILE)?,
            first_line: head.first_line,
            lines: self.byte_string(head.lines),
            head,
        })
    }

    /// A `str`, or its beginning.
    fn text(&self, address: u64, most: usize) -> Option<String> {
        let header = self.memory.vector(address, TEXT_STATE + 4)?;
        if word_at(&header, OBJECT_TYPE)? != self.text_type {
            return None;
        }
        let length = usize::try_from(word_at(&header, TEXT_LENGTH)?).ok()?.min(most);
        let state = half_at(&header, TEXT_STATE)?;
        let (kind, compact, ascii) = (state >> 2 & 7, state >> 5 & 1, state >> 6 & 1);
        if compact == 0 {
            // Made by an old interface; compilers don't.
            return None;
        }
        let offset = if ascii == 1 {
            self.layout.ascii_text
        } else {
            self.layout.wide_text
        };
        let width = match kind {
            1 | 2 | 4 => kind as usize,
            _ => return None,
        };
        let bytes = self
            .memory
            .vector(address.checked_add(u64::from(offset))?, length * width)?;
        Some(
            bytes
                .chunks_exact(width)
                .map(|unit| {
                    let mut number = [0; 4];
                    number[..width].copy_from_slice(unit);
                    char::from_u32(u32::from_le_bytes(number)).unwrap_or(char::REPLACEMENT_CHARACTER)
                })
                .collect(),
        )
    }

    /// A `bytes`, unless it is too long.
    fn byte_string(&self, address: u64) -> Option<Vec<u8>> {
        let header = self.memory.vector(address, BYTES_SIZE + 8)?;
        let length = word_at(&header, BYTES_SIZE)?;
        if word_at(&header, OBJECT_TYPE)? != self.bytes_type || length > MAX_LINES {
            return None;
        }
        self.memory
            .vector(address.checked_add(BYTES_TEXT)?, usize::try_from(length).ok()?)
    }

    /// The line of an instruction, as a frame has it, of the code object at `address`.
    pub fn line(&self, code: &Code, address: u64, instruction: u64) -> Option<u32> {
        let layout = &self.layout.code;
        let offset = match layout.instructions {
            // Before the first instruction: the frame is being made.
            Some(start) => instruction.checked_sub(address.checked_add(u64::from(start))?),
            None => u32::try_from(instruction)
                .ok()
                .filter(|index| index.cast_signed() >= 0)
                .map(|index| u64::from(index) * u64::from(layout.index_unit)),
        };
        match offset {
            None => Some(code.first_line).filter(|line| *line > 0),
            Some(offset) => lines::line(
                self.layout.lines,
                code.lines.as_deref()?,
                code.first_line,
                u32::try_from(offset).ok()?,
            ),
        }
    }
}

impl Code {
    /// Whether this is the code object whose head was read just now.
    #[must_use]
    pub fn is(&self, head: Head) -> bool {
        self.head == head
    }
}
