//! A Java machine's answer: thread names in it are anybody's.
#![no_main]

use connleak::callsite::{Role, java::dump};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for tid in [0, 1, 0x1a2b] {
        if let Some(thread) = dump::thread(&text, tid) {
            let _ = dump::at_work(&thread.frames, Role::Opened);
        }
    }
});
