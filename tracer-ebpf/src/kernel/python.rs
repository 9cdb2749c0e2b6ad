//! Walks the Python frames of the current thread: `_PyRuntime`, its interpreters, the thread whose
//! `pthread_self()` is this thread's FS base, its frames from the innermost outwards.
//!
//! Done here and not by the agent a moment later because the thread stands still here: a stack read later is often
//! the next call's. The agent tells where things are ([`PYTHON`]), since it can read symbols and versions; here are
//! only reads at offsets. All of it is the process's own memory and may be anything: each read is checked by the
//! helper, each loop has an end, and what comes out is addresses, which the agent checks again before it believes
//! them.

use aya_ebpf::{
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_probe_read_user,
        generated::bpf_probe_read_user as read_user,
    },
    macros::map,
    maps::{HashMap, LruHashMap, PerCpuArray},
};
use connleak_ebpf::{ABSENT, PYTHON_FRAME_BYTES, PYTHON_FRAMES, PythonFrame, PythonLayout};

use super::read::{load, offset};

/// CPython processes by thread-group id; the agent fills it.
#[map]
static PYTHON: HashMap<u32, PythonLayout> = HashMap::with_max_entries(4096, 1 /* BPF_F_NO_PREALLOC */);

/// Where a thread's `PyThreadState` was found, by `bpf_get_current_pid_tgid`: sends would walk the list each time.
#[map]
static PYTHON_THREADS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(8192, 0);

/// A frame as it lies in the process: too large for the stack of a program that has others below it.
#[map]
static PYTHON_SCRATCH: PerCpuArray<[u64; PYTHON_FRAME_BYTES / 8]> = PerCpuArray::with_max_entries(1, 0);

/// Most steps along the lists of interpreters and threads. New threads are put in front.
const THREAD_STEPS: usize = 200;

/// What a walk found.
#[derive(Clone, Copy, Default)]
pub(crate) struct Walk {
    /// Frames written.
    pub count: u32,
    /// There are more, or one could not be read.
    pub cut: bool,
}

/// Writes the current thread's Python frames, innermost first; none where the process is no known CPython, or the
/// thread runs no Python code.
#[inline(always)]
pub(crate) fn walk(frames: &mut [PythonFrame; PYTHON_FRAMES]) -> Walk {
    let Some(layout) = layout() else {
        return Walk::default();
    };
    let Some(mut frame) = innermost(layout) else {
        return Walk { count: 0, cut: true };
    };
    // The slot is the loop's own counter, and nothing else branches that need not: the verifier follows both ways of
    // each branch, in each step.
    for slot in 0..PYTHON_FRAMES {
        if frame == 0 {
            return Walk {
                count: slot as u32,
                cut: false,
            };
        }
        let Some(mut step) = step(layout, frame) else {
            return cut_at(slot);
        };
        // The frame before was the outermost of its call. In the first slot this marks the last, which is not told,
        // or written over.
        frames[slot.wrapping_sub(1) & (PYTHON_FRAMES - 1)].instruction |= u64::from(step.shim) << 63;
        if step.shim {
            frame = step.previous;
            if frame == 0 {
                return Walk {
                    count: slot as u32,
                    cut: false,
                };
            }
            // Between two of them there is a function's.
            step = match self::step(layout, frame) {
                Some(step) if !step.shim => step,
                _ => return cut_at(slot),
            };
        }
        frames[slot] = step.frame;
        frame = step.previous;
    }
    Walk {
        count: PYTHON_FRAMES as u32,
        cut: frame != 0,
    }
}

#[inline(always)]
fn cut_at(slot: usize) -> Walk {
    Walk {
        count: slot as u32,
        cut: true,
    }
}

/// A number that changes with the innermost functions: two callers of a library can have the same native stack.
/// 0 where the process is no known CPython.
#[inline(always)]
pub(crate) fn fingerprint() -> u64 {
    let Some(layout) = layout() else { return 0 };
    let Some(mut frame) = innermost(layout) else {
        return 0;
    };
    let mut hash = 0u64;
    for _ in 0..FINGERPRINT_FRAMES {
        if frame == 0 {
            break;
        }
        let Some(step) = step(layout, frame) else { break };
        frame = step.previous;
        // The instruction, too: a function may use a connection in several places.
        for word in [step.frame.code, step.frame.instruction] {
            hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    hash
}

/// Frames that [`fingerprint`] looks at: beyond the driver's own and those of a mapper above it, so that its callers differ.
/// From the driver's send to the function of the application there are eleven with the core of SQLAlchemy, and more with its
/// mapper.
const FINGERPRINT_FRAMES: usize = 32;

/// Whether the current process runs a CPython that can be walked.
#[inline(always)]
pub(crate) fn is_known() -> bool {
    layout().is_some()
}

/// The process's layout, or that of the process it was forked from: a fork has the same addresses, and the agent may
/// not know it yet. Where it has executed another program since, they lead nowhere, or to what the agent refuses.
#[inline(always)]
fn layout() -> Option<&'static PythonLayout> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the agent writes an entry once, whole, before it is looked up; it is never changed in place.
    if let Some(layout) = unsafe { PYTHON.get(tgid) } {
        return Some(layout);
    }
    if offset!(task_real_parent) == ABSENT {
        return None;
    }
    // Plain loads: each send of a process that runs no Python comes by here.
    let leader: *const u8 = load(task(), offset!(task_group_leader));
    let parent: *const u8 = load(leader, offset!(task_real_parent));
    let tgid: u32 = load(parent, offset!(task_tgid));
    // SAFETY: as above.
    unsafe { PYTHON.get(tgid) }
}

/// The current thread, as a pointer that the verifier lets be loaded from. Only asked where registers can be had, too
/// (see `stack.rs`).
#[inline(always)]
fn task() -> *const u8 {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_task_btf() }.cast_const().cast()
}

/// The current thread's innermost frame; 0 when it runs no Python code.
#[inline(always)]
fn innermost(layout: &PythonLayout) -> Option<u64> {
    if offset!(task_fsbase) == ABSENT {
        return None;
    }
    let own: u64 = load(task(), offset!(task_fsbase));
    let frame = user(thread(layout, own)?, layout.thread_frame)?;
    if layout.cframe_frame == ABSENT || frame == 0 {
        Some(frame)
    } else {
        user(frame, layout.cframe_frame)
    }
}

/// The `PyThreadState` of the thread whose FS base is `own`.
#[inline(always)]
fn thread(layout: &PythonLayout, own: u64) -> Option<u64> {
    let key = bpf_get_current_pid_tgid();
    // SAFETY: a copy of one word.
    if let Some(&known) = unsafe { PYTHON_THREADS.get(key) }
        && user(known, layout.thread_id) == Some(own)
    {
        return Some(known);
    }
    let mut interpreter = user(layout.runtime, layout.interpreters_head)?;
    let mut thread = user(interpreter, layout.interpreter_threads)?;
    for _ in 0..THREAD_STEPS {
        if thread == 0 {
            interpreter = user(interpreter, layout.interpreter_next)?;
            if interpreter == 0 {
                return None;
            }
            thread = user(interpreter, layout.interpreter_threads)?;
        } else if user(thread, layout.thread_id)? == own {
            // Never full: the least recent goes.
            let _ = PYTHON_THREADS.insert(key, thread, 0);
            return Some(thread);
        } else {
            thread = user(thread, layout.thread_next)?;
        }
    }
    None
}

/// One frame, read.
struct Step {
    previous: u64,
    frame: PythonFrame,
    /// No function's frame: it stands for a call from C.
    shim: bool,
}

#[inline(always)]
fn step(layout: &PythonLayout, address: u64) -> Option<Step> {
    let scratch = PYTHON_SCRATCH.get_ptr_mut(0)?;
    let size = layout.frame_size.min(PYTHON_FRAME_BYTES as u32);
    // SAFETY: `size` is at most the scratch's; the helper checks the address and fails on a bad one.
    if unsafe { read_user(scratch.cast(), size, address as *const _) } != 0 {
        return None;
    }
    // SAFETY: the scratch is this CPU's, and tracing programs don't preempt one another.
    let words = unsafe { &*scratch };
    let word = |offset: u32| words[(offset as usize / 8) & (PYTHON_FRAME_BYTES / 8 - 1)];
    let marked = word(layout.frame_mark) >> (8 * (layout.frame_mark & 7)) & 0xff;
    let entry = layout.entry | (marked & u64::from(layout.entry_bit)) << 63;
    Some(Step {
        previous: word(layout.frame_previous),
        frame: PythonFrame {
            // 3.14 keeps a tag in the two lowest bits of its references.
            code: word(layout.frame_code) & !3,
            instruction: word(layout.frame_instruction) & layout.instruction_mask | entry,
        },
        shim: marked >= u64::from(layout.shim_from),
    })
}

/// The word at `offset` bytes from the process's address `base`.
#[inline(always)]
fn user(base: u64, offset: u32) -> Option<u64> {
    // SAFETY: the helper checks the address and fails on a bad one.
    unsafe { bpf_probe_read_user(base.wrapping_add(u64::from(offset)) as *const u64) }.ok()
}
