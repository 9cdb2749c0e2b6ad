//! The connections themselves: by cookie, in rows that don't move.
//!
//! A hash table with a connection in each place would have as much room again for places that are free; one with
//! a pointer in each spends the allocator's share on every connection. So the hash table has the number of a
//! row, four bytes a place, and the rows lie side by side in chunks. Rows of connections that have ended are
//! used again; their memory is kept for the next ones.

use std::hash::{Hash as _, Hasher as _};

use hashbrown::HashTable;

use super::{by_cookie::CookieHasher, connection::Connection};
use crate::event::Cookie;

/// Rows in a chunk: some 60 kB, which the allocator fills without a gap.
const CHUNK: usize = 256;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows_of: HashTable<u32>,
    rows: Rows,
}

#[derive(Debug, Default)]
struct Rows {
    chunks: Vec<Vec<Option<Connection>>>,
    free: Vec<u32>,
}

impl Table {
    /// As many connections as it can have.
    pub(super) const MOST: usize = u32::MAX as usize;

    pub(super) fn len(&self) -> usize {
        self.rows_of.len()
    }

    pub(super) fn get(&self, cookie: Cookie) -> Option<&Connection> {
        let row = self
            .rows_of
            .find(hash(cookie), |&row| self.rows.is(row, cookie))?;
        self.rows.get(*row)
    }

    pub(super) fn get_mut(&mut self, cookie: Cookie) -> Option<&mut Connection> {
        let row = self
            .rows_of
            .find(hash(cookie), |&row| self.rows.is(row, cookie))?;
        self.rows.get_mut(*row)
    }

    /// Takes in a connection whose cookie is not there yet, and room for which [`MOST`](Self::MOST) leaves.
    pub(super) fn insert(&mut self, connection: Connection) {
        let cookie = connection.cookie;
        debug_assert!(self.get(cookie).is_none(), "{cookie:?} is there already");
        let Some(row) = self.rows.put(connection) else {
            return;
        };
        let Self { rows_of, rows } = self;
        let hash_of = |&row: &u32| rows.get(row).map_or(0, |known| hash(known.cookie));
        rows_of.insert_unique(hash(cookie), row, hash_of);
    }

    pub(super) fn remove(&mut self, cookie: Cookie) -> Option<Connection> {
        let Self { rows_of, rows } = self;
        let place = rows_of.find_entry(hash(cookie), |&row| rows.is(row, cookie));
        let (row, _) = place.ok()?.remove();
        rows.take(row)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.rows.chunks.iter().flatten().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.rows.chunks.iter_mut().flatten().flatten()
    }
}

impl Rows {
    fn is(&self, row: u32, cookie: Cookie) -> bool {
        self.get(row).is_some_and(|known| known.cookie == cookie)
    }

    fn get(&self, row: u32) -> Option<&Connection> {
        let row = row as usize;
        self.chunks.get(row / CHUNK)?.get(row % CHUNK)?.as_ref()
    }

    fn slot(&mut self, row: u32) -> Option<&mut Option<Connection>> {
        let row = row as usize;
        self.chunks.get_mut(row / CHUNK)?.get_mut(row % CHUNK)
    }

    fn get_mut(&mut self, row: u32) -> Option<&mut Connection> {
        self.slot(row)?.as_mut()
    }

    /// Which row it is in now; `None` when there are no numbers left.
    fn put(&mut self, connection: Connection) -> Option<u32> {
        if let Some(row) = self.free.pop() {
            *self.slot(row)? = Some(connection);
            return Some(row);
        }
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let last = self.chunks.last_mut()?;
        let row = u32::try_from(before + last.len()).ok()?;
        last.push(Some(connection));
        Some(row)
    }

    fn take(&mut self, row: u32) -> Option<Connection> {
        let connection = self.slot(row)?.take()?;
        self.free.push(row);
        Some(connection)
    }
}

fn hash(cookie: Cookie) -> u64 {
    let mut hasher = CookieHasher::default();
    cookie.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        net::SocketAddr,
        sync::Arc,
    };

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        event::{Connect, Place, Server},
        owner::ProcessId,
        server::System,
    };

    fn connection(cookie: u64, at: u64) -> Connection {
        Connection::opening(&Connect {
            at,
            cookie: Cookie(cookie),
            process: ProcessId {
                pid: 1,
                start_ticks: 1,
            },
            tid: 1,
            name: String::new(),
            uid: 0,
            server: Arc::new(Server {
                system: System::Postgresql,
                place: Place::Tcp(SocketAddr::from(([10, 0, 0, 5], 5432))),
            }),
            netns: 1,
        })
    }

    #[test]
    fn rows_are_used_again_and_memory_grows_with_what_is_open_at_once() {
        let mut table = Table::default();
        for cookie in 0..20 * CHUNK as u64 {
            table.insert(connection(cookie, cookie));
            if let Some(before) = cookie.checked_sub(CHUNK as u64) {
                assert_eq!(table.remove(Cookie(before)).map(|it| it.first_seen), Some(before));
            }
        }
        assert_eq!((table.len(), table.rows.chunks.len()), (CHUNK, 2));
    }

    proptest! {
        #[test]
        fn it_holds_what_was_put_in_and_not_taken_out(steps in vec((0..600u64, any::<bool>()), 0..3000)) {
            let mut table = Table::default();
            let mut model = BTreeMap::new();
            for (at, (cookie, put)) in (0..).zip(steps) {
                let known = table.get_mut(Cookie(cookie)).map(|it| it.first_seen);
                prop_assert_eq!(known, model.get(&cookie).copied());
                if put && known.is_none() {
                    table.insert(connection(cookie, at));
                    model.insert(cookie, at);
                } else if !put {
                    let taken = table.remove(Cookie(cookie)).map(|it| it.first_seen);
                    prop_assert_eq!(taken, model.remove(&cookie));
                }
            }
            prop_assert_eq!(table.len(), model.len());
            let all: BTreeSet<(u64, u64)> = table.iter().map(|it| (it.cookie.0, it.first_seen)).collect();
            prop_assert_eq!(all.into_iter().collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
        }
    }
}
