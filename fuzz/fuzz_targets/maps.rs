//! A list of mappings: a process chooses the paths in it.
#![no_main]

use connleak::callsite::native::maps;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    assert!(maps::parse(bytes).iter().all(|mapping| mapping.start < mapping.end));
});
