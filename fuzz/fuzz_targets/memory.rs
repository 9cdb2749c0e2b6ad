//! A process's memory out of a fuzzer's bytes.

use connleak::callsite::process_memory::Memory;

/// The fuzzer's bytes, again and again: every pointer leads somewhere.
pub struct Everywhere<'a>(pub &'a [u8]);

impl Memory for Everywhere<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        let length = self.0.len() as u64;
        for (offset, byte) in into.iter_mut().enumerate() {
            let at = address.wrapping_add(offset as u64).checked_rem(length)?;
            *byte = *self.0.get(usize::try_from(at).ok()?)?;
        }
        Some(())
    }
}
