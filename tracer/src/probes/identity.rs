//! Which socket is which, where the kernel programs cannot read cookies (the classic tracepoints).
//!
//! Events name a socket by its address in kernel memory, which is reused; snapshots name it by its cookie.
//! Both know the two ends once a connection is established. So an address means one connection from connect
//! to destruction, and a pair of ends joins it with the snapshot. The same pair of ends in two network
//! namespaces cannot be told apart here: the classic tracepoints do not name the namespace.

use std::{collections::HashMap, net::SocketAddr};

use crate::event::{Cookie, Nanos};

/// Both ends of a connection, this side's first.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// Set in cookies made here: the kernel's count up from one and never get there.
const OURS: u64 = 1 << 63;

/// A socket at an address.
#[derive(Clone, Copy)]
struct Known {
    cookie: Cookie,
    remote: SocketAddr,
    /// Once this side has a port, which connect chooses after it has told of itself.
    ends: Option<Ends>,
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Identity {
    by_address: HashMap<u64, Known>,
    by_ends: HashMap<Ends, Cookie>,
    /// Sockets that have ended since the last walk, with the time: a row may have been read before.
    gone: HashMap<Ends, (Nanos, Cookie)>,
    made: u64,
}

impl Identity {
    /// A connect. Whatever was known at this address, and was not destroyed in view, connects anew; or it was dissolved
    /// and destroyed unseen, and its name is free. Either way its connection is over, and the ledger takes it so.
    pub(super) fn connect(&mut self, address: u64, remote: SocketAddr) -> Cookie {
        let before = self.by_address.remove(&address);
        if let Some(known) = before {
            self.free(known);
        }
        let cookie = before.map_or_else(
            || {
                self.made += 1;
                Cookie(OURS | self.made)
            },
            |known| known.cookie,
        );
        let ends = None;
        self.by_address.insert(address, Known { cookie, remote, ends });
        cookie
    }

    /// A later event of the socket at this address.
    pub(super) fn event(&mut self, address: u64, remote: SocketAddr, ends: Option<Ends>) -> Cookie {
        let known = self.by_address.get(&address).copied();
        let known = known.unwrap_or_else(|| Known {
            // One that was there before attach, which a walk has found by its ends.
            cookie: ends
                .and_then(|ends| self.by_ends.get(&ends).copied())
                .unwrap_or_else(|| self.connect(address, remote)),
            remote,
            ends: None,
        });
        let cookie = known.cookie;
        let known = Known {
            ends: known.ends.or(ends),
            ..known
        };
        self.by_address.insert(address, known);
        if let Some(ends) = known.ends {
            self.by_ends.insert(ends, cookie);
        }
        cookie
    }

    /// The end of the socket at this address: the address, and the ends, are free for others.
    pub(super) fn destroyed(&mut self, at: Nanos, address: u64, ends: Option<Ends>) -> Cookie {
        let before = self.by_address.get(&address).map(|known| known.remote);
        let Some(remote) = before.or(ends.map(|(_, remote)| remote)) else {
            self.made += 1;
            return Cookie(OURS | self.made);
        };
        let cookie = self.event(address, remote, ends);
        if let Some(known) = self.by_address.remove(&address) {
            self.free(known);
            if let Some(ends) = known.ends {
                self.gone.insert(ends, (at, cookie));
            }
        }
        cookie
    }

    fn free(&mut self, known: Known) {
        if let Some(ends) = known.ends
            && self.by_ends.get(&ends) == Some(&known.cookie)
        {
            self.by_ends.remove(&ends);
        }
    }

    /// A socket that a snapshot found under its real cookie at this moment. Events that came later may have been read
    /// already: then the row is of the socket that they were about.
    pub(super) fn observed(&mut self, at: Nanos, real: Cookie, ends: Option<Ends>) -> Cookie {
        let Some(ends) = ends else { return real };
        if let Some((_, cookie)) = self.gone.get(&ends).filter(|(ended, _)| *ended >= at) {
            return *cookie;
        }
        *self.by_ends.entry(ends).or_insert(real)
    }

    /// Whether a walk's row of a connect under way may be of one that events have told of, without its port. Which one is
    /// not to be known; the events tell what becomes of it.
    pub(super) fn is_connecting(&self, ends: Ends) -> bool {
        let mut known = self.by_address.values();
        !self.by_ends.contains_key(&ends) && known.any(|known| known.ends.is_none() && known.remote == ends.1)
    }

    /// All rows of a walk have been named.
    pub(super) fn walked(&mut self) {
        self.gone.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> SocketAddr {
        ends(1).1
    }

    fn ends(port: u16) -> Ends {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        (local(port), local(5432))
    }

    #[test]
    fn a_reused_address_is_another_socket() {
        let mut identity = Identity::default();
        let first = identity.connect(0xffff_8880, server());
        assert_eq!(identity.event(0xffff_8880, server(), Some(ends(40_000))), first);
        assert_eq!(identity.destroyed(9, 0xffff_8880, Some(ends(40_000))), first);
        assert_ne!(identity.connect(0xffff_8880, server()), first);
    }

    #[test]
    fn a_snapshot_and_events_agree_on_a_socket_whichever_comes_first() {
        let mut identity = Identity::default();
        let opened = identity.connect(1, server());
        identity.event(1, server(), Some(ends(40_000)));
        assert_eq!(identity.observed(5, Cookie(77), Some(ends(40_000))), opened);
        assert_eq!(identity.observed(5, Cookie(78), Some(ends(40_001))), Cookie(78));
        assert_eq!(identity.event(2, server(), Some(ends(40_001))), Cookie(78));
    }

    #[test]
    fn ends_that_are_used_again_are_another_connection() {
        let mut identity = Identity::default();
        let first = identity.connect(1, server());
        identity.event(1, server(), Some(ends(40_000)));
        identity.destroyed(9, 1, Some(ends(40_000)));
        let second = identity.connect(2, server());
        assert_eq!(identity.event(2, server(), Some(ends(40_000))), second);
        assert_ne!(first, second);
    }

    #[test]
    fn a_row_read_before_the_sockets_end_is_that_sockets() {
        let mut identity = Identity::default();
        let first = identity.connect(1, server());
        identity.event(1, server(), Some(ends(40_000)));
        identity.destroyed(9, 1, None);
        assert_eq!(identity.observed(5, Cookie(77), Some(ends(40_000))), first);
        // The same ends once more.
        assert_eq!(identity.observed(10, Cookie(78), Some(ends(40_000))), Cookie(78));
        identity.walked();
        assert_eq!(identity.observed(20, Cookie(78), Some(ends(40_000))), Cookie(78));
    }
}
