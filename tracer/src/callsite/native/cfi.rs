//! One step up the stack by what the compiler wrote for exceptions: `.eh_frame`.
//!
//! `gimli` reads the tables; what they say is carried out here, because this program must know *how* each frame was
//! found. Libraries that unwind for profilers go on by frame pointer where the tables fail them, and don't tell: their
//! stack looks whole and may lack the very function that is asked for.

#![forbid(unsafe_code)]

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EhFrameHdr, EndianSlice, EvaluationResult, Expression,
    LittleEndian, Location, Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection as _,
    Value,
};

use super::{
    elf::{Bytes, Elf},
    registers::{self, Registers, Word},
};

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Functions in an index that is made here, for files without `.eh_frame_hdr`. Chromium has 600,000.
const MAX_INDEX: usize = 2_000_000;
/// Steps of a DWARF expression. Compilers make five or six; the format has loops.
const MAX_EXPRESSION_STEPS: u32 = 256;
/// Words an expression may fetch.
const MAX_EXPRESSION_READS: usize = 8;

/// The unwind information of one file.
#[derive(Debug)]
pub struct Tables {
    eh_frame: Vec<u8>,
    search: Search,
    bases: BaseAddresses,
}

#[derive(Debug)]
enum Search {
    /// `.eh_frame_hdr`, which the linker sorted.
    Header(Vec<u8>),
    /// First address and place in `.eh_frame`, sorted.
    Index(Vec<(u64, usize)>),
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The registers are the caller's now. In a signal handler's caller the address is that of an instruction, not one
    /// behind a call.
    Caller {
        /// The frame that was left is the kernel's call of a signal handler.
        signal: bool,
    },
    /// The tables say that nothing called this function.
    Root,
    /// No table has the address.
    Unknown,
    /// A word that is needed is not in the copied stack, or in a register whose value is not known.
    Unreadable,
}

impl Tables {
    /// Reads a file's tables. `None` where there are none, or none that can be read.
    pub(super) fn read(bytes: &Bytes, elf: &Elf) -> Option<Self> {
        let section = |name| elf.section(name).map_or(0, |section| section.address);
        let bases = BaseAddresses::default()
            .set_text(section(".text"))
            .set_got(section(".got"));
        let header = elf
            .eh_frame_hdr
            .and_then(|hdr| Some((bytes.read(hdr.offset, hdr.size).ok()?, hdr.address)));
        if let Some((raw, address)) = header
            && let Some(at) = eh_frame_address(&raw, &bases.clone().set_eh_frame_hdr(address))
        {
            // Without section headers the end isn't known. The list has its own end mark.
            let (offset, left) = elf.offset_of(at)?;
            let size = elf.section(".eh_frame").filter(|section| section.address == at);
            let size = size.map_or(left, |section| section.size.min(left));
            return Some(Self::with(
                bytes.read(offset, size).ok()?,
                at,
                Some((raw, address)),
                bases,
            ));
        }
        let section = elf.section(".eh_frame")?;
        Some(Self::with(
            bytes.read(section.offset, section.size).ok()?,
            section.address,
            None,
            bases,
        ))
    }

    /// From the bytes of `.eh_frame` and, if there is one, `.eh_frame_hdr`, with their addresses in the file's own
    /// counting.
    #[must_use]
    pub fn new(eh_frame: Vec<u8>, address: u64, header: Option<(Vec<u8>, u64)>) -> Self {
        Self::with(eh_frame, address, header, BaseAddresses::default())
    }

    fn with(eh_frame: Vec<u8>, address: u64, header: Option<(Vec<u8>, u64)>, bases: BaseAddresses) -> Self {
        let bases = bases.set_eh_frame(address);
        let (search, bases) = match header {
            Some((raw, address)) => (Search::Header(raw), bases.set_eh_frame_hdr(address)),
            None => (Search::Index(index(&eh_frame, &bases)), bases),
        };
        Self {
            eh_frame,
            search,
            bases,
        }
    }

    /// How much memory they take, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let search = match &self.search {
            Search::Header(raw) => raw.len(),
            Search::Index(index) => index.len() * size_of::<(u64, usize)>(),
        };
        self.eh_frame.len() + search
    }

    fn place(&self, address: u64) -> Option<usize> {
        match &self.search {
            Search::Header(raw) => {
                let header = EhFrameHdr::new(raw, LittleEndian).parse(&self.bases, 8).ok()?;
                let found = header.table()?.lookup(address, &self.bases).ok()?.direct().ok()?;
                usize::try_from(found.checked_sub(header.eh_frame_ptr().direct().ok()?)?).ok()
            }
            Search::Index(index) => {
                let after = index.partition_point(|(start, _)| *start <= address);
                Some(index.get(after.checked_sub(1)?)?.1)
            }
        }
    }

    /// Goes from the frame whose code is at `address` (in the file's own counting) to its caller.
    pub fn step(
        &self,
        context: &mut UnwindContext<usize>,
        address: u64,
        registers: &mut Registers<'_>,
    ) -> Step {
        let eh_frame = self.section();
        let Some(place) = self.place(address) else {
            return Step::Unknown;
        };
        let Ok(function) = eh_frame.fde_from_offset(&self.bases, place.into(), EhFrame::cie_from_offset)
        else {
            return Step::Unknown;
        };
        // The search finds the nearest function below; only here is its end known.
        if !function.contains(address) {
            return Step::Unknown;
        }
        let signal = function.is_signal_trampoline();
        let encoding = function.cie().encoding();
        let Ok(row) = function.unwind_info_for_address(&eh_frame, &self.bases, context, address) else {
            return Step::Unknown;
        };
        let evaluate = |expression: &UnwindExpression<usize>, registers: &mut Registers<'_>, first| {
            evaluate(expression.get(&eh_frame).ok()?, encoding, registers, first)
        };
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => registers
                .use_address(register.0)
                .and_then(|base| base.checked_add_signed(*offset)),
            CfaRule::Expression(expression) => evaluate(expression, registers, None),
        };
        let Some(cfa) = cfa else { return Step::Unreadable };

        // Each rule means the registers as they are before the step.
        let return_rule = row.register(function.cie().return_address_register());
        let mut caller = [Word::default(); registers::COUNT];
        for (number, slot) in (0u16..).zip(caller.iter_mut()) {
            let rule = row
                .register(Register(number))
                .unwrap_or_else(|| inherited(number));
            *slot = match rule {
                RegisterRule::SameValue => registers.get(number),
                RegisterRule::Offset(offset) => cfa
                    .checked_add_signed(offset)
                    .map_or(Word::default(), |at| registers.load(at)),
                RegisterRule::ValOffset(offset) => Word::computed(cfa.checked_add_signed(offset)),
                RegisterRule::Register(other) => registers.get(other.0),
                RegisterRule::Expression(expression) => evaluate(&expression, registers, Some(cfa))
                    .map_or(Word::default(), |at| registers.load(at)),
                RegisterRule::ValExpression(expression) => {
                    Word::computed(evaluate(&expression, registers, Some(cfa)))
                }
                // Undefined, and what other machines have.
                _ => Word::default(),
            };
        }
        let return_address = match return_rule {
            Some(RegisterRule::Undefined) => return Step::Root,
            // On x86-64 nobody leaves the rule out; on aarch64 a leaf function does, and has it in the link register.
            None if function.cie().return_address_register().0 == registers::LINK => {
                registers.get(registers::LINK)
            }
            _ => caller[usize::from(function.cie().return_address_register().0).min(registers::COUNT - 1)],
        };
        if return_address.value.is_none() {
            return Step::Unreadable;
        }
        registers.set_all(caller, return_address, cfa);
        Step::Caller { signal }
    }

    fn section(&self) -> EhFrame<Slice<'_>> {
        let mut eh_frame = EhFrame::new(&self.eh_frame, LittleEndian);
        eh_frame.set_address_size(8);
        eh_frame
    }
}

fn eh_frame_address(header: &[u8], bases: &BaseAddresses) -> Option<u64> {
    EhFrameHdr::new(header, LittleEndian)
        .parse(bases, 8)
        .ok()?
        .eh_frame_ptr()
        .direct()
        .ok()
}

/// What holds of a register that the tables don't mention: the callee must keep it, or nobody knows.
fn inherited(number: u16) -> RegisterRule<usize> {
    if registers::KEPT.contains(&number) {
        RegisterRule::SameValue
    } else {
        RegisterRule::Undefined
    }
}

fn index(eh_frame: &[u8], bases: &BaseAddresses) -> Vec<(u64, usize)> {
    let mut section = EhFrame::new(eh_frame, LittleEndian);
    section.set_address_size(8);
    let mut functions = Vec::new();
    let mut entries = section.entries(bases);
    while functions.len() < MAX_INDEX {
        let Ok(Some(entry)) = entries.next() else { break };
        if let CieOrFde::Fde(partial) = entry
            && let Ok(function) = partial.parse(EhFrame::cie_from_offset)
        {
            functions.push((function.initial_address(), function.offset()));
        }
    }
    functions.sort_unstable();
    functions
}

/// Carries a DWARF expression out: on the registers, and on the stack as far as it was copied.
fn evaluate(
    expression: Expression<Slice<'_>>,
    encoding: gimli::Encoding,
    registers: &mut Registers<'_>,
    first: Option<u64>,
) -> Option<u64> {
    let mut evaluation = expression.evaluation(encoding);
    evaluation.set_max_iterations(MAX_EXPRESSION_STEPS);
    if let Some(first) = first {
        evaluation.set_initial_value(first);
    }
    let mut reads = 0;
    let mut state = evaluation.evaluate().ok()?;
    loop {
        state = match state {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = registers.use_address(register.0)?;
                evaluation.resume_with_register(Value::Generic(value)).ok()?
            }
            EvaluationResult::RequiresMemory {
                address,
                size: 8,
                space: None,
                ..
            } if reads < MAX_EXPRESSION_READS => {
                reads += 1;
                let word = registers.load(address);
                let value = registers.use_word(word)?;
                evaluation.resume_with_memory(Value::Generic(value)).ok()?
            }
            _ => return None,
        };
    }
    match evaluation.as_result().first()?.location {
        Location::Address { address } => Some(address),
        _ => None,
    }
}
