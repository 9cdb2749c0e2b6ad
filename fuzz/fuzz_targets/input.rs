//! A capture out of a fuzzer's bytes.

use connleak::{
    callsite::{Capture, Registers, Role},
    event::Cookie,
    owner::ProcessId,
};

/// Registers, 256 bytes of stack, and what is left.
pub fn capture(bytes: &[u8]) -> Option<(Capture<'_>, &[u8])> {
    let (words, rest) = bytes.split_at_checked(32)?;
    let (stack, rest) = rest.split_at_checked(256)?;
    let word = |at: usize| words[at..].first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk));
    let capture = Capture {
        at: 0,
        cookie: Cookie(0),
        role: Role::Opened,
        process: ProcessId { pid: 0, start_ticks: 0 },
        tid: 0,
        registers: Registers { ip: word(0), sp: word(8), fp: word(16), lr: word(24) },
        stack,
        cut: false,
        python: &[],
        python_cut: false,
    };
    Some((capture, rest))
}
