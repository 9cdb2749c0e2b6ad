//! What has to be so before anything is loaded, checked first, so that the user gets one clear line instead
//! of the kernel's "operation not permitted".

use std::{fs, path::Path};

/// A capability that the agent needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its number in `include/uapi/linux/capability.h`.
    pub bit: u32,
    /// Its name.
    pub name: &'static str,
    /// What for.
    pub purpose: &'static str,
}

/// All of them; root has them.
pub const CAPABILITIES: &[Capability] = &[
    Capability {
        bit: 39,
        name: "CAP_BPF",
        purpose: "load the kernel programs",
    },
    Capability {
        bit: 38,
        name: "CAP_PERFMON",
        purpose: "attach them to tracepoints",
    },
    Capability {
        bit: 19,
        name: "CAP_SYS_PTRACE",
        purpose: "read other users' /proc entries",
    },
    Capability {
        bit: 12,
        name: "CAP_NET_ADMIN",
        purpose: "read sockets of all network namespaces",
    },
];

/// `CAP_SYS_ADMIN`, which includes `CAP_BPF` and `CAP_PERFMON`.
const SYS_ADMIN: u32 = 21;

/// Effective capabilities of this process, as a bit mask; `None` when `/proc` does not tell.
#[must_use]
pub fn effective() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The capabilities that a process with this mask lacks.
#[must_use]
pub fn lacking(mask: u64) -> Vec<&'static Capability> {
    let has = |bit: u32| mask >> bit & 1 == 1;
    CAPABILITIES
        .iter()
        .filter(|capability| !(has(capability.bit) || capability.bit >= 38 && has(SYS_ADMIN)))
        .collect()
}

/// Why connleak can't run with these privileges, in one line; `None` when it can.
#[must_use]
pub fn refusal() -> Option<String> {
    let names: Vec<&str> = lacking(effective()?)
        .iter()
        .map(|capability| capability.name)
        .collect();
    if names.is_empty() {
        return None;
    }
    Some(format!(
        "this needs root, or the missing {}: try 'sudo connleak …'",
        names.join(", ")
    ))
}

/// Whether the kernel describes its own types.
#[must_use]
pub fn has_btf() -> bool {
    Path::new(super::object::KERNEL_BTF).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named() {
        assert!(lacking(u64::MAX).is_empty());
        let names = |mask| {
            lacking(mask)
                .iter()
                .map(|capability| capability.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(!(1 << 39)),
            [] as [&str; 0],
            "CAP_SYS_ADMIN includes CAP_BPF"
        );
        assert_eq!(names(!(1 << 39 | 1 << 21)), ["CAP_BPF"]);
        assert_eq!(names(0).len(), CAPABILITIES.len());
    }
}
