//! What a connection has carried, as it is kept in the books: [`Traffic`] in half the room.

use super::maybe::{MaybeU32, MaybeU64};
use crate::event::{Nanos, Traffic};

/// See the module's head. All but [`Traffic::followed`], for which there is a byte left in the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    pub last_sent: MaybeU64,
    pub last_received: MaybeU64,
    pub bytes_sent: MaybeU64,
    pub bytes_received: MaybeU64,
    pub sends: MaybeU32,
    pub receives: MaybeU32,
    pub unacknowledged: u32,
    unread: u32,
}

impl Carried {
    /// Takes over what a snapshot has found: times and totals only grow.
    pub(super) fn merge(&mut self, news: &Traffic) {
        let news = Self::from(news);
        *self = Self {
            last_sent: self.last_sent.max(news.last_sent),
            last_received: self.last_received.max(news.last_received),
            bytes_sent: self.bytes_sent.max(news.bytes_sent),
            bytes_received: self.bytes_received.max(news.bytes_received),
            sends: self.sends.max(news.sends),
            receives: self.receives.max(news.receives),
            ..news
        };
    }

    pub(super) fn traffic(self, followed: bool) -> Traffic {
        Traffic {
            last_sent: self.last_sent.get(),
            last_received: self.last_received.get(),
            bytes_sent: self.bytes_sent.get(),
            bytes_received: self.bytes_received.get(),
            sends: self.sends.get(),
            receives: self.receives.get(),
            unacknowledged: self.unacknowledged,
            unread: self.unread,
            followed,
        }
    }

    /// When data last went either way.
    pub(super) fn last(self) -> Option<Nanos> {
        self.last_sent.max(self.last_received).get()
    }
}

impl From<&Traffic> for Carried {
    fn from(traffic: &Traffic) -> Self {
        Self {
            last_sent: traffic.last_sent.into(),
            last_received: traffic.last_received.into(),
            bytes_sent: traffic.bytes_sent.into(),
            bytes_received: traffic.bytes_received.into(),
            sends: traffic.sends.into(),
            receives: traffic.receives.into(),
            unacknowledged: traffic.unacknowledged,
            unread: traffic.unread,
        }
    }
}
