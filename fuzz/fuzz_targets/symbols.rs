//! Symbols and debug information. A panic of their reader's is expected, and caught; any other ends the fuzzer.
#![no_main]

use std::sync::Arc;

use connleak::callsite::native::{Found, Module, NativeFrame, Symbols, elf::Bytes};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(module) = Module::new("fuzz", Bytes::Memory(bytes.to_vec()), None) else { return };
    let module = Arc::new(module);
    let mut symbols = Symbols::default();
    let entry = module.elf().entry;
    for offset in [entry, entry.wrapping_add(1), entry.wrapping_add(100), 0, 0x1000] {
        let found = Found::Registers;
        let frame = NativeFrame { address: offset, module: Some(Arc::clone(&module)), offset, sp: 0, fp: None, found };
        assert!(!symbols.frame(&frame).is_empty());
    }
});
