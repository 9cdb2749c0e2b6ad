//! What a single look can say of sockets that were opened before it.

use super::*;

fn look(world: &mut World) -> Option<Confidence> {
    world.policy.single_look = true;
    if world.ledger.attached_at().is_none() {
        world.attach();
    }
    let findings = world.findings();
    assert!(findings.len() <= 1, "{findings:#?}");
    findings.first().map(|finding| {
        assert_eq!(finding.kind, Kind::Leak);
        finding.confidence
    })
}

fn leaked(count: usize, pace: Nanos) -> World {
    let mut world = World::unwatched();
    for _ in 0..count {
        world.open();
        world.wait(pace);
    }
    world
}

#[test]
fn thirty_staggered_sockets_are_a_likely_leak() {
    let mut world = leaked(30, 200 * MS);
    assert_eq!(look(&mut world), Some(Confidence::Likely));
    assert_eq!(world.finding(Kind::Leak).sockets.len(), 30);
    assert_eq!(world.finding(Kind::Leak).opened_before_attach, 30);
}

#[test]
fn a_pool_after_its_burst_is_nothing() {
    let mut world = World::unwatched();
    let pool: Vec<Cookie> = (0..20).map(|_| world.connect()).collect();
    for &connection in &pool {
        world.ask(connection);
    }
    world.wait(100 * MS);
    for &connection in &pool {
        world.query(connection);
    }
    world.wait(MINUTE);
    assert_eq!(look(&mut world), None);
}

#[test]
fn a_batch_whose_parts_end_one_by_one_is_at_most_suspect() {
    let mut world = World::unwatched();
    let batch: Vec<Cookie> = (0..30).map(|_| world.connect()).collect();
    // Each part is a little longer than the one before, so they fall silent in the order of their opening.
    for step in 0..30 {
        for &connection in &batch[step..] {
            world.query(connection);
        }
        world.wait(300 * MS);
    }
    assert_eq!(look(&mut world), Some(Confidence::Suspect));
}

#[test]
fn a_round_robin_pool_with_much_traffic_is_at_most_suspect() {
    let mut world = World::unwatched();
    let pool: Vec<Cookie> = (0..20).map(|_| world.connect()).collect();
    for _ in 0..100 {
        for &connection in &pool {
            world.query(connection);
            world.wait(50 * MS);
        }
    }
    assert!(look(&mut world) <= Some(Confidence::Suspect));
}

#[test]
fn few_sockets_are_at_most_suspect() {
    for count in 0..3 {
        assert_eq!(look(&mut leaked(count, SECOND)), None, "{count}");
    }
    for count in 3..5 {
        assert!(
            look(&mut leaked(count, SECOND)) <= Some(Confidence::Suspect),
            "{count}"
        );
    }
}

#[test]
fn sockets_that_are_used_again_are_at_most_suspect() {
    let mut world = World::unwatched();
    let opened: Vec<Cookie> = (0..30)
        .map(|_| {
            world.wait(200 * MS);
            world.open()
        })
        .collect();
    world.attach();
    world.wait(SECOND);
    world.query(opened[0]);
    assert!(look(&mut world) <= Some(Confidence::Suspect));
}

#[test]
fn sockets_used_in_another_order_than_opened_are_nothing() {
    let mut world = World::unwatched();
    let pool: Vec<Cookie> = (0..20).map(|_| world.connect()).collect();
    for index in 0..20 {
        world.query(pool[index * 7 % 20]);
        world.wait(200 * MS);
    }
    assert_eq!(look(&mut world), None);
}

#[test]
fn a_pool_that_was_drained_before_attach_is_unreturned_when_nothing_is_opened() {
    let mut world = World::unwatched();
    let pool: Vec<Cookie> = (0..10).map(|_| world.connect()).collect();
    for (lost, &connection) in pool.iter().enumerate() {
        for _ in 0..if lost == 0 { 1 } else { 6 } {
            world.query(connection);
            world.wait(150 * MS);
        }
    }
    world.attach();
    assert_eq!(world.findings(), []);
    world.wait(31 * SECOND);
    assert!(world.finding(Kind::Unreturned).confidence <= Confidence::Likely);
}
