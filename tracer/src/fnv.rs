//! FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>: small, and the same on every machine, in every run and in
//! every version, unlike the default hasher's. Nobody's safety rests on it.

#![forbid(unsafe_code)]

/// The offset basis for 64 bits.
pub const START: u64 = 0xcbf2_9ce4_8422_2325;

/// 64 bits, going on from `start`.
#[must_use]
pub fn hash(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// 32 bits, for what people copy by hand.
#[must_use]
pub fn short(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
