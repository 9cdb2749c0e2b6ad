//! The snapshot without a BPF iterator: `sock_diag` in each network namespace, joined with `/proc/*/fd`.
//!
//! For kernels before 5.11, or without BTF. Slower than the iterator (each descriptor is a `readlink`), and
//! what changes between the dump and the walk is seen half; the ledger's own rules absorb that. It fills in
//! the same rows as the iterator, so that everything after it is the same.

mod dump;
mod holders;

use std::collections::HashSet;

use anyhow::Result;
use connleak_ebpf::{Row, UnixRow};

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
    let mut held = Rows::default();
    for row in &sockets.tcp {
        for holder in holders.get(&row.inode).into_iter().flatten() {
            held.tcp.push(Row {
                pid: holder.pid,
                process_start: holder.start,
                fd: holder.fd,
                ..*row
            });
        }
    }
    for row in &sockets.unix {
        for holder in holders.get(&row.inode).into_iter().flatten() {
            held.unix.push(UnixRow {
                pid: holder.pid,
                process_start: holder.start,
                fd: holder.fd,
                ..*row
            });
        }
    }
    Ok(held)
}
