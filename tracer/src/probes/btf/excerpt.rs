//! The kernel's types with all but a few left blank.
//!
//! To load a program by BTF, aya looks up one type's number by its name, and to be asked it wants to have built them
//! all: 20 ms and 20 MiB, of which every type but half a dozen is thrown away. So it is given data in
//! which the wanted types have the numbers that the kernel gives them, and in the places of all others stand
//! forward declarations without a name.

use super::{Btf, MAGIC, kind};

/// Length of the header, of version 1: <https://docs.kernel.org/bpf/btf.html>.
const HEADER: u32 = 24;

/// A type that is asked for by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A function.
    Function(String),
    /// A type's other name.
    Typedef(String),
}

impl Wanted {
    fn kind_and_name(&self) -> (u32, &str) {
        match self {
            Self::Function(name) => (kind::FUNC, name),
            Self::Typedef(name) => (kind::TYPEDEF, name),
        }
    }
}

impl Btf<'_> {
    /// BTF data with these types alone, at their numbers. Of several with one name the first is kept, which is
    /// the one that the kernel means, too; a type that the kernel does not have is missing there as well.
    #[must_use]
    pub fn excerpt(&self, wanted: &[Wanted]) -> Vec<u8> {
        let mut left: Vec<(u32, &str)> = wanted.iter().map(Wanted::kind_and_name).collect();
        let mut types = Vec::with_capacity(12 * self.starts.len());
        let mut strings = vec![0];
        // The first entry stands for `void`, which is not written down.
        for &place in self.starts.iter().skip(1) {
            if left.is_empty() {
                break;
            }
            let found = self.type_at(place as usize).ok().and_then(|it| {
                let this = |&(kind, name): &(u32, &str)| it.kind == kind && self.is_named(it.name, name);
                left.iter().copied().find(this)
            });
            let (name, kind) = match found {
                Some((kind, name)) => {
                    left.retain(|it| *it != (kind, name));
                    let start = length(&strings);
                    strings.extend(name.as_bytes());
                    strings.push(0);
                    (start, kind)
                }
                None => (0, kind::FWD),
            };
            types.extend([name, kind << 24, 0].into_iter().flat_map(u32::to_ne_bytes));
        }
        let (type_bytes, string_bytes) = (length(&types), length(&strings));
        let mut data = Vec::with_capacity(types.len() + strings.len() + HEADER as usize);
        data.extend(MAGIC.to_ne_bytes());
        data.extend([1, 0]);
        // Header, then where the types lie and how long they are, then the same of the strings.
        let words = [HEADER, 0, type_bytes, type_bytes, string_bytes];
        data.extend(words.into_iter().flat_map(u32::to_ne_bytes));
        data.extend(types);
        data.extend(strings);
        data
    }
}

/// The kernel's own data is some 6 MiB; its parser takes no more than 32-bit places anyway.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
