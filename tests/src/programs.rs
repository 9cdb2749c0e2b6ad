//! Which BPF programs the kernel has loaded, and which of them a process holds.
//!
//! "No program stays loaded" is asked about the programs of one agent, by the ids that its descriptors name: other
//! agents may run on this machine at the same time.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context, Result};
use nix::{errno::Errno, libc};

/// `enum bpf_cmd`:
/// <https://github.com/torvalds/linux/blob/v6.18/include/uapi/linux/bpf.h>
const BPF_PROG_GET_NEXT_ID: libc::c_int = 11;

/// The part of `union bpf_attr` that `BPF_PROG_GET_NEXT_ID` reads and writes.
#[repr(C)]
#[derive(Default)]
struct Cursor {
    start_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The ids of all BPF programs that are loaded now.
pub fn loaded() -> Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    let mut attr = Cursor::default();
    while next_id(&mut attr).context("bpf(BPF_PROG_GET_NEXT_ID)")? {
        ids.insert(attr.next_id);
        attr.start_id = attr.next_id;
    }
    Ok(ids)
}

/// The ids of the BPF programs that the descriptors of `pid` refer to; none when it has ended.
#[must_use]
pub fn held_by(pid: u32) -> BTreeSet<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .into_iter()
        .flatten()
        .flatten();
    let infos = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    infos.filter_map(|info| info.lines().find_map(prog_id)).collect()
}

fn prog_id(line: &str) -> Option<u32> {
    line.strip_prefix("prog_id:")?.trim().parse().ok()
}

/// Whether there is a program with an id above `attr.start_id`; if so, `attr.next_id` is its id.
fn next_id(attr: &mut Cursor) -> io::Result<bool> {
    // SAFETY: bpf(2) reads and writes at most `size` bytes behind the pointer; it is valid for exactly that many bytes
    // and borrowed exclusively during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_GET_NEXT_ID,
            std::ptr::from_mut(attr),
            size_of::<Cursor>(),
        )
    };
    match Errno::result(result) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// `BPF_PROG_GET_FD_BY_ID` and `BPF_OBJ_GET_INFO_BY_FD` of `enum bpf_cmd`.
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;

/// The part of `union bpf_attr` that `BPF_OBJ_GET_INFO_BY_FD` reads and writes.
#[repr(C)]
struct Ask {
    fd: u32,
    length: u32,
    info: u64,
}

/// `struct bpf_prog_info` up to `verified_insns` (5.16), of which two members are wanted.
#[repr(C)]
struct Info {
    before_name: [u64; 8],
    name: [u8; 16],
    before_verified: [u64; 17],
    verified: u32,
    pad: u32,
}

/// A loaded program's name (15 characters of it) and how many instructions the verifier looked at.
pub fn verified(id: u32) -> Result<(String, u32)> {
    let mut by_id = Cursor {
        start_id: id,
        ..Cursor::default()
    };
    // SAFETY: as in `next_id`.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_GET_FD_BY_ID,
            std::ptr::from_mut(&mut by_id),
            size_of::<Cursor>(),
        )
    };
    let fd = libc::c_int::try_from(Errno::result(fd).context("bpf(BPF_PROG_GET_FD_BY_ID)")?)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = Info {
        before_name: [0; 8],
        name: [0; 16],
        before_verified: [0; 17],
        verified: 0,
        pad: 0,
    };
    let mut ask = Ask {
        fd: fd.as_raw_fd().cast_unsigned(),
        length: u32::try_from(size_of::<Info>())?,
        info: std::ptr::from_mut(&mut info).addr() as u64,
    };
    // SAFETY: bpf(2) reads and writes `ask`, which lives during the call, and writes at most `length` bytes to `info`,
    // which does too. All zero pointers within it ask for no arrays.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD,
            std::ptr::from_mut(&mut ask),
            size_of::<Ask>(),
        )
    };
    Errno::result(result).context("bpf(BPF_OBJ_GET_INFO_BY_FD)")?;
    let name = info.name.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok((String::from_utf8_lossy(name).into_owned(), info.verified))
}
