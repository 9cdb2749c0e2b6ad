//! Stacks of real programs, stopped in a system call as a capture finds them.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use std::sync::Arc;

use nix::{
    sys::{ptrace, wait::waitpid},
    unistd::Pid,
};
use tempfile::TempDir;

use super::*;
use crate::{
    callsite::{Capture, Frame, Registers, Role, Runtime},
    event::Cookie,
    owner::{self, ProcessId},
};

/// `pause`, on x86-64.
const PAUSE: &str = "34 ";

/// Five functions deep, each with a frame of its own kind.
const C: &str = r#"
#include <stdio.h>
#include <unistd.h>
#include <string.h>
volatile int sink;
__attribute__((noinline)) int five(void) { puts("ready"); fflush(stdout); pause(); return sink; }
__attribute__((noinline)) int four(int n) { char room[256]; memset(room, n, sizeof room); sink = room[n]; return five() + room[3]; }
__attribute__((noinline)) int three(int n) { char room[n * 16]; memset(room, n, sizeof room); sink = room[n]; return four(n) + room[1]; }
__attribute__((noinline)) int two(int n) { __attribute__((aligned(64))) char room[64]; memset(room, n, 64); sink = room[n]; return three(n) + room[2]; }
__attribute__((noinline)) int one(int n) { return two(n) + sink; }
int main(int count, char **arguments) { (void)arguments; return one(count) + sink; }
"#;

/// A program that waits in `pause`.
struct Waiting {
    child: Child,
    thread: Pid,
    registers: Registers,
    stack: Vec<u8>,
}

impl Waiting {
    fn start(program: &Path) -> Self {
        let mut child = Command::new(program)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("its output");
        assert_eq!(line, "ready\n");
        let tasks = format!("/proc/{}/task", child.id());
        let thread = loop {
            let paused = std::fs::read_dir(&tasks)
                .expect("its threads")
                .flatten()
                .find(|task| {
                    std::fs::read_to_string(task.path().join("syscall"))
                        .is_ok_and(|call| call.starts_with(PAUSE))
                });
            match paused {
                Some(task) => {
                    break task
                        .file_name()
                        .to_string_lossy()
                        .parse()
                        .map(Pid::from_raw)
                        .expect("a number");
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        ptrace::seize(thread, ptrace::Options::empty()).expect("a child can be traced");
        ptrace::interrupt(thread).expect("it stops");
        waitpid(thread, Some(nix::sys::wait::WaitPidFlag::__WALL)).expect("it has stopped");
        let found = ptrace::getregs(thread).expect("its registers");
        let registers = Registers {
            ip: found.rip,
            sp: found.rsp,
            fp: found.rbp,
            lr: 0,
        };
        let mut stack = vec![0; 64 * 1024];
        let memory = File::open(format!("/proc/{}/mem", child.id())).expect("its memory");
        let mut length = 0;
        while length < stack.len() {
            match memory.read_at(&mut stack[length..], registers.sp + length as u64) {
                Ok(read) if read > 0 => length += read,
                _ => break,
            }
        }
        stack.truncate(length);
        Self {
            child,
            thread,
            registers,
            stack,
        }
    }

    fn capture(&self) -> Capture<'_> {
        let pid = self.child.id();
        let start_ticks = owner::start_ticks(Path::new("/proc"), pid).expect("it runs");
        Capture {
            at: 0,
            cookie: Cookie(0),
            role: Role::Opened,
            process: ProcessId { pid, start_ticks },
            tid: self.thread.as_raw().unsigned_abs(),
            registers: self.registers,
            stack: &self.stack,
            cut: false,
            python: &[],
            python_cut: false,
        }
    }

    fn stack(&self) -> Arc<NativeStack> {
        Unwinder::new().unwind(&self.capture())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.thread, None);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn skipped(reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

/// Runs a compiler. `None`, and said so, if it is not there.
fn build(folder: &TempDir, source: (&str, &str), compiler: &[&str]) -> Option<PathBuf> {
    let text = folder.path().join(source.0);
    std::fs::write(&text, source.1).expect("a file");
    let program = folder.path().join("program");
    let mut command = Command::new(compiler[0]);
    command.args(&compiler[1..]).arg("-o").arg(&program).arg(&text);
    match command.status() {
        Ok(status) => assert!(status.success(), "{command:?}"),
        Err(error) => {
            skipped(&format!("{}: {error}", compiler[0]));
            return None;
        }
    }
    Some(program)
}

/// The frames from the innermost function of the program on.
fn from<'a>(frames: &'a [Frame], innermost: &str) -> &'a [Frame] {
    let at = frames.iter().position(|frame| {
        frame
            .function
            .as_deref()
            .is_some_and(|name| name.ends_with(innermost))
    });
    &frames[at.unwrap_or_else(|| panic!("{innermost} in {frames:#?}"))..]
}

fn names(frames: &[Frame]) -> Vec<&str> {
    frames
        .iter()
        .map(|frame| frame.function.as_deref().unwrap_or("?"))
        .collect()
}

const C_COMPILER: &[&str] = &["cc", "-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls"];

#[test]
fn c_without_frame_pointers_and_debug_information_is_unwound_down_to_main() {
    let folder = TempDir::new().expect("a folder");
    let Some(program) = build(
        &folder,
        ("program.c", C),
        &[C_COMPILER, &["-Wl,--strip-debug"]].concat(),
    ) else {
        return;
    };
    let stack = Waiting::start(&program).stack();
    let frames = Symbols::default().frames(&stack);
    assert_eq!(
        names(from(&frames, "five"))[..6],
        ["five", "four", "three", "two", "one", "main"]
    );
    assert!(stack.is_complete(), "{}", stack.end);
    assert_eq!(stack.quality(), crate::callsite::Quality::Exact);
}

#[test]
fn a_program_without_any_symbols_has_its_offsets_and_no_made_up_name() {
    let folder = TempDir::new().expect("a folder");
    let Some(program) = build(
        &folder,
        ("program.c", C),
        &[C_COMPILER, &["-s", "-rdynamic"]].concat(),
    ) else {
        return;
    };
    // Exported names are left with -rdynamic: those of functions that are not static. Make none of them cover `five`.
    let stack = Waiting::start(&program).stack();
    let frames = Symbols::default().frames(&stack);
    assert_eq!(
        names(from(&frames, "five"))[..6],
        ["five", "four", "three", "two", "one", "main"]
    );

    let hidden = C.replace("__attribute__((noinline))", "__attribute__((noinline)) static");
    let Some(program) = build(
        &folder,
        ("program.c", &hidden),
        &[C_COMPILER, &["-s", "-rdynamic"]].concat(),
    ) else {
        return;
    };
    let stack = Waiting::start(&program).stack();
    let frames = Symbols::default().frames(&stack);
    let own = frames
        .iter()
        .filter(|frame| frame.module.as_deref() == program.to_str())
        .collect::<Vec<_>>();
    // Five functions and the program's entry have no name; `main` is exported.
    let named = own
        .iter()
        .filter_map(|frame| frame.function.as_deref())
        .collect::<Vec<_>>();
    assert_eq!((own.len(), named), (7, vec!["main", "_start"]), "{frames:#?}");
    assert!(
        own.iter()
            .all(|frame| frame.offset.is_some() && frame.build_id.is_some())
    );
    assert!(stack.is_complete(), "{}", stack.end);
}

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

#[test]
fn cpp_is_demangled_and_has_lines_and_inlined_functions() {
    const CPP: &str = r#"
        #include <cstdio>
        #include <unistd.h>
        namespace shop { template <typename T> struct Basket {
            __attribute__((noinline)) int leak(T more) { std::puts("ready"); std::fflush(stdout); pause(); return more; }
            __attribute__((always_inline)) int inlined(T more) { return leak(more) + 1; }
        }; }
        __attribute__((noinline)) int checkout(int n) { shop::Basket<int> basket; return basket.inlined(n) + 2; }
        int main(int count, char **) { return checkout(count) + 3; }
    "#;
    let folder = TempDir::new().expect("a folder");
    let compiler = ["c++", "-O2", "-g", "-fomit-frame-pointer"];
    let Some(program) = build(&folder, ("program.cpp", CPP), &compiler) else {
        return;
    };
    let frames = Symbols::default().frames(&Waiting::start(&program).stack());
    let own = from(&frames, "leak(int)");
    assert!(
        own[0]
            .file
            .as_deref()
            .is_some_and(|file| file.ends_with("program.cpp")),
        "{own:#?}"
    );
    let told: Vec<_> = own
        .iter()
        .take(4)
        .map(|frame| (names(std::slice::from_ref(frame))[0], frame.line, frame.inlined))
        .collect();
    assert_eq!(
        told,
        [
            ("shop::Basket<int>::leak(int)", Some(5), false),
            ("shop::Basket<int>::inlined(int)", Some(6), true),
            ("checkout(int)", Some(8), false),
            ("main", Some(9), false)
        ]
    );
}

#[test]
fn rust_is_demangled() {
    const RUST: &str = r#"
        unsafe extern "C" { fn pause() -> i32; }
        mod basket {
            #[inline(never)] pub fn leak(more: i32) -> i32 { println!("ready"); (unsafe { super::pause() }) + more }
        }
        struct Shop;
        trait Checkout { fn checkout(&self) -> i32; }
        impl Checkout for Shop { #[inline(never)] fn checkout(&self) -> i32 { basket::leak(1) + 1 } }
        fn main() { let worker = std::thread::spawn(|| Shop.checkout() + 1); worker.join().unwrap(); }
    "#;
    let folder = TempDir::new().expect("a folder");
    let compiler = ["rustc", "-O", "--edition=2024", "-Cstrip=debuginfo"];
    let Some(program) = build(&folder, ("program.rs", RUST), &compiler) else {
        return;
    };
    let stack = Waiting::start(&program).stack();
    let frames = Symbols::default().frames(&stack);
    let own = names(from(&frames, "basket::leak"));
    assert_eq!(
        own[..2],
        [
            "program::basket::leak",
            "<program::Shop as program::Checkout>::checkout"
        ]
    );
    assert!(stack.is_complete(), "{}", stack.end);
}

const GO: &str = r#"
package main
import ("os"; "syscall")
type shop struct{ left int }
//go:noinline
func (s *shop) leak(n int) int { os.Stdout.WriteString("ready\n"); syscall.Syscall(syscall.SYS_PAUSE, 0, 0, 0); return s.left + n }
func inlined(s *shop) int {
	return s.leak(1) + 1
}
//go:noinline
func checkout(s *shop) int {
	return inlined(s) + 2
}
func main() {
	done := make(chan int)
	go func() { done <- checkout(&shop{}) }()
	<-done
}
"#;

fn go(flags: &[&str]) {
    let folder = TempDir::new().expect("a folder");
    let compiler = [
        &[
            "env",
            "GO111MODULE=off",
            "GOFLAGS=",
            "CGO_ENABLED=0",
            "go",
            "build",
        ],
        flags,
    ]
    .concat();
    if Command::new("go").arg("version").output().is_err() {
        return skipped("go is not installed");
    }
    let Some(program) = build(&folder, ("program.go", GO), &compiler) else {
        return;
    };
    let stack = Waiting::start(&program).stack();
    let frames = Symbols::default().frames(&stack);
    let own = from(&frames, "leak");
    let told: Vec<_> = own
        .iter()
        .map(|frame| (names(std::slice::from_ref(frame))[0], frame.line, frame.inlined))
        .collect();
    assert_eq!(
        told,
        [
            ("main.(*shop).leak", Some(6), false),
            ("main.inlined", Some(8), true),
            ("main.checkout", Some(12), false),
            ("main.main.func1", Some(16), false),
            ("runtime.goexit", Some(1594), false),
        ],
        "{flags:?} {frames:#?}"
    );
    assert_eq!(own[0].runtime, Runtime::Go);
    assert!(
        own[0]
            .file
            .as_deref()
            .is_some_and(|file| file.ends_with("program.go"))
    );
    assert!(names(&frames).contains(&"syscall.Syscall"), "{frames:#?}");
    assert!(stack.is_complete(), "{}", stack.end);
}

#[test]
fn go_has_names_lines_and_inlined_functions() {
    go(&[]);
}

#[test]
fn go_without_symbols_has_them_too() {
    go(&["-ldflags=-s -w"]);
}

#[test]
fn go_that_is_position_independent_has_them_too() {
    go(&["-buildmode=pie", "-ldflags=-s -w"]);
}
