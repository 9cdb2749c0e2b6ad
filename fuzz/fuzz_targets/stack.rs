//! Registers and stack bytes, on the tables of a real library.
#![no_main]

use std::{
    fs::File,
    sync::{Arc, LazyLock},
};

use connleak::callsite::native::{Module, elf::Bytes, modules::Place, unwind};

mod input;

const LIBRARY: &str = "/lib/x86_64-linux-gnu/libc.so.6";

static MODULE: LazyLock<Arc<Module>> = LazyLock::new(|| {
    let file = File::open(LIBRARY).expect("a C library");
    Arc::new(Module::new(LIBRARY, Bytes::File(file), None).expect("an ELF file"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((capture, _)) = input::capture(bytes) else { return };
    // The library is at 0, code without a file above it, and above that nothing.
    let (stack, _) = unwind::walk(&capture, |address| match address {
        0..0x20_0000 => Place::Module(Arc::clone(&MODULE), address),
        0x20_0000..0x30_0000 => Place::Unnamed,
        _ => Place::Nowhere,
    });
    let _ = (stack.id(), stack.note());
});
