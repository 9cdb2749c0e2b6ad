//! Where a machine keeps what a walk needs, by its own tables: resolved once, absent as a whole when one of them is.

#![forbid(unsafe_code)]

use super::tables::Tables;
use crate::callsite::process_memory::Memory;

/// Offsets in bytes, addresses and sizes.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Where compiled code and stubs are.
    pub heaps: Vec<Heap>,
    /// Bytes before each blob in a heap.
    pub block: u64,
    /// `CodeBlob`.
    pub blob: Blob,
    /// `nmethod`: compiled methods.
    pub compiled: Compiled,
    /// `Method` and what it leads to.
    pub method: Method,
    /// Return address of whoever was called from native code: the end of a piece of Java stack.
    pub call_stub_return: u64,
    /// From a `JavaCallWrapper`: stack pointer, instruction and frame pointer of the piece before.
    pub anchor: [u64; 3],
    /// The number that `compressed::Numbers` begin with, which changed with JDK 20.
    pub excluded: u8,
}

/// A part of the code cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heap {
    /// First address.
    pub low: u64,
    /// Address behind the last, of what is reserved.
    pub high: u64,
    /// A byte for each segment: how far back its block begins.
    pub segments: u64,
    /// Size of a segment, as a power of two.
    pub log2_segment: u32,
}

/// What is read of a code blob.
#[derive(Clone, Copy, Debug)]
pub struct Blob {
    /// Pointer to its name.
    pub name: u64,
    /// Words of its frames.
    pub frame_size: u64,
    /// Its code's beginning.
    pub code: Place,
    /// Its size in bytes.
    pub size: u64,
}

/// How a blob tells where something of it is.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// By an address at this offset.
    Address(u64),
    /// By a distance from the blob's own beginning, in four bytes at this offset.
    FromBlob(u64),
    /// By a distance, in four bytes at the second offset, from the address at the first.
    From(u64, u64),
}

/// What is read of a compiled method.
#[derive(Clone, Copy, Debug)]
pub struct Compiled {
    /// The method that was compiled.
    pub method: u64,
    /// Instructions and their scopes.
    pub pcs: Place,
    /// Behind the last of them.
    pub pcs_end: Place,
    /// Scopes: which method, where, inlined into which.
    pub scopes: Place,
    /// The methods that scopes name by number.
    pub metadata: Place,
    /// Where frames return to once this code became invalid.
    pub deoptimised: Place,
    /// Where such a frame keeps its true return address: four bytes, from the stack pointer.
    pub original_pc: u64,
}

/// What is read of a method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// To its `ConstMethod`.
    pub constant: u64,
    /// From there: to the constants, number of the name, bytes of code, flags.
    pub constants: u64,
    /// Number of the name among the constants.
    pub name: u64,
    /// Bytes of byte code.
    pub code_size: u64,
    /// The lowest bit says whether there are line numbers.
    pub flags: u64,
    /// Size of a `ConstMethod`; the byte code follows.
    pub constant_size: u64,
    /// From the constants: to the class.
    pub holder: u64,
    /// Their number.
    pub length: u64,
    /// Size of a `ConstantPool`; the constants follow.
    pub pool_size: u64,
    /// From the class: to its name.
    pub class_name: u64,
    /// From the class: to its constants, which must be where we came from.
    pub class_constants: u64,
    /// Number of the source file's name: in the constants, or in the class.
    pub source: Source,
    /// From a symbol: its length.
    pub symbol_length: u64,
    /// From a symbol: its bytes.
    pub symbol_body: u64,
}

/// Where the source file's name is noted.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// JDK 17 and later.
    Constants(u64),
    /// Before.
    Class(u64),
}

impl Layout {
    /// Resolves a machine's layout.
    pub fn of(tables: &Tables, memory: &impl Memory) -> Option<Self> {
        let at = |field| tables.offset(field);
        let anchor = at("JavaCallWrapper._anchor")?;
        let major = memory.u32(tables.address("Abstract_VM_Version._vm_major_version")?)?;
        Some(Self {
            heaps: heaps(tables, memory)?,
            block: tables.size("HeapBlock")?,
            blob: Blob {
                name: at("CodeBlob._name")?,
                frame_size: at("CodeBlob._frame_size")?,
                size: at("CodeBlob._size")?,
                code: match at("CodeBlob._code_begin") {
                    Some(code) => Place::Address(code),
                    None => Place::FromBlob(at("CodeBlob._code_offset")?),
                },
            },
            compiled: compiled(tables)?,
            method: method(tables)?,
            call_stub_return: memory.pointer(tables.address("StubRoutines._call_stub_return_address")?)?,
            anchor: [
                anchor + at("JavaFrameAnchor._last_Java_sp")?,
                anchor + at("JavaFrameAnchor._last_Java_pc")?,
                anchor + at("JavaFrameAnchor._last_Java_fp")?,
            ],
            // https://bugs.openjdk.org/browse/JDK-8292758
            excluded: u8::from(major >= 20),
        })
    }
}

fn heaps(tables: &Tables, memory: &impl Memory) -> Option<Vec<Heap>> {
    /// There are one or three.
    const MAX: u32 = 8;
    let list = memory.pointer(tables.address("CodeCache._heaps")?)?;
    let length = tables
        .offset("GrowableArrayBase._len")
        .or_else(|| tables.offset("GenericGrowableArray._len"))?;
    let count = memory.u32(list.checked_add(length)?)?.min(MAX);
    let data = memory.pointer(list.checked_add(tables.offset("GrowableArray<int>._data")?)?)?;
    let (area, segments) = (
        tables.offset("CodeHeap._memory")?,
        tables.offset("CodeHeap._segmap")?,
    );
    let (low, high) = (
        tables.offset("VirtualSpace._low_boundary")?,
        tables.offset("VirtualSpace._high_boundary")?,
    );
    (0..u64::from(count))
        .map(|number| {
            let heap = memory.pointer(data.checked_add(number * 8)?)?;
            let at = |field: u64| heap.checked_add(field);
            Some(Heap {
                low: memory.pointer(at(area + low)?)?,
                high: memory.pointer(at(area + high)?)?,
                segments: memory.pointer(at(segments + low)?)?,
                log2_segment: memory
                    .u32(at(tables.offset("CodeHeap._log2_segment_size")?)?)?
                    .min(16),
            })
        })
        .collect()
}

fn compiled(tables: &Tables) -> Option<Compiled> {
    let at = |field| tables.offset(field);
    // Until JDK 22 a compiled method is one block; since JDK 25 (or little before) it is three.
    if let Some(scopes) = at("CompiledMethod._scopes_data_begin") {
        Some(Compiled {
            method: at("CompiledMethod._method")?,
            pcs: Place::FromBlob(at("nmethod._scopes_pcs_offset")?),
            pcs_end: Place::FromBlob(at("nmethod._dependencies_offset")?),
            scopes: Place::Address(scopes),
            metadata: Place::FromBlob(at("nmethod._metadata_offset")?),
            deoptimised: Place::Address(at("CompiledMethod._deopt_handler_begin")?),
            original_pc: at("nmethod._orig_pc_offset")?,
        })
    } else {
        let (fixed, changing) = (at("nmethod._immutable_data")?, at("CodeBlob._mutable_data")?);
        let scopes = Place::From(fixed, at("nmethod._scopes_data_offset")?);
        Some(Compiled {
            method: at("nmethod._method")?,
            pcs: Place::From(fixed, at("nmethod._scopes_pcs_offset")?),
            pcs_end: scopes,
            scopes,
            metadata: Place::From(changing, at("CodeBlob._relocation_size")?),
            deoptimised: Place::FromBlob(at("nmethod._deopt_handler_offset")?),
            original_pc: at("nmethod._orig_pc_offset")?,
        })
    }
}

fn method(tables: &Tables) -> Option<Method> {
    let at = |field| tables.offset(field);
    Some(Method {
        constant: at("Method._constMethod")?,
        constants: at("ConstMethod._constants")?,
        name: at("ConstMethod._name_index")?,
        code_size: at("ConstMethod._code_size")?,
        flags: at("ConstMethod._flags").or_else(|| at("ConstMethod._flags._flags"))?,
        constant_size: tables.size("ConstMethod")?,
        holder: at("ConstantPool._pool_holder")?,
        length: at("ConstantPool._length")?,
        pool_size: tables.size("ConstantPool")?,
        class_name: at("Klass._name")?,
        class_constants: at("InstanceKlass._constants")?,
        source: match at("ConstantPool._source_file_name_index") {
            Some(source) => Source::Constants(source),
            None => Source::Class(at("InstanceKlass._source_file_name_index")?),
        },
        symbol_length: at("Symbol._length")?,
        symbol_body: at("Symbol._body[0]").or_else(|| at("Symbol._body"))?,
    })
}
