//! Copies of threads' stacks, as the kernel programs hand them up: the ring buffer that they come through, what a
//! record of it holds, and what can be asked of the programs meanwhile.

use std::{
    collections::HashSet,
    fs::File,
    io::Read as _,
    os::fd::{AsFd, BorrowedFd},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, RingBuf},
};
use connleak_ebpf::{
    Offsets, PYTHON_FRAMES, PythonFrame as FrameRecord, PythonLayout, Record as _, STACK_BYTES_MAX,
    STACK_CUT, STACK_KNOWN, STACK_NO_USER, STACK_OPENED, STACK_PYTHON_CUT, STACK_REFUSED, STACK_USED,
    StackHead, UNIX_PATH_LEN, UnixRow, name_hash,
};

use super::{Backend, offsets};
use crate::{
    callsite::{Capture, PythonFrame, Registers, Role},
    event::Cookie,
    owner::ProcessId,
    server::{Databases, System},
};

/// Which stacks are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most bytes of a stack; 0 for no stacks at all. At most [`STACK_BYTES_MAX`].
    pub bytes: u32,
    /// Follow who uses a connection, too.
    pub last_use: bool,
    /// Java machines may be asked for thread dumps.
    pub thread_dumps: bool,
    /// Size of their ring buffer in bytes: a power of two, at least a page.
    pub ring_bytes: u32,
}

impl Options {
    /// Most KiB of a stack.
    pub const MOST_KIB: u32 = STACK_BYTES_MAX / 1024;

    /// No stacks.
    pub const NONE: Self = Self {
        bytes: 0,
        last_use: false,
        thread_dumps: false,
        ring_bytes: 4096,
    };

    /// What a live run takes by itself. 1 MiB holds 250 stacks of the usual 4 KiB; they are read each
    /// 50 ms, and when a quarter of it is full.
    pub const USUAL: Self = Self {
        bytes: 64 * 1024,
        last_use: true,
        thread_dumps: true,
        ring_bytes: 1 << 20,
    };

    /// The same, if this back-end can do it.
    ///
    /// # Errors
    /// When it can't: says what is missing.
    pub(super) fn on(self, backend: Backend, offsets: &Offsets) -> Result<Self> {
        if self.bytes == 0 {
            return Ok(self);
        }
        if !matches!(backend, Backend::Btf | Backend::Diag) {
            bail!("back-end {} has no registers of threads", backend.name());
        }
        if !offsets::has_registers(offsets) {
            bail!("this kernel's BTF lacks what tells a thread's registers");
        }
        if self.ring_bytes < 2 * STACK_BYTES_MAX {
            // A stack would never fit. What is lost is counted, so it is no error.
            tracing::debug!("the buffer for stacks holds no whole one");
        }
        Ok(self)
    }

    /// Waiting bytes beyond which another stack might not fit.
    pub(super) fn full_at(self) -> u64 {
        u64::from(self.ring_bytes).saturating_sub(u64::from(self.bytes) + 4096)
    }

    /// Places to put a stack together.
    pub(super) fn processors(self) -> Result<u32> {
        if self.bytes == 0 {
            return Ok(1);
        }
        let count =
            aya::util::nr_cpus().map_err(|(file, error)| anyhow::anyhow!("can't read {file}: {error}"))?;
        u32::try_from(count).context("too many processors")
    }

    /// Sockets whose last use is remembered.
    pub(super) fn uses(self) -> u32 {
        if self.bytes > 0 && self.last_use {
            65_536
        } else {
            1
        }
    }
}

/// What arrived of a thread.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// The copy; without a stack where there is none.
    pub capture: Capture<'a>,
    /// What tells this use of a socket from another; 0 for an opening.
    pub fingerprint: u64,
    /// Why there is no stack; `None` when there is one.
    pub bare: Option<Bare>,
}

/// Why a stack was not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bare {
    /// One with the same fingerprint was, before.
    Known,
    /// There had been too many.
    Refused,
    /// The thread is the kernel's own.
    NoUser,
}

/// A layout as a map has it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Layout(PythonLayout);

// SAFETY: `#[repr(C)]` integers of 80 bytes in all, as the ABI asserts: no padding, and any bit pattern is valid.
unsafe impl aya::Pod for Layout {}

/// The uses of a socket as the kernel side keeps them: this side only makes the entry, of zeros.
const NO_USE: [u64; 4] = [0; 4];
/// `BPF_NOEXIST` of `include/uapi/linux/bpf.h`.
const NEW_ONLY: u64 = 1;
/// Unix sockets that are followed, like the kernel side's map.
const FOLLOWED: usize = 65_536;
/// Bytes of `/proc/net/unix` that are read.
const LIST: u64 = 4 << 20;

/// Names of this network namespace's unix sockets by which databases are reached, as the kernel has them, and which they are.
pub(super) fn unix_listeners(databases: &Databases) -> Vec<(Vec<u8>, System)> {
    let mut list = Vec::new();
    if let Ok(file) = File::open("/proc/net/unix") {
        // What can't be read is met later, with its first connection.
        let _ = file.take(LIST).read_to_end(&mut list);
    }
    let list = String::from_utf8_lossy(&list);
    list.lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(7))
        .filter_map(|path| {
            let system = databases.system_of_unix(path)?;
            let name = path.replacen('@', "\0", usize::from(path.starts_with('@')));
            Some((name.into_bytes(), system))
        })
        .collect()
}

/// Tells the kernel side which unix sockets are databases': it knows names, and not what they mean.
pub struct UnixSites {
    servers: HashMap<MapData, u64, u8>,
    uses: HashMap<MapData, u64, [u64; 4]>,
    followed: HashSet<u64>,
}

impl UnixSites {
    /// Takes the maps from a loaded object, and names the servers that listen here.
    ///
    /// # Errors
    /// When it lacks one.
    pub(super) fn take(ebpf: &mut Ebpf, listeners: &[(Vec<u8>, System)]) -> Result<Self> {
        let mut sites = Self {
            servers: HashMap::try_from(super::take(ebpf, "UNIX_SERVERS")?)?,
            uses: HashMap::try_from(super::take(ebpf, "USES")?)?,
            followed: HashSet::new(),
        };
        for (name, _) in listeners {
            sites.server(name);
        }
        Ok(sites)
    }

    /// A client's end of a connection to a database.
    pub(super) fn follow(&mut self, row: &UnixRow) {
        if self.followed.len() >= FOLLOWED {
            self.followed.clear();
        }
        if self.followed.insert(row.cookie) {
            self.server(&row.path[..usize::from(row.path_len).min(UNIX_PATH_LEN)]);
            // There already: by its opening.
            let _ = self.uses.insert(row.cookie, NO_USE, NEW_ONLY);
        }
    }

    fn server(&mut self, name: &[u8]) {
        let mut path = [0; UNIX_PATH_LEN];
        let length = name.len().min(UNIX_PATH_LEN);
        path[..length].copy_from_slice(&name[..length]);
        // Never full: the least recent goes.
        let _ = self
            .servers
            .insert(name_hash(&path, u16::try_from(length).unwrap_or(0)), 1, 0);
    }
}

/// The reader's end. To be read by one thread.
pub struct Stacks {
    ring: RingBuf<MapData>,
    known: HashMap<MapData, u64, u8>,
    pythons: HashMap<MapData, u32, Layout>,
    runtimes: Array<MapData, u32>,
    /// What `runtimes` has.
    told: u32,
    prompt: HashMap<MapData, u32, u8>,
    managed: HashMap<MapData, u32, u8>,
}

impl Stacks {
    /// Takes the maps from a loaded object.
    ///
    /// # Errors
    /// When it lacks one.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            ring: RingBuf::try_from(super::take(ebpf, "STACKS")?)?,
            known: HashMap::try_from(super::take(ebpf, "KNOWN")?)?,
            pythons: HashMap::try_from(super::take(ebpf, "PYTHON")?)?,
            runtimes: Array::try_from(super::take(ebpf, "RUNTIMES")?)?,
            told: 0,
            prompt: HashMap::try_from(super::take(ebpf, "PROMPT")?)?,
            managed: HashMap::try_from(super::take(ebpf, "MANAGED")?)?,
        })
    }

    /// Hands on one record, if any is waiting. One that makes no sense is passed over.
    pub fn next(&mut self, take: impl FnOnce(Arrival<'_>)) -> bool {
        let Some(record) = self.ring.next() else {
            return false;
        };
        let mut frames = Vec::new();
        if let Some(arrival) = decode(&record, &mut frames) {
            take(arrival);
        }
        true
    }

    /// The next use with this fingerprint is to be sent with its stack.
    pub fn forget(&mut self, fingerprint: u64) {
        // Absent is what it is meant to be.
        let _ = self.known.remove(&fingerprint);
    }

    /// Frames of this process's Python code are walked from now on; `None`: no longer.
    pub fn python(&mut self, pid: u32, layout: Option<PythonLayout>) {
        // Without room, frames are read from outside, which the reader of a stack does by itself.
        match layout {
            Some(layout) if self.pythons.insert(pid, Layout(layout), 0).is_ok() => self.tell_of_runtime(),
            Some(_) => {}
            None => {
                let _ = self.pythons.remove(&pid);
            }
        }
    }

    /// What was taken for a process of machine code alone may be none.
    fn tell_of_runtime(&mut self) {
        self.told = self.told.wrapping_add(1);
        // It has one entry, and always room for it.
        let _ = self.runtimes.set(0, self.told, 0);
    }

    /// Stacks of this process are to be told at once from now on, or no longer.
    pub fn prompt(&mut self, pid: u32, on: bool) {
        // Never full: the least recent goes, and is told at the next tick.
        let _ = self.prompt.insert(pid, u8::from(on), 0);
    }

    /// This process runs a runtime other than Python, so fingerprints say nothing of its code.
    pub fn managed(&mut self, pid: u32) {
        // Never full: the least recent goes, and is told apart by native code alone until it is told again.
        // That it was told before is no failure.
        if self.managed.insert(pid, 1, NEW_ONLY).is_ok() {
            self.tell_of_runtime();
        }
    }
}

impl AsFd for Stacks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// Reads a record. It comes from our own programs, yet nothing is taken for granted.
fn decode<'a>(bytes: &'a [u8], frames: &'a mut Vec<PythonFrame>) -> Option<Arrival<'a>> {
    let head = StackHead::read_from(bytes)?;
    let role = match head.kind {
        STACK_OPENED => Role::Opened,
        STACK_USED => Role::Used,
        _ => return None,
    };
    let rest = bytes.get(size_of::<StackHead>()..)?;
    let count = (head.python_frames as usize).min(PYTHON_FRAMES);
    let (python, rest) = rest.split_at_checked(count * size_of::<FrameRecord>())?;
    let stack = rest.get(..head.stack_bytes as usize)?;
    let (words, _) = python.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    frames.extend(pairs.iter().map(|[code, instruction]| PythonFrame {
        code: u64::from_ne_bytes(*code),
        instruction: u64::from_ne_bytes(*instruction),
    }));
    let capture = Capture {
        at: head.at,
        cookie: Cookie(head.cookie),
        role,
        process: ProcessId::from_kernel(head.pid, head.process_start),
        tid: head.tid,
        registers: Registers {
            ip: head.ip,
            sp: head.sp,
            fp: head.fp,
            lr: head.lr,
        },
        stack,
        cut: head.flags & STACK_CUT != 0,
        python: frames,
        python_cut: head.flags & STACK_PYTHON_CUT != 0,
    };
    let bare = [
        (STACK_KNOWN, Bare::Known),
        (STACK_REFUSED, Bare::Refused),
        (STACK_NO_USER, Bare::NoUser),
    ];
    Some(Arrival {
        capture,
        fingerprint: head.fingerprint,
        bare: bare
            .into_iter()
            .find(|(flag, _)| head.flags & flag != 0)
            .map(|(_, why)| why),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(head: StackHead, rest: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [head.kind, head.flags] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [head.at, head.cookie, head.process_start] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [head.pid, head.tid] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [head.ip, head.sp, head.fp, head.lr, head.fingerprint] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [head.python_frames, head.stack_bytes] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn a_record_becomes_a_capture_with_its_frames_and_its_stack() {
        let head = StackHead {
            kind: STACK_USED,
            flags: STACK_CUT,
            cookie: 9,
            sp: 0x7000,
            fingerprint: 5,
            python_frames: 1,
            stack_bytes: 4,
            ..StackHead::default()
        };
        let mut body = [7u64.to_ne_bytes(), 8u64.to_ne_bytes()].concat();
        body.extend(*b"abcd");
        let bytes = record(head, &body);
        let mut frames = Vec::new();
        let Some(Arrival {
            capture,
            fingerprint,
            bare: None,
        }) = decode(&bytes, &mut frames)
        else {
            panic!("a whole record");
        };
        assert_eq!((capture.stack, capture.cut, fingerprint), (&b"abcd"[..], true, 5));
        assert_eq!((capture.role, capture.registers.sp), (Role::Used, 0x7000));
        assert_eq!(
            capture.python,
            [PythonFrame {
                code: 7,
                instruction: 8
            }]
        );
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length], &mut Vec::new()).is_none(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 1u32..3) {
            let mut bytes = bytes;
            if let Some(word) = bytes.first_chunk_mut() {
                *word = kind.to_ne_bytes();
            }
            let mut frames = Vec::new();
            if let Some(Arrival { capture, .. }) = decode(&bytes, &mut frames) {
                prop_assert!(capture.stack.len() <= bytes.len());
            }
        }
    }
}
