//! One connection, from connect to the last descriptor's close.

use std::{net::SocketAddr, sync::Arc};

use super::GroupKey;
use crate::{
    event::{Cause, Change, Connect, Cookie, Holder, Nanos, Observation, Server, State, Traffic},
    owner::ProcessId,
};

/// Who called connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opener {
    /// The process.
    pub process: ProcessId,
    /// The thread.
    pub tid: u32,
}

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The socket.
    pub cookie: Cookie,
    /// To where.
    pub server: Arc<Server>,
    /// This end; `None` until the kernel has chosen it, and for unix sockets.
    pub client: Option<SocketAddr>,
    /// Network namespace (inode number).
    pub netns: u32,
    /// Inode number of the socket; `None` until a snapshot has seen it.
    pub inode: Option<u64>,
    /// Who opened it; `None` when that was before attach.
    pub opener: Option<Opener>,
    /// When connect was called; `None` when that was before attach. For unix sockets: when first seen.
    pub opened_at: Option<Nanos>,
    /// When the server accepted it, if the server could be asked.
    pub accepted_at: Option<Nanos>,
    /// When the ledger first heard of it.
    pub first_seen: Nanos,
    /// When the newest fact about its state was true.
    pub changed_at: Nanos,
    /// Its state now.
    pub state: State,
    /// When the server closed, if that was seen.
    pub peer_closed_at: Option<Nanos>,
    /// What it has carried.
    pub traffic: Traffic,
    /// Descriptors that refer to it, as of the last snapshot.
    pub holders: Vec<Holder>,
    /// Snapshots in a row that did not find it.
    pub missed: u32,
    established: bool,
    released: bool,
    peer_first: bool,
    error: i32,
}

impl Connection {
    pub(super) fn opening(connect: &Connect) -> Self {
        Self {
            cookie: connect.cookie,
            server: Arc::clone(&connect.server),
            client: None,
            netns: connect.netns,
            inode: None,
            opener: Some(Opener {
                process: connect.process,
                tid: connect.tid,
            }),
            opened_at: Some(connect.at),
            accepted_at: None,
            first_seen: connect.at,
            changed_at: connect.at,
            state: State::Connecting,
            peer_closed_at: None,
            traffic: Traffic::default(),
            holders: Vec::new(),
            missed: 0,
            established: false,
            released: false,
            peer_first: false,
            error: 0,
        }
    }

    /// A connection whose opening was not seen: before attach, in a moment of loss, or of a unix socket.
    pub(super) fn found(row: &Observation, first: bool) -> Self {
        Self {
            cookie: row.cookie,
            server: Arc::clone(&row.server),
            client: row.client,
            netns: row.netns,
            inode: Some(row.inode),
            opener: None,
            opened_at: (!first).then_some(row.at),
            accepted_at: row.accepted_at,
            first_seen: row.at,
            changed_at: row.at,
            state: row.state,
            peer_closed_at: None,
            traffic: row.traffic,
            holders: vec![row.holder],
            missed: 0,
            established: row.state != State::Connecting,
            released: false,
            peer_first: row.state == State::PeerClosed,
            error: 0,
        }
    }

    /// The process that has to close it: who opened it, if that one still holds it, or else a holder.
    #[must_use]
    pub fn process(&self) -> Option<ProcessId> {
        let opener = self.opener.map(|opener| opener.process);
        match opener {
            Some(opener) if self.holders.is_empty() => Some(opener),
            Some(opener) if self.holders.iter().any(|holder| holder.process == opener) => Some(opener),
            _ => self.holders.first().map(|holder| holder.process),
        }
    }

    pub(super) fn group_key(&self) -> Option<GroupKey> {
        Some(GroupKey {
            process: self.process()?,
            server: Arc::clone(&self.server),
        })
    }

    /// Whether the handshake was ever done.
    #[must_use]
    pub fn established(&self) -> bool {
        self.established
    }

    /// When it last carried data; when that is unknown, the latest moment at which it might have.
    /// A connection that never carried any counts from its opening.
    #[must_use]
    pub fn last_activity(&self) -> Option<Nanos> {
        let data = self.traffic.last_sent.max(self.traffic.last_received);
        data.max(self.opened_at)
            .max(self.accepted_at)
            .or(self.traffic.followed.then_some(self.first_seen))
    }

    /// Whether the server owes an answer: then silence is a running query.
    #[must_use]
    pub fn waiting(&self) -> bool {
        self.traffic.unacknowledged > 0 || self.traffic.last_sent > self.traffic.last_received
    }

    /// Whether the application has never sent anything; `None` when unknown.
    #[must_use]
    pub fn never_sent(&self) -> Option<bool> {
        self.traffic.bytes_sent.map(|bytes| bytes == 0)
    }

    pub(super) fn change(&mut self, change: &Change) {
        self.changed_at = change.at;
        self.client = self.client.or(change.client);
        if change.error != 0 {
            self.error = change.error;
        }
        match change.state {
            State::Established => self.established = true,
            State::PeerClosed => {
                self.peer_closed_at = Some(change.at);
                self.peer_first = true;
            }
            State::Connecting | State::Closing | State::Closed => {}
        }
        self.released = change.released
            // A close with data unread or with SO_LINGER 0 goes from open to closed in one step, with both
            // directions shut; a reset by the server comes before anything is shut.
            || change.state == State::Closed && change.shut && change.from != State::Closing;
        self.state = change.state;
        if self.established {
            self.traffic.bytes_sent = Some(change.bytes_sent).max(self.traffic.bytes_sent);
            self.traffic.bytes_received = Some(change.bytes_received).max(self.traffic.bytes_received);
        }
    }

    pub(super) fn observe(&mut self, row: &Observation) {
        self.inode = Some(row.inode);
        self.client = self.client.or(row.client);
        self.accepted_at = self.accepted_at.or(row.accepted_at);
        self.traffic = Traffic {
            last_sent: self.traffic.last_sent.max(row.traffic.last_sent),
            last_received: self.traffic.last_received.max(row.traffic.last_received),
            bytes_sent: self.traffic.bytes_sent.max(row.traffic.bytes_sent),
            bytes_received: self.traffic.bytes_received.max(row.traffic.bytes_received),
            sends: self.traffic.sends.max(row.traffic.sends),
            ..row.traffic
        };
        if row.at < self.changed_at {
            return;
        }
        self.changed_at = row.at;
        if row.state == State::PeerClosed && self.state != State::PeerClosed {
            self.peer_first = true;
        }
        self.established |= matches!(row.state, State::Established | State::PeerClosed);
        self.state = row.state;
    }

    /// Whether nothing is left of it: the connection has ended and no descriptor refers to the socket.
    pub(super) fn over(&self) -> bool {
        self.released || self.state == State::Closed && !self.established
    }

    /// How it ended.
    pub(super) fn cause(&self) -> Cause {
        if self.error != 0 {
            Cause::Reset
        } else if self.peer_first {
            Cause::Peer
        } else {
            Cause::Local
        }
    }
}
