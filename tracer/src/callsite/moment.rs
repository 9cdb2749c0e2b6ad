//! Whether a thread is still where it was when it was captured.
//!
//! Interpreters that keep their frames in the heap can only be read a moment after the event. A thread that waits in
//! the same system call of the same call of the same function has changed none of them. So the question is asked before
//! and after they are read: is the call's return address still in its place on the stack, and the stack pointer below
//! it?

#![forbid(unsafe_code)]

use std::{fs::File, io::Read, thread, time::Duration};

use super::{Capture, native::NativeFrame, process_memory::Memory};

/// What `/proc/PID/task/TID/syscall` says of a waiting thread takes less than 200 bytes.
const MAX_SYSCALL: u64 = 512;
/// How often a thread that runs is looked at, and how long it is left alone in between.
const LOOKS: u32 = 6;
const BETWEEN_LOOKS: Duration = Duration::from_micros(50);

/// One function's call, as the captured stack has it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    capture: &'a Capture<'a>,
    /// Where the return address is.
    slot: u64,
    /// What is there.
    address: u64,
}

impl<'a> Call<'a> {
    /// The call that returns into this frame, which is not the innermost.
    #[must_use]
    pub fn into_frame(capture: &'a Capture<'a>, frame: &NativeFrame) -> Option<Self> {
        let below = frame.sp.checked_sub(8)?;
        let slot = capture.registers.sp.checked_add(u64::from(below))?;
        let at = usize::try_from(below).ok()?;
        let address = u64::from_ne_bytes(capture.stack.get(at..at.checked_add(8)?)?.try_into().ok()?);
        (address == frame.address).then_some(Self {
            capture,
            slot,
            address,
        })
    }

    /// Whether the thread waits, and within this call. One that runs may be anywhere: it is given a moment to wait again,
    /// and then the answer is no.
    pub fn lasts(&self, now: &impl Memory) -> bool {
        let path = format!(
            "/proc/{}/task/{}/syscall",
            self.capture.process.pid, self.capture.tid
        );
        for _ in 0..LOOKS {
            if now.u64(self.slot) != Some(self.address) {
                return false;
            }
            let mut text = String::new();
            let read = File::open(&path).and_then(|file| file.take(MAX_SYSCALL).read_to_string(&mut text));
            match (read, stack_pointer(&text)) {
                (Err(_), _) => return false,
                (Ok(_), Some(sp)) => return sp <= self.slot,
                (Ok(_), None) => thread::sleep(BETWEEN_LOOKS),
            }
        }
        false
    }
}

/// `NUMBER ARGUMENTS… SP PC`; `running` when it doesn't wait.
/// <https://man7.org/linux/man-pages/man5/proc_pid_syscall.5.html>
fn stack_pointer(text: &str) -> Option<u64> {
    let word = text.split_ascii_whitespace().rev().nth(1)?;
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_waiting_thread_has_a_stack_pointer() {
        let waiting = "7 0x7f1 0x2 0xffffffff 0x0 0x8 0x7f2 0x7ffe5b8 0x7f86c\n";
        assert_eq!(stack_pointer(waiting), Some(0x7ff_e5b8));
        assert_eq!(stack_pointer("-1 0x7ffe5b8 0x7f86c\n"), Some(0x7ff_e5b8));
        assert_eq!(stack_pointer("running\n"), None);
        assert_eq!(stack_pointer(""), None);
    }
}
