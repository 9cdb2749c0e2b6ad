//! Every CPython that this machine has, read from outside while it stands still, against its own account.

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::*;
use crate::{
    callsite::{Capture, Quality, Registers, Role},
    event::Cookie,
    owner::ProcessId,
};

/// `python3`, what `CONNLEAK_PYTHONS` names (separated by colons), and what pyenv has built.
fn interpreters() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ["/usr/bin/python3", "/usr/local/bin/python3"]
        .map(PathBuf::from)
        .to_vec();
    found.extend(
        env::var("CONNLEAK_PYTHONS")
            .unwrap_or_default()
            .split(':')
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
    );
    let pyenv = env::var_os("PYENV_ROOT").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".pyenv"),
        PathBuf::from,
    );
    for version in std::fs::read_dir(pyenv.join("versions"))
        .into_iter()
        .flatten()
        .flatten()
    {
        found.push(version.path().join("bin/python3"));
    }
    found.retain(|path| path.exists());
    found
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Thread id and frames (function, file, line), by the name of the thread.
type Accounts = BTreeMap<String, (u32, Vec<(String, String, u32)>)>;

/// `None` for an interpreter that is too old for the script.
fn start(interpreter: &Path) -> Option<(Program, Accounts)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/callsite/python/testing/stand_still.py");
    let mut child = Command::new(interpreter)
        .arg(script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("an interpreter that starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("its account");
    let program = Program(child);
    Some((program, serde_json::from_str(&line).ok()?))
}

/// The stack pointer of a thread that waits in the kernel: `/proc/PID/task/TID/syscall`.
fn stack_pointer(pid: u32, tid: u32) -> u64 {
    loop {
        let text =
            std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).expect("our own child's");
        // "running" until it waits.
        if let Some(word) = text.split_ascii_whitespace().nth_back(1) {
            return u64::from_str_radix(word.trim_start_matches("0x"), 16).expect("hexadecimal");
        }
        std::thread::yield_now();
    }
}

#[test]
fn each_cpython_here_is_read_as_it_sees_itself() {
    let mut versions = Vec::new();
    for interpreter in interpreters() {
        let Some((program, accounts)) = start(&interpreter) else {
            continue;
        };
        let pid = program.0.id();
        let process = ProcessId { pid, start_ticks: 1 };
        let mut pythons = Pythons::default();
        if pythons.prepare(process, 0).is_none() {
            let reason = pythons.refused(process).map(ToOwned::to_owned);
            let _ = writeln!(io::stderr(), "{}: not read: {reason:?}", interpreter.display());
            // Older and newer ones than are known.
            let name = std::fs::canonicalize(&interpreter).expect("it exists");
            let name = name.to_string_lossy();
            assert!(
                (8..=14).all(|minor| !name.ends_with(&format!("python3.{minor}"))),
                "{name}: {reason:?}"
            );
            continue;
        }
        for (thread, (tid, expected)) in &accounts {
            let capture = Capture {
                at: 0,
                cookie: Cookie(1),
                role: Role::Opened,
                process,
                tid: *tid,
                registers: Registers {
                    sp: stack_pointer(pid, *tid),
                    ..Registers::default()
                },
                stack: &[],
                cut: false,
                python: &[],
                python_cut: false,
            };
            let stack = pythons
                .frames(&capture)
                .unwrap_or_else(|| panic!("{}: {thread} has no frames", interpreter.display()));
            let found: Vec<(String, String, u32)> = stack
                .frames
                .iter()
                .map(|frame| {
                    (
                        frame.function.clone().unwrap_or_default(),
                        frame.file.clone().unwrap_or_default(),
                        frame.line.unwrap_or(0),
                    )
                })
                .collect();
            // It waits a call further in than where it gave its account; that is C.
            assert_eq!(&found, expected, "{}, {thread}", interpreter.display());
            assert_eq!(stack.quality, Quality::Approximate, "read from outside");
            assert_eq!(stack.entries.last(), Some(&true), "the outermost is an entry");
        }
        versions.push(interpreter);
    }
    if versions.is_empty() {
        let _ = writeln!(io::stderr(), "SKIPPED: there is no CPython of 3.8 to 3.14 here");
    }
}

#[test]
fn a_process_that_has_ended_has_no_frames_any_more_and_no_others() {
    let Some(interpreter) = interpreters().into_iter().next() else {
        let _ = writeln!(io::stderr(), "SKIPPED: there is no CPython here");
        return;
    };
    let (program, accounts) = start(&interpreter).expect("the system's own is new enough");
    let pid = program.0.id();
    let process = ProcessId { pid, start_ticks: 1 };
    let mut pythons = Pythons::default();
    assert!(pythons.prepare(process, 0).is_some());
    drop(program);
    for (tid, _) in accounts.values() {
        let capture = Capture {
            at: 0,
            cookie: Cookie(1),
            role: Role::Opened,
            process,
            tid: *tid,
            registers: Registers::default(),
            stack: &[],
            cut: false,
            python: &[],
            python_cut: false,
        };
        assert_eq!(pythons.frames(&capture), None);
        assert!(
            pythons.prepare(process, 0).is_none() && pythons.refused(process).is_none(),
            "it is looked for anew, and not there"
        );
    }
}
