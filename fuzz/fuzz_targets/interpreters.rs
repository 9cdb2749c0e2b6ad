//! What is published by a process with a runtime in it, from the file's headers on.
#![no_main]

use connleak::callsite::{
    java::{layout::Layout, tables::Tables},
    mapped::Symbols,
    node::{awaits::Awaits, heap::Heap},
    process_memory::Pages,
};

mod memory;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Without a file's head nothing is looked at.
    let mut all = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0".to_vec();
    all.extend(bytes);
    let memory = Pages::new(memory::Everywhere(&all));
    let Some(symbols) = Symbols::of(&memory, 0) else { return };
    let _ = (symbols.own_name(&memory), symbols.find(&memory, "executor_globals"));
    let _ = (Heap::of(&memory, &symbols), Awaits::of(&memory, &symbols));
    if let Some(tables) = Tables::read(&memory, &symbols) {
        let _ = Layout::of(&tables, &memory);
    }
});
