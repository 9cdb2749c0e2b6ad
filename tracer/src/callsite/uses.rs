//! Who uses which socket: of many uses in one tick the agent needs the last, and only if it is another's than before.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::SiteId;
use crate::{
    event::{Cookie, Stack},
    owner::ProcessId,
};

/// Sockets whose last user is remembered, and fingerprints that are. Beyond that all are forgotten: the kernel is
/// asked for those stacks again, and the agent told again.
const REMEMBERED: usize = 65_536;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Uses {
    known: HashMap<(ProcessId, u64), SiteId>,
    told: HashMap<Cookie, (ProcessId, SiteId)>,
    /// In this tick.
    last: HashMap<Cookie, Stack>,
}

impl Uses {
    /// The site of a stack with this fingerprint.
    #[must_use]
    pub fn known(&self, process: ProcessId, fingerprint: u64) -> Option<SiteId> {
        self.known.get(&(process, fingerprint)).copied()
    }

    /// Remembers it.
    pub fn remember(&mut self, process: ProcessId, fingerprint: u64, site: SiteId) {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert((process, fingerprint), site);
    }

    /// A use.
    pub fn note(&mut self, stack: Stack) {
        self.last.insert(stack.cookie, stack);
    }

    /// What is new since the last call.
    pub fn news(&mut self) -> impl Iterator<Item = Stack> + '_ {
        if self.told.len() >= REMEMBERED {
            self.told.clear();
        }
        let Self { told, last, .. } = self;
        last.drain().filter_map(|(cookie, stack)| {
            let user = (stack.process, stack.site);
            (told.insert(cookie, user) != Some(user)).then_some(stack)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callsite::Role;

    fn used(at: u64, cookie: u64, site: u64) -> Stack {
        Stack {
            at,
            cookie: Cookie(cookie),
            role: Role::Used,
            process: ProcessId {
                pid: 7,
                start_ticks: 1,
            },
            site: SiteId(site),
        }
    }

    #[test]
    fn of_many_uses_the_last_is_told_and_only_when_it_is_anothers() {
        let mut uses = Uses::default();
        for (at, site) in [(1, 10), (2, 11), (3, 12)] {
            uses.note(used(at, 1, site));
        }
        assert_eq!(uses.news().collect::<Vec<_>>(), [used(3, 1, 12)]);
        uses.note(used(4, 1, 11));
        uses.note(used(5, 1, 12));
        assert_eq!(uses.news().count(), 0, "the same code as before");
        uses.note(used(6, 1, 0));
        assert_eq!(uses.news().count(), 1, "a use that was not captured is another's");
    }

    #[test]
    fn what_is_remembered_of_uses_is_bounded() {
        let mut uses = Uses::default();
        for number in 0..2 * REMEMBERED as u64 {
            let stack = used(number, number, 1);
            uses.remember(stack.process, number, stack.site);
            uses.note(stack);
            let _ = uses.news().count();
        }
        assert!(uses.known.len() <= REMEMBERED && uses.told.len() <= REMEMBERED);
    }
}
