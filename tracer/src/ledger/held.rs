//! Who holds what, as a snapshot found it: by socket, in order, each descriptor once.

use super::by_cookie::ByCookie;
use crate::event::{Cookie, Holder};

/// See the module's head.
pub(super) struct Held {
    rows: Vec<(Cookie, Holder)>,
    /// Where each socket's rows are.
    places: ByCookie<std::ops::Range<u32>>,
}

impl From<Vec<(Cookie, Holder)>> for Held {
    fn from(mut rows: Vec<(Cookie, Holder)>) -> Self {
        rows.sort_unstable();
        rows.dedup();
        let mut places = ByCookie::default();
        places.reserve(rows.len());
        // A snapshot has fewer rows than 2³²: a row is a descriptor, and those have four bytes in all.
        for (place, (cookie, _)) in (0..).zip(&rows) {
            places.entry(*cookie).or_insert(place..place).end = place + 1;
        }
        Self { rows, places }
    }
}

impl Held {
    /// The descriptors that refer to a socket; `None` when none was found.
    pub(super) fn of(&self, cookie: Cookie) -> Option<impl ExactSizeIterator<Item = &Holder> + Clone> {
        let place = self.places.get(&cookie)?;
        let rows = self.rows.get(place.start as usize..place.end as usize)?;
        Some(rows.iter().map(|(_, holder)| holder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::ProcessId;

    #[test]
    fn descriptors_are_found_by_socket_in_order_and_once() {
        let holder = |fd| Holder {
            process: ProcessId {
                pid: 1,
                start_ticks: 1,
            },
            fd,
        };
        let rows = [(7, 5), (3, 4), (7, 3), (7, 5), (9, 1)];
        let held = Held::from(rows.map(|(cookie, fd)| (Cookie(cookie), holder(fd))).to_vec());
        let of = |cookie| {
            let found = held.of(Cookie(cookie))?;
            Some(found.map(|holder| holder.fd).collect::<Vec<_>>())
        };
        assert_eq!(of(7), Some(vec![3, 5]));
        assert_eq!(of(3), Some(vec![4]));
        assert_eq!(of(9), Some(vec![1]));
        assert_eq!(of(8), None);
    }
}
