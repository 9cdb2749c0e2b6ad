//! Memory of another process, for the readers of interpreters' structures.
//!
//! What is read was written by the process: pointers may lead anywhere, lists may be rings. So a reader has a number of
//! reads, and ends when they are used up; and it asks through a trait, so that tests can give it any memory at all.

#![forbid(unsafe_code)]

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io::IoSliceMut,
};

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use super::Capture;

/// Memory by address. Every read may fail.
pub trait Memory {
    /// Fills `into` from `address` on, or gives nothing.
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()>;

    /// `N` bytes.
    fn bytes<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read(address, &mut bytes)?;
        Some(bytes)
    }

    /// `length` bytes: the caller bounds them.
    fn vector(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read(address, &mut bytes)?;
        Some(bytes)
    }

    /// A byte.
    fn u8(&self, address: u64) -> Option<u8> {
        self.bytes::<1>(address).map(|[byte]| byte)
    }

    /// Two bytes in the host's order, like all below.
    fn u16(&self, address: u64) -> Option<u16> {
        self.bytes(address).map(u16::from_ne_bytes)
    }

    /// Four bytes.
    fn u32(&self, address: u64) -> Option<u32> {
        self.bytes(address).map(u32::from_ne_bytes)
    }

    /// Eight bytes.
    fn u64(&self, address: u64) -> Option<u64> {
        self.bytes(address).map(u64::from_ne_bytes)
    }

    /// A pointer that is not null.
    fn pointer(&self, address: u64) -> Option<u64> {
        self.u64(address).filter(|pointer| *pointer != 0)
    }

    /// A string of C, at most `limit` bytes long.
    fn c_string(&self, address: u64, limit: usize) -> Option<Vec<u8>> {
        // In pieces that end with a page's parts: the string may be the last thing before a hole.
        const PIECE: u64 = 64;
        let mut bytes = Vec::new();
        let mut at = address;
        while bytes.len() < limit {
            let length = PIECE - at % PIECE;
            let piece = self.vector(at, usize::try_from(length).ok()?)?;
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                bytes.extend_from_slice(&piece[..end]);
                return (bytes.len() <= limit).then_some(bytes);
            }
            bytes.extend_from_slice(&piece);
            at = at.checked_add(length)?;
        }
        None
    }
}

/// A live process's memory, as it is now.
pub struct ProcessMemory {
    pid: Pid,
    reads: Cell<u32>,
}

impl ProcessMemory {
    /// At most `reads` reads, each of which costs about a microsecond.
    #[must_use]
    pub fn new(pid: u32, reads: u32) -> Option<Self> {
        let pid = Pid::from_raw(i32::try_from(pid).ok()?);
        Some(Self {
            pid,
            reads: Cell::new(reads),
        })
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        self.reads.set(self.reads.get().checked_sub(1)?);
        let remote = RemoteIoVec {
            base: usize::try_from(address).ok()?,
            len: into.len(),
        };
        let wanted = into.len();
        let got = process_vm_readv(self.pid, &mut [IoSliceMut::new(into)], &[remote]).ok()?;
        (got == wanted).then_some(())
    }
}

/// Memory that is read a page at a time, and each page once: structures are many small things side by side, and a read
/// of eight bytes costs as much as one of a page. What it has read grows old with it.
pub struct Pages<M> {
    memory: M,
    pages: RefCell<HashMap<u64, Option<Box<[u8; PAGE]>>>>,
}

/// The smallest page there is: a larger one is only read in parts.
const PAGE: usize = 4096;

impl<M: Memory> Pages<M> {
    /// Nothing read yet.
    pub fn new(memory: M) -> Self {
        Self {
            memory,
            pages: RefCell::default(),
        }
    }
}

impl<M: Memory> Memory for Pages<M> {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        // A long text is read once, and not kept.
        if into.len() > PAGE {
            return self.memory.read(address, into);
        }
        let mut at = address;
        let mut done = 0;
        let mut pages = self.pages.borrow_mut();
        while done < into.len() {
            let offset = usize::try_from(at % PAGE as u64).ok()?;
            let length = (PAGE - offset).min(into.len() - done);
            let page = at - at % PAGE as u64;
            let bytes = pages
                .entry(page)
                .or_insert_with(|| self.memory.bytes::<PAGE>(page).map(Box::new))
                .as_ref()?;
            into.get_mut(done..done + length)?
                .copy_from_slice(bytes.get(offset..offset + length)?);
            done += length;
            at = at.checked_add(length as u64)?;
        }
        Some(())
    }
}

impl<M: Memory> Memory for &M {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        (**self).read(address, into)
    }
}

/// The stack as it was when it was captured, and everything else as it is now.
pub struct AtCapture<'a, M> {
    /// Address of the first byte.
    pub sp: u64,
    /// The copied stack.
    pub stack: &'a [u8],
    /// The rest.
    pub rest: M,
}

impl<'a, M: Memory> AtCapture<'a, M> {
    /// A capture's stack before `rest`.
    pub fn new(capture: &Capture<'a>, rest: M) -> Self {
        Self {
            sp: capture.registers.sp,
            stack: capture.stack,
            rest,
        }
    }

    /// Whether the copy has these bytes.
    #[must_use]
    pub fn on_stack(&self, address: u64, length: usize) -> Option<&'a [u8]> {
        let from = usize::try_from(address.checked_sub(self.sp)?).ok()?;
        self.stack.get(from..from.checked_add(length)?)
    }
}

impl<M: Memory> Memory for AtCapture<'_, M> {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        match self.on_stack(address, into.len()) {
            Some(bytes) => into.copy_from_slice(bytes),
            None => self.rest.read(address, into)?,
        }
        Some(())
    }
}

#[cfg(test)]
pub mod testing {
    //! Memory that tests make up.

    use std::collections::BTreeMap;

    use super::Memory;
    use crate::callsite::Frame;

    /// Fields of eight bytes, one after another.
    #[must_use]
    pub fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// Function, file and line of each frame.
    #[must_use]
    pub fn told(frames: &[Frame]) -> Vec<(&str, Option<&str>, Option<u32>)> {
        frames
            .iter()
            .map(|frame| {
                let function = frame.function.as_deref().unwrap_or("?");
                (function, frame.file.as_deref(), frame.line)
            })
            .collect()
    }

    /// Pieces by address; what is in none of them can't be read.
    #[derive(Clone, Debug, Default)]
    pub struct Pieces(pub BTreeMap<u64, Vec<u8>>);

    impl Pieces {
        /// Puts bytes at an address. Pieces must not overlap.
        pub fn put(&mut self, address: u64, bytes: impl AsRef<[u8]>) -> &mut Self {
            self.0.insert(address, bytes.as_ref().to_vec());
            self
        }
    }

    impl Memory for Pieces {
        fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
            let (start, piece) = self.0.range(..=address).next_back()?;
            let from = usize::try_from(address - start).ok()?;
            into.copy_from_slice(piece.get(from..from.checked_add(into.len())?)?);
            Some(())
        }
    }

    /// Memory in which every address can be read, made of a few repeated bytes: pointers lead to pointers.
    #[derive(Clone, Debug)]
    pub struct Noise(pub Vec<u8>);

    impl Memory for Noise {
        fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
            let length = self.0.len() as u64;
            for (offset, byte) in into.iter_mut().enumerate() {
                let at = address.wrapping_add(offset as u64).checked_rem(length)?;
                *byte = *self.0.get(usize::try_from(at).ok()?)?;
            }
            Some(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::Pieces, *};

    #[test]
    fn this_process_can_read_itself_as_often_as_allowed() {
        let value: u64 = 0x1234_5678_9abc_def0;
        let address = &raw const value as u64;
        let memory = ProcessMemory::new(std::process::id(), 2).expect("memory");
        assert_eq!(memory.u64(address), Some(value));
        assert_eq!(memory.u64(8), None, "nothing is mapped there");
        assert_eq!(memory.u64(address), None, "the third read");
    }

    #[test]
    fn pages_are_read_once_and_across_their_borders() {
        let mut memory = Pieces::default();
        let bytes: Vec<u8> = (0..2 * PAGE)
            .map(|at| u8::try_from(at % 251).expect("small"))
            .collect();
        memory.put(0x1000, &bytes);
        let pages = Pages::new(&memory);
        let border = 0x1000 + PAGE as u64 - 3;
        assert_eq!(pages.vector(border, 6).as_deref(), bytes.get(PAGE - 3..PAGE + 3));
        assert_eq!(pages.vector(0x1000, 2 * PAGE).as_deref(), Some(bytes.as_slice()));
        assert_eq!(pages.u8(0x1000 + 2 * PAGE as u64), None);
    }

    #[test]
    fn a_string_ends_at_its_end_or_not_at_all() {
        let mut memory = Pieces::default();
        memory.put(0x1000, [b'a'; 100]).put(0x1064, [0; 28]);
        memory.put(0x2030, *b"short\0..........");
        assert_eq!(memory.c_string(0x2030, 64).as_deref(), Some(&b"short"[..]));
        assert_eq!(memory.c_string(0x2030, 4), None, "longer than allowed");
        assert_eq!(memory.c_string(0x1000, 64), None, "no end within the bound");
        assert_eq!(memory.c_string(0x9000, 64), None);
    }

    #[test]
    fn the_captured_stack_is_read_before_the_present_one() {
        let mut present = Pieces::default();
        present.put(0x1000, [1; 64]);
        let memory = AtCapture {
            sp: 0x1010,
            stack: &[2; 16],
            rest: present,
        };
        assert_eq!(memory.u8(0x100f), Some(1));
        assert_eq!(memory.u8(0x1010), Some(2));
        assert_eq!(memory.u8(0x101f), Some(2));
        assert_eq!(memory.u8(0x1020), Some(1));
        assert_eq!(memory.u8(u64::MAX), None);
    }
}
