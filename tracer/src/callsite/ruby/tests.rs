//! A machine made of bytes.

use proptest::prelude::*;

use super::*;
use crate::callsite::process_memory::testing::{Noise, Pieces, told, words};

const VM: u64 = 0x1000;
const SP: u64 = 0x7fff_0000;

/// A string within its object; at most 23 bytes.
fn string(memory: &mut Pieces, at: u64, text: &str) {
    let mut bytes = words(&[5 | (text.len() as u64) << 14, 0]);
    bytes.extend(text.as_bytes());
    memory.put(at, bytes);
}

fn thread(memory: &mut Pieces, at: u64, next: u64, context: u64, stack_start: u64) {
    memory.put(at, words(&[next, 0, 0, 0, VM, context]));
    let mut fields = vec![0_u64; 24];
    (fields[0], fields[1], fields[2]) = (0x8000, 32, 0x8000);
    (fields[18], fields[20]) = (stack_start, 0x10_0000);
    memory.put(context, words(&fields));
}

fn code(memory: &mut Pieces, at: u64, path: u64, label: u64, entries: &[u32], table: &[u64]) {
    let (body, lines, succ) = (at + 0x100, at + 0x300, at + 0x400);
    memory.put(at, words(&[0x1a | 7 << 12, 0, body]));
    let mut fields = vec![0_u64; 24];
    (fields[0], fields[1]) = (100 << 32, 0x6000);
    (fields[8], fields[10]) = (path, label);
    (fields[15], fields[17], fields[18]) = (lines, entries.len() as u64, succ);
    memory.put(body, words(&fields));
    let entries: Vec<u8> = entries
        .iter()
        .flat_map(|line| [line.to_ne_bytes(), [0; 4], [0; 4]].concat())
        .collect();
    memory.put(lines, entries);
    memory.put(succ, words(table));
}

fn machine() -> (Pieces, Machine) {
    let mut memory = Pieces::default();
    memory.put(VM, words(&[0, 0, 0, 0, 0, 0x2000]));
    thread(&mut memory, 0x2000, 0x3000, 0x2100, SP - 0x10);
    thread(&mut memory, 0x3000, 0x2000, 0x3100, SP + 0x1000);
    string(&mut memory, 0x4000, "find");
    string(&mut memory, 0x4100, "<main>");
    string(&mut memory, 0x4200, "/srv/app.rb");
    memory.put(0x4300, words(&[7 | 1 << 13, 0, 0x4200, 0x4200]));
    // Entries begin at the instructions 0 and 3: in seven bits each, 1, 1, 1, 2, 2 …
    let table = [1 | 1 << 7 | 1 << 14 | 2 << 21 | 2 << 28, 0, 0, 0, 0, 0];
    code(&mut memory, 0x5000, 0x4300, 0x4000, &[10, 12], &table);
    code(&mut memory, 0x5800, 0x4200, 0x4100, &[30], &[]);
    // A function in C, `find` at its fourth instruction, the file, and the empty frame at the end.
    let mut frames = Vec::new();
    for (instruction, code) in [(0, 0), (0x6000 + 4 * 8, 0x5000), (0x6000 + 8, 0x5800), (0, 0)] {
        frames.extend([instruction, 0, code, 0, 0, 0, 0, 0]);
    }
    memory.put(0x8000, words(&frames));
    let path = "/usr/lib/libruby.so".to_owned();
    (memory, Machine { path, vm: Ok(VM) })
}

#[test]
fn methods_come_with_file_and_line_and_functions_in_c_are_left_out() {
    let (memory, machine) = machine();
    let frames = machine.frames(&memory, SP).expect("frames");
    assert_eq!(
        told(&frames),
        [
            ("find", Some("/srv/app.rb"), Some(12)),
            ("<main>", Some("/srv/app.rb"), Some(30))
        ]
    );
}

#[test]
fn a_stack_of_no_known_thread_has_no_frames() {
    let (memory, machine) = machine();
    assert_eq!(machine.frames(&memory, SP + 0x2000), None);
    assert_eq!(machine.frames(&memory, 0), None);
}

#[test]
fn entries_beyond_the_first_instructions_are_counted_in_blocks() {
    let mut memory = Pieces::default();
    // 9 entries before the block, 3 in its first word; two bits up to the fourth one of the second word.
    let mut table = vec![0, 0, 0, 0, 0, 0, 9, 3, 0b111, 0b1010];
    table.resize(20, 0);
    memory.put(0, words(&table));
    assert_eq!(ordinal(&memory, 0, 54), Some(10));
    assert_eq!(ordinal(&memory, 0, 54 + 63), Some(12));
    assert_eq!(ordinal(&memory, 0, 54 + 64), Some(12));
    assert_eq!(ordinal(&memory, 0, 54 + 64 + 3), Some(14));
}

#[test]
fn another_version_is_named_and_not_read() {
    let (memory, _) = machine();
    let machine = Machine {
        path: String::new(),
        vm: Err("3.4.1".to_owned()),
    };
    assert_eq!(machine.frames(&memory, SP), None);
    assert_eq!(machine.unknown_version(), Some("3.4.1"));
}

proptest! {
    #[test]
    fn no_memory_makes_it_panic_or_run_on(bytes in prop::collection::vec(any::<u8>(), 1..200), vm: u64, sp: u64) {
        let _ = Machine { path: String::new(), vm: Ok(vm) }.frames(&Noise(bytes), sp);
    }
}
