//! Which code: a copy of the caller's registers and stack, when a connection is opened, and when it is used by other
//! code than before.
//!
//! All of this runs in the context of the thread that calls. What is copied goes through a place of this
//! processor's, because neither a program's stack nor a per-CPU map has room for it, and leaves by a ring buffer
//! of its own. Nothing here can fail the event: a stack that cannot be had is counted, and that is all.

use aya_ebpf::{
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_get_smp_processor_id, bpf_ktime_get_ns,
        bpf_probe_read_user, bpf_task_pt_regs, generated,
    },
    macros::map,
    maps::{Array, LruHashMap, RingBuf},
};
use connleak_ebpf::{
    Counter, PIECE, PYTHON_FRAMES, PythonFrame, STACK_BYTES_MAX, STACK_CUT, STACK_KNOWN, STACK_NO_USER,
    STACK_OPENED, STACK_PYTHON_CUT, STACK_REFUSED, STACK_USED, StackHead,
};

use super::{
    access, python,
    read::{load, offset},
    send::{AVAILABLE_DATA, FORCE_WAKEUP, NO_WAKEUP, count},
};

/// Most bytes that are copied of a stack; 0 where stacks are not wanted, or the kernel does not let programs ask for
/// a thread's registers. Set before load, so that no verifier sees a helper that its kernel does not know.
#[unsafe(no_mangle)]
static STACK_BYTES: u32 = 0;

/// 1 when uses are followed, too. Set before load.
#[unsafe(no_mangle)]
static LAST_USE: u32 = 0;

/// Waiting bytes in [`STACKS`] at which the reader is woken before its next tick. Set before load.
#[unsafe(no_mangle)]
static STACKS_WAKE_AT: u64 = 1 << 20;

/// Waiting bytes in [`STACKS`] beyond which no stack is copied any more: it would not fit. Set before load.
#[unsafe(no_mangle)]
static STACKS_FULL_AT: u64 = 3 << 20;

/// Stacks on their way to the agent, which sets the size before load.
#[map]
static STACKS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Where a record is put together: one for each processor, as the agent sets it before load.
#[map]
static SCRATCH: Array<Scratch> = Array::with_max_entries(1, 0);

/// What was sent of each socket's last use, by cookie. The least recently used go when it is full; their next use is
/// sent again.
#[map]
static USES: LruHashMap<u64, Use> = LruHashMap::with_max_entries(65_536, 0);

/// Fingerprints whose stacks were sent, with the process in them. The agent removes those that it has forgotten.
#[map]
static KNOWN: LruHashMap<u64, u8> = LruHashMap::with_max_entries(16_384, 0);

/// How often the agent has told of a process in [`MANAGED`] or `PYTHON`.
#[map]
static RUNTIMES: Array<u32> = Array::with_max_entries(1, 0);

/// Processes that run code whose frames can't be told here, as the agent says: the agent reads them. Two functions may
/// have one fingerprint then, so it says nothing, and each use is sent.
#[map]
static MANAGED: LruHashMap<u32, u8> = LruHashMap::with_max_entries(1024, 0);

/// Processes that were met, and whether their stacks have to be read at once each time, as the agent says
/// ([`ALWAYS`]): their frames' names don't wait. Of each process the first one is, since it may be gone in a moment.
#[map]
static PROMPT: LruHashMap<u32, u8> = LruHashMap::with_max_entries(8192, 0);

/// See [`PROMPT`].
const ALWAYS: u8 = 1;

/// Names of the unix sockets on which databases listen, hashed, as the agent has met them.
#[map]
static UNIX_SERVERS: LruHashMap<u64, u8> = LruHashMap::with_max_entries(1024, 0);

const FRAMES: usize = PYTHON_FRAMES * size_of::<PythonFrame>();
/// One read may begin just below the limit.
const BODY: usize = FRAMES + (STACK_BYTES_MAX + PIECE) as usize;

/// See [`SCRATCH`].
#[repr(C)]
struct Scratch {
    /// Begins what is sent.
    head: StackHead,
    /// Python's frames, and right behind them the stack.
    body: [u8; BODY],
    /// The second, roughly, that the two below are about.
    window: u64,
    /// Openings whose stacks were copied in it on this processor.
    opened: u32,
    /// Uses, likewise.
    used: u32,
}

/// See [`USES`].
#[repr(C)]
#[derive(Clone, Copy)]
struct Use {
    /// Of the last use that was sent; 0 when none was, or one since was not.
    fingerprint: u64,
    /// Until when the tokens are reckoned.
    reckoned: u64,
    /// Copies of changed stacks that this socket may still have.
    tokens: u32,
    /// 1 when a use was not sent, and that was not told either.
    lost: u32,
    /// The process that is known to run machine code alone …
    plain: u32,
    /// … and [`RUNTIMES`] as of then, plus one; 0 when none is known.
    plain_as_of: u32,
}

/// Changed uses of a socket that are copied in a burst: a request that runs twenty queries is covered, three times over.
const BURST: u32 = 64;
/// One more each 2^26 ns: fifteen a second.
const REFILL_SHIFT: u64 = 26;
/// A window of [`Scratch::window`] is 2^30 ns.
const WINDOW_SHIFT: u64 = 30;
/// Stacks of openings that are copied in a window on one processor: 5 µs each, so 2 % of it at most.
const OPENED_MAX: u32 = 4096;
/// Stacks of uses, likewise.
const USED_MAX: u32 = 2048;

/// `PF_KTHREAD`, `PF_IO_WORKER` and `PF_USER_WORKER` of `include/linux/sched.h`: threads without a stack in user space.
const NO_USER: u32 = 0x0020_0000 | 0x0000_0010 | 0x0000_4000;

/// Bytes above the stack pointer that tell one use from another.
const NEAR: u32 = 512;
/// The same where the rest of them is not there: the stack has just begun.
const NEAREST: u32 = 128;

/// Callers that are told apart by the chain of frame pointers, where code keeps one: between a function of an application in Go
/// and the system call there are a dozen with redigo, and twenty with `database/sql`.
const CHAIN: u32 = 24;

/// A prime near 2^64 over the golden ratio, as multiplicative hashing likes it (Knuth, 6.4).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// This processor's place, if stacks are wanted at all.
#[inline(always)]
fn scratch() -> Option<&'static mut Scratch> {
    if stack_bytes() == 0 {
        return None;
    }
    // SAFETY: no arguments.
    let place = SCRATCH.get_ptr_mut(unsafe { bpf_get_smp_processor_id() })?;
    // SAFETY: this processor's own entry. Tracepoints run their programs with preemption off, and none of those that
    // come here is called from an interrupt.
    Some(unsafe { &mut *place })
}

/// Whether stacks are wanted, and can be had.
#[inline(always)]
pub(crate) fn wanted() -> bool {
    stack_bytes() != 0
}

/// Whether sends are of interest.
#[inline(always)]
pub(crate) fn follows_uses() -> bool {
    // SAFETY: a live static, set before load.
    wanted() && unsafe { core::ptr::read_volatile(&raw const LAST_USE) != 0 }
}

#[inline(always)]
fn stack_bytes() -> u32 {
    // SAFETY: a live static, set before load.
    unsafe { core::ptr::read_volatile(&raw const STACK_BYTES) }
}

/// A connection is being opened by the current thread.
#[inline(always)]
pub(crate) fn opened(cookie: u64, at: u64, process_start: u64) {
    let Some(scratch) = scratch() else { return };
    if !scratch.may(at, |scratch| &mut scratch.opened, OPENED_MAX) {
        count(Counter::StacksRefused);
        return;
    }
    let caller = Caller::current();
    scratch.begin(STACK_OPENED, cookie, at, process_start, &caller);
    connleak_copy();
}

/// The current thread has sent on a socket that is tracked.
#[inline(always)]
pub(crate) fn used(cookie: u64) {
    let Some(scratch) = scratch() else { return };
    let caller = Caller::current();
    let last = match USES.get_ptr_mut(cookie) {
        Some(last) => last,
        None => {
            // Full is not possible: the least recent goes.
            let _ = USES.insert(cookie, Use::NONE, 0);
            let Some(last) = USES.get_ptr_mut(cookie) else {
                return;
            };
            last
        }
    };
    // SAFETY: the entry is live for this program's run. Two threads may send on one socket at once; then one of the
    // two uses may go unnoticed.
    let last = unsafe { &mut *last };
    let fingerprint = Scratch::fingerprint(&caller, last);
    if last.fingerprint == fingerprint {
        return;
    }
    changed(scratch, last, cookie, &caller, fingerprint);
}

/// The current thread has carried data on a unix socket for the first time, by the name that a database's server may
/// have: then this is its opening, and later uses are followed.
#[inline(always)]
pub(crate) fn opened_unix(cookie: u64, at: u64, name: u64) {
    // SAFETY: only whether it is there matters.
    if stack_bytes() == 0 || unsafe { UNIX_SERVERS.get(name) }.is_none() {
        return;
    }
    if let Ok((_, process_start)) = access::leader() {
        opened(cookie, at, process_start);
    }
    if follows_uses() {
        // Full is not possible: the least recent goes.
        let _ = USES.insert(cookie, Use::NONE, 0);
    }
}

/// The current thread has sent on a unix socket: of interest where the agent or [`opened_unix`] has said so.
#[inline(always)]
pub(crate) fn used_unix(cookie: u64) {
    if follows_uses() && USES.get_ptr(cookie).is_some() {
        used(cookie);
    }
}

/// Other code than before.
#[inline(always)]
fn changed(scratch: &mut Scratch, last: &mut Use, cookie: u64, caller: &Caller, fingerprint: u64) {
    // SAFETY: no arguments.
    let at = unsafe { bpf_ktime_get_ns() };
    let Ok((_, process_start)) = access::leader() else {
        count(Counter::ReadFault);
        return;
    };
    scratch.begin(STACK_USED, cookie, at, process_start, caller);
    scratch.head.fingerprint = fingerprint;
    let sent;
    // SAFETY: only whether it is there matters.
    if unsafe { KNOWN.get(fingerprint) }.is_some() {
        scratch.head.flags |= STACK_KNOWN;
        sent = scratch.send(0);
    } else if last.take(at) && scratch.may(at, |scratch| &mut scratch.used, USED_MAX) {
        sent = connleak_copy() != 0;
        if sent && !is_managed(scratch.head.pid) {
            // Full is not possible: the least recent goes.
            let _ = KNOWN.insert(fingerprint, 1, 0);
        }
    } else {
        count(Counter::StacksRefused);
        // Told once.
        if last.fingerprint != 0 || last.lost == 1 {
            scratch.head.flags |= STACK_REFUSED;
            last.lost = u32::from(!scratch.send(0));
        }
        last.fingerprint = 0;
        return;
    }
    last.fingerprint = if sent { fingerprint } else { 0 };
    last.lost = u32::from(!sent);
}

/// Copies the stack of the thread whose head this processor's place has, and sends it; 0 when it did not fit.
///
/// It and those below are functions of their own in the eyes of the verifier, too (global ones, since 5.6), which looks
/// at each once, and not anew for each state in which it is called. Old kernels look into them even where nobody calls
/// them, so they ask first whether stacks can be had at all.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn connleak_copy() -> u32 {
    scratch().map_or(0, |scratch| u32::from(scratch.copy()))
}

/// Bit of what [`connleak_python_walk`] returns: there are more frames.
const WALK_CUT: u32 = 1 << 31;

/// Writes the current thread's Python frames to the beginning of this processor's body; gives their number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn connleak_python_walk() -> u32 {
    let Some(scratch) = scratch() else { return 0 };
    // SAFETY: the body begins with room for the frames, and is aligned as they are.
    let walk = python::walk(unsafe { &mut *scratch.body.as_mut_ptr().cast() });
    walk.count | if walk.cut { WALK_CUT } else { 0 }
}

/// What tells one use from another in machine code: the registers, and every address in the executable's code among the
/// words near the stack pointer, which is how an application's own functions show behind a library's, and beyond those
/// among the return addresses that a chain of frame pointers leads to: what two functions in Go have below them is
/// often of one size. Other words are data, and differ from call to call.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn connleak_near(ip: u64, sp: u64, fp: u64, start: u64, length: u64) -> u64 {
    scratch().map_or(0, |scratch| scratch.near((ip, sp, fp), start, length))
}

/// What tells one use in Python from another.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn connleak_python_fingerprint() -> u64 {
    if stack_bytes() == 0 {
        return 0;
    }
    python::fingerprint()
}

/// See [`MANAGED`].
#[inline(always)]
fn is_managed(pid: u32) -> bool {
    // SAFETY: only whether it is there matters.
    unsafe { MANAGED.get(pid) }.is_some()
}

/// The registers of the current thread, in user space.
struct Caller {
    user: bool,
    ip: u64,
    sp: u64,
    fp: u64,
    /// Where the executable's machine code begins and ends.
    code: (u64, u64),
}

impl Caller {
    #[inline(always)]
    fn current() -> Self {
        // SAFETY: no arguments.
        let task = unsafe { bpf_get_current_task_btf() };
        let base = task.cast_const().cast::<u8>();
        let flags: u32 = load(base, offset!(task_flags));
        if flags & NO_USER != 0 {
            return Self {
                user: false,
                ip: 0,
                sp: 0,
                fp: 0,
                code: (0, 0),
            };
        }
        // SAFETY: the current thread, which stays.
        let registers = unsafe { bpf_task_pt_regs(task) } as *const u8;
        let memory: *const u8 = load(base, offset!(task_mm));
        Self {
            user: true,
            ip: load(registers, offset!(regs_ip)),
            sp: load(registers, offset!(regs_sp)),
            fp: load(registers, offset!(regs_fp)),
            code: if memory.is_null() {
                (0, 0)
            } else {
                (
                    load(memory, offset!(mm_start_code)),
                    load(memory, offset!(mm_end_code)),
                )
            },
        }
    }
}

impl Use {
    /// None was sent.
    const NONE: Self = Self {
        fingerprint: 0,
        reckoned: 0,
        tokens: 0,
        lost: 0,
        plain: 0,
        plain_as_of: 0,
    };

    /// Whether this process runs machine code alone, as far as the agent knows: asked anew only when the agent has told of
    /// another runtime, since most uses are of the same process as before.
    #[inline(always)]
    fn is_plain(&mut self, process: u32) -> bool {
        let Some(told) = RUNTIMES.get(0) else {
            return false;
        };
        // Before the look-ups: what is told meanwhile is looked for the next time.
        let as_of = told.wrapping_add(1);
        if self.plain_as_of == as_of && self.plain == process {
            return true;
        }
        if is_managed(process) || python::is_known() {
            return false;
        }
        self.plain = process;
        self.plain_as_of = as_of;
        true
    }

    /// Takes a token, if there is one.
    #[inline(always)]
    fn take(&mut self, at: u64) -> bool {
        let more = at.saturating_sub(self.reckoned) >> REFILL_SHIFT;
        if more > 0 {
            self.tokens = (u64::from(self.tokens).saturating_add(more)).min(u64::from(BURST)) as u32;
            self.reckoned = at;
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

impl Scratch {
    /// Whether this processor may copy one more in this window.
    #[inline(always)]
    fn may(&mut self, at: u64, which: impl Fn(&mut Self) -> &mut u32, most: u32) -> bool {
        let window = at >> WINDOW_SHIFT;
        if self.window != window {
            self.window = window;
            self.opened = 0;
            self.used = 0;
        }
        let count = which(self);
        if *count >= most {
            return false;
        }
        *count += 1;
        true
    }

    #[inline(always)]
    fn begin(&mut self, kind: u32, cookie: u64, at: u64, process_start: u64, caller: &Caller) {
        let pid_tid = bpf_get_current_pid_tgid();
        self.head = StackHead {
            kind,
            flags: if caller.user { 0 } else { STACK_NO_USER },
            at,
            cookie,
            process_start,
            pid: (pid_tid >> 32) as u32,
            tid: pid_tid as u32,
            ip: caller.ip,
            sp: caller.sp,
            fp: caller.fp,
            lr: 0,
            fingerprint: 0,
            python_frames: 0,
            stack_bytes: 0,
        };
    }

    /// Copies the stack and sends the record; says whether it fitted.
    #[inline(always)]
    fn copy(&mut self) -> bool {
        // SAFETY: a live static, set before load.
        if STACKS.query(AVAILABLE_DATA) > unsafe { core::ptr::read_volatile(&raw const STACKS_FULL_AT) } {
            count(Counter::StackRingFull);
            return false;
        }
        if self.head.flags & STACK_NO_USER != 0 {
            return self.send(0);
        }
        let walked = connleak_python_walk();
        let frames = bounded(walked & !WALK_CUT, PYTHON_FRAMES as u32);
        self.head.python_frames = frames;
        if walked & WALK_CUT != 0 {
            self.head.flags |= STACK_PYTHON_CUT;
        }
        let behind = frames * size_of::<PythonFrame>() as u32;
        let limit = stack_bytes();
        let mut copied = 0u32;
        // A page each, of which the first and the last may be parts.
        for _ in 0..=STACK_BYTES_MAX / PIECE {
            let address = self.head.sp.wrapping_add(u64::from(copied));
            let piece = (PIECE - (address as u32 & (PIECE - 1))).min(limit.saturating_sub(copied));
            if piece == 0 || !read_user(&mut self.body, behind + copied, piece, address) {
                break;
            }
            copied += piece;
        }
        if copied >= limit {
            self.head.flags |= STACK_CUT;
        }
        self.head.stack_bytes = copied;
        self.send(behind + copied)
    }

    /// Sends the record with this many bytes behind its head.
    #[inline(always)]
    fn send(&mut self, bytes: u32) -> bool {
        let bytes = bounded(bytes, BODY as u32);
        let wake = wake_up(self.head.pid);
        // SAFETY: the length is within the scratch place, whose beginning the head is; the helper copies it.
        let failed = unsafe {
            generated::bpf_ringbuf_output(
                (&raw const STACKS).cast_mut().cast(),
                (&raw mut *self).cast(),
                size_of::<StackHead>() as u64 + u64::from(bytes),
                wake,
            )
        } != 0;
        count(if failed {
            Counter::StackRingFull
        } else {
            Counter::StacksSent
        });
        !failed
    }

    /// What tells this use from another: the registers and what is near the stack pointer, and Python's functions.
    #[inline(always)]
    fn fingerprint(caller: &Caller, last: &mut Use) -> u64 {
        let process = (bpf_get_current_pid_tgid() >> 32) as u32;
        let plain = last.is_plain(process);
        if !plain && is_managed(process) {
            // SAFETY: no arguments.
            return unsafe { bpf_ktime_get_ns() } | 1;
        }
        let (start, end) = caller.code;
        let mut hash = connleak_near(caller.ip, caller.sp, caller.fp, start, end.wrapping_sub(start));
        // Two callers of a library in Python have the same native stack.
        if !plain {
            hash ^= connleak_python_fingerprint();
        }
        // 0 stands for none.
        hash | 1
    }

    /// See [`connleak_near`].
    #[inline(always)]
    fn near(&mut self, (ip, sp, fp): (u64, u64, u64), start: u64, length: u64) -> u64 {
        let process = bpf_get_current_pid_tgid() >> 32;
        let mut hash = (process ^ ip).wrapping_mul(MIX) ^ sp;
        // Where code keeps something else in that register, it says nothing.
        let size = fp.wrapping_sub(sp);
        if size < u64::from(STACK_BYTES_MAX) {
            hash = hash.wrapping_mul(MIX) ^ size;
        }
        let words = if read_user(&mut self.body, 0, NEAR, sp) {
            NEAR / 8
        } else if read_user(&mut self.body, 0, NEAREST, sp) {
            NEAREST / 8
        } else {
            0
        };
        let place = self.body.as_ptr().cast::<u64>();
        // A sum of products, each word by another odd number: no product waits for the one before.
        let (mut sum, mut factor) = (0u64, MIX);
        let mut index = 0u32;
        while index < NEAR / 8 {
            if index >= words {
                break;
            }
            // SAFETY: below `NEAR` bytes, and the body is aligned to eight.
            let word = unsafe { core::ptr::read_volatile(place.add(index as usize)) };
            sum = sum.wrapping_add(if_within(word, start, length).wrapping_mul(factor));
            factor = factor.wrapping_add(MIX << 1);
            index += 1;
        }
        // Callers further out. What is no chain ends at once.
        let mut frame = fp;
        for _ in 0..CHAIN {
            if frame.wrapping_sub(sp) >= u64::from(STACK_BYTES_MAX) {
                break;
            }
            // SAFETY: the helper checks the address and fails on a bad one.
            let Ok([outer, word]) = (unsafe { bpf_probe_read_user(frame as *const [u64; 2]) }) else {
                break;
            };
            sum = sum.wrapping_add(if_within(word, start, length).wrapping_mul(factor));
            factor = factor.wrapping_add(MIX << 1);
            if outer <= frame {
                break;
            }
            frame = outer;
        }
        // The upper half of a product depends on all of the word.
        hash.wrapping_mul(MIX) ^ sum ^ (sum >> 32)
    }
}

/// The word where it lies in the code, 0 elsewhere; without a branch, of which the verifier would follow both ways each time.
#[inline(always)]
fn if_within(word: u64, start: u64, length: u64) -> u64 {
    let distance = word.wrapping_sub(start);
    let mask = ((distance.wrapping_sub(length) & !distance).cast_signed() >> 63).cast_unsigned();
    word & mask
}

/// Copies user memory into a place at an offset; `false` when it is not there.
#[inline(always)]
fn read_user(body: &mut [u8; BODY], offset: u32, length: u32, address: u64) -> bool {
    let offset = bounded(offset, FRAMES as u32 + STACK_BYTES_MAX);
    let length = bounded(length, PIECE);
    // SAFETY: within the body, as bounded just now; the helper checks the address and fails on a bad one.
    unsafe {
        generated::bpf_probe_read_user(
            body.as_mut_ptr().add(offset as usize).cast(),
            length,
            address as *const _,
        ) == 0
    }
}

/// A number that the verifier, too, knows to be at most `most`: the compiler would drop a check whose outcome it can
/// foresee, so it is kept from looking.
#[inline(always)]
fn bounded(number: u32, most: u32) -> u32 {
    let number = core::hint::black_box(u64::from(number));
    if number > u64::from(most) {
        0
    } else {
        number as u32
    }
}

/// Whether to wake the reader: at once for a process that does not wait, and once when the mark is passed.
#[inline(always)]
fn wake_up(pid: u32) -> u64 {
    // SAFETY: one byte.
    match unsafe { PROMPT.get(pid) } {
        Some(&ALWAYS) => return FORCE_WAKEUP,
        Some(_) => {}
        None => {
            // Full is not possible: the least recent goes.
            let _ = PROMPT.insert(pid, 0, 0);
            return FORCE_WAKEUP;
        }
    }
    // SAFETY: set before load.
    let mark = unsafe { core::ptr::read_volatile(&raw const STACKS_WAKE_AT) };
    let waiting = STACKS.query(AVAILABLE_DATA);
    if waiting >= mark && waiting < mark + 4 * u64::from(STACK_BYTES_MAX) {
        FORCE_WAKEUP
    } else {
        NO_WAKEUP
    }
}
