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

mod damaged;
mod figures;
mod go;
mod languages;
mod stacks;

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
