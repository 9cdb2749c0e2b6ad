//! What unwinding needs of an ELF file: where its code is, its build id, and where it keeps unwind information.
//!
//! Files are read, never mapped: whoever owns a mapped file can shorten it, and the reader dies of SIGBUS.

#![forbid(unsafe_code)]

use std::{fs::File, io, os::unix::fs::FileExt as _};

/// Program headers that are looked at. The linker makes about a dozen.
const MAX_SEGMENTS: usize = 64;
/// Sections that are looked at. A large C++ program has some 50.
const MAX_SECTIONS: usize = 1_024;
/// Bytes of the section names.
const MAX_NAMES: u64 = 256 * 1024;
/// Bytes of a note segment; a build id takes 36.
const MAX_NOTES: u64 = 4_096;
/// Longest build id: SHA-1 has 20 bytes, Go's own id some 80.
const MAX_BUILD_ID: usize = 128;
/// Largest section that is read into memory. Chromium's `.eh_frame` has 20 MiB, `kubelet`'s `.gopclntab` 30.
pub const MAX_SECTION: u64 = 96 * 1024 * 1024;

// Numbers of the ELF specification, <https://gabi.xinuos.com/>, and of its GNU extensions in <elf.h>.
const ELF_MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
/// The processor that this program was built for: whose registers are read, and whose unwind information is understood.
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;
const HEADER_SIZE: usize = 64;
const SEGMENT_SIZE: usize = 56;
const SECTION_SIZE: usize = 64;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const NT_GNU_BUILD_ID: u32 = 3;
const SHT_NOBITS: u32 = 8;
const SHF_COMPRESSED: u64 = 0x800;

/// Bytes of an ELF file: of the file itself, or of a mapping that has no file.
#[derive(Debug)]
pub enum Bytes {
    /// Read when asked for.
    File(File),
    /// All there is: the kernel's vDSO, or a fuzzer's input.
    Memory(Vec<u8>),
}

impl Bytes {
    /// `length` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// There are fewer, or more than [`MAX_SECTION`] were asked for.
    pub fn read(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        if length > MAX_SECTION {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a part of it is too large",
            ));
        }
        let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let length = usize::try_from(length).map_err(|_| short())?;
        match self {
            Self::File(file) => {
                // A hostile size must not become memory before the file has shown that it has that many bytes.
                let end = offset.checked_add(length as u64).ok_or_else(short)?;
                if file.metadata()?.len() < end {
                    return Err(short());
                }
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, offset)?;
                Ok(bytes)
            }
            Self::Memory(all) => {
                let start = usize::try_from(offset).map_err(|_| short())?;
                let end = start.checked_add(length).ok_or_else(short)?;
                Ok(all.get(start..end).ok_or_else(short)?.to_vec())
            }
        }
    }
}

/// A piece of the file that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its address in the file's own counting.
    pub address: u64,
    /// Where its bytes are in the file.
    pub offset: u64,
    /// How many bytes of it are in the file.
    pub size: u64,
}

/// A section that somebody here reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// `.eh_frame` and the like.
    pub name: &'static str,
    /// Its address in the file's own counting.
    pub address: u64,
    /// Where its bytes are in the file.
    pub offset: u64,
    /// How many.
    pub size: u64,
}

/// The sections that somebody here reads.
const WANTED: &[&str] = &[
    ".eh_frame",
    ".eh_frame_hdr",
    ".text",
    ".got",
    ".gopclntab",
    ".data.rel.ro.gopclntab",
    ".noptrdata",
    ".go.module",
    ".go.buildinfo",
    ".rela.dyn",
    ".data.rel.ro",
];

/// Whether a file's first bytes are those of a 64-bit program for this processor.
#[must_use]
pub fn is_native(head: &[u8; 20]) -> bool {
    head.starts_with(ELF_MAGIC)
        && head[4] == CLASS_64
        && head[5] == LITTLE_ENDIAN
        && u16::from_le_bytes([head[18], head[19]]) == MACHINE
}

/// What an ELF file's headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// Where it begins to run.
    pub entry: u64,
    /// Loaded pieces, in the file's order.
    pub segments: Vec<Segment>,
    /// Sections that somebody reads here; the file may have none at all.
    pub sections: Vec<Section>,
    /// `PT_GNU_EH_FRAME`: the index over the unwind information.
    pub eh_frame_hdr: Option<Segment>,
    /// The GNU build id's bytes.
    pub build_id: Option<Box<[u8]>>,
}

impl Elf {
    /// Reads the headers.
    ///
    /// # Errors
    ///
    /// It is not a 64-bit little-endian ELF file for this processor, or shorter than its header says. Section headers that cannot be read
    /// are none: a running program doesn't need them.
    pub fn read(bytes: &Bytes) -> io::Result<Self> {
        let header = bytes.read(0, HEADER_SIZE as u64)?;
        if header.get(..4) != Some(ELF_MAGIC) || header[4] != CLASS_64 || header[5] != LITTLE_ENDIAN {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is no 64-bit little-endian ELF file",
            ));
        }
        if half(&header, 18) != MACHINE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is for another kind of processor",
            ));
        }
        let mut elf = Self {
            entry: word(&header, 24),
            ..Self::default()
        };
        let (table, size, count) = (word(&header, 32), half(&header, 54), half(&header, 56));
        if usize::from(size) == SEGMENT_SIZE {
            let count = usize::from(count).min(MAX_SEGMENTS);
            let headers = bytes.read(table, (count * SEGMENT_SIZE) as u64)?;
            for header in headers.chunks_exact(SEGMENT_SIZE) {
                elf.take_segment(bytes, header);
            }
        }
        elf.sections = Self::sections(bytes, &header).unwrap_or_default();
        Ok(elf)
    }

    fn take_segment(&mut self, bytes: &Bytes, header: &[u8]) {
        let segment = Segment {
            offset: word(header, 8),
            address: word(header, 16),
            size: word(header, 32),
        };
        match int(header, 0) {
            PT_LOAD => self.segments.push(segment),
            PT_GNU_EH_FRAME => self.eh_frame_hdr = Some(segment),
            PT_NOTE if self.build_id.is_none() => {
                let notes = bytes
                    .read(segment.offset, segment.size.min(MAX_NOTES))
                    .unwrap_or_default();
                self.build_id = build_id(&notes);
            }
            _ => {}
        }
    }

    fn sections(bytes: &Bytes, header: &[u8]) -> io::Result<Vec<Section>> {
        let (table, size) = (word(header, 40), half(header, 58));
        let (count, names_index) = (usize::from(half(header, 60)), usize::from(half(header, 62)));
        if table == 0 || usize::from(size) != SECTION_SIZE {
            return Ok(Vec::new());
        }
        let headers = bytes.read(table, (count.min(MAX_SECTIONS) * SECTION_SIZE) as u64)?;
        let Some(names) = headers.chunks_exact(SECTION_SIZE).nth(names_index) else {
            return Ok(Vec::new());
        };
        let names = bytes.read(word(names, 24), word(names, 32).min(MAX_NAMES))?;
        let mut sections = Vec::new();
        for header in headers.chunks_exact(SECTION_SIZE) {
            if int(header, 4) == SHT_NOBITS || word(header, 8) & SHF_COMPRESSED != 0 {
                continue;
            }
            let Some(rest) = usize::try_from(int(header, 0))
                .ok()
                .and_then(|at| names.get(at..))
            else {
                continue;
            };
            let name = rest.split(|&b| b == 0).next().unwrap_or_default();
            if let Some(name) = WANTED.iter().find(|wanted| wanted.as_bytes() == name) {
                let (address, offset, size) = (word(header, 16), word(header, 24), word(header, 32));
                sections.push(Section {
                    name,
                    address,
                    offset,
                    size,
                });
            }
        }
        Ok(sections)
    }

    /// The section of that name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The address, in the file's own counting, of what is at this offset in the file.
    #[must_use]
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let into = offset
                .checked_sub(segment.offset)
                .filter(|into| *into < segment.size)?;
            segment.address.checked_add(into)
        })
    }

    /// Where in the file the byte of this address is, and how many bytes of its segment are left from there.
    #[must_use]
    pub fn offset_of(&self, address: u64) -> Option<(u64, u64)> {
        self.segments.iter().find_map(|segment| {
            let into = address
                .checked_sub(segment.address)
                .filter(|into| *into < segment.size)?;
            Some((segment.offset.checked_add(into)?, segment.size - into))
        })
    }
}

/// The build id among ELF notes: name size, content size, type; then name and content, each padded to four bytes.
fn build_id(mut notes: &[u8]) -> Option<Box<[u8]>> {
    loop {
        let header = notes.get(..12)?;
        let (name_size, size, kind) = (int(header, 0) as usize, int(header, 4) as usize, int(header, 8));
        let content = 12usize.checked_add(name_size.checked_next_multiple_of(4)?)?;
        let end = content.checked_add(size)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..16) == Some(b"GNU\0") && name_size == 4 {
            let id = notes.get(content..end)?;
            return (!id.is_empty() && id.len() <= MAX_BUILD_ID).then(|| id.into());
        }
        notes = notes.get(content.checked_add(size.checked_next_multiple_of(4)?)?..)?;
    }
}

/// Eight bytes of a header; 0 beyond its end, as are the two below.
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

pub(super) fn int(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

pub(super) fn half(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |chunk| u16::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The C library, as far as it must be read for its headers.
    fn library() -> Vec<u8> {
        let maps = std::fs::read("/proc/self/maps").expect("own mappings");
        let library = super::super::maps::parse(&maps)
            .into_iter()
            .find_map(|mapping| match mapping.origin {
                super::super::maps::Origin::File { path, .. } if path.ends_with(b"/libc.so.6") => Some(path),
                _ => None,
            });
        let path = String::from_utf8(library.expect("a C library")).expect("a plain path");
        std::fs::read(path).expect("the C library")
    }

    #[test]
    fn the_c_library_has_code_a_build_id_and_unwind_information() {
        let elf = Elf::read(&Bytes::Memory(library())).expect("an ELF file");
        assert!(!elf.segments.is_empty());
        assert!(elf.build_id.is_some());
        assert!(elf.section(".eh_frame").is_some());
        assert!(elf.eh_frame_hdr.is_some());
        let text = elf.section(".text").expect("code");
        assert_eq!(elf.address_of(text.offset), Some(text.address));
        assert_eq!(
            elf.offset_of(text.address).map(|(offset, _)| offset),
            Some(text.offset)
        );
    }

    #[test]
    fn a_build_id_is_found_behind_another_note() {
        let mut notes = Vec::new();
        for (kind, content) in [(1u32, &b"12345"[..]), (NT_GNU_BUILD_ID, &b"\xab\xcd"[..])] {
            notes.extend_from_slice(&4u32.to_le_bytes());
            notes.extend_from_slice(&u32::try_from(content.len()).expect("short").to_le_bytes());
            notes.extend_from_slice(&kind.to_le_bytes());
            notes.extend_from_slice(b"GNU\0");
            notes.extend_from_slice(content);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(build_id(&notes).as_deref(), Some(&b"\xab\xcd"[..]));
        assert_eq!(build_id(&notes[..24]), None);
    }

    #[test]
    fn a_section_that_claims_to_be_larger_than_the_file_costs_no_memory() {
        let file = File::open("/proc/self/exe").expect("own executable");
        let size = file.metadata().expect("own executable").len();
        assert!(Bytes::File(file).read(size - 8, MAX_SECTION).is_err());
        assert!(Bytes::Memory(vec![0; 8]).read(u64::MAX, 8).is_err());
    }

    static LIBRARY: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();

    proptest! {
        #[test]
        fn a_damaged_header_panics_nowhere(
            changes in proptest::collection::vec((0usize..4096, any::<u8>()), 1..40), cut in 0usize..8192
        ) {
            let mut bytes = LIBRARY.get_or_init(library).clone();
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(bytes.len().min(cut.max(64) * 64));
            if let Ok(elf) = Elf::read(&Bytes::Memory(bytes)) {
                let _ = elf.offset_of(elf.entry);
            }
        }
    }
}
