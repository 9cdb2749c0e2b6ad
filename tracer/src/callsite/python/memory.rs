//! One process's address space, read through `/proc/PID/mem`.
//!
//! Unlike a pid, the open file stays bound to the address space it was opened on: when the process has ended or
//! executes another program, reads fail, and never give somebody else's bytes. Interpreters are remembered for long, so
//! this matters here.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use super::super::process_memory::Memory;

/// A living process's memory.
#[derive(Debug)]
pub struct AddressSpace(File);

impl AddressSpace {
    /// Opens it, below `root` (`/proc`). `None` when the process is gone or may not be read.
    #[must_use]
    pub fn open(root: &Path, pid: u32) -> Option<Self> {
        File::open(root.join(pid.to_string()).join("mem")).ok().map(Self)
    }
}

impl Memory for AddressSpace {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        // Beyond what a file offset can be there is no user memory either.
        i64::try_from(address).ok()?;
        self.0.read_exact_at(into, address).ok()
    }
}

/// The little-endian word at `offset` of bytes that were read; `None` beyond their end.
#[must_use]
pub fn word_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let word = bytes.get(offset..offset.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

/// Like [`word_at`], for 32 bits.
#[must_use]
pub fn half_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let word = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}
