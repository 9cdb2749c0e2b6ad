//! The frames of a PHP engine.
#![no_main]

use connleak::callsite::{php::Engine, process_memory::Pages};

mod memory;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let memory = Pages::new(memory::Everywhere(bytes));
    if let Some(frames) = Engine::at(String::new(), 8).frames(&memory) {
        assert!(!frames.is_empty() && frames.len() <= 256);
    }
});
