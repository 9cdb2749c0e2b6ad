//! The threads and frames of a Ruby machine.
#![no_main]

use connleak::callsite::{process_memory::Pages, ruby::Machine};

mod memory;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((sp, rest)) = bytes.split_first_chunk() else { return };
    let memory = Pages::new(memory::Everywhere(rest));
    if let Some(frames) = Machine::at(String::new(), 8).frames(&memory, u64::from_le_bytes(*sp)) {
        assert!(!frames.is_empty() && frames.len() <= 512);
        assert!(frames.iter().all(|frame| frame.line != Some(0)));
    }
});
