//! A machine made of bytes: one interpreted frame that calls one compiled one, in which another method is inlined.

mod small;

use proptest::prelude::*;

use super::*;
use crate::callsite::{
    java::layout::{Blob, Compiled, Heap, Method, Source},
    process_memory::testing::{Noise, Pieces, words},
};

const CODE: u64 = 0x10_0000;
const SEGMENTS: u64 = 0x20_0000;
const CALL_STUB: u64 = CODE + 0x1_0040;
const STACK: u64 = 0x7000_0000;

fn layout() -> Layout {
    Layout {
        heaps: vec![Heap {
            low: CODE,
            high: CODE + 0x2_0000,
            segments: SEGMENTS,
            log2_segment: 12,
        }],
        block: 16,
        blob: Blob {
            name: 0,
            size: 8,
            frame_size: 12,
            code: Place::FromBlob(16),
        },
        compiled: Compiled {
            method: 24,
            pcs: Place::FromBlob(32),
            pcs_end: Place::FromBlob(36),
            scopes: Place::FromBlob(40),
            metadata: Place::FromBlob(44),
            deoptimised: Place::Address(48),
            original_pc: 56,
        },
        method: small::METHOD,
        call_stub_return: CALL_STUB,
        anchor: [0, 8, 16],
        excluded: 0,
    }
}

fn symbol(memory: &mut Pieces, at: u64, text: &str) {
    let length = u16::try_from(text.len()).expect("short");
    memory.put(at, [&length.to_ne_bytes(), text.as_bytes()].concat());
}

/// A method at `at`, of the class `com/acme/Dao`, with ten bytes of code; instruction 4 is on line 7.
fn method(memory: &mut Pieces, at: u64, name: &str) {
    let (constant, pool, class) = (at + 0x100, at + 0x200, at + 0x300);
    memory.put(at, words(&[constant]));
    let mut head = words(&[pool]);
    for half in [1_u16, 10, 1, 0] {
        head.extend(half.to_ne_bytes());
    }
    // The code, then the lines: instruction 0 on line 5, instruction 4 two lines on, the end.
    head.extend([0; 10]);
    head.extend([5, 4 << 3 | 2, 0]);
    head.resize(128, 0);
    memory.put(constant, head);
    let mut constants = words(&[class]);
    constants.extend(3_u32.to_ne_bytes());
    constants.extend(2_u16.to_ne_bytes());
    constants.extend([0; 2]);
    constants.extend(words(&[0, at + 0x400, at + 0x440]));
    memory.put(pool, constants);
    memory.put(class, words(&[at + 0x480, pool]));
    symbol(memory, at + 0x400, name);
    symbol(memory, at + 0x440, "Dao.java");
    symbol(memory, at + 0x480, "com/acme/Dao");
}

/// The code cache: the interpreter in the segment 0, a compiled method in the segments 4 and 5.
fn machine() -> Pieces {
    let mut memory = Pieces::default();
    let mut segments = [0xff; 64];
    (segments[0], segments[4], segments[5]) = (0, 0, 1);
    memory.put(SEGMENTS, segments);
    memory.put(0x5000, [b"Interpreter".as_slice(), &[0; 64]].concat());
    memory.put(0x6000, [b"nmethod".as_slice(), &[0; 64]].concat());
    let mut interpreter = words(&[0x5000]);
    interpreter.extend(0x800_u32.to_ne_bytes());
    interpreter.extend([0; 60]);
    memory.put(CODE + 16, interpreter);
    let mut compiled = words(&[0x6000]);
    for number in [0x1800_u32, 4, 0x100, 0] {
        compiled.extend(number.to_ne_bytes());
    }
    compiled.extend(words(&[0x9000]));
    for number in [0x80_u32, 0xa0, 0xc0, 0x140] {
        compiled.extend(number.to_ne_bytes());
    }
    compiled.extend(words(&[1, 0]));
    compiled.resize(0x80, 0);
    // The mark, then the instruction 0xf20 in the scope at 1.
    for number in [u32::MAX, 0, 0, 0, 0xf20, 1, 0, 0] {
        compiled.extend(number.to_ne_bytes());
    }
    compiled.resize(0xc0, 0);
    // At 1: `inner` (2), instruction 4 (5), called from the scope at 4; there: `outer` (1), instruction 0, by nobody.
    compiled.extend([0, 4, 2, 5, 0, 1, 1]);
    compiled.resize(0x140, 0);
    compiled.extend(words(&[0x9000, 0xa000]));
    memory.put(CODE + 0x4010, compiled);
    method(&mut memory, 0x8000, "interpreted");
    method(&mut memory, 0x9000, "outer");
    method(&mut memory, 0xa000, "inner");
    memory
}

/// A stack on which the compiled code has called the interpreter, which has called native code.
fn stack() -> (Vec<u8>, Cursor) {
    let mut stack = vec![0_u64; 64];
    // Interpreted frame, with its frame pointer at word 16.
    stack[16] = STACK + 8 * 40;
    // Behind the compiled code's beginning (0x4010 + 0x100) by what its table says.
    stack[17] = CODE + 0x4110 + 0xf20;
    stack[15] = STACK + 8 * 18;
    stack[13] = 0x8000;
    stack[8] = 0x8100 + 16 + 4;
    // The compiled frame has four words; its caller is native code.
    stack[18 + 3] = CALL_STUB;
    stack[18 + 2] = STACK + 8 * 40;
    // The entry's frame: the wrapper says that no Java code was before.
    stack[40 - 6] = STACK + 8 * 50;
    let cursor = Cursor {
        pc: CODE + 0x100,
        sp: STACK + 8,
        fp: STACK + 8 * 16,
    };
    (words(&stack), cursor)
}

fn told(walk: &Walk) -> Vec<String> {
    let tell = |frame: &Frame| {
        format!(
            "{} {}:{}{}",
            frame.function.as_deref().unwrap_or("?"),
            frame.file.as_deref().unwrap_or("?"),
            frame.line.unwrap_or(0),
            if frame.inlined { " inlined" } else { "" }
        )
    };
    walk.frames.iter().map(tell).collect()
}

#[test]
fn interpreted_compiled_and_inlined_methods_come_with_their_lines() {
    let (stack, cursor) = stack();
    let memory = AtCapture {
        sp: STACK,
        stack: &stack,
        rest: machine(),
    };
    let walk = walk(&layout(), &memory, cursor);
    assert_eq!(
        told(&walk),
        [
            "com.acme.Dao.interpreted Dao.java:7",
            "com.acme.Dao.inner Dao.java:7 inlined",
            "com.acme.Dao.outer Dao.java:5"
        ]
    );
    assert!(walk.complete);
}

#[test]
fn a_stack_that_was_cut_keeps_what_it_has_and_is_not_complete() {
    let (stack, cursor) = stack();
    let memory = AtCapture {
        sp: STACK,
        stack: &stack[..8 * 20],
        rest: machine(),
    };
    let walk = walk(&layout(), &memory, cursor);
    assert_eq!(walk.frames.len(), 3);
    assert!(!walk.complete);
}

#[test]
fn a_class_that_does_not_know_the_method_gives_it_no_name() {
    let (stack, cursor) = stack();
    let mut machine = machine();
    machine.put(0x8300, words(&[0x8480, 0x1234]));
    let memory = AtCapture {
        sp: STACK,
        stack: &stack,
        rest: machine,
    };
    let walk = walk(&layout(), &memory, cursor);
    assert_eq!(
        told(&walk).first().map(String::as_str),
        Some("com.acme.Dao.inner Dao.java:7 inlined")
    );
    assert!(!walk.complete);
}

#[test]
fn a_lambda_has_the_same_name_after_each_start() {
    assert_eq!(
        method::class_text("com/acme/Dao$$Lambda$14+0x0000000800c03000"),
        "com.acme.Dao$$Lambda"
    );
    assert_eq!(
        method::stable("Dao$$Lambda$14/0x0000000800c03000.get"),
        "Dao$$Lambda.get"
    );
    assert_eq!(method::stable("Dao.get"), "Dao.get");
}

proptest! {
    #[test]
    fn no_stack_makes_it_panic_or_run_on(bytes: Vec<u8>, pc in CODE..CODE + 0x2_0000, offset in 0_u64..600) {
        let memory = AtCapture { sp: STACK, stack: &bytes, rest: machine() };
        let _ = walk(&layout(), &memory, Cursor { pc, sp: STACK, fp: STACK + offset });
    }

    #[test]
    fn no_memory_makes_it_panic_or_run_on(
        bytes in prop::collection::vec(any::<u8>(), 1..64), stack in prop::collection::vec(0_u8..4, 64..512), pc in CODE..CODE + 0x2_0000,
    ) {
        let memory = AtCapture { sp: STACK, stack: &stack, rest: Noise(bytes) };
        let _ = walk(&layout(), &memory, Cursor { pc, sp: STACK, fp: STACK + 128 });
    }
}
