//! Who holds a connection's socket. Nearly always that is one descriptor, so one has its place in the connection.

use std::{fmt, ops::Deref, slice};

use crate::{event::Holder, owner::ProcessId};

/// Descriptors that refer to a socket, as of the last snapshot: a slice of them. When there are none, whose it was,
/// and for how many snapshots nobody has held it.
#[derive(Clone, PartialEq, Eq)]
pub struct Holders(Kept);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    None { last: Option<ProcessId>, missed: u32 },
    One(Holder),
    More(Box<[Holder]>),
}

impl Default for Holders {
    fn default() -> Self {
        Self(Kept::None {
            last: None,
            missed: 0,
        })
    }
}

impl Holders {
    /// Whose it was when it was last held: its end belongs to that process. `None` while it is held.
    pub(super) fn last(&self) -> Option<ProcessId> {
        match self.0 {
            Kept::None { last, .. } => last,
            Kept::One(_) | Kept::More(_) => None,
        }
    }

    /// Snapshots in a row that did not find it.
    pub(super) fn missed(&self) -> u32 {
        match self.0 {
            Kept::None { missed, .. } => missed,
            Kept::One(_) | Kept::More(_) => 0,
        }
    }

    /// One more snapshot did not find it; it was this process's.
    pub(super) fn miss(&mut self, last: Option<ProcessId>) {
        let missed = self.missed().saturating_add(1);
        self.0 = Kept::None { last, missed };
    }
}

impl Deref for Holders {
    type Target = [Holder];

    fn deref(&self) -> &[Holder] {
        match &self.0 {
            Kept::None { .. } => &[],
            Kept::One(holder) => slice::from_ref(holder),
            Kept::More(holders) => holders,
        }
    }
}

impl From<Holder> for Holders {
    fn from(holder: Holder) -> Self {
        Self(Kept::One(holder))
    }
}

impl FromIterator<Holder> for Holders {
    fn from_iter<T: IntoIterator<Item = Holder>>(found: T) -> Self {
        let mut found = found.into_iter();
        let Some(first) = found.next() else {
            return Self::default();
        };
        match found.next() {
            None => first.into(),
            Some(second) => Self(Kept::More([first, second].into_iter().chain(found).collect())),
        }
    }
}

impl fmt::Debug for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(fd: u32) -> Holder {
        Holder {
            process: ProcessId {
                pid: 1,
                start_ticks: 1,
            },
            fd,
        }
    }

    #[test]
    fn none_one_and_many_are_the_same_slice_that_was_put_in() {
        for many in 0..4 {
            let put: Vec<Holder> = (0..many).map(holder).collect();
            let holders: Holders = put.iter().copied().collect();
            assert_eq!(*holders, *put);
        }
    }

    #[test]
    fn who_held_it_last_is_known_and_for_how_long_nobody_has() {
        let process = Some(holder(0).process);
        let mut holders = Holders::from(holder(3));
        assert_eq!((holders.last(), holders.missed()), (None, 0));
        holders.miss(process);
        holders.miss(process);
        assert_eq!((holders.last(), holders.missed()), (process, 2));
        assert!(holders.is_empty());
    }
}
