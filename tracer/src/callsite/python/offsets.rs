//! Where each version of CPython keeps what is read here: the one table of its layouts.
//!
//! Up to 3.12 the offsets are fixed for each minor version, since the structures are frozen with its first release. They
//! were read from the debug information of CPython 3.8.18, 3.9.18, 3.10.13, 3.11.7 and 3.12.1 for x86-64 (`ptype /o`); the
//! headers that say the same are named at each. From 3.13 on the interpreter has a table of its own,
//! `_Py_DebugOffsets` (`Include/internal/pycore_runtime.h` of v3.13.0, `pycore_debug_offsets.h` of v3.14.0), at the
//! beginning of `_PyRuntime`, which is read and checked.

use std::fmt;

use connleak_ebpf::{ABSENT, PYTHON_ENTRY, PYTHON_FRAME_BYTES, PYTHON_SHIM, PythonLayout};

use super::{lines::LineTable, memory::word_at};
use crate::callsite::process_memory::Memory;

/// A version of CPython, as `PY_VERSION_HEX` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// 3.
    pub major: u8,
    /// 8 to 14 are known.
    pub minor: u8,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// All that is known of one interpreter's structures. Offsets are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What the kernel program walks by.
    pub walk: PythonLayout,
    /// In `PyThreadState`: its interpreter.
    pub thread_interpreter: u32,
    /// In `PyThreadState`: `gettid()`, since 3.11.
    pub native_thread_id: Option<u32>,
    /// In a code object.
    pub code: CodeLayout,
    /// In `PyASCIIObject`, whose other members are the same in all versions: where the characters are.
    pub ascii_text: u32,
    /// In `PyCompactUnicodeObject`: likewise.
    pub wide_text: u32,
    /// How lines are kept.
    pub lines: LineTable,
}

/// In `PyCodeObject` (`Include/code.h`; from 3.9 on `Include/cpython/code.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeLayout {
    /// `co_firstlineno`
    pub first_line: u32,
    /// `co_filename`
    pub file: u32,
    /// `co_qualname`, or `co_name` before 3.11.
    pub function: u32,
    /// `co_linetable`, or `co_lnotab` before 3.10.
    pub lines: u32,
    /// `co_code_adaptive`: the instructions, since 3.11. Before, a frame has an index.
    pub instructions: Option<u32>,
    /// Bytes that one unit of that index stands for: 1 up to 3.9, 2 in 3.10.
    pub index_unit: u32,
}

/// `PyBytesObject`: `ob_size` and `ob_sval`, the same in all versions.
pub const BYTES_SIZE: usize = 16;
/// See [`BYTES_SIZE`].
pub const BYTES_TEXT: u64 = 32;
/// `PyObject.ob_type`, in builds with a global interpreter lock.
pub const OBJECT_TYPE: usize = 8;
/// `PyASCIIObject.length`.
pub const TEXT_LENGTH: usize = 16;
/// `PyASCIIObject.state`: 3 bits `kind` from bit 2 on, then `compact` and `ascii`.
pub const TEXT_STATE: usize = 32;

/// `PyThreadState.interp`, in all versions (`Include/cpython/pystate.h`).
const THREAD_INTERPRETER: u32 = 16;

/// 3.8 to 3.10: a frame is a `PyFrameObject` (`Include/frameobject.h`, `Include/cpython/frameobject.h`), and the runtime
/// structures are in `Include/internal/pycore_runtime.h` and `pycore_pystate.h`/`pycore_interp.h`.
const fn object_frames(instruction: u32, lines: LineTable, index_unit: u32) -> Layout {
    Layout {
        walk: PythonLayout {
            runtime: 0,
            interpreters_head: 32,
            interpreter_next: 0,
            interpreter_threads: 8,
            thread_next: 8,
            thread_id: 176,
            thread_frame: 24,
            cframe_frame: ABSENT,
            frame_size: instruction + 8,
            frame_code: 32,
            frame_previous: 24,
            frame_instruction: instruction,
            frame_mark: 0,
            entry_bit: 0,
            shim_from: u32::MAX,
            entry: PYTHON_ENTRY,
            instruction_mask: 0xffff_ffff,
        },
        thread_interpreter: THREAD_INTERPRETER,
        native_thread_id: None,
        code: CodeLayout {
            first_line: 40,
            file: 104,
            function: 112,
            lines: 120,
            instructions: None,
            index_unit,
        },
        ascii_text: 48,
        wide_text: 72,
        lines,
    }
}

/// 3.11: `_PyInterpreterFrame` of `Include/internal/pycore_frame.h`, reached through `_PyCFrame`.
const V3_11: Layout = Layout {
    walk: PythonLayout {
        runtime: 0,
        interpreters_head: 40,
        interpreter_next: 0,
        interpreter_threads: 16,
        thread_next: 8,
        thread_id: 152,
        thread_frame: 56,
        cframe_frame: 8,
        frame_size: 72,
        frame_code: 32,
        frame_previous: 48,
        frame_instruction: 56,
        frame_mark: 68,
        entry_bit: 1,
        shim_from: u32::MAX,
        entry: 0,
        instruction_mask: !PYTHON_ENTRY,
    },
    thread_interpreter: THREAD_INTERPRETER,
    native_thread_id: Some(160),
    code: CodeLayout {
        first_line: 72,
        file: 112,
        function: 128,
        lines: 136,
        instructions: Some(184),
        index_unit: 2,
    },
    ascii_text: 48,
    wide_text: 72,
    lines: LineTable::Locations,
};

/// 3.12: the code object comes first in a frame, and calls from C have frames of their own.
const V3_12: Layout = Layout {
    walk: PythonLayout {
        interpreter_threads: 72,
        thread_id: 136,
        cframe_frame: 0,
        frame_code: 0,
        frame_previous: 8,
        frame_mark: 70,
        entry_bit: 0,
        shim_from: PYTHON_SHIM,
        ..V3_11.walk
    },
    native_thread_id: Some(144),
    code: CodeLayout {
        first_line: 68,
        instructions: Some(192),
        ..V3_11.code
    },
    ascii_text: 40,
    wide_text: 56,
    ..V3_11
};

/// The layout of a version without a table of its own.
#[must_use]
pub fn fixed(version: Version) -> Option<Layout> {
    match (version.major, version.minor) {
        (3, 8 | 9) => Some(object_frames(104, LineTable::Increments, 1)),
        (3, 10) => Some(object_frames(96, LineTable::Ranges, 2)),
        (3, 11) => Some(V3_11),
        (3, 12) => Some(V3_12),
        _ => None,
    }
}

/// Where `_Py_DebugOffsets` of a minor version has what is needed. 3.14 added members in the middle.
struct Places {
    interpreter_state: usize,
    thread_state: usize,
    frame: usize,
    code: usize,
    object: usize,
    bytes: usize,
    unicode: usize,
    size: usize,
}

const PLACES_3_13: Places = Places {
    interpreter_state: 48,
    thread_state: 152,
    frame: 224,
    code: 272,
    object: 352,
    bytes: 512,
    unicode: 536,
    size: 584,
};

const PLACES_3_14: Places = Places {
    interpreter_state: 48,
    thread_state: 176,
    frame: 248,
    code: 312,
    object: 400,
    bytes: 592,
    unicode: 616,
    size: 760,
};

/// `_Py_Debug_Cookie`
const COOKIE: &[u8; 8] = b"xdebugpy";
/// `PyInterpreterState` has 226 KiB in 3.14; what is told beyond this is no offset.
const MOST: u64 = 1 << 20;

/// Why a table was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not there, or not to be read.
    Unreadable,
    /// Its threads share no lock, and objects have another layout.
    FreeThreaded,
    /// It says something else than its version should.
    Inconsistent,
}

/// The layout that the interpreter whose `_PyRuntime` is at `runtime` tells, and that of its `PY_VERSION_HEX`.
///
/// # Errors
/// When there is no such table, or something in it can't be true.
pub fn told(memory: &impl Memory, runtime: u64, version: Version, hex: u32) -> Result<Layout, Refusal> {
    let places = match (version.major, version.minor) {
        (3, 13) => PLACES_3_13,
        (3, 14) => PLACES_3_14,
        _ => return Err(Refusal::Inconsistent),
    };
    let table = memory.vector(runtime, places.size).ok_or(Refusal::Unreadable)?;
    if table.get(..8) != Some(COOKIE) || word_at(&table, 8) != Some(u64::from(hex)) {
        return Err(Refusal::Inconsistent);
    }
    if word_at(&table, 16) != Some(0) {
        return Err(Refusal::FreeThreaded);
    }
    let member = |place: usize| {
        word_at(&table, place)
            .filter(|offset| *offset < MOST)
            .and_then(|offset| u32::try_from(offset).ok())
            .ok_or(Refusal::Inconsistent)
    };
    let owner = member(places.frame + 40)?;
    let layout = Layout {
        walk: PythonLayout {
            interpreters_head: member(40)?,
            interpreter_next: member(places.interpreter_state + 16)?,
            interpreter_threads: member(places.interpreter_state + 24)?,
            thread_next: member(places.thread_state + 16)?,
            thread_frame: member(places.thread_state + 32)?,
            thread_id: member(places.thread_state + 40)?,
            cframe_frame: ABSENT,
            frame_size: owner + 1,
            frame_previous: member(places.frame + 8)?,
            frame_code: member(places.frame + 16)?,
            frame_instruction: member(places.frame + 24)?,
            frame_mark: owner,
            ..V3_12.walk
        },
        thread_interpreter: member(places.thread_state + 24)?,
        native_thread_id: Some(member(places.thread_state + 48)?),
        code: CodeLayout {
            file: member(places.code + 8)?,
            function: member(places.code + 24)?,
            lines: member(places.code + 32)?,
            first_line: member(places.code + 40)?,
            instructions: Some(member(places.code + 72)?),
            index_unit: 2,
        },
        ascii_text: member(places.unicode + 24)?,
        // `utf8_length` and `utf8` lie between (`Include/cpython/unicodeobject.h`).
        wide_text: member(places.unicode + 24)? + 16,
        lines: LineTable::Locations,
    };
    let as_known = member(places.object + 8)? as usize == OBJECT_TYPE
        && member(places.bytes + 8)? as usize == BYTES_SIZE
        && u64::from(member(places.bytes + 16)?) == BYTES_TEXT
        && member(places.unicode + 8)? as usize == TEXT_STATE
        && member(places.unicode + 16)? as usize == TEXT_LENGTH;
    if as_known && walkable(&layout.walk) {
        Ok(layout)
    } else {
        Err(Refusal::Inconsistent)
    }
}

/// Whether the kernel program can walk by it: a frame's members lie in what it reads, at whole words.
fn walkable(walk: &PythonLayout) -> bool {
    walk.frame_size as usize <= PYTHON_FRAME_BYTES
        && walk.frame_mark < walk.frame_size
        && [walk.frame_code, walk.frame_previous, walk.frame_instruction]
            .iter()
            .all(|offset| offset % 8 == 0 && offset + 8 <= walk.frame_size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::callsite::process_memory::testing::Pieces;

    /// `_PyRuntime.debug_offsets` of CPython 3.13.0, as gdb prints it.
    fn table_3_13() -> Vec<u8> {
        let mut words = vec![u64::from_le_bytes(*COOKIE), 0x030d_00f0, 0];
        words.extend([283_320, 608, 632]);
        words.extend([
            194_968, 7272, 7264, 7344, 7400, 7656, 7640, 7648, 16, 7752, 0, 7768, 7760,
        ]);
        words.extend([304, 0, 8, 16, 72, 152, 160, 232, 32]);
        words.extend([80, 8, 0, 56, 72, 70]);
        words.extend([208, 112, 120, 128, 136, 68, 52, 96, 104, 200]);
        words.extend([16, 8]);
        words.extend([
            416, 24, 88, 168, 32, 24, 16, 40, 24, 16, 48, 32, 40, 24, 16, 32, 16, 24,
        ]);
        words.extend([40, 16, 32]);
        words.extend([64, 32, 16, 40]);
        words.extend([240, 200]);
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn told_of(table: Vec<u8>) -> Result<Layout, Refusal> {
        let version = Version { major: 3, minor: 13 };
        let mut memory = Pieces::default();
        memory.put(0x1000, table);
        told(&memory, 0x1000, version, 0x030d_00f0)
    }

    #[test]
    fn the_table_of_3_13_is_read() {
        let layout = told_of(table_3_13()).expect("a table");
        assert_eq!(layout.walk.interpreters_head, 632);
        assert_eq!(layout.walk.interpreter_next, 7264);
        assert_eq!(layout.walk.interpreter_threads, 7344);
        assert_eq!((layout.walk.thread_id, layout.native_thread_id), (152, Some(160)));
        assert_eq!((layout.walk.frame_instruction, layout.walk.frame_mark), (56, 70));
        assert_eq!(
            layout.code,
            CodeLayout {
                first_line: 68,
                file: 112,
                function: 128,
                lines: 136,
                instructions: Some(200),
                index_unit: 2
            }
        );
        assert_eq!((layout.ascii_text, layout.wide_text), (40, 56));
    }

    #[test]
    fn a_free_threaded_build_is_refused() {
        let mut table = table_3_13();
        table[16] = 1;
        assert_eq!(told_of(table), Err(Refusal::FreeThreaded));
    }

    #[test]
    fn a_table_of_another_version_is_refused() {
        let mut table = table_3_13();
        table[9] = 1;
        assert_eq!(told_of(table), Err(Refusal::Inconsistent));
    }

    #[test]
    fn each_fixed_layout_can_be_walked() {
        for minor in 8..=12 {
            let layout = fixed(Version { major: 3, minor }).expect("known");
            assert!(walkable(&layout.walk), "3.{minor}");
        }
        assert_eq!(fixed(Version { major: 3, minor: 7 }), None);
        assert_eq!(fixed(Version { major: 3, minor: 15 }), None);
    }

    proptest! {
        #[test]
        fn whatever_a_table_says_what_comes_out_can_be_walked(
            place in 0usize..584,
            bytes in proptest::collection::vec(any::<u8>(), 1..9),
        ) {
            let mut table = table_3_13();
            let end = (place + bytes.len()).min(table.len());
            table[place..end].copy_from_slice(&bytes[..end - place]);
            if let Ok(layout) = told_of(table) {
                prop_assert!(walkable(&layout.walk));
            }
        }
    }
}
