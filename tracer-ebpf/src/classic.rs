//! The format of the two tracepoints, for kernels without BTF: byte offsets of their fields.
//!
//! Source: `include/trace/events/sock.h` and `include/trace/events/tcp.h`, as 5.6 and later have them
//! (`protocol` became 16 bits wide then). `/sys/kernel/tracing/events/*/*/format` shows them.

/// `sock/inet_sock_set_state`.
pub mod state {
    /// `skaddr`
    pub const SKADDR: usize = 8;
    /// `oldstate`
    pub const OLD_STATE: usize = 16;
    /// `newstate`
    pub const NEW_STATE: usize = 20;
    /// `sport`
    pub const SPORT: usize = 24;
    /// `dport`
    pub const DPORT: usize = 26;
    /// `family`
    pub const FAMILY: usize = 28;
    /// `protocol`
    pub const PROTOCOL: usize = 30;
    /// `saddr_v6`
    pub const SADDR_V6: usize = 40;
    /// `daddr_v6`
    pub const DADDR_V6: usize = 56;
    /// All of them, by name.
    pub const FIELDS: &[(&str, usize)] = &[
        ("skaddr", SKADDR),
        ("oldstate", OLD_STATE),
        ("newstate", NEW_STATE),
        ("sport", SPORT),
        ("dport", DPORT),
        ("family", FAMILY),
        ("protocol", PROTOCOL),
        ("saddr_v6", SADDR_V6),
        ("daddr_v6", DADDR_V6),
    ];
}

/// `tcp/tcp_destroy_sock`. Later kernels have the family in it, which moves what follows: the agent looks, and tells
/// the program.
pub mod destroy {
    /// `skaddr`
    pub const SKADDR: usize = 8;
    /// `sport`
    pub const SPORT: usize = 16;
    /// `dport`
    pub const DPORT: usize = 18;
    /// `saddr_v6`, where there is a family
    pub const SADDR_V6: usize = 30;
    /// `daddr_v6`, where there is a family
    pub const DADDR_V6: usize = 46;
    /// `saddr_v6`, where there is none
    pub const OLD_SADDR_V6: usize = 28;
    /// `daddr_v6`, where there is none
    pub const OLD_DADDR_V6: usize = 44;
    /// All of them, by name, where there is a family.
    pub const FIELDS: &[(&str, usize)] = &[
        ("skaddr", SKADDR),
        ("sport", SPORT),
        ("dport", DPORT),
        ("saddr_v6", SADDR_V6),
        ("daddr_v6", DADDR_V6),
    ];
    /// All of them, by name, where there is none.
    pub const OLD_FIELDS: &[(&str, usize)] = &[
        ("skaddr", SKADDR),
        ("sport", SPORT),
        ("dport", DPORT),
        ("saddr_v6", OLD_SADDR_V6),
        ("daddr_v6", OLD_DADDR_V6),
    ];
}
