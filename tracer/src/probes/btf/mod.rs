//! A reader for the few kernel types we need.
//!
//! Rust has no CO-RE, so structure offsets come from the kernel's BTF at run time. General BTF libraries
//! build every type (200–280 ms for a kernel); `scan` has to answer before that. This one walks the type
//! section once, noting where each type begins, and reads members only of the structures it is asked for. Names
//! are compared where types refer to them: to look for one in the two megabytes of all strings costs more than
//! all the rest.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>.

mod excerpt;
#[cfg(test)]
mod tests;

pub use excerpt::Wanted;

use anyhow::{Context as _, Result, bail, ensure};

const MAGIC: u16 = 0xeb9f;
/// Anonymous members nest a few levels deep in the kernel; a file that nests deeper is damaged.
const MAX_DEPTH: u32 = 16;

/// Kinds of BTF types, as `include/uapi/linux/btf.h` numbers them.
mod kind {
    pub const INT: u32 = 1;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// The kernel's type information, indexed by type id.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`; the first entry stands for `void`.
    starts: Vec<u32>,
    /// The ids of structures: one type in thirteen.
    structures: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Type {
    /// Where its name lies in the string section.
    name: u32,
    kind: u32,
    kind_flag: bool,
    members: usize,
    /// Size in bytes, or the id of the type referred to.
    size_or_id: u32,
    /// Where what follows the common part begins.
    body: usize,
}

impl<'a> Btf<'a> {
    /// Indexes BTF data.
    ///
    /// # Errors
    /// When it is not BTF of this machine's byte order, or is cut short.
    pub fn parse(data: &'a [u8]) -> Result<Self> {
        ensure!(
            data.len() >= 24 && u16_at(data, 0)? == MAGIC,
            "not BTF of this machine's byte order"
        );
        let header = u32_at(data, 4)? as usize;
        let section = |offset: usize, length: usize| -> Result<&'a [u8]> {
            let start = header
                .checked_add(u32_at(data, offset)? as usize)
                .context("BTF section out of range")?;
            let end = start
                .checked_add(u32_at(data, length)? as usize)
                .context("BTF section out of range")?;
            data.get(start..end).context("BTF data is cut short")
        };
        let types = section(8, 12)?;
        let strings = section(16, 20)?;
        let mut btf = Self {
            types,
            strings,
            starts: vec![0],
            structures: Vec::new(),
        };
        let mut place = 0;
        while place < types.len() {
            let current = btf.type_at(place)?;
            if current.kind == kind::STRUCT {
                btf.structures.push(u32::try_from(btf.starts.len())?);
            }
            btf.starts.push(u32::try_from(place)?);
            place = current.body + body_len(&current)?;
        }
        Ok(btf)
    }

    /// The id of a structure.
    fn structure(&self, name: &str) -> Option<u32> {
        self.structures.iter().copied().find(|&id| {
            let place = self.starts.get(id as usize);
            place
                .and_then(|&place| self.type_at(place as usize).ok())
                .is_some_and(|found| self.is_named(found.name, name))
        })
    }

    /// Byte offset of a member, named by a dotted path that may cross anonymous structures.
    ///
    /// `None` when this kernel has no such structure or member, or has it as a bit field.
    ///
    /// # Errors
    /// When the type data is damaged.
    pub fn offset(&self, structure: &str, path: &str) -> Result<Option<u32>> {
        let Some(mut id) = self.structure(structure) else {
            return Ok(None);
        };
        let mut bits = 0;
        for part in path.split('.') {
            let Some((offset, member)) = self.member(id, part, 0)? else {
                return Ok(None);
            };
            bits += offset;
            id = member;
        }
        Ok((bits % 8 == 0).then_some(bits / 8))
    }

    /// Bit offset and type of a member of a structure or union, through anonymous ones.
    fn member(&self, id: u32, name: &str, depth: u32) -> Result<Option<(u32, u32)>> {
        ensure!(depth < MAX_DEPTH, "BTF types nest too deeply");
        let Some(owner) = self.resolve(id)? else {
            return Ok(None);
        };
        if owner.kind != kind::STRUCT && owner.kind != kind::UNION {
            return Ok(None);
        }
        for index in 0..owner.members {
            let place = owner.body + 12 * index;
            let (member_name, member_type, raw) = (
                u32_at(self.types, place)?,
                u32_at(self.types, place + 4)?,
                u32_at(self.types, place + 8)?,
            );
            let (bits, width) = if owner.kind_flag {
                (raw & 0x00ff_ffff, raw >> 24)
            } else {
                (raw, 0)
            };
            if self.is_named(member_name, name) {
                return Ok((width == 0).then_some((bits, member_type)));
            }
            if member_name == 0
                && let Some((inner, found)) = self.member(member_type, name, depth + 1)?
            {
                return Ok(Some((bits + inner, found)));
            }
        }
        Ok(None)
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Result<Option<Type>> {
        for _ in 0..MAX_DEPTH {
            if id == 0 {
                return Ok(None);
            }
            let place = self.starts.get(id as usize).context("BTF type id out of range")?;
            let found = self.type_at(*place as usize)?;
            match found.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | 11 | kind::TYPE_TAG => id = found.size_or_id,
                _ => return Ok(Some(found)),
            }
        }
        bail!("BTF types refer to each other in a circle")
    }

    fn type_at(&self, place: usize) -> Result<Type> {
        let info = u32_at(self.types, place + 4)?;
        Ok(Type {
            name: u32_at(self.types, place)?,
            kind: info >> 24 & 0x1f,
            kind_flag: info >> 31 == 1,
            members: (info & 0xffff) as usize,
            size_or_id: u32_at(self.types, place + 8)?,
            body: place + 12,
        })
    }

    /// Whether the string at `place` is this one. Each is ended by a zero byte.
    fn is_named(&self, place: u32, name: &str) -> bool {
        self.strings
            .get(place as usize..)
            .and_then(|rest| rest.strip_prefix(name.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// Bytes that follow the common part of a type.
fn body_len(found: &Type) -> Result<usize> {
    let Type {
        kind: number,
        members,
        ..
    } = *found;
    Ok(match number {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * members,
        kind::ENUM | kind::FUNC_PROTO => 8 * members,
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
        2 | kind::FWD..=kind::FUNC | 16 | kind::TYPE_TAG => 0,
        other => bail!("BTF type kind {other} is not known to this version of connleak"),
    })
}

fn u16_at(data: &[u8], place: usize) -> Result<u16> {
    let bytes = data.get(place..place + 2).context("BTF data is cut short")?;
    Ok(u16::from_ne_bytes(bytes.try_into()?))
}

fn u32_at(data: &[u8], place: usize) -> Result<u32> {
    let bytes = data.get(place..place + 4).context("BTF data is cut short")?;
    Ok(u32::from_ne_bytes(bytes.try_into()?))
}
