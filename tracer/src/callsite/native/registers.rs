//! A thread's registers while its stack is unwound, and the copied stack behind them.
//!
//! Each value remembers which word of the stack it came from. A word that decided where a frame is, or where it
//! returns to, is a *witness*: a later stack with the same witnesses unwinds to the same frames, and needn't be.

#![forbid(unsafe_code)]

use crate::callsite::Capture;

// DWARF's register numbers: x86-64 psABI, figure 3.36 <https://gitlab.com/x86-psABIs/x86-64-ABI>, and "DWARF for the
// Arm 64-bit Architecture" <https://github.com/ARM-software/abi-aa/blob/main/aadwarf64/aadwarf64.rst>.
#[cfg(not(target_arch = "aarch64"))]
mod numbers {
    /// How many are followed.
    pub const COUNT: usize = 17;
    /// The stack pointer.
    pub const STACK: u16 = 7;
    /// The frame pointer.
    pub const FRAME: u16 = 6;
    /// The return address's column.
    pub const LINK: u16 = 16;
    /// What a callee must give back as it was: rbx, rbp, r12 to r15.
    pub const KEPT: &[u16] = &[3, 6, 12, 13, 14, 15];
}
#[cfg(target_arch = "aarch64")]
mod numbers {
    /// How many are followed.
    pub const COUNT: usize = 32;
    /// The stack pointer.
    pub const STACK: u16 = 31;
    /// The frame pointer.
    pub const FRAME: u16 = 29;
    /// The return address's register.
    pub const LINK: u16 = 30;
    /// What a callee must give back as it was: x19 to x29, and x30 until it calls.
    pub const KEPT: &[u16] = &[19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30];
}
pub use numbers::{COUNT, FRAME, KEPT, LINK, STACK};

/// A register's value, where it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// The value.
    pub value: Option<u64>,
    origin: Origin,
}

/// What a value rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Origin {
    /// Nothing that could differ: it follows from the stack pointer and the code.
    #[default]
    Code,
    /// The frame pointer that the capture began with.
    FramePointer,
    /// The link register that the capture began with.
    Link,
    /// The word of the stack at this distance from its beginning, in bytes.
    Stack(u32),
}

impl Word {
    /// A value that follows from what is a witness already.
    #[must_use]
    pub fn computed(value: Option<u64>) -> Self {
        Self {
            value,
            origin: Origin::Code,
        }
    }
}

/// What a walk rested on besides the instruction pointer and the code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witnesses {
    /// The first frame pointer, from the stack pointer; `None` if it never mattered.
    pub frame_pointer: Option<u64>,
    /// The first link register; `None` if it never mattered.
    pub link: Option<u64>,
    /// Words of the stack: distance from its beginning in bytes, value.
    pub code: Vec<(u32, u64)>,
    /// Words that are addresses in the stack: distance of the word, and of what it points to.
    pub pointers: Vec<(u32, u64)>,
}

impl Witnesses {
    /// Whether another capture has all of them.
    #[must_use]
    pub fn hold(&self, capture: &Capture<'_>) -> bool {
        let (sp, stack) = (capture.registers.sp, capture.stack);
        let is = |at: u32, expected: u64| word_at(stack, at as usize) == Some(expected);
        self.frame_pointer
            .is_none_or(|distance| capture.registers.fp.wrapping_sub(sp) == distance)
            && self.link.is_none_or(|link| capture.registers.lr == link)
            && self.code.iter().all(|(at, value)| is(*at, *value))
            && self
                .pointers
                .iter()
                .all(|(at, distance)| is(*at, sp.wrapping_add(*distance)))
    }
}

/// Registers, the stack behind them, and what has mattered so far.
#[derive(Debug)]
pub struct Registers<'a> {
    values: [Word; COUNT],
    /// Where code goes on: the instruction pointer.
    pc: u64,
    /// Where the copied stack begins.
    base: u64,
    stack: &'a [u8],
    witnesses: Witnesses,
}

impl<'a> Registers<'a> {
    /// As the kernel program found them.
    #[must_use]
    pub fn new(capture: &Capture<'a>) -> Self {
        let mut values = [Word::default(); COUNT];
        let registers = capture.registers;
        values[usize::from(STACK)] = Word::computed(Some(registers.sp));
        values[usize::from(FRAME)] = Word {
            value: Some(registers.fp),
            origin: Origin::FramePointer,
        };
        if cfg!(target_arch = "aarch64") {
            values[usize::from(LINK)] = Word {
                value: Some(registers.lr),
                origin: Origin::Link,
            };
        }
        Self {
            values,
            pc: registers.ip,
            base: registers.sp,
            stack: capture.stack,
            witnesses: Witnesses::default(),
        }
    }

    /// Where code goes on in this frame.
    #[must_use]
    pub fn pc(&self) -> u64 {
        self.pc
    }

    /// The stack pointer.
    #[must_use]
    pub fn sp(&self) -> u64 {
        self.values[usize::from(STACK)].value.unwrap_or_default()
    }

    /// The frame pointer, or what the code keeps in that register.
    #[must_use]
    pub fn fp(&self) -> Option<u64> {
        self.values[usize::from(FRAME)].value
    }

    /// How far an address is into the stack, if it is in the copy.
    #[must_use]
    pub fn distance(&self, address: u64) -> Option<u32> {
        let distance = address
            .checked_sub(self.base)
            .and_then(|distance| u32::try_from(distance).ok())?;
        (distance as usize <= self.stack.len()).then_some(distance)
    }

    /// A register as it is, without a look at what it means.
    #[must_use]
    pub fn get(&self, number: u16) -> Word {
        self.values.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// A register that is about to decide where something is.
    pub fn use_address(&mut self, number: u16) -> Option<u64> {
        self.use_word(self.get(number))
    }

    /// A value that is about to decide where something is: what it rests on becomes a witness.
    pub fn use_word(&mut self, word: Word) -> Option<u64> {
        let value = word.value?;
        match word.origin {
            Origin::Code => {}
            Origin::FramePointer => self.witnesses.frame_pointer = Some(value.wrapping_sub(self.base)),
            Origin::Link => self.witnesses.link = Some(value),
            Origin::Stack(at) if self.distance(value).is_some() => {
                self.witnesses.pointers.push((at, value.wrapping_sub(self.base)));
            }
            Origin::Stack(at) => self.witnesses.code.push((at, value)),
        }
        Some(value)
    }

    /// The word at an address, if it is in the copied stack.
    #[must_use]
    pub fn load(&self, address: u64) -> Word {
        let loaded = self
            .distance(address)
            .and_then(|at| Some((at, word_at(self.stack, at as usize)?)));
        loaded.map_or(Word::default(), |(at, value)| Word {
            value: Some(value),
            origin: Origin::Stack(at),
        })
    }

    /// Goes on in the caller: its registers, where it goes on, and its stack pointer.
    pub fn set_all(&mut self, values: [Word; COUNT], return_address: Word, sp: u64) {
        self.values = values;
        self.values[usize::from(STACK)] = Word::computed(Some(sp));
        self.set_pc(return_address);
    }

    /// Goes on in the caller of a function that keeps the frame pointer: on both machines its own frame begins with
    /// the caller's frame pointer and the return address. Registers other than these two are unknown from here on.
    ///
    /// `None` if the chain leaves the copied stack, or does not lead upwards.
    pub fn follow_frame_pointer(&mut self) -> Option<()> {
        let frame = self
            .fp()
            .filter(|fp| *fp >= self.sp() && self.distance(*fp).is_some())?;
        self.use_address(FRAME)?;
        let (caller, return_address) = (self.load(frame), self.load(frame.checked_add(8)?));
        return_address.value?;
        let mut values = [Word::default(); COUNT];
        values[usize::from(FRAME)] = caller;
        self.set_all(values, return_address, frame.checked_add(16)?);
        Some(())
    }

    /// Goes on in the caller, whose stack pointer was `sp` before the call. Only for code whose own tables say so (Go).
    ///
    /// `None` if the return address is not in the copied stack.
    pub fn return_to(&mut self, sp: u64) -> Option<()> {
        let return_address = self.load(sp.checked_sub(8)?);
        return_address.value?;
        let mut values = [Word::default(); COUNT];
        values[usize::from(FRAME)] = self.get(FRAME);
        self.set_all(values, return_address, sp);
        Some(())
    }

    /// Replaces the frame pointer by the word at an address.
    pub fn restore_frame_pointer(&mut self, at: u64) {
        self.values[usize::from(FRAME)] = self.load(at);
    }

    fn set_pc(&mut self, return_address: Word) {
        self.pc = self.use_word(return_address).map_or(0, strip_authentication);
    }

    /// What the walk rested on.
    #[must_use]
    pub fn into_witnesses(self) -> Witnesses {
        self.witnesses
    }
}

/// Arm's pointer authentication keeps a signature in the bits that no user address has.
fn strip_authentication(address: u64) -> u64 {
    if cfg!(target_arch = "aarch64") {
        address & ((1 << 48) - 1)
    } else {
        address
    }
}

fn word_at(stack: &[u8], at: usize) -> Option<u64> {
    stack
        .get(at..)?
        .first_chunk()
        .map(|chunk| u64::from_le_bytes(*chunk))
}
