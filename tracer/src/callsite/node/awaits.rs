//! Who waits: the async functions behind the end of a stack.
//!
//! A stack ends where its code was woken up, by a callback or behind an `await`. What an async function awaits is a promise,
//! and the promise knows who is to be woken up: so V8 finds the lines `at async …` of an error's stack, and so does this.
//! Two beginnings lead there:
//!
//! - a frame of an async function: whoever awaits its promise has called it;
//! - a library that kept a command until it could be sent (ioredis, until it is connected) is given it back from its own
//!   queue, and no function of the application's is on the stack. Who awaits the command's promise has given it.
//!
//! Fields are where the objects of V8 11.3 have them; no version publishes that. Each object on the way has to be of its
//! type, so another form leads nowhere, and there are no such functions.
//!
//! <https://github.com/v8/v8/blob/11.3.244/src/execution/isolate.cc> (`CaptureAsyncStackTrace`)

#![forbid(unsafe_code)]

use super::heap::{Heap, published};
use crate::callsite::{mapped::Symbols, process_memory::Memory};

/// Promises that are followed from one beginning: `then` makes one each, too.
const STEPS: usize = 32;
/// Arguments of a function that are looked at, and properties of each.
const ARGUMENTS: u64 = 6;
const PROPERTIES: u64 = 32;

/// Distances from an object's first byte, in bytes.
/// <https://github.com/v8/v8/blob/11.3.244/src/objects/js-promise.tq>, `promise.tq`, `js-generator.tq`, `js-objects.tq`,
/// `contexts.h`, `bytecode-array.tq`
mod field {
    pub const PROMISE_REACTIONS: u64 = 24;
    pub const REACTION_NEXT: u64 = 8;
    pub const REACTION_FULFILLED: u64 = 24;
    pub const REACTION_PROMISE: u64 = 32;
    pub const GENERATOR_FUNCTION: u64 = 24;
    /// Where it waits: a place in its byte code.
    pub const GENERATOR_PLACE: u64 = 48;
    pub const ASYNC_PROMISE: u64 = 80;
    pub const OBJECT_HEADER: u64 = 24;
    pub const CONTEXT_SLOTS: u64 = 16;
    pub const ARRAY_LENGTH: u64 = 8;
    pub const ARRAY_ITEMS: u64 = 16;
    /// Which of the frame's registers has the object of the call, as its distance from the frame pointer in words.
    pub const CODE_GENERATOR: u64 = 48;
}

/// Offsets that the program publishes, and numbers of types.
#[derive(Clone, Copy, Debug)]
pub struct Awaits {
    promise: u16,
    reaction: u16,
    async_function: u16,
    object: u16,
    properties: u16,
    first_context: u16,
    last_context: u16,
    /// The first slot of a context that is its own.
    context_slots: u64,
    function_context: u64,
    shared_data: u64,
    map_words: u64,
    object_properties: u64,
    frame_arguments: i32,
}

/// An async function that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its function object.
    pub function: u64,
    /// Its byte code, where it has some.
    pub code: Option<u64>,
    /// The place in that at which it waits.
    pub place: Option<u64>,
}

impl Awaits {
    /// As [`Heap::NODE_20`].
    pub const NODE_20: Self = Self {
        promise: 2095,
        reaction: 230,
        async_function: 2101,
        object: 1057,
        properties: 240,
        first_context: 215,
        last_context: 225,
        context_slots: 2,
        function_context: 32,
        shared_data: 8,
        map_words: 8,
        object_properties: 8,
        frame_arguments: 16,
    };

    /// Reads what a program publishes. `None` when it lacks something.
    pub fn of(memory: &impl Memory, symbols: &Symbols) -> Option<Self> {
        let number = |name: &str| published(memory, symbols, name);
        let offset = |name: &str| u64::try_from(number(name)?).ok();
        let kind = |name: &str| u16::try_from(number(name)?).ok();
        Some(Self {
            promise: kind("type_JSPromise__JS_PROMISE_TYPE")?,
            reaction: kind("type_PromiseReaction__PROMISE_REACTION_TYPE")?,
            async_function: kind("type_JSAsyncFunctionObject__JS_ASYNC_FUNCTION_OBJECT_TYPE")?,
            object: kind("type_JSObject__JS_OBJECT_TYPE")?,
            properties: kind("type_PropertyArray__PROPERTY_ARRAY_TYPE")?,
            first_context: kind("FirstContextType")?,
            last_context: kind("LastContextType")?,
            context_slots: offset("context_min_slots").filter(|slots| *slots < 16)?,
            function_context: offset("class_JSFunction__context__Context")?,
            shared_data: offset("class_SharedFunctionInfo__function_data__Object")?,
            map_words: offset("class_Map__instance_size_in_words__char")?,
            object_properties: offset("class_JSReceiver__raw_properties_or_hash__Object")?,
            frame_arguments: number("off_fp_args")?,
        })
    }

    /// Who awaits the call of an async function that a frame is of, innermost first. `code` is the frame's byte code;
    /// `slot` gives a word of the stack by its distance from the frame pointer.
    pub fn of_call(
        &self,
        heap: &Heap,
        memory: &impl Memory,
        function: u64,
        code: u64,
        slot: impl Fn(i32) -> Option<u64>,
    ) -> Vec<Waiting> {
        let call = || {
            let code = heap.is(memory, code, heap.code)?;
            let register = memory.u32(heap.at(code, field::CODE_GENERATOR)?)?.cast_signed();
            let object = slot(register.checked_mul(8).filter(|distance| *distance < 0)?)?;
            let object = heap.is(memory, object, self.async_function)?;
            let same = heap.field(memory, object, field::GENERATOR_FUNCTION)? == function;
            same.then_some(())?;
            heap.field(memory, object, field::ASYNC_PROMISE)
        };
        call().map_or_else(Vec::new, |promise| self.waiting(heap, memory, promise))
    }

    /// Who awaits a promise among a frame's arguments, or one that is a property of one of them. Empty where two of the
    /// promises are awaited: which of them is the sender's is not known.
    pub fn of_arguments(
        &self,
        heap: &Heap,
        memory: &impl Memory,
        slot: impl Fn(i32) -> Option<u64>,
    ) -> Vec<Waiting> {
        // Behind the object that the function was called on.
        let arguments = slot(ARGUMENT_COUNT).unwrap_or(0).clamp(1, ARGUMENTS + 1) - 1;
        let mut found: Vec<(u64, Vec<Waiting>)> = Vec::new();
        for number in 1..=arguments {
            let Some(distance) = i32::try_from(number * 8).ok().map(|at| self.frame_arguments + at) else {
                break;
            };
            let Some(argument) = slot(distance) else { break };
            for promise in self.promises(heap, memory, argument) {
                let waiting = self.waiting(heap, memory, promise);
                if !waiting.is_empty() && found.iter().all(|(known, _)| *known != promise) {
                    found.push((promise, waiting));
                }
            }
        }
        match found.pop() {
            Some((_, waiting)) if found.is_empty() => waiting,
            _ => Vec::new(),
        }
    }

    /// A promise, or the promises among an object's properties.
    fn promises(&self, heap: &Heap, memory: &impl Memory, object: u64) -> Vec<u64> {
        let promise = |word: u64| heap.is(memory, word, self.promise);
        match heap.kind(memory, object) {
            Some(kind) if kind == self.promise => vec![object],
            Some(kind) if kind == self.object => {
                let inside = self.inside(heap, memory, object).unwrap_or_default();
                let beside = self.beside(heap, memory, object).unwrap_or_default();
                inside.into_iter().chain(beside).filter_map(promise).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Properties in the object itself.
    fn inside(&self, heap: &Heap, memory: &impl Memory, object: u64) -> Option<Vec<u64>> {
        let map = heap.map_of(memory, object)?;
        let size = 8 * u64::from(memory.u8(heap.at(map, self.map_words)?)?);
        let from = field::OBJECT_HEADER;
        let words = (size.checked_sub(from)? / 8).min(PROPERTIES);
        (0..words)
            .map(|number| heap.field(memory, object, from + 8 * number))
            .collect()
    }

    /// Properties for which there was no room in it.
    fn beside(&self, heap: &Heap, memory: &impl Memory, object: u64) -> Option<Vec<u64>> {
        /// The rest of the number is a hash.
        const LENGTH: i64 = (1 << 10) - 1;
        let array = heap.field(memory, object, self.object_properties)?;
        let array = heap.is(memory, array, self.properties)?;
        let length = heap.small(heap.field(memory, array, field::ARRAY_LENGTH)?)? & LENGTH;
        let words = u64::try_from(length).ok()?.min(PROPERTIES);
        (0..words)
            .map(|number| heap.field(memory, array, field::ARRAY_ITEMS + 8 * number))
            .collect()
    }

    /// Who awaits a promise, and who awaits that one, and so on.
    fn waiting(&self, heap: &Heap, memory: &impl Memory, promise: u64) -> Vec<Waiting> {
        let mut found = Vec::new();
        let mut promise = Some(promise);
        for _ in 0..STEPS {
            let Some(next) = promise.and_then(|promise| self.step(heap, memory, promise)) else {
                break;
            };
            found.extend(next.0);
            promise = next.1;
        }
        found
    }

    /// One step: who is woken up by a promise, if a function is, and the promise that this one decides.
    fn step(
        &self,
        heap: &Heap,
        memory: &impl Memory,
        promise: u64,
    ) -> Option<(Option<Waiting>, Option<u64>)> {
        let promise = heap.is(memory, promise, self.promise)?;
        // A promise that is decided has its result there.
        let reaction = heap.field(memory, promise, field::PROMISE_REACTIONS)?;
        let reaction = heap.is(memory, reaction, self.reaction)?;
        // Of two that wait for it, neither is the caller: as V8 has it.
        heap.small(heap.field(memory, reaction, field::REACTION_NEXT)?)?;
        match self.awaiting(heap, memory, reaction) {
            Some((waiting, promise)) => Some((Some(waiting), promise)),
            None => Some((None, heap.field(memory, reaction, field::REACTION_PROMISE))),
        }
    }

    /// A function's byte code. Where it was compiled since, it is one of the first fields of what stands there then.
    fn code(&self, heap: &Heap, memory: &impl Memory, shared: u64) -> Option<u64> {
        const FIELDS: u64 = 6;
        let data = heap.field(memory, shared, self.shared_data)?;
        let inside = (1..FIELDS).filter_map(|number| heap.field(memory, data, 8 * number));
        std::iter::once(data)
            .chain(inside)
            .find_map(|code| heap.is(memory, code, heap.code))
    }

    /// The async function that a reaction wakes up: what does that is a function of V8's, whose context has it.
    fn awaiting(&self, heap: &Heap, memory: &impl Memory, reaction: u64) -> Option<(Waiting, Option<u64>)> {
        let handler = heap.field(memory, reaction, field::REACTION_FULFILLED)?;
        heap.shared(memory, handler)?;
        let context = heap.field(memory, handler, self.function_context)?;
        let kind = heap.kind(memory, context)?;
        (self.first_context..=self.last_context)
            .contains(&kind)
            .then_some(())?;
        let slot = field::CONTEXT_SLOTS + 8 * self.context_slots;
        let object = heap.is(memory, heap.field(memory, context, slot)?, self.async_function)?;
        let function = heap.field(memory, object, field::GENERATOR_FUNCTION)?;
        let shared = heap.shared(memory, function)?;
        let waiting = Waiting {
            function,
            code: self.code(heap, memory, shared),
            place: heap.field(memory, object, field::GENERATOR_PLACE),
        };
        Some((waiting, heap.field(memory, object, field::ASYNC_PROMISE)))
    }
}

/// From a frame pointer to the number of arguments, which counts the object that the function was called on.
/// <https://github.com/v8/v8/blob/11.3.244/src/execution/frame-constants.h> (`StandardFrameConstants::kArgCOffset`)
const ARGUMENT_COUNT: i32 = -24;

#[cfg(test)]
mod tests;
