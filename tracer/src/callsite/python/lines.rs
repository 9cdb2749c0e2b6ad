//! From an instruction of a Python code object to its line.
//!
//! Three formats, each described in CPython's `Objects/lnotab_notes.txt` (3.8 to 3.10) or
//! `Objects/locations.md` (3.11; `InternalDocs/code_objects.md` since 3.14). The tables are read from another
//! process: any bytes give a line or none, and never a panic.

/// How a version keeps its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineTable {
    /// `co_lnotab`: pairs of byte and line increments; 3.8 and 3.9.
    Increments,
    /// `co_linetable` of 3.10: pairs of a range's length and its line's increment.
    Ranges,
    /// `co_linetable` of 3.11 and later: entries of varying length (PEP 657).
    Locations,
}

/// The line of the instruction at `offset`, which counts bytes of code (a code unit has two). `None` where the table
/// has none: code that the compiler made up.
#[must_use]
pub fn line(format: LineTable, table: &[u8], first_line: u32, offset: u32) -> Option<u32> {
    let line = match format {
        LineTable::Increments => Some(increments(table, first_line, offset)),
        LineTable::Ranges => ranges(table, first_line, offset),
        LineTable::Locations => locations(table, first_line, offset / 2),
    }?;
    u32::try_from(line).ok().filter(|line| *line > 0)
}

/// The last entry that begins at or before `offset` counts.
fn increments(table: &[u8], first_line: u32, offset: u32) -> i64 {
    let mut line = i64::from(first_line);
    let mut address = 0u32;
    for pair in table.chunks_exact(2) {
        address = address.saturating_add(u32::from(pair[0]));
        if address > offset {
            break;
        }
        line += i64::from(pair[1].cast_signed());
    }
    line
}

/// An increment of -128 stands for "no line".
fn ranges(table: &[u8], first_line: u32, offset: u32) -> Option<i64> {
    let mut line = i64::from(first_line);
    let mut end = 0u32;
    for pair in table.chunks_exact(2) {
        end = end.saturating_add(u32::from(pair[0]));
        let increment = pair[1].cast_signed();
        if increment != i8::MIN {
            line += i64::from(increment);
        }
        if offset < end {
            return (increment != i8::MIN).then_some(line);
        }
    }
    None
}

/// Codes of an entry's first byte, bits 3 to 6.
mod code {
    /// 10, 11, 12: one line, so many after the one before, and two bytes of columns.
    pub const ONE_LINE: u8 = 10;
    pub const NO_COLUMNS: u8 = 13;
    pub const LONG: u8 = 14;
    pub const NONE: u8 = 15;
}

fn locations(table: &[u8], first_line: u32, unit: u32) -> Option<i64> {
    let mut line = i64::from(first_line);
    let mut end = 0u32;
    let mut rest = table;
    while let Some((&first, after)) = rest.split_first() {
        end = end.saturating_add(u32::from(first & 7) + 1);
        let code = first >> 3 & 15;
        line += match code {
            code::NO_COLUMNS | code::LONG => signed(after),
            code::ONE_LINE..code::NO_COLUMNS => i64::from(code - code::ONE_LINE),
            _ => 0,
        };
        if unit < end {
            return (code != code::NONE).then_some(line);
        }
        // Only an entry's first byte has the highest bit.
        let next = after
            .iter()
            .position(|byte| byte & 0x80 != 0)
            .unwrap_or(after.len());
        rest = &after[next..];
    }
    None
}

/// A number in pieces of six bits, lowest first; bit 6 says that more follow. Its lowest bit is the sign.
fn signed(bytes: &[u8]) -> i64 {
    let mut number = 0u64;
    for (index, byte) in bytes.iter().take(6).enumerate() {
        number |= u64::from(byte & 63) << (6 * index);
        if byte & 64 == 0 {
            break;
        }
    }
    let size = (number >> 1).cast_signed();
    if number & 1 == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    /// One code object of a real interpreter, with its own answer for each instruction
    /// (`testing/lines.py` in this folder wrote it).
    #[derive(Deserialize)]
    struct Example {
        version: String,
        function: String,
        first_line: u32,
        table: Vec<u8>,
        /// Offset in bytes, and the line, 0 for none.
        lines: Vec<(u32, u32)>,
    }

    fn format(version: &str) -> LineTable {
        match version {
            "3.8" | "3.9" => LineTable::Increments,
            "3.10" => LineTable::Ranges,
            _ => LineTable::Locations,
        }
    }

    #[test]
    fn each_instruction_has_the_line_that_its_interpreter_says() {
        let examples: Vec<Example> = include_str!("testing/lines.jsonl")
            .lines()
            .map(|line| serde_json::from_str(line).expect("an example"))
            .collect();
        let mut versions = std::collections::BTreeSet::new();
        for example in &examples {
            for &(offset, expected) in &example.lines {
                let found = line(
                    format(&example.version),
                    &example.table,
                    example.first_line,
                    offset,
                );
                assert_eq!(
                    found.unwrap_or(0),
                    expected,
                    "{} of {} at {offset}",
                    example.function,
                    example.version
                );
            }
            versions.insert(example.version.as_str());
        }
        assert_eq!(versions.len(), 7, "{versions:?}");
    }

    proptest! {
        #[test]
        fn any_table_gives_a_line_or_none(
            table in proptest::collection::vec(any::<u8>(), 0..300),
            first in any::<u32>(),
            offset in any::<u32>(),
        ) {
            for format in [LineTable::Increments, LineTable::Ranges, LineTable::Locations] {
                let found = line(format, &table, first, offset);
                prop_assert!(found != Some(0));
            }
        }
    }
}
