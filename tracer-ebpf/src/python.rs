//! The ABI: where a CPython process keeps its frames, told by the agent, and the frames, told by the programs.

/// Most Python frames of one capture. Deeper stacks are cut at the outer end.
pub const PYTHON_FRAMES: usize = 64;

/// Bit of [`PythonFrame::instruction`]: the frame is the outermost of one call of the C function that evaluates
/// Python code. Since 3.11 one such call runs several frames. User addresses never have this bit.
pub const PYTHON_ENTRY: u64 = 1 << 63;

/// Where one process keeps its threads' frames: addresses in it, and offsets in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PythonLayout {
    /// Address of `_PyRuntime`.
    pub runtime: u64,
    /// In `_PyRuntimeState`: the first interpreter.
    pub interpreters_head: u32,
    /// In `PyInterpreterState`: the next one.
    pub interpreter_next: u32,
    /// In `PyInterpreterState`: its first thread.
    pub interpreter_threads: u32,
    /// In `PyThreadState`: the next one.
    pub thread_next: u32,
    /// In `PyThreadState`: `pthread_self()`, which is the thread's FS base.
    pub thread_id: u32,
    /// In `PyThreadState`: the innermost frame, or the C frame that has it.
    pub thread_frame: u32,
    /// In `_PyCFrame` (3.11 and 3.12): the innermost frame; [`crate::ABSENT`] elsewhere.
    pub cframe_frame: u32,
    /// Bytes of a frame that hold all of the following; at most [`PYTHON_FRAME_BYTES`].
    pub frame_size: u32,
    /// In a frame: its code object. A multiple of 8, like the next two.
    pub frame_code: u32,
    /// In a frame: its caller's.
    pub frame_previous: u32,
    /// In a frame: the instruction.
    pub frame_instruction: u32,
    /// In a frame: the byte that the next two are about.
    pub frame_mark: u32,
    /// Bit of that byte which says that the frame is the outermost of its call (`is_entry` of 3.11); 0 for none.
    pub entry_bit: u32,
    /// The frame is no function's, but stands for the call from C, when that byte is as much or more (`owner` since
    /// 3.12); above 255 for never.
    pub shim_from: u32,
    /// [`PYTHON_ENTRY`] where each frame is the outermost of its call, else 0.
    pub entry: u64,
    /// Bits of the word at `frame_instruction` that are the instruction.
    pub instruction_mask: u64,
}

/// `frame_mark` of `owner` is compared with this: `FRAME_OWNED_BY_CSTACK` of 3.12 and 3.13,
/// `FRAME_OWNED_BY_INTERPRETER` of 3.14, the first value of `enum _frameowner` that is no function's
/// (`Include/internal/pycore_frame.h`, from 3.14 on `pycore_interpframe_structs.h`).
pub const PYTHON_SHIM: u32 = 3;

/// Most bytes of a frame that a program reads at once.
pub const PYTHON_FRAME_BYTES: usize = 128;

const _: () = assert!(size_of::<PythonLayout>() == 80 && align_of::<PythonLayout>() == 8);

/// A frame of CPython: addresses in the process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PythonFrame {
    /// The `PyCodeObject`.
    pub code: u64,
    /// The instruction as the version keeps it, and [`PYTHON_ENTRY`].
    pub instruction: u64,
}
