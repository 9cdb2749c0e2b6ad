//! In which order sockets from before attach were opened. The kernel writes no time down, but three of a socket's numbers are
//! handed out in turn. Each misleads in its own way, so that an order shown by any of them counts.

use std::{net::IpAddr, ops::RangeInclusive, sync::Arc};

use crate::{event::Server, ledger::Connection};

/// A number that rises in the order in which sockets were opened.
#[derive(Clone)]
pub enum Number {
    /// A process is given the lowest that is free; while it closes none, they rise.
    Descriptor,
    /// They rise as long as the process stays on one processor.
    Inode,
    /// They rise, and begin again after the last.
    Port(Circle),
}

/// Inode numbers are taken from a batch of so many, of which each processor has its own (`LAST_INO_BATCH` of
/// `get_next_ino`, `fs/inode.c`).
const INODES: u64 = 1024;

/// Ports of this end, by default (`ip_local_port_range`, `ip-sysctl.rst`). Where others were set, the place at which they
/// begin again may be missed.
const PORTS: RangeInclusive<u16> = 32_768..=60_999;

/// All that these sockets have, the best one last.
pub fn numbers(sockets: &[&Connection]) -> Vec<Number> {
    let port = Circle::of(sockets).map(Number::Port);
    [Number::Descriptor, Number::Inode]
        .into_iter()
        .chain(port)
        .collect()
}

impl Number {
    /// That of this socket, if it has one.
    pub fn of(&self, socket: &Connection) -> Option<u64> {
        match self {
            Self::Descriptor => Some(u64::from(socket.holders.first()?.fd)),
            Self::Inode => socket.inode(),
            Self::Port(circle) => circle.place(socket),
        }
    }

    /// Of how many a batch is, if the order is sure within one alone.
    pub fn batch(&self) -> Option<u64> {
        matches!(self, Self::Inode).then_some(INODES)
    }
}

/// The ports from one address to one server.
///
/// Who connects is given a free port, 2 to 16 further than the one before to the same server, and the first again after
/// the last: a turn is some 3,000 connections (`__inet_hash_connect`, `net/ipv4/inet_hashtables.c`, after RFC 6056,
/// 3.3.4). So a few sockets' ports are on a circle, and begin after its largest gap. Over more than a turn they are in no order.
#[derive(Clone)]
pub struct Circle {
    server: Arc<Server>,
    netns: u32,
    from: IpAddr,
    begin: u16,
}

impl Circle {
    fn of(sockets: &[&Connection]) -> Option<Self> {
        let (first, client) = sockets
            .iter()
            .find_map(|socket| Some((socket, socket.client()?)))?;
        let mut circle = Self {
            server: Arc::clone(&first.server),
            netns: first.netns,
            from: client.ip(),
            begin: 0,
        };
        let mut ports: Vec<u16> = sockets.iter().filter_map(|socket| circle.port(socket)).collect();
        ports.sort_unstable();
        let (&lowest, &highest) = (ports.first()?, ports.last()?);
        let around = lowest.saturating_sub(*PORTS.start()) + PORTS.end().saturating_sub(highest);
        let largest = ports.windows(2).map(|pair| (pair[1] - pair[0], pair[1])).max();
        circle.begin = largest
            .filter(|&(gap, _)| gap > around)
            .map_or(lowest, |(_, next)| next);
        Some(circle)
    }

    fn port(&self, socket: &Connection) -> Option<u16> {
        let client = socket.client()?;
        let same = client.ip() == self.from
            && socket.netns == self.netns
            && socket.server.place == self.server.place;
        same.then_some(client.port())
    }

    fn place(&self, socket: &Connection) -> Option<u64> {
        Some(u64::from(self.port(socket)?.wrapping_sub(self.begin)))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::testing::World, *};

    #[test]
    fn the_order_of_ports_begins_after_their_largest_gap() {
        let mut world = World::unwatched();
        // The last ones of a turn, and the first ones of the next.
        let turn = (PORTS.end() - PORTS.start()) / World::PORTS_APART;
        for _ in 0..turn - 3 {
            let passing = world.connect();
            world.close(passing);
        }
        for _ in 0..8 {
            world.connect();
        }
        world.attach();
        let mut sockets: Vec<&Connection> = world.ledger.connections().collect();
        sockets.sort_by_key(|socket| socket.cookie);
        let circle = Circle::of(&sockets).expect("they have ports");
        let ports: Vec<u64> = sockets.iter().filter_map(|socket| circle.place(socket)).collect();
        assert_eq!(ports.len(), 8);
        assert!(ports.is_sorted(), "{ports:?}");
        let plain: Vec<u16> = sockets
            .iter()
            .filter_map(|socket| Some(socket.client()?.port()))
            .collect();
        assert!(!plain.is_sorted(), "they went round: {plain:?}");
    }
}
