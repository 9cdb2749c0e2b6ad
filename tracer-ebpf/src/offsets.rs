//! Where the kernel keeps what we read.
//!
//! Rust has no CO-RE relocations. The agent resolves these offsets from the running kernel's BTF and
//! writes them into the programs' read-only data before load, where the verifier folds them to constants.

/// Value of an optional offset that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Byte offsets of kernel structure members, from the start of the structure that the name says.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets {
            $($(#[$doc])* pub $name: u32,)+
        }

        impl Offsets {
            /// Every offset absent.
            pub const UNRESOLVED: Self = Self { $($name: ABSENT,)+ };

            /// The members in order, which is how the kernel side finds them.
            #[must_use]
            pub fn words(&self) -> [u32; size_of::<Self>() / 4] {
                [$(self.$name,)+]
            }
        }
    };
}

offsets! {
    /// `sock_common.skc_family`
    skc_family,
    /// `sock_common.skc_state`
    skc_state,
    /// `sock_common.skc_dport`, big endian
    skc_dport,
    /// `sock_common.skc_num`, host order
    skc_num,
    /// `sock_common.skc_daddr`
    skc_daddr,
    /// `sock_common.skc_rcv_saddr`
    skc_rcv_saddr,
    /// `sock_common.skc_v6_daddr`
    skc_v6_daddr,
    /// `sock_common.skc_v6_rcv_saddr`
    skc_v6_rcv_saddr,
    /// `sock_common.skc_flags`
    skc_flags,
    /// `sock_common.skc_net`
    skc_net,
    /// `net.ns.inum`
    net_inum,
    /// `sock.sk_shutdown`
    sk_shutdown,
    /// `sock.sk_err`
    sk_err,
    /// `sock.sk_socket`
    sk_socket,
    /// `sock.sk_type`
    sk_type,
    /// `sock.sk_protocol`
    sk_protocol,
    /// `tcp_sock.bytes_sent`
    tcp_bytes_sent,
    /// `tcp_sock.bytes_retrans`
    tcp_bytes_retrans,
    /// `tcp_sock.bytes_received`
    tcp_bytes_received,
    /// `tcp_sock.data_segs_out`
    tcp_data_segs_out,
    /// `tcp_sock.data_segs_in`
    tcp_data_segs_in,
    /// `tcp_sock.lsndtime`, in jiffies
    tcp_lsndtime,
    /// `inet_connection_sock.icsk_ack.lrcvtime`, in jiffies
    icsk_lrcvtime,
    /// `tcp_sock.rcv_tstamp`, in jiffies: when the last acknowledgement arrived
    tcp_rcv_tstamp,
    /// `tcp_sock.write_seq`
    tcp_write_seq,
    /// `tcp_sock.snd_una`
    tcp_snd_una,
    /// `tcp_sock.rcv_nxt`
    tcp_rcv_nxt,
    /// `tcp_sock.copied_seq`
    tcp_copied_seq,
    /// `unix_sock.addr`
    unix_addr,
    /// `unix_sock.peer`
    unix_peer,
    /// `unix_address.len`
    unix_address_len,
    /// `unix_address.name`
    unix_address_name,
    /// `socket.sk`
    socket_sk,
    /// `socket_alloc.vfs_inode`: the inode lies at this distance from its `struct socket`
    socket_inode,
    /// `inode.i_ino`
    inode_ino,
    /// `inode.i_sb`
    inode_sb,
    /// `super_block.s_magic`
    super_block_magic,
    /// `file.f_inode`
    file_inode,
    /// `file.private_data`
    file_private_data,
    /// `pt_regs.si`: a system call's second argument
    regs_si,
    /// `pt_regs.orig_ax`: the number of the system call
    regs_orig_ax,
    /// `task_struct.tgid`
    task_tgid,
    /// `task_struct.group_leader`
    task_group_leader,
    /// `task_struct.start_boottime` (nanoseconds since boot)
    task_start,
    /// `task_struct.comm`
    task_comm,
    /// `task_struct.flags`
    task_flags,
    /// `task_struct.mm`
    task_mm,
    /// `mm_struct.start_code`: where the executable's machine code begins
    mm_start_code,
    /// `mm_struct.end_code`
    mm_end_code,
    /// `pt_regs.ip`
    regs_ip,
    /// `pt_regs.sp`
    regs_sp,
    /// `pt_regs.bp`
    regs_fp,
    /// `task_struct.real_parent`
    task_real_parent,
    /// `task_struct.thread.fsbase` (x86-64): the thread's pointer, which is its `pthread_self()`
    task_fsbase,
}
