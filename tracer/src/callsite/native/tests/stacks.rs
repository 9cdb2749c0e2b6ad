//! What holds of stacks, whatever the language.

use super::*;

#[test]
fn a_deleted_program_is_read_through_its_mapping() {
    let folder = TempDir::new().expect("a folder");
    let Some(program) = build(&folder, ("program.c", C), C_COMPILER) else {
        return;
    };
    let waiting = Waiting::start(&program);
    drop(folder);
    if !nix::unistd::geteuid().is_root() {
        return skipped("a deleted file can only be opened with CAP_CHECKPOINT_RESTORE");
    }
    let frames = Symbols::default().frames(&waiting.stack());
    assert_eq!(from(&frames, "five").len(), 6 + 3, "{frames:#?}");
}

#[test]
fn names_are_looked_up_when_the_process_has_gone() {
    let folder = TempDir::new().expect("a folder");
    let Some(program) = build(&folder, ("program.c", C), C_COMPILER) else {
        return;
    };
    let stack = Waiting::start(&program).stack();
    drop(folder);
    let frames = Symbols::default().frames(&stack);
    assert_eq!(
        names(from(&frames, "five"))[..6],
        ["five", "four", "three", "two", "one", "main"]
    );
}

#[test]
fn a_stack_is_the_same_site_in_each_process_of_a_program() {
    let folder = TempDir::new().expect("a folder");
    let Some(program) = build(&folder, ("program.c", C), C_COMPILER) else {
        return;
    };
    let (first, second) = (Waiting::start(&program), Waiting::start(&program));
    assert_ne!(first.registers.sp, second.registers.sp, "addresses are random");
    assert_eq!(first.stack().id(), second.stack().id());
}

/// How far another thread's stack is.
const AWAY: u64 = 0x10_0000;

#[test]
fn a_stack_that_was_walked_before_is_recognised_and_another_is_not() {
    let folder = TempDir::new().expect("a folder");
    let Some(program) = build(&folder, ("program.c", C), C_COMPILER) else {
        return;
    };
    let waiting = Waiting::start(&program);
    let mut unwinder = Unwinder::new();
    let first = unwinder.unwind(&waiting.capture());
    assert!(Arc::ptr_eq(&first, &unwinder.unwind(&waiting.capture())));

    // The same stack elsewhere: another thread's. Words that point into it point elsewhere, too.
    let (sp, end) = (
        waiting.registers.sp,
        waiting.registers.sp + waiting.stack.len() as u64,
    );
    let mut moved = waiting.stack.clone();
    for word in moved.chunks_exact_mut(8) {
        let value = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        if (sp..end).contains(&value) {
            word.copy_from_slice(&(value + AWAY).to_le_bytes());
        }
    }
    let mut capture = Capture {
        stack: &moved,
        ..waiting.capture()
    };
    capture.registers.sp += AWAY;
    if (sp..end).contains(&capture.registers.fp) {
        capture.registers.fp += AWAY;
    }
    assert!(Arc::ptr_eq(&first, &unwinder.unwind(&capture)));

    // Without the return address of `three` it is another stack, and ends there.
    let mut other = waiting.stack.clone();
    let at = first
        .frames
        .iter()
        .find(|frame| Some(frame.offset) == offset_of(&first, "two"))
        .expect("two")
        .sp as usize;
    other[at - 8..at].fill(0);
    let capture = Capture {
        stack: &other,
        ..waiting.capture()
    };
    let cut = unwinder.unwind(&capture);
    assert!(cut.frames.len() < first.frames.len());
    assert!(!Arc::ptr_eq(&first, &cut));
}

fn offset_of(stack: &NativeStack, function: &str) -> Option<u64> {
    Symbols::default()
        .frames(stack)
        .into_iter()
        .find(|frame| frame.function.as_deref() == Some(function))
        .and_then(|frame| frame.offset)
}

#[test]
fn a_copy_that_ends_early_is_cut_and_says_so() {
    let folder = TempDir::new().expect("a folder");
    let Some(program) = build(&folder, ("program.c", C), C_COMPILER) else {
        return;
    };
    let waiting = Waiting::start(&program);
    let short = Capture {
        stack: &waiting.stack[..256],
        cut: true,
        ..waiting.capture()
    };
    let stack = Unwinder::new().unwind(&short);
    assert_eq!(stack.end, End::CopyEnded);
    assert_eq!(stack.quality(), crate::callsite::Quality::Partial);
    insta::assert_snapshot!(stack.note().expect("a note"), @"the stack is cut where the copy of the stack ends");
}

/// A program of 32 bits: it writes `ready` and waits.
const OF_32_BITS: &[u8] = &[
    // ELF header: 32 bits, little-endian, an executable for the 386, one program header behind this.
    0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 1, 0, 0, 0, 0x54, 0x80, 4, 8, 52,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0,
    // All of it is loaded to 0x8048000, to be read and executed.
    1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 4, 8, 0, 0x80, 4, 8, 128, 0, 0, 0, 128, 0, 0, 0, 5, 0, 0, 0, 0, 0x10, 0,
    0, // write(1, message, 6)
    0xb8, 4, 0, 0, 0, 0xbb, 1, 0, 0, 0, 0xb9, 0x73, 0x80, 4, 8, 0xba, 6, 0, 0, 0, 0xcd, 0x80,
    // pause(), again and again
    0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7, b'r', b'e', b'a', b'd', b'y', b'\n', 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn a_program_of_32_bits_is_called_unsupported_and_has_no_frames() {
    let folder = TempDir::new().expect("a folder");
    let program = folder.path().join("program");
    std::fs::write(&program, OF_32_BITS).expect("a program");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("executable");
    let mut child = match Command::new(&program).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: this kernel runs no 32-bit programs: {error}"
            );
            return;
        }
    };
    let mut line = String::new();
    let output = child.stdout.take().expect("piped");
    BufReader::new(output).read_line(&mut line).expect("its output");
    assert_eq!(line, "ready\n");
    let pid = child.id();
    let capture = Capture {
        at: 1,
        cookie: Cookie(1),
        role: Role::Opened,
        process: ProcessId {
            pid,
            start_ticks: owner::start_ticks(Path::new("/proc"), pid).expect("it runs"),
        },
        tid: pid,
        // Frame pointers of 64 bits would lead from here on and on.
        registers: Registers {
            ip: 0x0804_806f,
            sp: 0x1000,
            fp: 0x1010,
            lr: 0,
        },
        stack: &[0x6f, 0x80, 4, 8, 0, 0, 0, 0].repeat(32),
        cut: false,
        python: &[],
        python_cut: false,
    };
    let stack = Unwinder::new().unwind(&capture);
    child.kill().expect("it ends");
    child.wait().expect("it has ended");
    assert!(stack.frames.is_empty(), "{:?}", stack.frames);
    assert_eq!(stack.end, End::Foreign);
    let note = stack.note().unwrap_or_default();
    assert!(note.contains("not supported"), "{note}");
}
