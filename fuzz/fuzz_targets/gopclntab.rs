//! Go's table of functions.
#![no_main]

use connleak::callsite::native::gopclntab::GoTable;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((inlined, table)) = bytes.split_at_checked(64) else { return };
    let Some(table) = GoTable::new(table.to_vec(), 0x40_0000, Some(inlined.to_vec())) else { return };
    for address in (0x40_0000..0x40_0400).chain(0..0x100) {
        let _ = table.frames(address);
        let _ = table.stack_size(address);
    }
});
