//! Cases that a fuzzer found.

use super::*;
use crate::callsite::native::elf::Bytes;

/// Files that a fuzzer made of real ones, and that made somebody panic.
const DAMAGED: &[&[u8]] = &[
    // `blazesym` 0.2.7, `dwarf/lines.rs`: a file's index that the table of lines does not have.
    include_bytes!("../damaged/table_of_lines.elf"),
];

#[test]
fn a_damaged_file_has_frames_without_names_and_ends_nothing() {
    for bytes in DAMAGED {
        let module = Module::new("damaged", Bytes::Memory(bytes.to_vec()), None).expect("an ELF file");
        let module = Arc::new(module);
        let mut symbols = Symbols::default();
        for offset in [module.elf().entry, module.elf().entry.wrapping_add(1), 0, 1] {
            let frame = NativeFrame {
                address: offset,
                module: Some(Arc::clone(&module)),
                offset,
                sp: 0,
                fp: None,
                found: Found::Registers,
            };
            assert!(
                symbols
                    .frame(&frame)
                    .iter()
                    .all(|frame| frame.module.as_deref() == Some("damaged"))
            );
        }
    }
}
