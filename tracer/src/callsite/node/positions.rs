//! V8's table from places in byte code to places in the source: pairs of distances from the pair before, each a number
//! in groups of seven bits, low ones first, with the sign in the lowest bit.
//! <https://github.com/v8/v8/blob/11.3.244/src/codegen/source-position-table.cc>

#![forbid(unsafe_code)]

/// The place in the source of the last pair that is not behind `index`.
#[must_use]
pub fn position(table: &[u8], index: u64) -> Option<u64> {
    let mut bytes = table.iter().copied();
    let (mut code, mut source) = (0_i64, 0_i64);
    let mut best = None;
    let wanted = i64::try_from(index).ok()?;
    while let Some(distance) = number(&mut bytes) {
        // Of pairs that are no statements the complement is kept.
        let distance = if distance >= 0 { distance } else { -(distance + 1) };
        code = code.checked_add(distance)?;
        source = source.checked_add(number(&mut bytes)?)?;
        if code > wanted {
            break;
        }
        best = Some(source);
    }
    // Kept one higher, so that no position is 0, and with a mark in the lowest bit that it is not of inlined code.
    let raw = u64::try_from(best?).ok()?;
    ((raw & 1 == 0).then_some((raw >> 1) & 0x3fff_ffff))?.checked_sub(1)
}

fn number(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let mut value = 0_u64;
    for group in 0..10 {
        let byte = bytes.next()?;
        value |= u64::from(byte & 0x7f).checked_shl(7 * group)?;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(pairs: &[(i64, i64)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in pairs.iter().flat_map(|(code, source)| [*code, *source]) {
            let mut value = ((number << 1) ^ (number >> 63)).cast_unsigned();
            while value > 0x7f {
                bytes.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
                value >>= 7;
            }
            bytes.push(u8::try_from(value).expect("seven bits"));
        }
        bytes
    }

    #[test]
    fn the_last_place_before_the_instruction_counts() {
        // Instructions 0, 4 and 300, at 10, 35 and 20 of the source.
        let table = table(&[(0, 22), (-5, 50), (296, -30)]);
        assert_eq!(position(&table, 0), Some(10));
        assert_eq!(position(&table, 3), Some(10));
        assert_eq!(position(&table, 4), Some(35));
        assert_eq!(position(&table, 1000), Some(20));
        assert_eq!(position(&[], 4), None);
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(bytes: Vec<u8>, index: u64) {
            let _ = position(&bytes, index);
        }
    }
}
