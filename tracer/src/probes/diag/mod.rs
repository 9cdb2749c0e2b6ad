//! The snapshot without a BPF iterator: `sock_diag` in each network namespace, joined with `/proc/*/fd`.
//!
//! For kernels before 5.11, or without BTF. Slower than the iterator (each descriptor is a `readlink`), and
//! what changes between the dump and the walk is seen half; the ledger's own rules absorb that. It fills in
//! the same rows as the iterator, so that everything after it is the same.

mod dump;
mod holders;

use std::collections::{HashMap, HashSet};

use anyhow::Result;
use connleak_ebpf::{Row, UnixRow};
use holders::Holder;

/// Ticks a second in rows made here: `sock_diag` counts in milliseconds.
pub(super) const TICK_RATE: u64 = 1000;

/// Rows, as the iterator would have given them.
#[derive(Default)]
pub(super) struct Rows {
    pub tcp: Vec<Row>,
    pub unix: Vec<UnixRow>,
}

/// Takes a snapshot: sockets first, then who holds them.
///
/// # Errors
/// When the kernel refuses `sock_diag`, or `/proc` cannot be read.
pub(super) fn rows(wanted: impl Fn(u16) -> bool) -> Result<Rows> {
    let mut sockets = Rows::default();
    for namespace in holders::network_namespaces()? {
        dump::namespace(&namespace, &wanted, &mut sockets)?;
    }
    let inodes: HashSet<u64> = sockets
        .tcp
        .iter()
        .map(|row| row.inode)
        .chain(sockets.unix.iter().map(|row| row.inode))
        .collect();
    let holders = holders::walk(&inodes)?;
    Ok(Rows {
        tcp: held(
            &sockets.tcp,
            &holders,
            |row| row.inode,
            |holder, row| Row {
                pid: holder.pid,
                process_start: holder.start,
                fd: holder.fd,
                ..row
            },
        ),
        unix: held(
            &sockets.unix,
            &holders,
            |row| row.inode,
            |holder, row| UnixRow {
                pid: holder.pid,
                process_start: holder.start,
                fd: holder.fd,
                ..row
            },
        ),
    })
}

/// A row for each descriptor that refers to each socket.
fn held<R: Copy>(
    sockets: &[R],
    holders: &HashMap<u64, Vec<Holder>>,
    inode: impl Fn(&R) -> u64,
    by: impl Fn(&Holder, R) -> R,
) -> Vec<R> {
    let rows = sockets.iter().flat_map(|&row| {
        let holders = holders.get(&inode(&row)).into_iter().flatten();
        holders.map(move |holder| (holder, row))
    });
    rows.map(|(holder, row)| by(holder, row)).collect()
}
