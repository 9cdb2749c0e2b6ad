//! HotSpot's compressed numbers (UNSIGNED5): up to five bytes, low ones first, of which the last one is small.
//! <https://github.com/openjdk/jdk21u/blob/master/src/hotspot/share/utilities/unsigned5.hpp>

#![forbid(unsafe_code)]

use crate::callsite::process_memory::Memory;

/// A sequence of them somewhere in memory.
pub struct Numbers<'a, M> {
    memory: &'a M,
    at: u64,
    /// Bytes below this are not used: 0 before JDK 20, 1 since.
    excluded: u8,
    /// Read ahead, to spare reads.
    piece: Vec<u8>,
    next: usize,
}

impl<'a, M: Memory> Numbers<'a, M> {
    /// From an address on.
    pub fn new(memory: &'a M, at: u64, excluded: u8) -> Self {
        Self {
            memory,
            at,
            excluded,
            piece: Vec::new(),
            next: 0,
        }
    }

    /// The next byte as it is.
    pub fn byte(&mut self) -> Option<u8> {
        if self.next == self.piece.len() {
            // Not across a boundary: what is behind may not be readable.
            let length = 64 - self.at % 64;
            self.piece = self.memory.vector(self.at, usize::try_from(length).ok()?)?;
            self.at = self.at.checked_add(length)?;
            self.next = 0;
        }
        let byte = *self.piece.get(self.next)?;
        self.next += 1;
        Some(byte)
    }

    /// The next number.
    pub fn unsigned(&mut self) -> Option<u32> {
        const LOG2: u32 = 6;
        let highest_last = 255 - (1 << LOG2) - self.excluded;
        let mut sum = 0_u32;
        for place in 0..5 {
            let byte = self.byte()?.checked_sub(self.excluded)?;
            sum = sum.wrapping_add(u32::from(byte).wrapping_shl(LOG2 * place));
            if byte <= highest_last {
                break;
            }
        }
        Some(sum)
    }

    /// The next number with a sign.
    pub fn signed(&mut self) -> Option<i32> {
        let number = self.unsigned()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callsite::process_memory::testing::Pieces;

    fn numbers(excluded: u8, bytes: &[u8]) -> Vec<u32> {
        let mut memory = Pieces::default();
        let mut padded = bytes.to_vec();
        padded.resize(64, 0);
        memory.put(0, padded);
        let mut numbers = Numbers::new(&memory, 0, excluded);
        let mut read = Vec::new();
        // The last one may lie on the padding.
        while read.len() < 3 {
            let Some(number) = numbers.unsigned() else { break };
            read.push(number);
        }
        read
    }

    #[test]
    fn small_ones_take_a_byte_and_large_ones_up_to_five() {
        assert_eq!(numbers(0, &[0, 191, 192, 1]), [0, 191, 192 + 64]);
        assert_eq!(
            numbers(0, &[255, 255, 255, 255, 255])[0],
            0xff_u32.wrapping_mul(0x0104_1041)
        );
    }

    #[test]
    fn since_jdk_20_no_byte_is_zero() {
        assert_eq!(numbers(1, &[1, 191, 192, 1]), [0, 190, 191]);
        assert_eq!(numbers(1, &[0]), [] as [u32; 0]);
    }

    #[test]
    fn the_sign_is_the_lowest_bit() {
        let mut memory = Pieces::default();
        memory.put(0, [[0, 1, 2, 3].as_slice(), &[0; 60]].concat());
        let mut numbers = Numbers::new(&memory, 0, 0);
        let signed: Vec<_> = (0..4).map_while(|_| numbers.signed()).collect();
        assert_eq!(signed, [0, -1, 1, -2]);
    }
}
