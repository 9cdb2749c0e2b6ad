//! V8's heap: functions, their names and lines, and who awaits them.
#![no_main]

use connleak::callsite::{
    node::{awaits::Awaits, heap::Heap, positions},
    process_memory::{AtCapture, Memory, Pages},
};

mod input;
mod memory;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((capture, rest)) = input::capture(bytes) else { return };
    let (heap, awaits) = (Heap::NODE_20, Awaits::NODE_20);
    let _ = positions::position(rest, capture.registers.ip);
    let memory = AtCapture::new(&capture, Pages::new(memory::Everywhere(rest)));
    let object = capture.registers.fp | 1;
    if let Some(shared) = heap.shared(&memory, object) {
        let _ = heap.name(&memory, shared);
        if let Some(script) = heap.script(&memory, shared) {
            let _ = heap.script_name(&memory, script);
            let _ = heap.line(&memory, script, capture.registers.ip | 1, capture.registers.lr);
        }
    }
    let _ = heap.text(&memory, object);
    let _ = heap.line(&memory, object, object, capture.registers.lr);
    // A frame in the middle of the copied stack.
    let middle = capture.registers.sp.wrapping_add(128);
    let slot = |distance: i32| {
        let bytes = memory.on_stack(middle.checked_add_signed(i64::from(distance))?, 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    };
    let code = memory.u64(middle).unwrap_or_default();
    let _ = awaits.of_call(&heap, &memory, object, code, slot);
    let _ = awaits.of_arguments(&heap, &memory, slot);
});
