//! In which order sockets from before attach were opened. The kernel writes no time down, but three of a socket's numbers are handed out in
//! turn. Each misleads in its own way, so that an order shown by any of them counts.

use crate::ledger::Connection;

/// What number a socket has; `None` where it has none.
pub type Number = Box<dyn Fn(&Connection) -> Option<u64>>;

/// Inode numbers are in the order of opening as long as the process stays on one processor: each has its own batch of so many
/// (`LAST_INO_BATCH` of `get_next_ino`, `fs/inode.c`).
pub const INODES: u64 = 1024;

/// Ports of this end, by default (`ip_local_port_range`, `ip-sysctl.rst`). Where others were set, the place at which they
/// begin again may be missed.
const PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// Which of [`numbers`] is the inode's.
pub const INODE: usize = 1;

/// Numbers that rise in the order in which these sockets were opened.
pub fn numbers(sockets: &[&Connection]) -> [Number; 3] {
    [Box::new(descriptor), Box::new(Connection::inode), port(sockets)]
}

/// A process is given the lowest number that is free; while it closes none, in the order of opening.
fn descriptor(socket: &Connection) -> Option<u64> {
    Some(u64::from(socket.holders.first()?.fd))
}

/// Who connects is given a free port, 2 to 16 further than the one before to the same server, and the first again after the
/// last: a turn is some 3,000 connections (`__inet_hash_connect`, `net/ipv4/inet_hashtables.c`, after RFC 6056, 3.3.4). So a few
/// sockets' ports are on a circle, and begin after its largest gap. Over more than a turn they are in no order.
fn port(sockets: &[&Connection]) -> Number {
    let Some(&first) = sockets.first() else {
        return Box::new(|_| None);
    };
    let (server, netns) = (first.server.clone(), first.netns);
    let from = first.client().map(|client| client.ip());
    let port = move |socket: &Connection| {
        let client = socket.client()?;
        let same = Some(client.ip()) == from && socket.netns == netns && socket.server.place == server.place;
        same.then_some(client.port())
    };
    let mut ports: Vec<u16> = sockets.iter().filter_map(|socket| port(socket)).collect();
    ports.sort_unstable();
    let (Some(&lowest), Some(&highest)) = (ports.first(), ports.last()) else {
        return Box::new(|_| None);
    };
    let around = lowest.saturating_sub(*PORTS.start()) + PORTS.end().saturating_sub(highest);
    let largest = ports.windows(2).map(|pair| (pair[1] - pair[0], pair[1])).max();
    let begin = largest.map_or(lowest, |(gap, next)| if gap > around { next } else { lowest });
    Box::new(move |socket| port(socket).map(|port| u64::from(port.wrapping_sub(begin))))
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
        let [.., port] = numbers(&sockets);
        let ports: Vec<u64> = sockets.iter().filter_map(|socket| port(socket)).collect();
        assert_eq!(ports.len(), 8);
        assert!(ports.is_sorted(), "{ports:?}");
        let plain: Vec<u16> = sockets
            .iter()
            .filter_map(|socket| Some(socket.client()?.port()))
            .collect();
        assert!(!plain.is_sorted(), "they went round: {plain:?}");
    }
}
