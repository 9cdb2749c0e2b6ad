//! The memory of a process with a runtime in it: all of it is the process's.
#![no_main]

use connleak::callsite::{
    java::{layout::Layout, method, tables::Tables, walk},
    mapped::Symbols,
    node::{heap::Heap, positions},
    process_memory::{AtCapture, Memory, Pages},
};

mod input;

/// The fuzzer's bytes, again and again: every pointer leads somewhere.
struct Everywhere<'a>(&'a [u8]);

impl Memory for Everywhere<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        let length = self.0.len() as u64;
        for (offset, byte) in into.iter_mut().enumerate() {
            let at = address.wrapping_add(offset as u64).checked_rem(length)?;
            *byte = *self.0.get(usize::try_from(at).ok()?)?;
        }
        Some(())
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((capture, rest)) = input::capture(bytes) else { return };
    let _ = positions::position(rest, capture.registers.ip);
    let memory = AtCapture::new(&capture, Pages::new(Everywhere(rest)));
    let Some(symbols) = Symbols::of(&memory, 0) else { return };
    if let Some(heap) = Heap::of(&memory, &symbols) {
        let object = capture.registers.fp;
        let _ = heap.shared(&memory, object).and_then(|shared| heap.name(&memory, shared));
        let _ = heap.text(&memory, object);
        let _ = heap.line(&memory, object, object, capture.registers.lr);
    }
    let Some(tables) = Tables::read(&memory, &symbols) else { return };
    if let Some(layout) = Layout::of(&tables, &memory) {
        let (pc, sp, fp) = (capture.registers.ip, capture.registers.sp, capture.registers.fp);
        let _ = walk::walk(&layout, &memory, walk::Cursor { pc, sp, fp });
        let _ = method::frame(&layout.method, &memory, fp, method::At::Code(pc), layout.excluded);
    }
});
