//! Unwind information, with the registers and the stack that it is carried out on.
#![no_main]

use connleak::callsite::native::{
    cfi::{Step, Tables},
    registers::Registers,
};
use gimli::UnwindContext;

mod input;

/// Where the tables pretend to be loaded.
const ADDRESS: u64 = 0x1000;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((capture, rest)) = input::capture(bytes) else { return };
    let Some((&split, rest)) = rest.split_first() else { return };
    let (header, eh_frame) = rest.split_at(rest.len().min(usize::from(split & 0x7f)));
    let header = (split & 0x80 != 0).then(|| (header.to_vec(), 0x800));
    let tables = Tables::new(eh_frame.to_vec(), ADDRESS, header);
    let mut registers = Registers::new(&capture);
    let mut context = UnwindContext::new();
    for _ in 0..8 {
        let address = registers.pc();
        if !matches!(tables.step(&mut context, address, &mut registers), Step::Caller { .. }) {
            break;
        }
    }
});
