//! A stack of HotSpot, its code cache and its methods.
#![no_main]

use connleak::callsite::{
    java::{
        layout::{Blob, Compiled, Heap, Layout, Method, Place, Source},
        method, walk,
    },
    process_memory::{AtCapture, Pages},
};

mod input;
mod memory;
#[path = "../../tracer/src/callsite/java/walk/tests/small.rs"]
mod small;

/// As JDK 17 has it, in small: blocks of code everywhere.
fn layout() -> Layout {
    Layout {
        heaps: vec![Heap { low: 0x1000, high: u64::MAX / 2, segments: 0, log2_segment: 7 }],
        block: 16,
        blob: Blob { name: 0, size: 8, frame_size: 12, code: Place::FromBlob(16) },
        compiled: Compiled {
            method: 24,
            pcs: Place::FromBlob(32),
            pcs_end: Place::FromBlob(36),
            scopes: Place::FromBlob(40),
            metadata: Place::From(44, 56),
            deoptimised: Place::Address(48),
            original_pc: 56,
        },
        method: small::METHOD,
        call_stub_return: 0x2000,
        anchor: [0, 8, 16],
        excluded: 0,
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((capture, rest)) = input::capture(bytes) else { return };
    let Some((&kind, rest)) = rest.split_first() else { return };
    let mut layout = layout();
    layout.excluded = kind & 1;
    if kind & 2 != 0 {
        layout.method.source = Source::Class(16);
    }
    let memory = AtCapture::new(&capture, Pages::new(memory::Everywhere(rest)));
    let (pc, sp, fp) = (capture.registers.ip, capture.registers.sp, capture.registers.fp);
    let _ = walk::walk(&layout, &memory, walk::Cursor { pc, sp, fp });
    let _ = method::frame(&layout.method, &memory, fp, method::At::Code(pc), layout.excluded);
});
