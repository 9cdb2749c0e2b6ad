//! Which socket is which, where the kernel programs cannot read cookies (the classic tracepoints).
//!
//! Events name a socket by its address in kernel memory, which is reused; snapshots name it by its cookie.
//! Both know the two ends once a connection is established. So an address means one connection from connect
//! to destruction, and a pair of ends joins it with the snapshot. The same pair of ends in two network
//! namespaces cannot be told apart here: the classic tracepoints do not name the namespace.

use std::{collections::HashMap, net::SocketAddr};

use crate::event::Cookie;

/// Both ends of a connection, this side's first.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// Set in cookies made here: the kernel's count up from one and never get there.
const OURS: u64 = 1 << 63;

/// See the module's head.
#[derive(Default)]
pub(super) struct Identity {
    by_address: HashMap<u64, Cookie>,
    by_ends: HashMap<Ends, Cookie>,
    made: u64,
}

impl Identity {
    /// A connect: whatever had this address before is gone.
    pub(super) fn connect(&mut self, address: u64) -> Cookie {
        self.made += 1;
        let cookie = Cookie(OURS | self.made);
        self.by_address.insert(address, cookie);
        cookie
    }

    /// A later event of the socket at this address.
    pub(super) fn event(&mut self, address: u64, ends: Option<Ends>) -> Cookie {
        let known = self.by_address.get(&address).copied();
        let cookie = known
            .or_else(|| ends.and_then(|ends| self.by_ends.get(&ends).copied()))
            .unwrap_or_else(|| self.connect(address));
        self.by_address.insert(address, cookie);
        if let Some(ends) = ends {
            self.by_ends.insert(ends, cookie);
        }
        cookie
    }

    /// The end of the socket at this address: the address, and the ends, are free for others.
    pub(super) fn destroyed(&mut self, address: u64, ends: Option<Ends>) -> Cookie {
        let cookie = self.event(address, ends);
        self.by_address.remove(&address);
        if let Some(ends) = ends {
            self.by_ends.remove(&ends);
        }
        cookie
    }

    /// A socket that a snapshot found under its real cookie.
    pub(super) fn observed(&mut self, real: Cookie, ends: Option<Ends>) -> Cookie {
        ends.map_or(real, |ends| *self.by_ends.entry(ends).or_insert(real))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(port: u16) -> Ends {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        (local(port), local(5432))
    }

    #[test]
    fn a_reused_address_is_another_socket() {
        let mut identity = Identity::default();
        let first = identity.connect(0xffff_8880);
        assert_eq!(identity.event(0xffff_8880, Some(ends(40_000))), first);
        assert_eq!(identity.destroyed(0xffff_8880, Some(ends(40_000))), first);
        assert_ne!(identity.connect(0xffff_8880), first);
    }

    #[test]
    fn a_snapshot_and_events_agree_on_a_socket_whichever_comes_first() {
        let mut identity = Identity::default();
        let opened = identity.connect(1);
        identity.event(1, Some(ends(40_000)));
        assert_eq!(identity.observed(Cookie(77), Some(ends(40_000))), opened);
        assert_eq!(identity.observed(Cookie(78), Some(ends(40_001))), Cookie(78));
        assert_eq!(identity.event(2, Some(ends(40_001))), Cookie(78));
    }

    #[test]
    fn ends_that_are_used_again_are_another_connection() {
        let mut identity = Identity::default();
        let first = identity.connect(1);
        identity.event(1, Some(ends(40_000)));
        identity.destroyed(1, Some(ends(40_000)));
        let second = identity.connect(2);
        assert_eq!(identity.event(2, Some(ends(40_000))), second);
        assert_ne!(first, second);
    }
}
