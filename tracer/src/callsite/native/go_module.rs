//! Go's `moduledata`: where the runtime keeps its tables. The table of functions alone doesn't say where inlined calls are,
//! nor, since 1.26, where the code begins.
//!
//! Layout: Go's `src/runtime/symtab.go`.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::{
    elf::{Bytes, Elf},
    gopclntab::word,
};

/// Bytes of the relocations, and of the section that it is in.
const MAX_SEARCHED: u64 = 32 * 1024 * 1024;
/// `R_X86_64_RELATIVE` and `R_AARCH64_RELATIVE`: the word is the addend plus where the file is loaded.
const RELATIVE: [u64; 2] = [8, 1_027];
/// Where `text` is in it, the address that the code begins at; since 1.16.
pub(super) const TEXT: usize = 176;
/// As much of it as is read here.
const SIZE: usize = 384;

/// The runtime's own description of the program (`runtime.firstmoduledata`). It begins with the address of the table of
/// functions, then that of its names: nothing else in the file does.
#[derive(Debug)]
pub(super) enum ModuleData {
    /// As it is in the file.
    Plain(Vec<u8>),
    /// In a file that the linker has yet to relocate: the words that it will have, by distance.
    Relocated(HashMap<usize, u64>),
}

impl ModuleData {
    pub(super) fn find(bytes: &Bytes, elf: &Elf, table: u64, names: usize) -> Option<Self> {
        let names = table.checked_add(names as u64)?;
        let plain = [".go.module", ".noptrdata"]
            .into_iter()
            .filter_map(|name| elf.section(name))
            .find_map(|section| {
                let data = bytes.read(section.offset, section.size.min(MAX_SEARCHED)).ok()?;
                let at = (0..data.len())
                    .step_by(8)
                    .find(|&at| word(&data, at) == Some(table) && word(&data, at + 8) == Some(names))?;
                data.get(at..).map(<[u8]>::to_vec)
            });
        if let Some(data) = plain {
            return Some(Self::Plain(data));
        }
        let all: HashMap<u64, u64> = relocations(bytes, elf).collect();
        let is_start = |(at, addend): &(&u64, &u64)| {
            **addend == table
                && at
                    .checked_add(8)
                    .is_some_and(|next| all.get(&next) == Some(&names))
        };
        let start = *all.iter().find(is_start)?.0;
        let fields = (0..SIZE).step_by(8);
        let words = fields.filter_map(|field| Some((field, *all.get(&start.checked_add(field as u64)?)?)));
        Some(Self::Relocated(words.collect()))
    }

    /// One of its words.
    pub(super) fn word(&self, field: usize) -> Option<u64> {
        match self {
            Self::Plain(data) => word(data, field),
            Self::Relocated(words) => words.get(&field).copied(),
        }
    }
}

/// The relocations that are relative to where the file is loaded: address of the word, and its value in the file's own
/// counting.
pub(super) fn relocations(bytes: &Bytes, elf: &Elf) -> impl Iterator<Item = (u64, u64)> {
    let section = elf.section(".rela.dyn");
    let entries = section.and_then(|section| bytes.read(section.offset, section.size.min(MAX_SEARCHED)).ok());
    let entries = entries.unwrap_or_default();
    (0..entries.len() / 24).filter_map(move |index| {
        let at = index * 24;
        let kind = word(&entries, at + 8)?;
        RELATIVE
            .contains(&kind)
            .then_some((word(&entries, at)?, word(&entries, at + 16)?))
    })
}
