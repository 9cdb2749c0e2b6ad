//! An engine made of bytes.

use proptest::prelude::*;

use super::*;
use crate::callsite::process_memory::testing::{Noise, Pieces, told, words};

const GLOBALS: u64 = 0x1000;

fn string(memory: &mut Pieces, at: u64, text: &str) {
    let mut bytes = words(&[1, 0, text.len() as u64]);
    bytes.extend(text.as_bytes());
    memory.put(at, bytes);
}

fn user_function(memory: &mut Pieces, at: u64, name: u64, class: u64, file: u64, lines: (u32, u32)) {
    let mut function = vec![0; 240];
    function[0] = 2;
    function[8..16].copy_from_slice(&name.to_ne_bytes());
    function[16..24].copy_from_slice(&class.to_ne_bytes());
    function[152..160].copy_from_slice(&file.to_ne_bytes());
    function[160..164].copy_from_slice(&lines.0.to_ne_bytes());
    function[164..168].copy_from_slice(&lines.1.to_ne_bytes());
    memory.put(at, function);
}

fn running_frame(memory: &mut Pieces, at: u64, opline: u64, function: u64, before: u64) {
    memory.put(at, words(&[opline, 0, 0, function, 0, 0, before]));
}

fn engine() -> (Pieces, Engine) {
    let mut memory = Pieces::default();
    let mut globals = vec![0_u64; 128];
    globals[57..62].copy_from_slice(&[0x2_0500, 0x5_0000, 0x2_0000, PAGE, 0x2_0200]);
    memory.put(GLOBALS, words(&globals));
    for (at, text) in [
        (0x3000, "__construct"),
        (0x3100, "PDO"),
        (0x3200, "Orders"),
        (0x3300, "/srv/app.php"),
    ] {
        string(&mut memory, at, text);
    }
    memory
        .put(0x3400, words(&[0, 0x3100]))
        .put(0x3500, words(&[0, 0x3200]));
    memory.put(0x4000, words(&[1, 0x3000, 0x3400]));
    user_function(&mut memory, 0x4100, 0x3000, 0x3500, 0x3300, (10, 14));
    user_function(&mut memory, 0x4300, 0, 0, 0x3300, (1, 40));
    for (at, line) in [(0x5000, 12), (0x5100, 30)] {
        let mut opline = vec![0; 32];
        opline[24] = line;
        memory.put(at, opline);
    }
    running_frame(&mut memory, 0x2_0200, 0, 0x4000, 0x2_0100);
    running_frame(&mut memory, 0x2_0100, 0x5000, 0x4100, 0x2_0080);
    running_frame(&mut memory, 0x2_0080, 0, 0, 0x2_0000);
    running_frame(&mut memory, 0x2_0000, 0x5100, 0x4300, 0);
    let running = running(&memory, GLOBALS).expect("the stack's page shows where");
    let path = "/usr/bin/php".to_owned();
    (memory, Engine { path, running })
}

#[test]
fn internal_functions_methods_and_the_files_own_code_are_told() {
    let (memory, engine) = engine();
    let frames = engine.frames(&memory).expect("frames");
    assert_eq!(
        told(&frames),
        [
            ("PDO::__construct", None, None),
            ("Orders::__construct", Some("/srv/app.php"), Some(12)),
            ("{main}", Some("/srv/app.php"), Some(30))
        ]
    );
}

#[test]
fn a_line_outside_its_function_makes_no_frame() {
    let (mut memory, engine) = engine();
    let mut opline = vec![0; 32];
    opline[24] = 77;
    memory.put(0x5000, opline);
    assert_eq!(engine.frames(&memory), None);
}

#[test]
fn frames_in_a_ring_are_none() {
    let (mut memory, engine) = engine();
    running_frame(&mut memory, 0x2_0000, 0x5100, 0x4300, 0x2_0200);
    assert_eq!(engine.frames(&memory), None);
}

#[test]
fn frames_without_a_function_in_a_ring_come_to_an_end() {
    let (mut memory, engine) = engine();
    // A fuzzer's find: none of them counted.
    running_frame(&mut memory, 0x2_0000, 0, 0, 0x2_0000);
    assert_eq!(engine.frames(&memory), None);
}

proptest! {
    #[test]
    fn no_memory_makes_it_panic_or_run_on(bytes in prop::collection::vec(any::<u8>(), 1..200), globals: u64) {
        let memory = Noise(bytes);
        let _ = running(&memory, globals);
        let _ = Engine { path: String::new(), running: globals }.frames(&memory);
    }
}
