//! Reads of kernel memory at offsets that the agent resolved, in two ways.
//!
//! [`Direct`]: a plain load, which costs what a load costs. The verifier allows it where it knows the structure
//! that a pointer points to: a tracepoint's argument, what a helper gave, and what is loaded from those. It
//! knows the offsets, too: they are constants by the time that it looks, see [`OFFSETS`].
//!
//! [`Checked`]: `bpf_probe_read_kernel`, for pointers that the verifier knows nothing about. A call each, with
//! checks of its own: ARCHITECTURE has what it costs.

use aya_ebpf::helpers::{bpf_probe_read_kernel, bpf_probe_read_kernel_buf, bpf_skc_to_tcp_sock};
use connleak_ebpf::{ABSENT, Offsets};

use super::Skip;

/// Set before load from the running kernel's BTF. In read-only data, which the agent freezes: the verifier takes
/// a load from there for the constant that it gives (kernel commit a23740ec43ba, 5.5).
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::UNRESOLVED;

/// The value of one member of [`OFFSETS`], as the agent set it.
macro_rules! offset {
    ($name:ident) => {
        $crate::kernel::read::load_offset(core::mem::offset_of!(connleak_ebpf::Offsets, $name))
    };
}
pub(crate) use offset;

/// The member of [`OFFSETS`] at `place`; volatile, since the compiler sees only the placeholder.
#[inline(always)]
pub(crate) fn load_offset(place: usize) -> u32 {
    // SAFETY: `place` comes from `offset_of!` above, so it is within the static.
    unsafe { core::ptr::read_volatile((&raw const OFFSETS).cast::<u8>().add(place).cast::<u32>()) }
}

/// What one load fetches.
pub(crate) trait Word: Copy {}
impl Word for u8 {}
impl Word for u16 {}
impl Word for u32 {}
impl Word for i32 {}
impl Word for u64 {}
impl Word for *const u8 {}

/// A way to read.
pub(crate) trait Read {
    /// Reads a `T` at `offset` bytes from the kernel address `base`.
    fn word<T: Word>(base: *const u8, offset: u32) -> Result<T, Skip>;

    /// A `struct sock` as the `struct tcp_sock` that it begins, so that the members beyond it can be read.
    fn tcp_sock(sk: *const u8) -> Result<*const u8, Skip>;

    /// Like [`Self::word`]; the default where this kernel has no such member.
    #[inline(always)]
    fn optional<T: Word + Default>(base: *const u8, offset: u32) -> Result<T, Skip> {
        if offset == ABSENT {
            Ok(T::default())
        } else {
            Self::word(base, offset)
        }
    }

    /// An IPv6 address. Its members are words of four bytes, so that is what it is aligned to.
    #[inline(always)]
    fn address(base: *const u8, offset: u32) -> Result<[u8; 16], Skip> {
        let mut address = [0; 16];
        let (words, _) = address.as_chunks_mut::<4>();
        words[0] = Self::word::<u32>(base, offset)?.to_ne_bytes();
        words[1] = Self::word::<u32>(base, offset + 4)?.to_ne_bytes();
        words[2] = Self::word::<u32>(base, offset + 8)?.to_ne_bytes();
        words[3] = Self::word::<u32>(base, offset + 12)?.to_ne_bytes();
        Ok(address)
    }
}

/// Loads a member of a structure that the verifier knows, where nothing can go wrong that is not told as 0.
#[inline(always)]
pub(crate) fn load<T: Word>(base: *const u8, offset: u32) -> T {
    // SAFETY: the verifier refuses the program unless it knows that this lies within the structure that `base` points to;
    // should that be gone, the kernel makes the load give 0. Offsets come from the kernel's BTF, so words are aligned.
    unsafe { core::ptr::read_volatile(base.add(offset as usize).cast::<T>()) }
}

/// By plain loads: see the module's head.
pub(crate) struct Direct;

impl Read for Direct {
    #[inline(always)]
    fn word<T: Word>(base: *const u8, offset: u32) -> Result<T, Skip> {
        Ok(load(base, offset))
    }

    #[inline(always)]
    fn tcp_sock(sk: *const u8) -> Result<*const u8, Skip> {
        // SAFETY: the verifier sees to it that this is a socket. The helper (5.9, kernel commit 478cfbdf5f13) gives null
        // for one that is not TCP's.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut().cast()) };
        if tcp.is_null() {
            return Err(Skip::Filtered);
        }
        Ok(tcp.cast_const().cast())
    }
}

/// By a helper that checks the address: see the module's head.
pub(crate) struct Checked;

impl Read for Checked {
    #[inline(always)]
    fn word<T: Word>(base: *const u8, offset: u32) -> Result<T, Skip> {
        member(base, offset)
    }

    #[inline(always)]
    fn tcp_sock(sk: *const u8) -> Result<*const u8, Skip> {
        Ok(sk)
    }

    #[inline(always)]
    fn address(base: *const u8, offset: u32) -> Result<[u8; 16], Skip> {
        member(base, offset)
    }
}

/// Reads a `T` of any size at `offset` bytes from the kernel address `base`, by the helper.
#[inline(always)]
pub(crate) fn member<T: Copy>(base: *const u8, offset: u32) -> Result<T, Skip> {
    // SAFETY: the helper checks the address and fails on a bad one.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(offset as usize).cast::<T>()) }.map_err(|_| Skip::Fault)
}

/// Like [`member`], straight into a place that is too large for the stack.
#[inline(always)]
pub(crate) fn into(base: *const u8, offset: u32, place: &mut [u8]) -> Result<(), Skip> {
    // SAFETY: the helper checks the address and fails on a bad one.
    unsafe { bpf_probe_read_kernel_buf(base.wrapping_add(offset as usize), place) }.map_err(|_| Skip::Fault)
}
