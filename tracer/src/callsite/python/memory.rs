//! Another process's memory, read through `/proc/PID/mem`.
//!
//! The open file stays bound to the address space it was opened on: when the process ends or executes another
//! program, reads fail, and never give somebody else's bytes.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

/// Something with addresses. Addresses come from the process and may be anything.
pub trait Memory {
    /// Fills `place` from `address` on; `false` when not all of it can be read.
    fn read(&self, address: u64, place: &mut [u8]) -> bool;

    /// The 64-bit word at `address`.
    fn word(&self, address: u64) -> Option<u64> {
        let mut place = [0; 8];
        self.read(address, &mut place).then(|| u64::from_le_bytes(place))
    }

    /// The 32-bit word at `address`.
    fn half(&self, address: u64) -> Option<u32> {
        let mut place = [0; 4];
        self.read(address, &mut place).then(|| u32::from_le_bytes(place))
    }

    /// `length` bytes from `address` on. The caller has bounded the length.
    fn bytes(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut place = vec![0; length];
        self.read(address, &mut place).then_some(place)
    }
}

/// A living process's memory.
#[derive(Debug)]
pub struct ProcessMemory(File);

impl ProcessMemory {
    /// Opens it, below `root` (`/proc`). `None` when the process is gone or may not be read.
    #[must_use]
    pub fn open(root: &Path, pid: u32) -> Option<Self> {
        File::open(root.join(pid.to_string()).join("mem")).ok().map(Self)
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, place: &mut [u8]) -> bool {
        // Beyond what a file offset can be there is no user memory either.
        i64::try_from(address).is_ok() && self.0.read_exact_at(place, address).is_ok()
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

#[cfg(test)]
pub(super) mod testing {
    use super::Memory;

    /// Pieces of memory for tests.
    #[derive(Debug, Default, Clone)]
    pub struct Pieces(pub Vec<(u64, Vec<u8>)>);

    impl Memory for Pieces {
        fn read(&self, address: u64, place: &mut [u8]) -> bool {
            self.0.iter().any(|(start, bytes)| {
                let Some(from) = address
                    .checked_sub(*start)
                    .and_then(|from| usize::try_from(from).ok())
                else {
                    return false;
                };
                let Some(source) = from.checked_add(place.len()).and_then(|end| bytes.get(from..end)) else {
                    return false;
                };
                place.copy_from_slice(source);
                true
            })
        }
    }
}
