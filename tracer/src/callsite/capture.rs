//! What the kernel programs hand up of a thread, as the unwinders see it: plain words, no kernel layouts.

#![forbid(unsafe_code)]

use super::Role;
use crate::{
    event::{Cookie, Nanos},
    owner::ProcessId,
};

/// User-mode registers that unwinding begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Instruction pointer: behind the system call instruction.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer, or whatever else the code keeps in that register.
    pub fp: u64,
    /// Link register; 0 on x86-64, which has none.
    pub lr: u64,
}

/// A frame of CPython's own stack, innermost first: addresses in the process, names are looked up by them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PythonFrame {
    /// The `PyCodeObject`.
    pub code: u64,
    /// The instruction, as the version keeps it: a pointer into the code, or an index.
    pub instruction: u64,
}

/// A thread at the moment at which it opened or used a connection.
#[derive(Clone, Copy, Debug)]
pub struct Capture<'a> {
    /// When.
    pub at: Nanos,
    /// Which socket.
    pub cookie: Cookie,
    /// What it did.
    pub role: Role,
    /// Whose thread.
    pub process: ProcessId,
    /// Which thread, in the host's pid namespace.
    pub tid: u32,
    /// Its registers.
    pub registers: Registers,
    /// Its stack from the stack pointer upwards.
    pub stack: &'a [u8],
    /// The copy ended before the stack did: at the size limit, or at a page that was not in memory.
    pub cut: bool,
    /// CPython's frames, where the kernel program could walk them.
    pub python: &'a [PythonFrame],
    /// There are more of them than were handed up, or the walk failed on the way.
    pub python_cut: bool,
}
