//! A method's name, source file and line out of the machine's memory.
//!
//! Pointers come from a stack, so each one is doubted: the class that the constants lead to must have these constants,
//! names must be text, and the place in the code must be within the code.

#![forbid(unsafe_code)]

use super::{
    compressed::Numbers,
    layout::{Method, Source},
};
use crate::callsite::{Frame, Runtime, process_memory::Memory};

/// Longest name; Java allows 65,535 bytes.
const MAX_NAME: u16 = 1024;
/// Lines of one method that are looked through; its code has at most 65,535 bytes.
const MAX_LINES: usize = 65_536;

/// Where in a method's byte code.
#[derive(Clone, Copy, Debug)]
pub enum At {
    /// At this address.
    Code(u64),
    /// So many bytes from its beginning.
    Index(u32),
    /// Not known.
    Unknown,
}

/// A frame of this method. `None` when this is no method.
pub fn frame(layout: &Method, memory: &impl Memory, method: u64, at: At, excluded: u8) -> Option<Frame> {
    let constant = memory.pointer(method.checked_add(layout.constant)?)?;
    let constants = memory.pointer(constant.checked_add(layout.constants)?)?;
    let class = memory.pointer(constants.checked_add(layout.holder)?)?;
    if memory.u64(class.checked_add(layout.class_constants)?)? != constants {
        return None;
    }
    let length = memory.u32(constants.checked_add(layout.length)?)?;
    let text = |number: u16| {
        if number == 0 || u32::from(number) >= length {
            return None;
        }
        let entry = constants.checked_add(layout.pool_size + u64::from(number) * 8)?;
        symbol(layout, memory, memory.pointer(entry)?)
    };
    let name = text(memory.u16(constant.checked_add(layout.name)?)?)?;
    let class_name = symbol(
        layout,
        memory,
        memory.pointer(class.checked_add(layout.class_name)?)?,
    )?;
    let source = match layout.source {
        Source::Constants(at) => memory.u16(constants.checked_add(at)?)?,
        Source::Class(at) => memory.u16(class.checked_add(at)?)?,
    };
    let size = memory.u16(constant.checked_add(layout.code_size)?)?;
    let code = constant.checked_add(layout.constant_size)?;
    let index = match at {
        At::Code(address) => address
            .checked_sub(code)
            .and_then(|index| u32::try_from(index).ok()),
        At::Index(index) => Some(index),
        At::Unknown => None,
    };
    // A native method has no code.
    let index = index.filter(|index| *index < u32::from(size));
    if index.is_none() && size > 0 && matches!(at, At::Code(_)) {
        return None;
    }
    let has_lines = memory.u16(constant.checked_add(layout.flags)?)? & 1 == 1;
    let lines = code.checked_add(u64::from(size))?;
    let line = index
        .filter(|_| has_lines)
        .and_then(|index| line(memory, lines, index, excluded));
    Some(Frame {
        runtime: Runtime::Java,
        function: Some(format!("{}.{name}", class_text(&class_name))),
        file: text(source),
        line,
        module: None,
        build_id: None,
        offset: None,
        inlined: false,
    })
}

fn symbol(layout: &Method, memory: &impl Memory, symbol: u64) -> Option<String> {
    let length = memory.u16(symbol.checked_add(layout.symbol_length)?)?;
    if length == 0 || length > MAX_NAME {
        return None;
    }
    let bytes = memory.vector(symbol.checked_add(layout.symbol_body)?, usize::from(length))?;
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

/// `com/acme/Dao` as Java has it. Of classes that the machine makes at run time (lambdas), the part of the name that is
/// another one after each start is left out.
#[must_use]
pub fn class_text(internal: &str) -> String {
    let named = internal.split(['+']).next().unwrap_or(internal).replace('/', ".");
    stable(&named)
}

/// Leaves out what differs from start to start: `Dao$$Lambda$14/0x0000000800c03000` is `Dao$$Lambda`.
#[must_use]
pub fn stable(name: &str) -> String {
    let Some((before, after)) = name.split_once("$$Lambda") else {
        return name.to_owned();
    };
    // A method's name may follow.
    let method = after
        .rfind('.')
        .and_then(|dot| after.get(dot..))
        .unwrap_or_default();
    format!("{before}$$Lambda{method}")
}

/// The line of an instruction: pairs of (instruction, line), each as the distance from the one before.
/// <https://github.com/openjdk/jdk17u/blob/master/src/hotspot/share/code/compressedStream.hpp>
fn line(memory: &impl Memory, table: u64, wanted: u32, excluded: u8) -> Option<u32> {
    const ESCAPE: u8 = 0xff;
    let mut numbers = Numbers::new(memory, table, excluded);
    let (mut index, mut line) = (0_i64, 0_i64);
    let mut best = None;
    for _ in 0..MAX_LINES {
        match numbers.byte()? {
            0 => break,
            ESCAPE => {
                index += i64::from(numbers.signed()?);
                line += i64::from(numbers.signed()?);
            }
            byte => {
                index += i64::from(byte >> 3);
                line += i64::from(byte & 7);
            }
        }
        // Not sorted when the compiler moved code: the nearest one before counts.
        if index <= i64::from(wanted) && best.is_none_or(|(nearest, _)| index >= nearest) {
            best = Some((index, line));
        }
    }
    u32::try_from(best?.1).ok()
}
