//! A copy of the parts of an ELF file that names are looked up in, for `blazesym` to map.
//!
//! `blazesym` maps files, and follows the links in them to other files. Both are right for one's own files. Here the
//! file belongs to somebody else: shortened under the map, it would kill the agent; and a link may name any file on the
//! host. So it is given an anonymous file that nobody else can change, with only symbols and debug information in it,
//! and no links. The rest of the copy are holes, which take no memory.

#![forbid(unsafe_code)]

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::elf::{Bytes, half, int, word};

/// Most bytes of symbols that are copied. Chromium's have 60 MiB.
const MAX_SYMBOLS: u64 = 128 * 1024 * 1024;
/// Most bytes of debug information that are copied; a file with more is looked up by its symbols alone.
const MAX_DEBUG: u64 = 256 * 1024 * 1024;
/// Sections of a file that is copied.
const MAX_SECTIONS: u64 = 1_024;
/// Largest file that holds them: a sparse one may say anything.
const MAX_END: u64 = 8 << 30;
/// Copied at once.
const CHUNK: u64 = 1 << 20;

const HEADER_SIZE: u64 = 64;
const SECTION_SIZE: usize = 64;
const SHT_NULL: u32 = 0;
const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_DYNSYM: u32 = 11;
const SHF_COMPRESSED: u64 = 0x800;

/// The copy.
#[derive(Debug)]
pub struct Copy {
    /// It lives as long as this is open.
    pub file: File,
    /// There is debug information in it.
    pub debug: bool,
    /// Memory that it takes, in bytes.
    pub size: u64,
}

/// Copies symbols and debug information of a 64-bit little-endian ELF file.
///
/// # Errors
///
/// The file is not as its headers say, has no section headers or too many, or more symbols than any real program has.
pub fn copy(bytes: &Bytes) -> io::Result<Copy> {
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut header = bytes.read(0, HEADER_SIZE)?;
    let (table, count) = (word(&header, 40), u64::from(half(&header, 60)));
    if table == 0 || count == 0 || count > MAX_SECTIONS || usize::from(half(&header, 58)) != SECTION_SIZE {
        return Err(invalid("it has no section headers, or too many"));
    }
    let mut sections = bytes.read(table, count * SECTION_SIZE as u64)?;
    let names = names(bytes, &sections, usize::from(half(&header, 62)))?;
    // Program headers describe what is loaded; nothing of it is here.
    header[56..58].fill(0);

    let file = File::from(memfd_create("connleak-symbols", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
    file.write_all_at(&header, 0)?;
    let debug = wanted_debug(&sections, &names);
    let mut symbols = 0u64;
    for section in sections.chunks_exact_mut(SECTION_SIZE) {
        let (offset, size) = (word(section, 24), word(section, 32));
        let is_debug = is_debug(section, &names);
        let keep = match int(section, 4) {
            SHT_SYMTAB | SHT_STRTAB | SHT_DYNSYM => true,
            _ => is_debug && debug,
        };
        if !keep || word(section, 8) & SHF_COMPRESSED != 0 {
            section[4..8].copy_from_slice(&SHT_NULL.to_le_bytes());
            section[24..40].fill(0);
            continue;
        }
        if !is_debug {
            symbols = symbols.saturating_add(size);
        }
        if symbols > MAX_SYMBOLS || offset.checked_add(size).is_none_or(|end| end > MAX_END) {
            return Err(invalid("its symbols are too large"));
        }
        copy_range(bytes, &file, offset, size)?;
    }
    if table > MAX_END {
        return Err(invalid("its section headers are too far away"));
    }
    file.write_all_at(&sections, table)?;
    let size = file.metadata()?.blocks() * 512;
    Ok(Copy { file, debug, size })
}

fn copy_range(bytes: &Bytes, file: &File, mut offset: u64, mut size: u64) -> io::Result<()> {
    while size > 0 {
        let chunk = size.min(CHUNK);
        file.write_all_at(&bytes.read(offset, chunk)?, offset)?;
        offset += chunk;
        size -= chunk;
    }
    Ok(())
}

fn names(bytes: &Bytes, sections: &[u8], index: usize) -> io::Result<Vec<u8>> {
    let section = sections.chunks_exact(SECTION_SIZE).nth(index);
    let section = section.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    bytes.read(word(section, 24), word(section, 32).min(CHUNK))
}

fn is_debug(section: &[u8], names: &[u8]) -> bool {
    let name = usize::try_from(int(section, 0))
        .ok()
        .and_then(|at| names.get(at..))
        .unwrap_or_default();
    int(section, 4) == SHT_PROGBITS && name.starts_with(b".debug_") && !name.starts_with(b".debug_sup\0")
}

/// Whether there is debug information, and not too much of it.
fn wanted_debug(sections: &[u8], names: &[u8]) -> bool {
    let sizes = sections
        .chunks_exact(SECTION_SIZE)
        .filter(|section| is_debug(section, names));
    let size = sizes.fold(0u64, |sum, section| sum.saturating_add(word(section, 32)));
    size > 0 && size <= MAX_DEBUG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_symbols_and_no_code() {
        let bytes = Bytes::File(File::open("/proc/self/exe").expect("own executable"));
        let copy = copy(&bytes).expect("a copy");
        assert!(copy.debug);
        let all = std::fs::metadata("/proc/self/exe").expect("own executable").len();
        assert!(copy.size < all, "{} of {all}", copy.size);
    }

    #[test]
    fn sizes_of_symbols_that_add_up_to_more_than_a_number_holds_are_too_large() {
        let sections = [0, 1, u64::MAX];
        let mut file = vec![0; 64 + sections.len() * SECTION_SIZE];
        file[40..48].copy_from_slice(&64u64.to_le_bytes());
        file[58..60].copy_from_slice(&64u16.to_le_bytes());
        file[60..62].copy_from_slice(&3u16.to_le_bytes());
        let (_, table) = file.split_at_mut(64);
        for (section, size) in table.chunks_exact_mut(SECTION_SIZE).zip(sections) {
            // Debug information doesn't count: this is what a symbol table is like.
            section[4..8].copy_from_slice(&SHT_STRTAB.to_le_bytes());
            section[32..40].copy_from_slice(&size.to_le_bytes());
        }
        let error = copy(&Bytes::Memory(file)).expect_err("nobody has so many");
        assert_eq!(error.to_string(), "its symbols are too large");
    }

    #[test]
    fn what_is_no_elf_file_is_an_error() {
        assert!(copy(&Bytes::Memory(vec![0; 4_096])).is_err());
        assert!(copy(&Bytes::Memory(vec![0xff; 4_096])).is_err());
    }
}
