//! What a HotSpot virtual machine publishes about its own structures: `gHotSpotVMStructs` and its sisters, made for
//! the serviceability agent. With them nothing has to be known about a version but the meaning of a field; a field
//! that a version lacks is known as absent.
//!
//! <https://github.com/openjdk/jdk17u/blob/master/src/hotspot/share/runtime/vmStructs.hpp>

#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::callsite::{
    mapped::Symbols,
    process_memory::{Memory, Pages},
};

/// JDK 17 has 1,100 fields and 800 types.
const MAX_ENTRIES: u64 = 8192;
const MAX_NAME: usize = 256;
/// JDK 17 has 1,400 flags.
const MAX_FLAGS: u64 = 4096;

/// One field of a structure, or a static variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// From the structure's beginning.
    pub offset: u64,
    /// Of a static one; 0 for others.
    pub address: u64,
}

/// The published tables of one virtual machine.
#[derive(Debug, Default)]
pub struct Tables {
    fields: HashMap<String, Field>,
    sizes: HashMap<String, u64>,
}

impl Tables {
    /// Reads them. `None` when this `libjvm.so` is not a HotSpot machine, or publishes them in another form.
    pub fn read(memory: &impl Memory, symbols: &Symbols) -> Option<Self> {
        let memory = &Pages::new(memory);
        let variable = |name| memory.u64(symbols.address(memory, name)?);
        // The entries' own layout has been the same since JDK 7.
        if variable("gHotSpotVMStructEntryArrayStride")? != 48
            || variable("gHotSpotVMTypeEntryArrayStride")? != 40
        {
            return None;
        }
        let mut tables = Self::default();
        let text = |address| memory.c_string(address, MAX_NAME);
        let structs = variable("gHotSpotVMStructs")?;
        for number in 0..MAX_ENTRIES {
            let entry = structs.checked_add(number * 48)?;
            let Some(owner) = memory.pointer(entry) else { break };
            let (owner, name) = (text(owner)?, text(memory.u64(entry.checked_add(8)?)?)?);
            let is_static = memory.u32(entry.checked_add(24)?)? != 0;
            let (offset, address) = (entry.checked_add(32)?, entry.checked_add(40)?);
            let field = Field {
                offset: if is_static { 0 } else { memory.u64(offset)? },
                address: if is_static { memory.u64(address)? } else { 0 },
            };
            tables.fields.insert(joined(&owner, &name), field);
        }
        let types = variable("gHotSpotVMTypes")?;
        for number in 0..MAX_ENTRIES {
            let entry = types.checked_add(number * 40)?;
            let Some(name) = memory.pointer(entry) else { break };
            let size = memory.u64(entry.checked_add(32)?)?;
            tables
                .sizes
                .insert(String::from_utf8_lossy(&text(name)?).into_owned(), size);
        }
        Some(tables)
    }

    /// Offset of a field, as `Type.field`. An offset beyond any structure's size is none.
    #[must_use]
    pub fn offset(&self, field: &str) -> Option<u64> {
        let offset = self.fields.get(field)?.offset;
        (offset < 1 << 16).then_some(offset)
    }

    /// Address of a static variable, as `Type.field`.
    #[must_use]
    pub fn address(&self, field: &str) -> Option<u64> {
        let address = self.fields.get(field)?.address;
        (address != 0).then_some(address)
    }

    /// Size of a type in bytes.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        self.sizes
            .get(name)
            .copied()
            .filter(|size| (1..1 << 16).contains(size))
    }

    /// The present value of a flag that is true or false, as the machine itself has it: whether it came from the
    /// command line, a file or a variable.
    pub fn flag(&self, memory: &impl Memory, wanted: &str) -> Option<bool> {
        let memory = &Pages::new(memory);
        let flags = memory.pointer(self.address("JVMFlag.flags")?)?;
        let count = memory.u64(self.address("JVMFlag.numFlags")?)?.min(MAX_FLAGS);
        let (name, address) = (self.offset("JVMFlag._name")?, self.offset("JVMFlag._addr")?);
        let size = self.size("JVMFlag")?;
        for number in 0..count {
            let flag = flags.checked_add(number * size)?;
            let Some(text) = memory.pointer(flag.checked_add(name)?) else {
                continue;
            };
            if memory.c_string(text, MAX_NAME)? == wanted.as_bytes() {
                return Some(memory.u8(memory.pointer(flag.checked_add(address)?)?)? != 0);
            }
        }
        None
    }
}

fn joined(owner: &[u8], name: &[u8]) -> String {
    format!(
        "{}.{}",
        String::from_utf8_lossy(owner),
        String::from_utf8_lossy(name)
    )
}
