//! `/proc/PID/maps`: where a process has code. Only executable mappings are kept.

#![forbid(unsafe_code)]

/// Bytes of the file that are read: the kernel's default limit is 65,530 mappings, with some 100 bytes each.
pub const MAX_MAPS: u64 = 16 * 1024 * 1024;
/// Executable mappings that are kept.
const MAX_CODE: usize = 65_536;
/// Longest path that is kept; the kernel's own limit is 4,096.
const MAX_PATH: usize = 4_096;

/// What a mapping maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, with the path that the process sees: octal escapes undone, ` (deleted)` left away.
    File {
        /// Path in the process's own mount namespace.
        path: Vec<u8>,
        /// Its inode number.
        inode: u64,
    },
    /// The kernel's page of code for user space.
    Vdso,
    /// Memory without a file: code that a program made itself (JIT), or what the kernel put there.
    Anonymous,
}

/// A mapping with code in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Behind its last address.
    pub end: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// What is mapped.
    pub origin: Origin,
}

/// Reads the executable mappings, in the order of their addresses. Lines that are not as the kernel writes them are
/// skipped.
#[must_use]
pub fn parse(maps: &[u8]) -> Vec<Mapping> {
    let mut mappings: Vec<_> = maps
        .split(|&byte| byte == b'\n')
        .filter_map(line)
        .take(MAX_CODE)
        .collect();
    mappings.sort_by_key(|mapping| mapping.start);
    mappings
}

/// `start-end rwxp offset major:minor inode    path`
fn line(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let mut next = || fields.next();
    let (range, permissions) = (next()?, next()?);
    if permissions.get(2) != Some(&b'x') {
        return None;
    }
    let (offset, _device, inode) = (hex(next()?)?, next()?, next()?);
    let path = next().unwrap_or_default().trim_ascii_start();
    let mut range = range.splitn(2, |&byte| byte == b'-');
    let (start, end) = (hex(range.next()?)?, hex(range.next()?)?);
    let inode = std::str::from_utf8(inode).ok()?.parse().ok()?;
    let origin = match path {
        b"[vdso]" => Origin::Vdso,
        [b'/', ..] if inode != 0 && path.len() <= MAX_PATH => Origin::File {
            path: unescape(path.strip_suffix(b" (deleted)").unwrap_or(path)),
            inode,
        },
        _ => Origin::Anonymous,
    };
    (start < end).then_some(Mapping {
        start,
        end,
        offset,
        origin,
    })
}

fn hex(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The kernel writes a line feed as `\012`, and nothing else so (`seq_path` with `"\n"`).
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(b"\\012") {
            plain.push(b'\n');
            rest = behind;
        } else {
            plain.push(byte);
            rest = behind;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn code_is_kept_and_data_is_not() {
        let maps = b"556b93ea0000-556b93ea2000 r--p 00000000 fe:00 247030                     /usr/bin/cat\n\
            556b93ea2000-556b93ea7000 r-xp 00002000 fe:00 247030                     /usr/bin/cat\n\
            7ff7cb735000-7ff7cb737000 r-xp 00000000 00:00 0                          [vdso]\n\
            7ff7cb800000-7ff7cb801000 rwxp 00000000 00:00 0 \n";
        let origins: Vec<_> = parse(maps)
            .into_iter()
            .map(|mapping| (mapping.offset, mapping.origin))
            .collect();
        let cat = Origin::File {
            path: b"/usr/bin/cat".to_vec(),
            inode: 247_030,
        };
        assert_eq!(
            origins,
            [(0x2000, cat), (0, Origin::Vdso), (0, Origin::Anonymous)]
        );
    }

    #[test]
    fn a_path_may_have_spaces_line_feeds_and_be_deleted() {
        let maps = b"1000-2000 r-xp 00000000 fe:00 7    /tmp/a b\\012c (deleted)\n";
        let Origin::File { path, .. } = &parse(maps)[0].origin else {
            panic!("a file")
        };
        assert_eq!(path, b"/tmp/a b\nc");
    }

    #[test]
    fn shared_memory_without_a_path_is_no_file() {
        let maps = b"1000-2000 r-xs 00000000 00:01 7    anon_inode:[perf_event]\n3000-4000 --xp 0 00:00 0 [vsyscall]\n";
        assert!(
            parse(maps)
                .iter()
                .all(|mapping| mapping.origin == Origin::Anonymous)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn every_kept_mapping_has_an_address(lines in proptest::collection::vec("[0-9a-f]{1,17}-[0-9a-f]{1,17} r-xp [0-9a-f]{1,8} fe:00 [0-9]{1,3} /[a-z ]{0,9}", 0..20)) {
            let mappings = parse(lines.join("\n").as_bytes());
            prop_assert!(mappings.iter().all(|mapping| mapping.start < mapping.end));
            prop_assert!(mappings.is_sorted_by_key(|mapping| mapping.start));
        }
    }
}
