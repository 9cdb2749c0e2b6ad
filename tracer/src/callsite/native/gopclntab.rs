//! Go's own table of functions, `.gopclntab`: names, lines and stack sizes, also in stripped binaries.
//!
//! The runtime needs it to grow stacks and to print traces, so `-ldflags "-s -w"` leaves it in. It is better than
//! symbols for names, and better than frame pointers for unwinding: functions in assembly (the system calls!) have no
//! frame of their own, and a walk along frame pointers leaves out their callers.
//!
//! Layouts: Go's `src/debug/gosym/pclntab.go` and `src/runtime/symtab.go`, versions 1.2 to 1.26.

#![forbid(unsafe_code)]

use super::{
    elf::{Bytes, Elf},
    go_module::{self, ModuleData, relocations},
};

/// Longest name or path that is taken; generic functions have long ones.
const MAX_STRING: usize = 4_096;
/// Entries of one function's table of lines (or stack sizes) that are looked at. The largest functions have tens of
/// thousands.
const MAX_STEPS: usize = 1 << 20;
/// Depth of inlined calls that is followed. The compiler's own limit is about a dozen.
const MAX_INLINED: usize = 32;

// Numbers of `src/internal/abi/symtab.go`.
/// Which table of a function tells the inlined call that an instruction belongs to.
const PCDATA_INLINE_TREE_INDEX: u32 = 2;
/// Which of a function's data is the tree of inlined calls.
const FUNCDATA_INLINE_TREE: u8 = 3;

/// The layout, by the table's magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    /// 1.2 to 1.15: one table, absolute addresses.
    Go2,
    /// 1.16, 1.17: names, files and numbers in tables of their own.
    Go16,
    /// 1.18, 1.19: addresses from the beginning of the code.
    Go18,
    /// 1.20 and later.
    Go20,
}

/// The table of one file.
#[derive(Debug)]
pub struct GoTable {
    data: Vec<u8>,
    version: Version,
    pointer: usize,
    quantum: u64,
    /// Address that the table's own addresses count from; 0 where they are absolute.
    text: u64,
    functions: usize,
    names: usize,
    units: usize,
    files: usize,
    numbers: usize,
    lines: usize,
    /// What inlined calls are read from, where the file shows where that is.
    inlined: Option<Vec<u8>>,
}

/// A function of the table, where it begins, and where its entry is.
#[derive(Clone, Copy, Debug)]
struct Function {
    address: u64,
    at: usize,
}

/// A Go function that an instruction belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoFrame {
    /// As Go prints it: `database/sql.(*DB).Query`.
    pub function: String,
    /// Source file, as the compiler was given it.
    pub file: Option<String>,
    /// Line.
    pub line: Option<u32>,
    /// It was put into the frame that follows.
    pub inlined: bool,
}

impl GoTable {
    /// Reads a file's table. `None` where there is none, or none that can be relied on.
    pub(super) fn read(bytes: &Bytes, elf: &Elf) -> Option<Self> {
        let (address, data) = locate(bytes, elf)?;
        let mut table = Self::parse(data)?;
        if table.version >= Version::Go18 {
            let module = ModuleData::find(bytes, elf, address, table.names);
            table.find_text(bytes, elf, address, module.as_ref())?;
            table.inlined = module.and_then(|module| table.find_inlined(bytes, elf, address, &module));
        }
        Some(table)
    }

    /// From the table's bytes, the address that the code begins at (for versions since 1.18), and the data that trees of
    /// inlined calls are in.
    #[must_use]
    pub fn new(data: Vec<u8>, text: u64, inlined: Option<Vec<u8>>) -> Option<Self> {
        let mut table = Self::parse(data)?;
        if table.version >= Version::Go18 {
            (table.text, table.inlined) = (text, inlined);
        }
        Some(table)
    }

    fn parse(data: Vec<u8>) -> Option<Self> {
        let version = version(int(&data, 0)?)?;
        let (quantum, pointer) = (u64::from(*data.get(6)?), usize::from(*data.get(7)?));
        if !matches!(quantum, 1 | 2 | 4) || pointer != 8 {
            return None;
        }
        let offset = |index: usize| word(&data, 8 + index * pointer).and_then(|at| usize::try_from(at).ok());
        let mut table = Self {
            version,
            pointer,
            quantum,
            text: 0,
            functions: offset(0)?,
            names: 0,
            units: 0,
            files: 0,
            numbers: 0,
            lines: 0,
            inlined: None,
            data: Vec::new(),
        };
        match version {
            Version::Go2 => {
                table.lines = 8 + pointer;
                let behind = table
                    .functions
                    .checked_mul(2 * pointer)?
                    .checked_add(table.lines + pointer)?;
                table.files = usize::try_from(int(&data, behind)?).ok()?;
            }
            Version::Go16 => {
                (table.names, table.units, table.files) = (offset(2)?, offset(3)?, offset(4)?);
                (table.numbers, table.lines) = (offset(5)?, offset(6)?);
            }
            Version::Go18 | Version::Go20 => {
                table.text = word(&data, 8 + 2 * pointer)?;
                (table.names, table.units, table.files) = (offset(3)?, offset(4)?, offset(5)?);
                (table.numbers, table.lines) = (offset(6)?, offset(7)?);
            }
        }
        // More functions than the table has room for are a lie.
        table.functions = table.functions.min(data.len() / 8);
        table.data = data;
        Some(table)
    }

    /// Where the code begins: in the header; in a relocation of the header; since 1.26 only in the module data. Else
    /// `.text`, if the file's entry then turns out to be Go's entry.
    fn find_text(
        &mut self,
        bytes: &Bytes,
        elf: &Elf,
        address: u64,
        module: Option<&ModuleData>,
    ) -> Option<()> {
        if self.text != 0 {
            return Some(());
        }
        let place = address.checked_add(8 + 2 * self.pointer as u64)?;
        let relocated = relocations(bytes, elf)
            .find(|(at, _)| *at == place)
            .map(|(_, addend)| addend);
        let told = relocated.or_else(|| module?.word(go_module::TEXT));
        if let Some(text) = told.filter(|text| *text != 0) {
            self.text = text;
            return Some(());
        }
        self.text = elf.section(".text")?.address;
        let entry = self
            .function(elf.entry)
            .filter(|function| function.address == elf.entry)?;
        self.name(entry)?.starts_with("_rt0_").then_some(())
    }

    /// The read-only data that trees of inlined calls are in (`go:func.*`).
    fn find_inlined(&self, bytes: &Bytes, elf: &Elf, address: u64, module: &ModuleData) -> Option<Vec<u8>> {
        if module.word(go_module::TEXT)? != self.text {
            return None;
        }
        // Behind `text`: etext, noptrdata, enoptrdata, data, edata, bss, ebss, noptrbss, enoptrbss, (since 1.20 covctrs,
        // ecovctrs,) end, gcdata, gcbss, types, etypes, rodata, gofunc.
        let rodata = go_module::TEXT + 8 * if self.version >= Version::Go20 { 17 } else { 15 };
        let (rodata, functions) = (module.word(rodata)?, module.word(rodata + 8)?);
        if rodata > functions {
            return None;
        }
        let (offset, left) = elf.offset_of(functions)?;
        // As a rule this table lies behind it.
        let size = address
            .checked_sub(functions)
            .map_or(left, |until| until.min(left));
        bytes.read(offset, size).ok()
    }

    /// How much memory it takes, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.data.len() + self.inlined.as_ref().map_or(0, Vec::len)
    }

    fn entry(&self, index: usize) -> Option<(u64, usize)> {
        if self.version >= Version::Go18 {
            let at = self.lines.checked_add(index.checked_mul(8)?)?;
            let address = self.text.checked_add(u64::from(int(&self.data, at)?))?;
            Some((address, usize::try_from(int(&self.data, at + 4)?).ok()?))
        } else {
            let at = self.lines.checked_add(index.checked_mul(16)?)?;
            Some((
                word(&self.data, at)?,
                usize::try_from(word(&self.data, at + 8)?).ok()?,
            ))
        }
    }

    fn function(&self, address: u64) -> Option<Function> {
        let (mut low, mut high) = (0, self.functions);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.0 <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let (start, at) = self.entry(low.checked_sub(1)?)?;
        // One entry more than there are functions: the end of the code.
        let end_at = self
            .lines
            .checked_add(low.checked_mul(if self.version >= Version::Go18 { 8 } else { 16 })?)?;
        let end = if self.version >= Version::Go18 {
            self.text.checked_add(u64::from(int(&self.data, end_at)?))?
        } else {
            word(&self.data, end_at)?
        };
        let base = if self.version == Version::Go2 {
            0
        } else {
            self.lines
        };
        (start <= address && address < end).then_some(Function {
            address: start,
            at: base.checked_add(at)?,
        })
    }

    /// Size of the entry address that a function's data begin with.
    fn head(&self) -> usize {
        if self.version >= Version::Go18 {
            4
        } else {
            self.pointer
        }
    }

    /// The 32-bit field of that number; the entry address is number 0.
    fn field(&self, function: Function, number: usize) -> Option<u32> {
        int(
            &self.data,
            function.at.checked_add(self.head() + (number - 1) * 4)?,
        )
    }

    fn name(&self, function: Function) -> Option<String> {
        self.name_at(self.field(function, 1)?)
    }

    fn name_at(&self, offset: u32) -> Option<String> {
        string(&self.data, self.names.checked_add(usize::try_from(offset).ok()?)?)
            .filter(|name| !name.is_empty())
    }

    /// The number that one of a function's tables has for an instruction: pairs of differences, of value and of address.
    fn number(&self, function: Function, table: u32, address: u64) -> Option<i32> {
        if table == 0 {
            return None;
        }
        let mut rest = self
            .data
            .get(self.numbers.checked_add(usize::try_from(table).ok()?)?..)?;
        let (mut value, mut pc) = (-1i32, function.address);
        for step in 0..MAX_STEPS {
            let delta = varint(&mut rest)?;
            if delta == 0 && step > 0 {
                return None;
            }
            let half = (delta >> 1).cast_signed();
            value = value.wrapping_add(if delta & 1 == 0 { half } else { !half });
            pc = pc.checked_add(u64::from(varint(&mut rest)?).checked_mul(self.quantum)?)?;
            if address < pc {
                return Some(value);
            }
        }
        None
    }

    fn file(&self, function: Function, address: u64) -> Option<String> {
        let number = usize::try_from(self.number(function, self.field(function, 5)?, address)?).ok()?;
        if self.version == Version::Go2 {
            let at = self.files.checked_add(number.checked_mul(4)?)?;
            return string(&self.data, usize::try_from(int(&self.data, at)?).ok()?);
        }
        let unit = usize::try_from(self.field(function, 8)?).ok()?;
        let at = self
            .units
            .checked_add(unit.checked_add(number)?.checked_mul(4)?)?;
        let offset = int(&self.data, at).filter(|offset| *offset != u32::MAX)?;
        string(&self.data, self.files.checked_add(usize::try_from(offset).ok()?)?)
    }

    fn line(&self, function: Function, address: u64) -> Option<u32> {
        let line = self.number(function, self.field(function, 6)?, address)?;
        u32::try_from(line).ok().filter(|line| *line > 0)
    }

    /// How far the stack pointer is below where it was when the function was entered, in bytes; then come the return
    /// address, and the caller. `None` for an address that is in no Go function.
    #[must_use]
    pub fn stack_size(&self, address: u64) -> Option<u64> {
        let function = self.function(address)?;
        u64::try_from(self.number(function, self.field(function, 4)?, address)?).ok()
    }

    /// Name of the function itself that an address is in, whatever was put into it.
    #[must_use]
    pub fn outer_function(&self, address: u64) -> Option<String> {
        self.name(self.function(address)?)
    }

    /// The functions that an instruction belongs to, innermost first. Empty where it is in no Go function.
    #[must_use]
    pub fn frames(&self, address: u64) -> Vec<GoFrame> {
        self.try_frames(address).unwrap_or_default()
    }

    fn try_frames(&self, address: u64) -> Option<Vec<GoFrame>> {
        let function = self.function(address)?;
        let name = self.name(function)?;
        let place = |address| (self.file(function, address), self.line(function, address));
        let Some(mut index) = self.inline_index(function, address) else {
            let (file, line) = place(address);
            return Some(vec![GoFrame {
                function: name,
                file,
                line,
                inlined: false,
            }]);
        };
        let mut frames = Vec::new();
        let mut at = address;
        for _ in 0..MAX_INLINED {
            let Some((inlined, parent)) = self.inlined_call(function, index) else {
                // The line is the inlined function's, whose name is not known: say neither.
                frames.push(GoFrame {
                    function: name,
                    file: None,
                    line: None,
                    inlined: false,
                });
                return Some(frames);
            };
            let (file, line) = place(at);
            frames.push(GoFrame {
                function: inlined,
                file,
                line,
                inlined: true,
            });
            at = parent;
            match self.inline_index(function, at) {
                Some(next) => index = next,
                None => break,
            }
        }
        let (file, line) = place(at);
        frames.push(GoFrame {
            function: name,
            file,
            line,
            inlined: false,
        });
        Some(frames)
    }

    fn tail(&self) -> usize {
        // funcID, flag, and the number of data come behind cuOffset (1.16), startLine (1.20).
        let fields = match self.version {
            Version::Go2 => 7,
            Version::Go16 | Version::Go18 => 8,
            Version::Go20 => 9,
        };
        self.head() + fields * 4
    }

    fn inline_index(&self, function: Function, address: u64) -> Option<u32> {
        if self.field(function, 7)? <= PCDATA_INLINE_TREE_INDEX {
            return None;
        }
        let tables = function.at.checked_add(self.tail() + 4)?;
        let table = int(
            &self.data,
            tables.checked_add(PCDATA_INLINE_TREE_INDEX as usize * 4)?,
        )?;
        u32::try_from(self.number(function, table, address)?).ok()
    }

    /// Name of an inlined call, and the address in its caller that stands for the place of the call.
    fn inlined_call(&self, function: Function, index: u32) -> Option<(String, u64)> {
        let data = self.inlined.as_ref()?;
        let tail = function.at.checked_add(self.tail())?;
        if *self.data.get(tail + 3)? <= FUNCDATA_INLINE_TREE {
            return None;
        }
        let tables = usize::try_from(self.field(function, 7)?).ok()?;
        let at = tables
            .checked_add(usize::from(FUNCDATA_INLINE_TREE))?
            .checked_mul(4)?
            .checked_add(tail + 4)?;
        let tree = int(&self.data, at).filter(|tree| *tree != u32::MAX)?;
        // `runtime.inlinedCall`: 1.18 {parent, id, file, line, name, parentPc}, 1.20 {id, name, parentPc, startLine}.
        let (size, name, parent) = if self.version >= Version::Go20 {
            (16, 4, 8)
        } else {
            (20, 12, 16)
        };
        let entry = usize::try_from(tree)
            .ok()?
            .checked_add(usize::try_from(index).ok()?.checked_mul(size)?)?;
        let name = self.name_at(int(data, entry.checked_add(name)?)?)?;
        let parent = function
            .address
            .checked_add(u64::from(int(data, entry.checked_add(parent)?)?))?;
        Some((name, parent))
    }
}

fn int(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|chunk| u32::from_le_bytes(*chunk))
}

/// The table's address and bytes. A C linker that makes a position-independent program puts it among other data that
/// must be relocated, without a name, but aligned and with its magic number.
fn locate(bytes: &Bytes, elf: &Elf) -> Option<(u64, Vec<u8>)> {
    const ALIGNMENT: usize = 32;
    let named = [".gopclntab", ".data.rel.ro.gopclntab"];
    if let Some(section) = named.into_iter().find_map(|name| elf.section(name)) {
        return Some((section.address, bytes.read(section.offset, section.size).ok()?));
    }
    // Other programs have such a section, too: this one says that it is Go's.
    elf.section(".go.buildinfo")?;
    let section = elf.section(".data.rel.ro")?;
    let mut data = bytes.read(section.offset, section.size).ok()?;
    let at = (0..data.len()).step_by(ALIGNMENT).find(|&at| {
        let magic = int(&data, at).is_some_and(|magic| version(magic).is_some());
        magic && matches!(data.get(at + 4..at + 8), Some([0, 0, 1 | 2 | 4, 8]))
    })?;
    Some((section.address.checked_add(at as u64)?, data.split_off(at)))
}

fn version(magic: u32) -> Option<Version> {
    match magic {
        0xffff_fffb => Some(Version::Go2),
        0xffff_fffa => Some(Version::Go16),
        0xffff_fff0 => Some(Version::Go18),
        0xffff_fff1 => Some(Version::Go20),
        _ => None,
    }
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|chunk| u64::from_le_bytes(*chunk))
}

fn string(bytes: &[u8], at: usize) -> Option<String> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().take(MAX_STRING).position(|&byte| byte == 0)?;
    Some(String::from_utf8_lossy(rest.get(..end)?).into_owned())
}

/// Seven bits a byte, low ones first, the eighth says that another byte follows.
fn varint(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A table in which everything is somewhere else.
    fn damaged() -> impl Strategy<Value = Vec<u8>> {
        let magic = prop::sample::select(vec![0xffff_fffbu32, 0xffff_fffa, 0xffff_fff0, 0xffff_fff1]);
        let words = prop::collection::vec(prop_oneof![0u64..600, any::<u64>()], 8);
        (magic, words, prop::collection::vec(any::<u8>(), 0..600)).prop_map(|(magic, words, rest)| {
            let mut bytes = magic.to_le_bytes().to_vec();
            bytes.extend_from_slice(&[0, 0, 1, 8]);
            bytes.extend(words.into_iter().flat_map(u64::to_le_bytes));
            bytes.extend(rest);
            bytes
        })
    }

    proptest! {
        #[test]
        fn a_damaged_table_panics_nowhere(bytes in damaged(), address in prop_oneof![0u64..600, any::<u64>()]) {
            if let Some(table) = GoTable::new(bytes, 0, Some(vec![7; 64])) {
                let _ = table.frames(address);
                let _ = table.stack_size(address);
            }
        }
    }

    #[test]
    fn numbers_of_seven_bits_a_byte_are_read_and_endless_ones_are_not() {
        assert_eq!(varint(&mut &[0x05][..]), Some(5));
        assert_eq!(varint(&mut &[0x80, 0x01][..]), Some(128));
        assert_eq!(varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Some(u32::MAX));
        assert_eq!(varint(&mut &[0xff; 9][..]), None);
        assert_eq!(varint(&mut &[0x80][..]), None);
    }
}
