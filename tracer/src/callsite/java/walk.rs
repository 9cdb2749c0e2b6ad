//! A Java thread's frames from its copied stack, the way the machine itself walks them.
//!
//! Interpreted frames are found by their frame pointer, compiled ones by the size that their code has noted; which
//! methods were compiled into one frame is noted beside the code. Nothing of this moves with garbage collection. So the
//! frames are those of the very moment, and the process is not stopped, unlike for a thread dump.
//!
//! <https://github.com/openjdk/jdk17u/blob/master/src/hotspot/cpu/x86/frame_x86.inline.hpp>

#![forbid(unsafe_code)]

use super::{
    compressed::Numbers,
    layout::{Layout, Place},
    method,
};
use crate::callsite::{
    Frame,
    process_memory::{AtCapture, Memory},
};

/// Deepest stack that is walked.
const MAX_FRAMES: usize = 512;
/// Methods compiled into one frame.
const MAX_INLINED: usize = 32;
/// A block of the code cache is at most this many steps from its end.
const MAX_HOPS: u32 = 4096;
/// Longest name of a blob.
const MAX_NAME: usize = 64;

/// Words of an interpreted frame, from its frame pointer:
/// <https://github.com/openjdk/jdk17u/blob/master/src/hotspot/cpu/x86/frame_x86.hpp>
mod interpreted {
    pub const SENDER_SP: u64 = 8;
    pub const METHOD: u64 = 3 * 8;
    pub const BYTE_CODE: u64 = 8 * 8;
}

/// Likewise of the frame between native code and Java.
const CALL_WRAPPER: u64 = 6 * 8;

/// Where a walk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The instruction that the frame returns to.
    pub pc: u64,
    /// Its stack pointer.
    pub sp: u64,
    /// Its frame pointer.
    pub fp: u64,
}

/// What a walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// It came to the thread's first Java frame, and each frame has a name.
    pub complete: bool,
}

/// Walks from the first place in the machine's code.
pub fn walk<M: Memory>(layout: &Layout, memory: &AtCapture<'_, M>, from: Cursor) -> Walk {
    let mut walk = Walk::default();
    walk.complete = steps(layout, memory, from, &mut walk.frames).is_some();
    walk
}

/// `None` when a step can't be made, or a method has no name.
fn steps<M: Memory>(
    layout: &Layout,
    memory: &AtCapture<'_, M>,
    from: Cursor,
    frames: &mut Vec<Frame>,
) -> Option<()> {
    let mut place = from;
    let mut named = Some(());
    while frames.len() < MAX_FRAMES {
        let next = if place.pc == layout.call_stub_return {
            match before_native(layout, memory, place)? {
                Some(next) => next,
                None => return named,
            }
        } else {
            let blob = find(layout, memory, place.pc)?;
            let name = memory.c_string(memory.pointer(blob.checked_add(layout.blob.name)?)?, MAX_NAME)?;
            if name == b"Interpreter" {
                let at = |distance| stack_word(memory, place.fp.checked_sub(distance)?);
                let method = at(interpreted::METHOD)?;
                match method::frame(
                    &layout.method,
                    memory,
                    method,
                    method::At::Code(at(interpreted::BYTE_CODE)?),
                    layout.excluded,
                ) {
                    Some(frame) => frames.push(frame),
                    None => named = None,
                }
                Cursor {
                    pc: stack_word(memory, place.fp.checked_add(8)?)?,
                    sp: at(interpreted::SENDER_SP)?,
                    fp: stack_word(memory, place.fp)?,
                }
            } else {
                let is_method = name == b"nmethod" || name == b"native nmethod";
                let pc = if is_method {
                    valid(layout, memory, blob, place)?
                } else {
                    place.pc
                };
                if is_method && inlined(layout, memory, blob, pc, frames).is_none() {
                    named = None;
                }
                let words = memory.u32(blob.checked_add(layout.blob.frame_size)?)?;
                // Code without a frame calls nobody.
                let caller = place
                    .sp
                    .checked_add(u64::from(words).checked_mul(8).filter(|size| *size >= 16)?)?;
                Cursor {
                    pc: stack_word(memory, caller.checked_sub(8)?)?,
                    sp: caller,
                    fp: stack_word(memory, caller.checked_sub(16)?)?,
                }
            }
        };
        // Stacks grow downwards: a caller's frame is above.
        if next.sp <= place.sp {
            return None;
        }
        place = next;
    }
    None
}

/// A word of the copy. The stack as it is now belongs to other calls.
fn stack_word<M: Memory>(memory: &AtCapture<'_, M>, address: u64) -> Option<u64> {
    let bytes = memory.on_stack(address, 8)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

/// From the frame that native code calls Java through to the Java frame that had called the native code;
/// `Some(None)` if there was none: the thread began there.
#[expect(
    clippy::option_option,
    reason = "the walk's end and its failure are different things"
)]
fn before_native<M: Memory>(
    layout: &Layout,
    memory: &AtCapture<'_, M>,
    place: Cursor,
) -> Option<Option<Cursor>> {
    let wrapper = stack_word(memory, place.fp.checked_sub(CALL_WRAPPER)?)?;
    let [sp, pc, fp] = layout.anchor;
    let at = |offset| stack_word(memory, wrapper.checked_add(offset)?);
    let sp = at(sp)?;
    if sp == 0 {
        return Some(None);
    }
    let pc = match at(pc)? {
        0 => stack_word(memory, sp.checked_sub(8)?)?,
        pc => pc,
    };
    Some(Some(Cursor { pc, sp, fp: at(fp)? }))
}

/// The blob that an instruction is in.
fn find(layout: &Layout, memory: &impl Memory, pc: u64) -> Option<u64> {
    let heap = layout
        .heaps
        .iter()
        .find(|heap| (heap.low..heap.high).contains(&pc))?;
    let mut segment = (pc - heap.low) >> heap.log2_segment;
    let mut hops = 0;
    loop {
        match memory.u8(heap.segments.checked_add(segment)?)? {
            0 => break,
            // Free.
            0xff => return None,
            back => segment = segment.checked_sub(u64::from(back))?,
        }
        hops += 1;
        if hops > MAX_HOPS {
            return None;
        }
    }
    let block = heap.low.checked_add(segment.checked_shl(heap.log2_segment)?)?;
    let blob = block.checked_add(layout.block)?;
    let size = memory.u32(blob.checked_add(layout.blob.size)?)?;
    (pc > blob && pc - blob < u64::from(size)).then_some(blob)
}

/// Whether an address is the machine's own code.
#[must_use]
pub fn is_code(layout: &Layout, pc: u64) -> bool {
    layout
        .heaps
        .iter()
        .any(|heap| (heap.low..heap.high).contains(&pc))
}

fn locate(memory: &impl Memory, blob: u64, place: Place) -> Option<u64> {
    let distance = |at: u64| Some(u64::from(memory.u32(blob.checked_add(at)?)?));
    match place {
        Place::Address(at) => memory.pointer(blob.checked_add(at)?),
        Place::FromBlob(at) => blob.checked_add(distance(at)?),
        Place::From(base, at) => memory
            .pointer(blob.checked_add(base)?)?
            .checked_add(distance(at)?.next_multiple_of(8)),
    }
}

/// Where the frame would have returned to, had its code not become invalid meanwhile.
fn valid<M: Memory>(layout: &Layout, memory: &AtCapture<'_, M>, blob: u64, place: Cursor) -> Option<u64> {
    if locate(memory, blob, layout.compiled.deoptimised) != Some(place.pc) {
        return Some(place.pc);
    }
    let distance = memory.u32(blob.checked_add(layout.compiled.original_pc)?)?;
    stack_word(memory, place.sp.checked_add(u64::from(distance))?)
}

/// The methods of a compiled frame, the innermost first.
fn inlined(layout: &Layout, memory: &impl Memory, blob: u64, pc: u64, frames: &mut Vec<Frame>) -> Option<()> {
    let compiled = &layout.compiled;
    let outermost = memory.pointer(blob.checked_add(compiled.method)?)?;
    let Some(mut scope) = scope_at(layout, memory, blob, pc) else {
        // Native methods have no scopes, and other code may have none here: then the method is known, the line not.
        frames.push(method::frame(
            &layout.method,
            memory,
            outermost,
            method::At::Unknown,
            layout.excluded,
        )?);
        return Some(());
    };
    let scopes = locate(memory, blob, compiled.scopes)?;
    let metadata = locate(memory, blob, compiled.metadata)?;
    for _ in 0..MAX_INLINED {
        let mut numbers = Numbers::new(memory, scopes.checked_add(u64::from(scope))?, layout.excluded);
        let caller = numbers.unsigned()?;
        let number = u64::from(numbers.unsigned()?.checked_sub(1)?);
        // Kept one higher, so that the call itself, which is -1, is 0.
        let index = numbers.unsigned()?.saturating_sub(1);
        let method = memory.pointer(metadata.checked_add(number.checked_mul(8)?)?)?;
        let mut frame = method::frame(
            &layout.method,
            memory,
            method,
            method::At::Index(index),
            layout.excluded,
        )?;
        frame.inlined = caller != 0;
        frames.push(frame);
        if caller == 0 {
            // The outermost scope is the compiled method's own: if not, we have read something else.
            return (method == outermost).then_some(());
        }
        scope = caller;
    }
    None
}

/// The innermost scope at an instruction that calls return to.
fn scope_at(layout: &Layout, memory: &impl Memory, blob: u64, pc: u64) -> Option<u32> {
    const SIZE: u64 = 16;
    let compiled = &layout.compiled;
    let code = locate(memory, blob, layout.blob.code)?;
    let wanted = u32::try_from(pc.checked_sub(code)?).ok()?;
    let from = locate(memory, blob, compiled.pcs)?;
    let count = locate(memory, blob, compiled.pcs_end)?.checked_sub(from)? / SIZE;
    // Sorted; the first one is a mark with -1.
    let (mut low, mut high) = (1, count.min(1 << 20));
    while low < high {
        let middle = u64::midpoint(low, high);
        let entry: [u8; 8] = memory.bytes(from.checked_add(middle * SIZE)?)?;
        let [offset, scope] = [0, 4].map(|at| [entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        match u32::from_ne_bytes(offset).cmp(&wanted) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => {
                let scope = u32::from_ne_bytes(scope);
                return (scope != 0).then_some(scope);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
