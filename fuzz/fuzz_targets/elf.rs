//! A file's headers, unwind information and Go's table. Symbols are in a target of their own.
#![no_main]

use connleak::callsite::native::{Module, elf::Bytes};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(module) = Module::new("fuzz", Bytes::Memory(bytes.to_vec()), None) else { return };
    let _ = module.tables();
    let elf = module.elf();
    let _ = (elf.address_of(0x1000), elf.offset_of(elf.entry));
    if let Some(go) = module.go() {
        let _ = go.frames(elf.entry);
    }
});
