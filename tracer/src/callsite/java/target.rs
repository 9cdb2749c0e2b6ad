//! Which process may be asked for a thread dump, and as whom.
//!
//! A wrong answer here kills a service or fills its log. So each condition is read from the process itself: that its
//! `libjvm.so` is HotSpot's, that the flags under which SIGQUIT means something else are off, and that the signal has
//! a handler. What can't be read is a no.

#![forbid(unsafe_code)]

use super::{
    attach::{self, Refusal},
    tables::Tables,
};
use crate::{callsite::process_memory::Memory, owner::ProcessId};

/// A process that may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which, in the host's pid namespace.
    pub id: ProcessId,
    /// Its pid in its own pid namespace: it names its files by that.
    pub inner_pid: u32,
    /// Its effective user, as this host numbers users.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

impl Target {
    /// Looks at a process whose tables have been read.
    ///
    /// # Errors
    /// When it must not be asked.
    pub fn of(id: ProcessId, tables: &Tables, memory: &impl Memory) -> Result<Self, Refusal> {
        let off = |flag| tables.flag(memory, flag).map(|on| !on);
        match (off("DisableAttachMechanism"), off("ReduceSignalUsage")) {
            (Some(true), Some(true)) => {}
            (Some(false), _) => return Err("-XX:+DisableAttachMechanism forbids it"),
            (_, Some(false)) => return Err("-Xrs leaves SIGQUIT to the application"),
            _ => return Err("it can't be told whether the machine allows it"),
        }
        let status = attach::status(id.pid).ok_or("it is gone")?;
        let target = parse(id, &status).ok_or("its status can't be read")?;
        if !handles(&status) {
            return Err("SIGQUIT would kill it");
        }
        Ok(target)
    }

    /// Whether SIGQUIT has a handler at this moment.
    #[must_use]
    pub fn handles_sigquit(&self) -> bool {
        attach::status(self.id.pid).is_some_and(|status| handles(&status))
    }
}

/// <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>
fn parse(id: ProcessId, status: &str) -> Option<Target> {
    let field = |name| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let second = |text: &str| text.split_ascii_whitespace().nth(1)?.parse().ok();
    // From the host's namespace to the innermost.
    let inner_pid = field("NSpid")?
        .split_ascii_whitespace()
        .next_back()?
        .parse()
        .ok()?;
    Some(Target {
        id,
        inner_pid,
        uid: second(field("Uid")?)?,
        gid: second(field("Gid")?)?,
    })
}

fn handles(status: &str) -> bool {
    const SIGQUIT: u32 = 3;
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    mask("SigCgt:").is_some_and(|caught| caught >> (SIGQUIT - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tjava\nUmask:\t0022\nTgid:\t412\nNSpid:\t412\t7\t1\nUid:\t0\t101000\t0\t0\n\
                          Gid:\t0\t101001\t0\t0\nSigIgn:\t0000000000000004\nSigCgt:\t2000000181005ccf\n";
    const ID: ProcessId = ProcessId {
        pid: 412,
        start_ticks: 9,
    };

    #[test]
    fn files_are_named_by_the_innermost_pid_and_owned_by_the_effective_user() {
        let target = parse(ID, STATUS).expect("target");
        assert_eq!((target.inner_pid, target.uid, target.gid), (1, 101_000, 101_001));
        assert_eq!(parse(ID, "Name:\tjava\n"), None);
    }

    #[test]
    fn only_a_caught_signal_is_safe_to_send() {
        assert!(handles(STATUS));
        assert!(!handles("SigIgn:\t0000000000000004\nSigCgt:\t0000000000000000\n"));
        assert!(!handles("SigCgt:\tzzz\n"));
        assert!(!handles(""));
    }
}
