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

/// Visitors come one each 0.8 s, some of them twice and some four times; `kept` says whether their connections are.
fn visitors(world: &mut World, from: u64, steps: u64, open: &mut Vec<(u64, Cookie)>, kept: bool) {
    let visits = |came: u64| {
        if came.is_multiple_of(8) {
            &[0, 4, 14, 24][..]
        } else {
            &[0, 4]
        }
    };
    for step in from..from + steps {
        if step.is_multiple_of(4) {
            open.push((step, world.connect()));
        }
        for &(came, visitor) in open.iter() {
            if visits(came).contains(&(step - came)) {
                world.query(visitor);
            }
        }
        if !kept {
            for (_, gone) in open.extract_if(.., |(came, _)| visits(*came).last() == Some(&(step - *came))) {
                world.close(gone);
            }
        }
        world.wait(200 * MS);
    }
}

#[test]
fn visitors_whose_connections_are_kept_are_told_from_those_who_are_in_the_middle_of_a_visit() {
    for kept in [true, false] {
        let mut world = World::unwatched();
        world.policy.idle = 2 * SECOND;
        let mut open = Vec::new();
        visitors(&mut world, 0, 120, &mut open, kept);
        world.attach();
        let mut surest = None;
        // Not for long: what is opened in view has a rule of its own.
        for part in 0..9 {
            visitors(&mut world, 120 + 3 * part, 3, &mut open, kept);
            surest = surest.max(world.findings().iter().map(|finding| finding.confidence).max());
        }
        if kept {
            assert_eq!(surest, Some(Confidence::Likely));
        } else {
            assert!(surest <= Some(Confidence::Suspect), "{surest:?}");
        }
    }
}

/// A pool of four is made anew each three seconds; the old one is kept, or closed a second later.
#[test]
fn generations_of_a_pool_that_are_kept_are_a_leak() {
    for kept in [true, false] {
        let mut world = World::unwatched();
        world.policy.idle = 2 * SECOND;
        let mut generations: Vec<Vec<Cookie>> = Vec::new();
        let mut surest = None;
        for step in 0..100 {
            if step % 15 == 0 {
                generations.push((0..4).map(|_| world.connect()).collect());
            }
            if !kept && step % 15 == 5 && generations.len() > 1 {
                for old in generations.remove(0) {
                    world.close(old);
                }
            }
            // In another order each time, and often.
            for turn in 0..4 {
                let newest = generations.last().expect("the first was made at once");
                world.query(newest[(turn * 3 + step) % 4]);
                world.wait(50 * MS);
            }
            if step == 50 {
                world.attach();
            }
            if step > 50 && step % 3 == 0 {
                surest = surest.max(world.findings().iter().map(|finding| finding.confidence).max());
            }
        }
        if kept {
            assert_eq!(surest, Some(Confidence::Likely));
        } else {
            assert_eq!(surest, None);
        }
    }
}

/// A report makes a pool of three each 2.4 s, asks for 0.2 to 0.4 s and drops it. At attach, one of the newest three has just
/// answered and two have not.
#[test]
fn that_the_newest_generation_is_at_work_yet_hides_nothing() {
    let mut world = World::unwatched();
    world.policy.idle = 2 * SECOND;
    let mut reports: Vec<Vec<Cookie>> = Vec::new();
    let mut first = None;
    for step in 0..140 {
        if step % 24 == 0 {
            let mut pool: Vec<Cookie> = (0..3).map(|_| world.connect()).collect();
            // Who asks for how long has nothing to do with who was opened first.
            pool.swap(0, reports.len() % 3);
            reports.push(pool);
        }
        let newest = reports.last().expect("the first was made at once");
        if let Some(&answered) = (step % 24_usize).checked_sub(2).and_then(|part| newest.get(part)) {
            world.query(answered);
        }
        if step == 24 * 3 + 2 {
            world.attach();
        }
        world.wait(100 * MS);
        if step > 24 * 3 + 2 && first.is_none() && !world.findings().is_empty() {
            first = Some(step - (24 * 3 + 2));
        }
    }
    assert!(first.is_some_and(|tenths| tenths <= 50), "{first:?}");
}
