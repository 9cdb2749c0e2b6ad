//! Dynamic symbols of a module, read from the process that has it mapped.
//!
//! The loader keeps the symbol table in memory. So there is no file to open: containers, deleted files and
//! interpreters within other programs are all the same. Everything read is the process's own and may be anything.

use super::memory::{Memory, half_at, word_at};

/// Where a dynamic symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its address in the process.
    pub address: u64,
    /// Its size in bytes; 0 when it has none.
    pub size: u64,
}

/// A mapped ELF file's dynamic section.
#[derive(Debug)]
pub struct Symbols {
    bias: u64,
    table: u64,
    names: u64,
    hash: Hash,
    soname: Option<u64>,
}

/// The `DT_GNU_HASH` table.
#[derive(Debug)]
struct Hash {
    buckets: u32,
    first: u32,
    buckets_at: u64,
    chains_at: u64,
}

/// `Elf64_Ehdr`, `Elf64_Phdr`, `Elf64_Dyn` and `Elf64_Sym` of `elf.h`, in bytes.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const DYNAMIC: usize = 16;
const SYMBOL: usize = 24;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_SONAME: u64 = 14;
const DT_GNU_HASH: u64 = 0x6fff_fef5;

/// Most program headers; real files have about a dozen.
const MAX_PROGRAM_HEADERS: usize = 64;
/// Most entries of a dynamic section; real ones have about thirty.
const MAX_DYNAMIC: usize = 256;
/// Most links of a hash chain; a chain has two on average.
const MAX_CHAIN: u32 = 4096;

impl Symbols {
    /// The symbols of the ELF file whose beginning is mapped at `start`. `None` when it is none, or has no such table.
    pub fn read(memory: &impl Memory, start: u64) -> Option<Self> {
        let header = memory.bytes(start, HEADER)?;
        // ELF, 64 bits, little endian.
        if header.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let count = usize::from(u16::from_le_bytes([header[56], header[57]])).min(MAX_PROGRAM_HEADERS);
        let headers = memory.bytes(start.checked_add(word_at(&header, 32)?)?, count * PROGRAM_HEADER)?;
        let mut lowest = None;
        let mut dynamic = None;
        for header in headers.chunks_exact(PROGRAM_HEADER) {
            let address = word_at(header, 16)?;
            match half_at(header, 0)? {
                PT_LOAD => lowest = lowest.or(Some(address.wrapping_sub(word_at(header, 8)?))),
                PT_DYNAMIC => dynamic = Some((address, word_at(header, 40)?)),
                _ => {}
            }
        }
        let bias = start.wrapping_sub(lowest?);
        let (address, size) = dynamic?;
        let entries = (usize::try_from(size).ok()? / DYNAMIC).min(MAX_DYNAMIC);
        let section = memory.bytes(bias.wrapping_add(address), entries * DYNAMIC)?;
        let tag = |wanted: u64| {
            section
                .chunks_exact(DYNAMIC)
                .take_while(|entry| word_at(entry, 0) != Some(0))
                .find(|entry| word_at(entry, 0) == Some(wanted))
                .and_then(|entry| word_at(entry, 8))
        };
        // glibc has made addresses of them, musl has not.
        let placed = |value: u64| {
            if value < start {
                bias.wrapping_add(value)
            } else {
                value
            }
        };
        let names = placed(tag(DT_STRTAB)?);
        Some(Self {
            bias,
            table: placed(tag(DT_SYMTAB)?),
            names,
            hash: Hash::read(memory, placed(tag(DT_GNU_HASH)?))?,
            soname: tag(DT_SONAME).map(|offset| names.wrapping_add(offset)),
        })
    }

    /// The symbol of this name, if the module defines it.
    pub fn find(&self, memory: &impl Memory, name: &str) -> Option<Symbol> {
        let wanted = gnu_hash(name.as_bytes());
        let bucket = u64::from(wanted % self.hash.buckets);
        let mut index = memory.half(self.hash.buckets_at.wrapping_add(4 * bucket))?;
        if index < self.hash.first {
            return None;
        }
        for _ in 0..MAX_CHAIN {
            let link = u64::from(index - self.hash.first);
            let hash = memory.half(self.hash.chains_at.wrapping_add(4 * link))?;
            // The lowest bit says that the chain ends.
            if hash | 1 == wanted | 1
                && let Some(symbol) = self.symbol(memory, index, name)
            {
                return Some(symbol);
            }
            if hash & 1 == 1 {
                return None;
            }
            index = index.checked_add(1)?;
        }
        None
    }

    /// `DT_SONAME`, at most 255 bytes of it.
    pub fn soname(&self, memory: &impl Memory) -> Option<String> {
        let mut name = Vec::new();
        let mut address = self.soname?;
        while name.len() < 255 {
            let mut byte = [0];
            if !memory.read(address, &mut byte) || byte[0] == 0 {
                break;
            }
            name.push(byte[0]);
            address = address.checked_add(1)?;
        }
        Some(String::from_utf8_lossy(&name).into_owned())
    }

    fn symbol(&self, memory: &impl Memory, index: u32, name: &str) -> Option<Symbol> {
        let entry = memory.bytes(self.table.wrapping_add(u64::from(index) * SYMBOL as u64), SYMBOL)?;
        let name_at = self.names.wrapping_add(u64::from(half_at(&entry, 0)?));
        let found = memory.bytes(name_at, name.len() + 1)?;
        // 0 is SHN_UNDEF: the module uses it, another one defines it.
        let section = u16::from_le_bytes([entry[6], entry[7]]);
        let same = found.strip_suffix(b"\0")? == name.as_bytes();
        (same && section != 0).then_some(Symbol {
            address: self.bias.wrapping_add(word_at(&entry, 8)?),
            size: word_at(&entry, 16)?,
        })
    }
}

impl Hash {
    fn read(memory: &impl Memory, address: u64) -> Option<Self> {
        let header = memory.bytes(address, 16)?;
        let buckets = half_at(&header, 0).filter(|buckets| *buckets > 0)?;
        let bloom = u64::from(half_at(&header, 8)?);
        let buckets_at = address.wrapping_add(16 + 8 * bloom);
        Some(Self {
            buckets,
            first: half_at(&header, 4)?,
            buckets_at,
            chains_at: buckets_at.wrapping_add(4 * u64::from(buckets)),
        })
    }
}

/// `dl_new_hash` of glibc: times 33, from 5381 on.
fn gnu_hash(name: &[u8]) -> u32 {
    name.iter().fold(5381u32, |hash, byte| {
        hash.wrapping_mul(33).wrapping_add(u32::from(*byte))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::{
        super::memory::{ProcessMemory, testing::Pieces},
        *,
    };

    /// Where the C library of this test is mapped.
    fn libc() -> u64 {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let line = maps
            .lines()
            .find(|line| line.contains("libc.so") || line.contains("ld-musl"))
            .expect("the C library is mapped");
        u64::from_str_radix(line.split('-').next().expect("an address"), 16).expect("hexadecimal")
    }

    #[test]
    fn a_function_of_the_c_library_is_where_the_linker_put_it() {
        let memory = ProcessMemory::open(Path::new("/proc"), std::process::id()).expect("our own memory");
        let symbols = Symbols::read(&memory, libc()).expect("a dynamic section");
        let found = symbols.find(&memory, "getpid").expect("getpid");
        assert_eq!(found.address, libc::getpid as *const () as u64);
        assert!(symbols.find(&memory, "no such function").is_none());
        assert!(symbols.soname(&memory).expect("a name").starts_with("libc."));
    }

    proptest! {
        #[test]
        fn any_bytes_are_symbols_or_none(
            mut bytes in proptest::collection::vec(any::<u8>(), 64..2048),
            offset in 0u8..128,
        ) {
            bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
            bytes[32..40].copy_from_slice(&u64::from(offset).to_le_bytes());
            bytes[56..58].copy_from_slice(&[4, 0]);
            let memory = Pieces(vec![(0x1000, bytes)]);
            if let Some(symbols) = Symbols::read(&memory, 0x1000) {
                symbols.find(&memory, "_PyRuntime");
                symbols.soname(&memory);
            }
        }
    }
}
