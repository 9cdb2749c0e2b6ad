//! Whose sockets are: those that a live thread keeps for itself, and those that nobody does.

use super::*;

/// Eight threads that come up one each 25 seconds, with a connection each.
fn per_thread(world: &mut World) -> Vec<Cookie> {
    (1..=8)
        .map(|thread| {
            world.tid = 5000 + thread;
            let connection = world.open();
            world.wait(25 * SECOND);
            world.look();
            world.threads(&[5000 + thread], &[]);
            connection
        })
        .collect()
}

#[test]
fn a_connection_per_live_thread_is_suspect_at_most() {
    let mut world = World::watched();
    per_thread(&mut world);
    for _ in 0..10 {
        world.wait(30 * SECOND);
        let findings = world.findings();
        assert!(
            findings
                .iter()
                .all(|finding| finding.confidence == Confidence::Suspect),
            "{findings:#?}"
        );
    }
}

#[test]
fn a_connection_of_a_dead_thread_is_a_leak() {
    let mut world = World::watched();
    per_thread(&mut world);
    let dead: Vec<u32> = (5001..=5008).collect();
    world.threads(&[], &dead);
    world.wait(150 * SECOND);
    // The numbers may be given to others, whose these are not.
    world.threads(&dead, &[]);
    assert_eq!(world.finding(Kind::Leak).confidence, Confidence::Certain);
}

#[test]
fn a_second_connection_of_the_same_thread_makes_both_a_leak() {
    let mut world = World::watched();
    per_thread(&mut world);
    per_thread(&mut world);
    world.wait(150 * SECOND);
    let finding = world.finding(Kind::Leak);
    assert_eq!(finding.confidence, Confidence::Certain);
    assert_eq!(finding.sockets.len(), 15);
}

#[test]
fn a_thread_that_opens_others_meanwhile_does_not_own_the_one_that_it_forgot() {
    let mut world = World::watched();
    per_thread(&mut world);
    for thread in 1..=8 {
        world.tid = 5000 + thread;
        let short = world.open();
        world.close(short);
    }
    world.wait(150 * SECOND);
    assert_eq!(world.finding(Kind::Leak).confidence, Confidence::Certain);
}

#[test]
fn a_query_in_the_tick_of_the_login_may_be_running() {
    for (running, one_tick) in [(true, true), (false, true), (false, false)] {
        let mut world = World::watched();
        world.one_tick = one_tick;
        for _ in 0..20 {
            let connection = world.open();
            if running {
                world.ask(connection);
            }
            world.wait(10 * SECOND);
        }
        world.wait(MINUTE);
        let expected = if running {
            Confidence::Suspect
        } else {
            Confidence::Certain
        };
        assert_eq!(world.finding(Kind::Leak).confidence, expected);
    }
}

#[test]
fn a_pool_that_keeps_five_idle_while_load_rises_is_suspect_at_most() {
    let mut world = World::watched();
    let mut idle: Vec<Cookie> = (0..5).map(|_| world.open()).collect();
    let mut busy = Vec::new();
    for _ in 0..20 {
        busy.push(idle.remove(0));
        idle.push(world.open());
        for _ in 0..30 {
            for &connection in &busy {
                world.ask(connection);
            }
            world.wait(SECOND);
            let findings = world.findings();
            assert!(
                findings
                    .iter()
                    .all(|finding| finding.confidence == Confidence::Suspect),
                "{findings:#?}"
            );
        }
    }
}

#[test]
fn an_idle_pool_beside_a_leak_is_not_claimed() {
    for before in [true, false] {
        let mut world = World::unwatched();
        if !before {
            world.attach();
        }
        let pool: Vec<Cookie> = (0..20).map(|_| world.connect()).collect();
        for &connection in &pool {
            world.query(connection);
        }
        world.wait(MINUTE);
        if before {
            world.attach();
        }
        let leaked: Vec<Cookie> = (0..200)
            .map(|_| {
                let connection = world.open();
                world.query(connection);
                world.wait(SECOND);
                world.look();
                connection
            })
            .collect();
        let finding = world.finding(Kind::Leak);
        assert_eq!(finding.confidence, Confidence::Certain);
        assert!(
            finding.sockets.len() >= 165
                && finding
                    .cookies()
                    .all(|cookie| leaked.contains(&cookie) || cookie == pool[0]),
            "{:?}",
            finding.cookies().collect::<Vec<_>>()
        );
    }
}
