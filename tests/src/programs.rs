//! Which BPF programs the kernel has loaded, and which of them a process holds.
//!
//! "No program stays loaded" is asked about the programs of one agent, by the ids that its descriptors name: other
//! agents may run on this machine at the same time.

use std::{collections::BTreeSet, fs, io};

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
