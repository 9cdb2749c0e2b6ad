//! Bounded pools: drained, and merely at rest.

use super::*;

/// In which order a pool hands out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Queue,
    Stack,
    List,
}

struct Pool {
    order: Order,
    idle: Vec<Cookie>,
}

impl Pool {
    fn new(world: &mut World, order: Order, size: usize) -> Self {
        let idle: Vec<Cookie> = (0..size).map(|_| world.connect()).collect();
        for &connection in &idle {
            world.query(connection);
        }
        Self { order, idle }
    }

    fn take(&mut self) -> Option<Cookie> {
        match self.order {
            _ if self.idle.is_empty() => None,
            Order::Stack => self.idle.pop(),
            Order::Queue => Some(self.idle.remove(0)),
            Order::List => {
                let first = self.idle.iter().min().copied()?;
                self.idle.retain(|&idle| idle != first);
                Some(first)
            }
        }
    }

    /// So many requests at once.
    fn work(&mut self, world: &mut World, at_once: usize) {
        let taken: Vec<Cookie> = (0..at_once).filter_map(|_| self.take()).collect();
        for &connection in &taken {
            world.query(connection);
        }
        self.idle.extend(taken);
    }
}

/// Works for so long, a round each 1.3 s.
fn work(world: &mut World, pool: &mut Pool, time: Nanos, at_once: usize) {
    let end = world.now + time;
    while world.now < end {
        pool.work(world, at_once);
        world.wait(1300 * MS);
    }
}

/// Each 20 seconds one connection of ten is not given back, until so many are left.
fn drain(order: Order, left: usize) -> World {
    let mut world = World::watched();
    let mut pool = Pool::new(&mut world, order, 10);
    work(&mut world, &mut pool, 20 * SECOND, 2);
    while pool.idle.len() > left {
        let lost = pool.take().expect("one more");
        world.query(lost);
        work(&mut world, &mut pool, 20 * SECOND, 2);
    }
    work(&mut world, &mut pool, MINUTE, 2);
    world
}

#[test]
fn a_drained_pool_is_named() {
    for order in [Order::Queue, Order::Stack] {
        for left in [0, 1, 3] {
            let mut world = drain(order, left);
            let finding = world.finding(Kind::Unreturned);
            // Of two requests at once one at most is served: that may as well be the end of work.
            let expected = if left < 2 {
                Confidence::Suspect
            } else {
                Confidence::Likely
            };
            assert_eq!(
                finding.confidence, expected,
                "{order:?} {left} {:?}",
                finding.because
            );
            assert_eq!(finding.sockets.len(), 10 - left, "{order:?}: {finding:#?}");
        }
    }
}

#[test]
fn pools_whose_load_falls_or_ends_are_quiet() {
    for order in [Order::Queue, Order::Stack, Order::List] {
        let mut world = World::watched();
        let mut pool = Pool::new(&mut world, order, 10);
        for at_once in (1..=10).rev() {
            work(&mut world, &mut pool, 40 * SECOND, at_once);
            assert_eq!(world.findings(), [], "{order:?}, {at_once} at once");
        }
        world.quiet_for(5 * MINUTE);
        work(&mut world, &mut pool, MINUTE, 5);
        world.quiet_for(5 * MINUTE);
    }
}

#[test]
fn pings_are_quiet() {
    let mut world = World::watched();
    let mut pool = Pool::new(&mut world, Order::Stack, 10);
    for _ in 0..10 {
        work(&mut world, &mut pool, 2 * MINUTE, 2);
        for connection in pool.idle.clone() {
            world.wait(100 * MS);
            world.query(connection);
        }
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn an_idle_pool_beside_a_busy_one_is_quiet() {
    for (idle, busy) in [
        (Order::Queue, Order::Queue),
        (Order::Stack, Order::Queue),
        (Order::Queue, Order::Stack),
    ] {
        let mut world = World::watched();
        let mut pool = Pool::new(&mut world, idle, 10);
        work(&mut world, &mut pool, MINUTE, 3);
        let mut other = Pool::new(&mut world, busy, 10);
        work(&mut world, &mut other, 10 * MINUTE, 3);
        assert_eq!(world.findings(), [], "{idle:?} beside {busy:?}");
    }
}
