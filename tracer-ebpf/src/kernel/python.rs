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

use super::{
    read::{load, offset},
    stack,
};

/// CPython processes by thread-group id; the agent fills it.
#[map]
static PYTHON: HashMap<u32, PythonLayout> = HashMap::with_max_entries(4096, 1 /* BPF_F_NO_PREALLOC */);

/// Where a thread's `PyThreadState` was found, by `bpf_get_current_pid_tgid`: sends would walk the list each time.
#[map]
static PYTHON_THREADS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(8192, 0);

/// Where a walk stands: what its steps hand each other, and too much for a program's stack.
#[map]
static PYTHON_PLACE: PerCpuArray<Place> = PerCpuArray::with_max_entries(1, 0);

/// See [`PYTHON_PLACE`].
#[repr(C)]
struct Place {
    /// The process's, copied: the map's own is looked up once in a walk.
    layout: PythonLayout,
    /// The interpreter, and its thread, that the search for the current thread has come to.
    interpreter: u64,
    thread: u64,
    /// What the last step read …
    step: Step,
    /// … and the frame as it lies in the process.
    words: [u64; PYTHON_FRAME_BYTES / 8],
}

/// One frame, read.
#[repr(C)]
#[derive(Clone, Copy)]
struct Step {
    frame: PythonFrame,
    /// Its caller's address; 0 for none.
    previous: u64,
}

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
    let Some(place) = begin() else {
        return Walk::default();
    };
    let Some(mut frame) = innermost(place) else {
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
        let mut kind = connleak_python_step(frame);
        if kind == OTHER {
            // The frame before was the outermost of its call. In the first slot this marks the last, which is not
            // told, or written over.
            frames[slot.wrapping_sub(1) & (PYTHON_FRAMES - 1)].instruction |= 1 << 63;
            frame = place.step.previous;
            if frame == 0 {
                return Walk {
                    count: slot as u32,
                    cut: false,
                };
            }
            // Between two of them there is a function's.
            kind = connleak_python_step(frame);
        }
        if kind != FOUND {
            return cut_at(slot);
        }
        frames[slot] = place.step.frame;
        frame = place.step.previous;
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
    let Some(place) = begin() else { return 0 };
    let Some(mut frame) = innermost(place) else {
        return 0;
    };
    let mut hash = 0u64;
    for _ in 0..FINGERPRINT_FRAMES {
        if frame == 0 || connleak_python_step(frame) == NOTHING {
            break;
        }
        let Step {
            frame: found,
            previous,
        } = place.step;
        frame = previous;
        // The instruction, too: a function may use a connection in several places.
        for word in [found.code, found.instruction] {
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

/// `PF_FORKNOEXEC` of `include/linux/sched.h`: forked, and has executed no program since.
const FORKED: u32 = 0x40;

/// The process's layout, or that of the process it was forked from, if it has executed no other program since: a fork has the
/// same addresses, and the agent may not know it yet.
#[inline(always)]
fn layout() -> Option<&'static PythonLayout> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the agent writes an entry once, whole, before it is looked up; it is never changed in place.
    if let Some(layout) = unsafe { PYTHON.get(tgid) } {
        return Some(layout);
    }
    if offset!(task_real_parent) == ABSENT || offset!(task_flags) == ABSENT {
        return None;
    }
    // Plain loads: each send of a process that runs no Python comes by here.
    let leader: *const u8 = load(task(), offset!(task_group_leader));
    let flags: u32 = load(leader, offset!(task_flags));
    if flags & FORKED == 0 {
        return None;
    }
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

/// This processor's place, with the current process's layout in it, if it is a known CPython.
#[inline(always)]
fn begin() -> Option<&'static mut Place> {
    let layout = layout()?;
    let place = place()?;
    place.layout = *layout;
    Some(place)
}

#[inline(always)]
fn place() -> Option<&'static mut Place> {
    let place = PYTHON_PLACE.get_ptr_mut(0)?;
    // SAFETY: this processor's own entry, of integers. Tracepoints run their programs with preemption off, and none of
    // those that come here is called from an interrupt.
    Some(unsafe { &mut *place })
}

/// The current thread's innermost frame; 0 when it runs no Python code.
#[inline(always)]
fn innermost(place: &mut Place) -> Option<u64> {
    let thread = connleak_python_thread();
    if thread == 0 {
        return None;
    }
    let frame = user(thread, place.layout.thread_frame)?;
    if place.layout.cframe_frame == ABSENT || frame == 0 {
        Some(frame)
    } else {
        user(frame, place.layout.cframe_frame)
    }
}

/// The `PyThreadState` of the current thread, whose layout is in this processor's place; 0 when it has none.
///
/// It and the two below are functions of their own in the eyes of the verifier, too (global ones, since 5.6), which looks
/// at each once, and not anew in each turn of the loop that calls it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn connleak_python_thread() -> u64 {
    // First of all: where registers can't be had, `task` asks for a helper that the kernel may not have.
    if offset!(task_fsbase) == ABSENT || !stack::wanted() {
        return 0;
    }
    let Some(place) = place() else { return 0 };
    let own: u64 = load(task(), offset!(task_fsbase));
    let key = bpf_get_current_pid_tgid();
    // SAFETY: a copy of one word.
    if let Some(&known) = unsafe { PYTHON_THREADS.get(key) }
        && user(known, place.layout.thread_id) == Some(own)
    {
        return known;
    }
    let Some(interpreter) = user(place.layout.runtime, place.layout.interpreters_head) else {
        return 0;
    };
    (place.interpreter, place.thread) = (interpreter, 0);
    for _ in 0..THREAD_STEPS {
        match connleak_python_look(own) {
            NOTHING => return 0,
            FOUND => {
                let thread = place.thread;
                // Never full: the least recent goes.
                let _ = PYTHON_THREADS.insert(key, thread, 0);
                return thread;
            }
            _ => {}
        }
    }
    0
}

/// What [`connleak_python_look`] and [`connleak_python_step`] found: nothing that can be read, …
const NOTHING: u32 = 0;
/// … the thread, or a function's frame, …
const FOUND: u32 = 1;
/// … another thread, or a frame that is no function's: it stands for a call from C.
const OTHER: u32 = 2;

/// Looks at the next thread: is it the one whose FS base is `own`?
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn connleak_python_look(own: u64) -> u32 {
    let Some(place) = place() else { return NOTHING };
    look(place, own).unwrap_or(NOTHING)
}

#[inline(always)]
fn look(place: &mut Place, own: u64) -> Option<u32> {
    if place.thread == 0 {
        if place.interpreter == 0 {
            return None;
        }
        place.thread = user(place.interpreter, place.layout.interpreter_threads)?;
        place.interpreter = user(place.interpreter, place.layout.interpreter_next)?;
        return Some(OTHER);
    }
    if user(place.thread, place.layout.thread_id)? == own {
        return Some(FOUND);
    }
    place.thread = user(place.thread, place.layout.thread_next)?;
    Some(OTHER)
}

/// Reads the frame at an address.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn connleak_python_step(address: u64) -> u32 {
    let Some(place) = place() else { return NOTHING };
    let size = place.layout.frame_size.min(PYTHON_FRAME_BYTES as u32);
    // SAFETY: `size` is at most that of `words`; the helper checks the address and fails on a bad one.
    if unsafe { read_user(place.words.as_mut_ptr().cast(), size, address as *const _) } != 0 {
        return NOTHING;
    }
    let (layout, words) = (&place.layout, &place.words);
    let word = |offset: u32| words[(offset as usize / 8) & (PYTHON_FRAME_BYTES / 8 - 1)];
    let marked = word(layout.frame_mark) >> (8 * (layout.frame_mark & 7)) & 0xff;
    let entry = layout.entry | (marked & u64::from(layout.entry_bit)) << 63;
    place.step = Step {
        frame: PythonFrame {
            // 3.14 keeps a tag in the two lowest bits of its references.
            code: word(layout.frame_code) & !3,
            instruction: word(layout.frame_instruction) & layout.instruction_mask | entry,
        },
        previous: word(layout.frame_previous),
    };
    if marked >= u64::from(layout.shim_from) {
        OTHER
    } else {
        FOUND
    }
}

/// The word at `offset` bytes from the process's address `base`.
#[inline(always)]
fn user(base: u64, offset: u32) -> Option<u64> {
    // SAFETY: the helper checks the address and fails on a bad one.
    unsafe { bpf_probe_read_user(base.wrapping_add(u64::from(offset)) as *const u64) }.ok()
}
