//! A perf map: the process writes all of it.
#![no_main]

use connleak::callsite::perf_map::{PerfMap, javascript};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut map = PerfMap::default();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    map.add(first);
    map.add(second);
    for address in (0..0x4000).step_by(0x10) {
        if let Some(name) = map.find(address) {
            let _ = javascript(name);
        }
    }
});
