//! An interpreter's memory: its own table of offsets, its lists of threads and frames, its code objects. Every address
//! leads somewhere in the fuzzer's bytes, so that lists become rings.
#![no_main]

use connleak::callsite::{
    process_memory::Memory,
    python::{
        detect::Interpreter,
        offsets::{self, Version},
        walk::Thread,
    },
};

struct Ring<'a>(&'a [u8]);

impl Memory for Ring<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        // One address in 256 leads nowhere.
        if address & 0xff == 0xff || self.0.is_empty() {
            return None;
        }
        for (at, byte) in into.iter_mut().enumerate() {
            let place = address.wrapping_add(at as u64) % self.0.len() as u64;
            *byte = self.0[usize::try_from(place).ok()?];
        }
        Some(())
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&[minor, types, ..], rest)) = bytes.split_first_chunk::<4>() else { return };
    let version = Version { major: 3, minor: 8 + minor % 7 };
    let memory = Ring(rest);
    let hex = memory.u32(8).unwrap_or(0);
    let layout = offsets::fixed(version).or_else(|| offsets::told(&memory, 0, version, hex).ok());
    let Some(layout) = layout else { return };
    let kind = u64::from(types);
    let interpreter = Interpreter {
        memory,
        version,
        layout,
        code_type: kind,
        text_type: kind,
        bytes_type: kind,
        evaluates: 0..0,
        module: 0..0,
    };
    let thread = Thread { inner: 0, first: minor & 128 != 0, stack_pointer: 0, stack: 0..u64::MAX };
    let found = interpreter.thread(&thread).unwrap_or(16);
    let (frames, _) = interpreter.frames(found);
    for frame in frames.iter().take(4) {
        if let Some(code) = interpreter.head(frame.code).and_then(|head| interpreter.code(head)) {
            assert_ne!(interpreter.line(&code, frame.code, frame.instruction), Some(0));
        }
    }
});
