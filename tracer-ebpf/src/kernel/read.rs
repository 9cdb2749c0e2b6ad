//! Reads of kernel memory at offsets that the agent resolved.

use aya_ebpf::helpers::{bpf_probe_read_kernel, bpf_probe_read_kernel_buf};
use connleak_ebpf::{ABSENT, Offsets};

use super::Skip;

/// Set before load from the running kernel's BTF.
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

/// Loads a member of a structure that the verifier knows; faster than a helper's checked read.
#[inline(always)]
pub(crate) fn load<T: Copy>(base: *const u8, offset: u32) -> T {
    // SAFETY: the verifier refuses the program unless this lies within the structure; should that be gone, the kernel
    // makes the load give 0.
    unsafe { core::ptr::read_volatile(base.add(offset as usize).cast::<T>()) }
}

/// Reads a `T` at `offset` bytes from the kernel address `base`.
#[inline(always)]
pub(crate) fn member<T: Copy>(base: *const u8, offset: u32) -> Result<T, Skip> {
    // SAFETY: the helper checks the address and fails on a bad one.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(offset as usize).cast::<T>()) }.map_err(|_| Skip::Fault)
}

/// Like [`member`]; the default where this kernel has no such member.
#[inline(always)]
pub(crate) fn optional<T: Copy + Default>(base: *const u8, offset: u32) -> Result<T, Skip> {
    if offset == ABSENT {
        Ok(T::default())
    } else {
        member(base, offset)
    }
}

/// Like [`member`], straight into a place that is too large for the stack.
#[inline(always)]
pub(crate) fn into(base: *const u8, offset: u32, place: &mut [u8]) -> Result<(), Skip> {
    // SAFETY: the helper checks the address and fails on a bad one.
    unsafe { bpf_probe_read_kernel_buf(base.wrapping_add(offset as usize), place) }.map_err(|_| Skip::Fault)
}
