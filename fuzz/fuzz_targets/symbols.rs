//! Symbols and debug information. A panic in there is expected: it must be caught, and nothing worse may happen.
#![no_main]

use std::sync::{Arc, Once};

use connleak::callsite::native::{Found, Module, NativeFrame, Symbols, elf::Bytes};

static QUIET: Once = Once::new();

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // libFuzzer's own hook ends the process at a panic, caught or not.
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
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
