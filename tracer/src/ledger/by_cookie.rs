//! A table by socket cookie, which each event looks into.
//!
//! The standard hasher withstands keys that an attacker has chosen; the kernel hands out cookies, one after
//! another, and nobody can choose them. So one multiplication does: its upper bits depend on all of the cookie's,
//! and the table takes its place from the lower ones, hence the fold.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use crate::event::Cookie;

/// See the module's head.
pub(super) type ByCookie<T> = HashMap<Cookie, T, BuildHasherDefault<CookieHasher>>;

/// See the module's head.
#[derive(Default)]
pub(super) struct CookieHasher(u64);

/// 2⁶⁴ divided by the golden ratio, odd: Knuth's multiplicative hashing.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for CookieHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, cookie: u64) {
        let product = u128::from(self.0 ^ cookie) * u128::from(FACTOR);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
        let folded = product as u64 ^ (product >> 64) as u64;
        self.0 = folded;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, hash::Hash};

    use super::*;

    fn hash(cookie: u64) -> u64 {
        let mut hasher = CookieHasher::default();
        Cookie(cookie).hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn cookies_in_a_row_or_a_power_apart_are_spread_over_a_table() {
        for step in [1, 2, 1 << 12, 1 << 32, 1 << 48] {
            let places: HashSet<u64> = (1..=4096u64)
                .map(|n| hash(n.wrapping_mul(step)) & 0xffff)
                .collect();
            assert!(
                places.len() > 3000,
                "step {step}: {} of 4,096 places",
                places.len()
            );
            let tags: HashSet<u64> = (1..=4096u64).map(|n| hash(n.wrapping_mul(step)) >> 57).collect();
            assert!(tags.len() > 100, "step {step}: {} of 128 tags", tags.len());
        }
    }
}
