//! Line tables of Python code objects.
#![no_main]

use connleak::callsite::python::lines::{LineTable, line};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((head, table)) = bytes.split_first_chunk::<8>() else { return };
    let (first, offset) = head.split_at(4);
    let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk));
    for format in [LineTable::Increments, LineTable::Ranges, LineTable::Locations] {
        let found = line(format, table, number(first), number(offset));
        assert_ne!(found, Some(0));
    }
});
