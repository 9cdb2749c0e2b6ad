//! Files mapped into a process, and addresses of their exported symbols, as the dynamic linker itself finds them: by
//! the hash table in the process's memory. So no file is opened, and it works alike in a container, and when the file
//! was replaced by a newer one. A look-up costs a dozen reads, whatever the number of symbols.
//!
//! Layouts: <https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html>; the hash table:
//! <https://sourceware.org/git/?p=glibc.git;a=blob;f=elf/dl-lookup.c> (`do_lookup_x`).

#![forbid(unsafe_code)]

use std::{fs::File, io::Read, path::Path};

use super::{native::elf, process_memory::Memory};

/// `/proc/PID/maps` of a process with 65,530 mappings (the kernel's default limit) has about 6 MiB.
const MAX_MAPS: u64 = 16 << 20;
/// Program headers and dynamic entries: real files have about a dozen and two dozen.
const MAX_HEADERS: u16 = 64;
const MAX_DYNAMIC: u64 = 256;
/// Entries of one chain of the hash table: the table is made so that there are a few.
const MAX_CHAIN: u32 = 64;
/// Longest name that is looked up.
const MAX_NAME: usize = 128;

/// A mapped ELF file: its path in the process's mount namespace, and where its first byte is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// As `/proc/PID/maps` has it.
    pub path: String,
    /// Address of the ELF header.
    pub base: u64,
}

impl Mapped {
    /// The file's own name.
    #[must_use]
    pub fn name(&self) -> &str {
        let path = self.path.strip_suffix(" (deleted)").unwrap_or(&self.path);
        path.rsplit('/').next().unwrap_or(path)
    }
}

/// What is mapped into a process from its beginning on: programs and libraries, in the order of addresses.
#[must_use]
pub fn files(proc: &Path, pid: u32) -> Vec<Mapped> {
    let mut text = Vec::new();
    let Ok(maps) = File::open(proc.join(pid.to_string()).join("maps")) else {
        return Vec::new();
    };
    // What was read before an error is still true.
    let _ = maps.take(MAX_MAPS).read_to_end(&mut text);
    parse(&String::from_utf8_lossy(&text))
}

fn parse(maps: &str) -> Vec<Mapped> {
    let mut files: Vec<Mapped> = Vec::new();
    for line in maps.lines() {
        // start-end perms offset dev inode path
        let Some(path) = line.find('/').and_then(|at| line.get(at..)) else {
            continue;
        };
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(_), Some("00000000")) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let start = range.split('-').next().unwrap_or_default();
        if let Ok(base) = u64::from_str_radix(start, 16) {
            files.push(Mapped {
                path: path.to_owned(),
                base,
            });
        }
    }
    files
}

/// A symbol of a mapped file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Where its value or code is in the process. For a thread's variable: its place in the module's block.
    pub address: u64,
    /// Bytes of it; 0 where the file does not say.
    pub size: u64,
}

/// The dynamic symbols of one mapped file.
#[derive(Clone, Copy, Debug)]
pub struct Symbols {
    bias: u64,
    names: u64,
    table: u64,
    hash: u64,
    buckets: u32,
    first: u32,
    bloom: u32,
    own_name: Option<u64>,
}

impl Symbols {
    /// Reads the file's headers at `base`.
    #[must_use]
    pub fn of(memory: &impl Memory, base: u64) -> Option<Self> {
        const LOAD: u32 = 1;
        const DYNAMIC: u32 = 2;
        let header: [u8; 64] = memory.bytes(base)?;
        // Structures are known of 64-bit programs for this processor.
        if !elf::is_native(header.first_chunk()?) {
            return None;
        }
        let count = u16::from_ne_bytes([header[56], header[57]]).min(MAX_HEADERS);
        let at = base.checked_add(u64_at(&header, 32)?)?;
        let (mut first_load, mut dynamic) = (None, None);
        for number in 0..u64::from(count) {
            let entry: [u8; 56] = memory.bytes(at.checked_add(number * 56)?)?;
            let (offset, address) = (u64_at(&entry, 8)?, u64_at(&entry, 16)?);
            match u32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]) {
                LOAD if offset == 0 => first_load = Some(address),
                DYNAMIC => dynamic = Some(address),
                _ => {}
            }
        }
        // For a program at a fixed address it is 0.
        let bias = base.wrapping_sub(first_load?);
        let dynamic = bias.wrapping_add(dynamic?);
        let (mut names, mut table, mut hash, mut own_name) = (None, None, None, None);
        for number in 0..MAX_DYNAMIC {
            let entry: [u8; 16] = memory.bytes(dynamic.checked_add(number * 16)?)?;
            // glibc's linker writes the address over the offset, musl's leaves it.
            let value = u64_at(&entry, 8)?;
            let address = if value < base {
                bias.wrapping_add(value)
            } else {
                value
            };
            match u64_at(&entry, 0)? {
                0 => break,
                5 => names = Some(address),
                6 => table = Some(address),
                14 => own_name = Some(value),
                0x6fff_fef5 => hash = Some(address),
                _ => {}
            }
        }
        let (hash, names) = (hash?, names?);
        Some(Self {
            bias,
            names,
            table: table?,
            hash,
            buckets: memory.u32(hash)?,
            first: memory.u32(hash.checked_add(4)?)?,
            bloom: memory.u32(hash.checked_add(8)?)?,
            own_name: own_name.and_then(|offset| names.checked_add(offset)),
        })
    }

    /// The name that the file gives itself (`DT_SONAME`), which its path may not have.
    #[must_use]
    pub fn own_name(&self, memory: &impl Memory) -> Option<String> {
        let name = memory.c_string(self.own_name?, MAX_NAME)?;
        String::from_utf8(name).ok()
    }

    /// Where a symbol is: [`Symbol::address`].
    #[must_use]
    pub fn address(&self, memory: &impl Memory, name: &str) -> Option<u64> {
        self.find(memory, name).map(|symbol| symbol.address)
    }

    /// The symbol of this name, if the file defines it.
    #[must_use]
    pub fn find(&self, memory: &impl Memory, name: &str) -> Option<Symbol> {
        const THREAD_LOCAL: u8 = 6;
        let wanted = hash_of(name);
        let bucket = u64::from(wanted.checked_rem(self.buckets)?);
        let buckets = self.hash.checked_add(16 + u64::from(self.bloom) * 8)?;
        let mut index = memory.u32(buckets.checked_add(bucket * 4)?)?;
        let chains = buckets.checked_add(u64::from(self.buckets) * 4)?;
        for _ in 0..MAX_CHAIN {
            let place = u64::from(index.checked_sub(self.first)?);
            let hash = memory.u32(chains.checked_add(place * 4)?)?;
            if hash | 1 == wanted | 1 {
                let symbol: [u8; 24] = memory.bytes(self.table.checked_add(u64::from(index) * 24)?)?;
                let at = u32::from_ne_bytes([symbol[0], symbol[1], symbol[2], symbol[3]]);
                let section = u16::from_ne_bytes([symbol[6], symbol[7]]);
                let found = memory.c_string(self.names.checked_add(u64::from(at))?, MAX_NAME);
                if section != 0 && found.as_deref() == Some(name.as_bytes()) {
                    let value = u64_at(&symbol, 8)?;
                    let local = symbol[4] & 0xf == THREAD_LOCAL;
                    let address = if local {
                        value
                    } else {
                        self.bias.wrapping_add(value)
                    };
                    let size = u64_at(&symbol, 16)?;
                    return Some(Symbol { address, size });
                }
            }
            if hash & 1 == 1 {
                return None;
            }
            index = index.checked_add(1)?;
        }
        None
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

/// The hash of `DT_GNU_HASH`.
fn hash_of(name: &str) -> u32 {
    name.bytes().fold(5381, |hash: u32, byte| {
        hash.wrapping_mul(33).wrapping_add(u32::from(byte))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::callsite::process_memory::{ProcessMemory, testing::Noise};

    #[test]
    fn a_symbol_of_the_c_library_is_where_the_linker_put_it() {
        let pid = std::process::id();
        let memory = ProcessMemory::new(pid, 1000).expect("memory");
        let files = files(Path::new("/proc"), pid);
        let library = files
            .iter()
            .find(|file| file.name() == "libc.so.6")
            .expect("libc");
        let symbols = Symbols::of(&memory, library.base).expect("dynamic symbols");
        let address = symbols.address(&memory, "environ").expect("environ");
        let stack = memory.u64(address).expect("readable");
        assert!(memory.pointer(stack).is_some(), "a list of strings");
        assert_eq!(symbols.address(&memory, "no_such_symbol"), None);
        assert_eq!(symbols.own_name(&memory).as_deref(), Some("libc.so.6"));
        let function = symbols.find(&memory, "getpid").expect("getpid");
        assert_eq!(function.address, libc::getpid as *const () as u64);
        assert!(function.size > 0);
    }

    #[test]
    fn a_file_that_was_replaced_keeps_its_name() {
        let maps = "7f00-7f10 r--p 00000000 fe:00 12  /opt/my app/node (deleted)\n\
                    7f10-7f20 r-xp 00010000 fe:00 12  /opt/my app/node (deleted)\n\
                    7f20-7f30 rw-p 00000000 00:00 0 \n\
                    bad line /x\n";
        let files = parse(maps);
        assert_eq!(files.len(), 1);
        assert_eq!((files[0].name(), files[0].base), ("node", 0x7f00));
    }

    proptest! {
        #[test]
        fn no_memory_makes_it_panic_or_run_on(bytes in prop::collection::vec(any::<u8>(), 1..300), base: u64) {
            // The header of a program for this processor.
            let mut all = std::fs::read("/proc/self/exe").expect("own executable");
            all.truncate(20);
            all.extend(bytes);
            let bytes = all;
            let memory = Noise(bytes);
            if let Some(symbols) = Symbols::of(&memory, base) {
                let _ = symbols.address(&memory, "environ");
                let _ = symbols.own_name(&memory);
            }
        }
    }
}
