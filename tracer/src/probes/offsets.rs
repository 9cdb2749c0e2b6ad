//! Where this kernel keeps what the programs read: the one place that knows structure layouts.

use anyhow::{Result, bail};
use connleak_ebpf::{ABSENT, Offsets};

use super::btf::Btf;

/// Whether the programs can do without a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Required,
    Optional,
}
use Need::{Optional, Required};

/// One line a member: where [`Offsets`] keeps it, the structure, the path within, and whether we can do without.
type Line = (fn(&mut Offsets) -> &mut u32, &'static str, &'static str, Need);

const TABLE: &[Line] = &[
    (|o| &mut o.skc_family, "sock_common", "skc_family", Required),
    (|o| &mut o.skc_state, "sock_common", "skc_state", Required),
    (|o| &mut o.skc_dport, "sock_common", "skc_dport", Required),
    (|o| &mut o.skc_num, "sock_common", "skc_num", Required),
    (|o| &mut o.skc_daddr, "sock_common", "skc_daddr", Required),
    (|o| &mut o.skc_rcv_saddr, "sock_common", "skc_rcv_saddr", Required),
    (|o| &mut o.skc_v6_daddr, "sock_common", "skc_v6_daddr", Required),
    (
        |o| &mut o.skc_v6_rcv_saddr,
        "sock_common",
        "skc_v6_rcv_saddr",
        Required,
    ),
    (|o| &mut o.skc_flags, "sock_common", "skc_flags", Required),
    (|o| &mut o.skc_net, "sock_common", "skc_net", Required),
    (|o| &mut o.net_inum, "net", "ns.inum", Required),
    (|o| &mut o.sk_shutdown, "sock", "sk_shutdown", Required),
    (|o| &mut o.sk_err, "sock", "sk_err", Required),
    (|o| &mut o.sk_socket, "sock", "sk_socket", Required),
    (|o| &mut o.sk_type, "sock", "sk_type", Required),
    (|o| &mut o.sk_protocol, "sock", "sk_protocol", Required),
    (|o| &mut o.tcp_bytes_sent, "tcp_sock", "bytes_sent", Required),
    (
        |o| &mut o.tcp_bytes_retrans,
        "tcp_sock",
        "bytes_retrans",
        Optional,
    ),
    (
        |o| &mut o.tcp_bytes_received,
        "tcp_sock",
        "bytes_received",
        Required,
    ),
    (
        |o| &mut o.tcp_data_segs_out,
        "tcp_sock",
        "data_segs_out",
        Required,
    ),
    (|o| &mut o.tcp_data_segs_in, "tcp_sock", "data_segs_in", Required),
    (|o| &mut o.tcp_lsndtime, "tcp_sock", "lsndtime", Required),
    (
        |o| &mut o.icsk_lrcvtime,
        "inet_connection_sock",
        "icsk_ack.lrcvtime",
        Required,
    ),
    (|o| &mut o.tcp_rcv_tstamp, "tcp_sock", "rcv_tstamp", Optional),
    (|o| &mut o.tcp_write_seq, "tcp_sock", "write_seq", Required),
    (|o| &mut o.tcp_snd_una, "tcp_sock", "snd_una", Required),
    (|o| &mut o.tcp_rcv_nxt, "tcp_sock", "rcv_nxt", Required),
    (|o| &mut o.tcp_copied_seq, "tcp_sock", "copied_seq", Required),
    (|o| &mut o.unix_addr, "unix_sock", "addr", Optional),
    (|o| &mut o.unix_peer, "unix_sock", "peer", Optional),
    (|o| &mut o.unix_address_len, "unix_address", "len", Optional),
    (|o| &mut o.unix_address_name, "unix_address", "name", Optional),
    (|o| &mut o.socket_sk, "socket", "sk", Required),
    (|o| &mut o.socket_inode, "socket_alloc", "vfs_inode", Required),
    (|o| &mut o.inode_ino, "inode", "i_ino", Required),
    (|o| &mut o.inode_sb, "inode", "i_sb", Optional),
    (|o| &mut o.super_block_magic, "super_block", "s_magic", Optional),
    (|o| &mut o.file_inode, "file", "f_inode", Optional),
    (|o| &mut o.file_private_data, "file", "private_data", Optional),
    (|o| &mut o.regs_si, "pt_regs", "si", Optional),
    (|o| &mut o.regs_orig_ax, "pt_regs", "orig_ax", Optional),
    (|o| &mut o.task_tgid, "task_struct", "tgid", Required),
    (
        |o| &mut o.task_group_leader,
        "task_struct",
        "group_leader",
        Required,
    ),
    (|o| &mut o.task_start, "task_struct", "start_boottime", Required),
    (|o| &mut o.task_comm, "task_struct", "comm", Required),
    (|o| &mut o.task_flags, "task_struct", "flags", Optional),
    (|o| &mut o.task_mm, "task_struct", "mm", Optional),
    (|o| &mut o.mm_start_code, "mm_struct", "start_code", Optional),
    (|o| &mut o.mm_end_code, "mm_struct", "end_code", Optional),
    (|o| &mut o.regs_ip, "pt_regs", "ip", Optional),
    (|o| &mut o.regs_sp, "pt_regs", "sp", Optional),
    (|o| &mut o.regs_fp, "pt_regs", "bp", Optional),
    (
        |o| &mut o.task_real_parent,
        "task_struct",
        "real_parent",
        Optional,
    ),
    (|o| &mut o.task_fsbase, "task_struct", "thread.fsbase", Optional),
];

/// Resolves every member; an absent optional one stays [`ABSENT`].
///
/// # Errors
/// Names the required members that this kernel lacks, or says what is wrong with its BTF.
pub fn resolve(btf: &Btf<'_>) -> Result<Offsets> {
    // The casts that the programs make: a `struct tcp_sock *` is also each of the structures it begins with.
    for (outer, inner) in [
        ("sock", "__sk_common"),
        ("inet_sock", "sk"),
        ("tcp_sock", "inet_conn"),
        ("unix_sock", "sk"),
    ] {
        if btf.offset(outer, inner)?.is_some_and(|offset| offset != 0) {
            bail!(
                "this kernel's struct {outer} does not begin with {inner}: connleak does not know its layout"
            );
        }
    }
    let mut offsets = Offsets::UNRESOLVED;
    let mut missing = Vec::new();
    for (place, structure, path, need) in TABLE {
        match btf.offset(structure, path)? {
            Some(offset) => *place(&mut offsets) = offset,
            None if *need == Required => missing.push(format!("{structure}.{path}")),
            None => {}
        }
    }
    if !missing.is_empty() {
        bail!("this kernel's BTF lacks {}", missing.join(", "));
    }
    Ok(offsets)
}

/// Whether a socket can be told from other files by reading memory.
#[must_use]
pub fn has_sockets_of_files(offsets: &Offsets) -> bool {
    [
        offsets.inode_sb,
        offsets.super_block_magic,
        offsets.file_inode,
        offsets.file_private_data,
    ]
    .iter()
    .all(|&offset| offset != ABSENT)
}

/// Whether a thread's registers and the executable's code can be read.
#[must_use]
pub fn has_registers(offsets: &Offsets) -> bool {
    [
        offsets.task_flags,
        offsets.task_mm,
        offsets.mm_start_code,
        offsets.mm_end_code,
        offsets.regs_ip,
        offsets.regs_sp,
        offsets.regs_fp,
    ]
    .iter()
    .all(|&offset| offset != ABSENT)
}
