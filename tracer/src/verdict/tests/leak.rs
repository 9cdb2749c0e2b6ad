//! The leak rule, seen from the first connection on.

use super::*;
use crate::server::wire::{Identity, Purpose};

/// Leaks one connection each `pace`, looking each 100 ms, until it is named; gives the time from the first.
fn time_to_name(pace: Nanos, idle: Nanos) -> Nanos {
    let mut world = World::watched();
    world.policy.idle = idle;
    let began = world.now;
    let mut next = began;
    while world.now < began + 60 * MINUTE {
        if world.now >= next {
            world.open();
            next += pace;
        }
        if !world.findings().is_empty() {
            return world.now - began;
        }
        world.wait(100 * MS);
    }
    panic!("never named");
}

#[test]
fn a_leak_is_named_when_the_third_socket_is_idle_and_passed_over() {
    for (pace, idle) in [
        (200 * MS, 2 * SECOND),
        (200 * MS, 30 * SECOND),
        (SECOND, 30 * SECOND),
        (10 * SECOND, 30 * SECOND),
        (MINUTE, 30 * SECOND),
        (10 * MINUTE, 30 * SECOND),
    ] {
        let named = time_to_name(pace, idle);
        let third_is_idle = 2 * pace + idle;
        // Three sockets make a habit once they have come up for `--idle`, and the third is passed over by
        // the next; a look comes each 100 ms.
        let passed_over = third_is_idle.max(3 * pace);
        assert!(
            named >= third_is_idle && named <= passed_over + pace.min(SECOND) + 300 * MS,
            "one each {} ms, idle {} ms: {} ms",
            pace / MS,
            idle / MS,
            named / MS
        );
    }
}

#[test]
fn a_leak_that_stops_before_anything_is_idle_is_named_all_the_same() {
    for count in [6, 30] {
        let mut world = World::watched();
        for _ in 0..count {
            world.open();
            world.wait(200 * MS);
        }
        world.wait(30 * SECOND);
        assert_eq!(world.finding(Kind::Leak).sockets.len(), count - 1, "passed over");
    }
}

#[test]
fn single_connections_of_a_starting_application_are_quiet() {
    let mut world = World::watched();
    // A lock, a listener, a monitor, a scheduler; then a pool.
    for _ in 0..4 {
        world.open();
        world.wait(SECOND);
    }
    let pool: Vec<Cookie> = (0..10).map(|_| world.connect()).collect();
    for _ in 0..5 {
        for &connection in &pool {
            world.query(connection);
        }
        world.quiet_for(MINUTE);
    }
}

#[test]
fn a_leak_is_certain_and_its_numbers_are_right() {
    let mut world = World::watched();
    for second in 0..160 {
        world.open();
        world.wait(SECOND);
        if second == 80 {
            let finding = world.finding(Kind::Leak);
            assert_eq!(finding.confidence, Confidence::Likely, "not yet silent for long");
        }
    }
    let finding = world.finding(Kind::Leak);
    assert_eq!(finding.confidence, Confidence::Certain);
    assert_eq!((finding.opened, finding.closed, finding.open), (160, 0, 160));
    assert_eq!(finding.sockets.len(), 131, "idle for over 30 s");
    assert_eq!(finding.passed_over_max(), 159);
    let rate = finding.growth_per_min.expect("a rate");
    assert!((59.0..60.1).contains(&rate), "{rate}");
}

#[test]
fn a_leak_among_requests_that_close_is_named() {
    let mut world = World::watched();
    for request in 0..2000u32 {
        let connection = world.open();
        if request % 100 != 0 {
            world.close(connection);
        }
        world.wait(100 * MS);
    }
    let finding = world.finding(Kind::Leak);
    assert_eq!((finding.open, finding.closed), (20, 1980));
}

#[test]
fn a_leak_beside_overlapping_short_connections_is_named() {
    let mut world = World::watched();
    let (mut short, mut noise) = (Vec::new(), 1u32);
    for second in 0..90 {
        for _ in 0..10 {
            // Between none and five at once, by chance.
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            while short.len() > (noise >> 16) as usize % 6 {
                world.close(short.remove(0));
            }
            short.push(world.open());
            world.wait(90 * MS);
        }
        if second % 3 == 0 {
            world.open();
        }
        if !world.findings().is_empty() {
            assert!(second >= 30, "named after {second} s");
            return;
        }
    }
    panic!("never named");
}

#[test]
fn lost_events_lower_the_confidence() {
    let mut world = World::watched();
    for _ in 0..100 {
        world.open();
        world.wait(SECOND);
    }
    world.lose();
    let finding = world.finding(Kind::Leak);
    assert_eq!(finding.confidence, Confidence::Likely);
    assert!(
        finding.but.iter().any(|text| text.contains("lost")),
        "{finding:#?}"
    );
}

/// A pool of ten fills up, one connection right after another: each takes 150 ms, as a remote server with
/// TLS and a login does.
fn fill(world: &mut World) {
    for _ in 0..10 {
        let connection = world.connect();
        world.wait(150 * MS);
        world.query(connection);
    }
}

#[test]
fn an_idle_pool_that_filled_slowly_is_quiet() {
    let mut world = World::watched();
    fill(&mut world);
    world.quiet_for(10 * MINUTE);
    // One more that opens and closes passes them all over, and says nothing.
    let other = world.open();
    world.wait(SECOND);
    world.quiet_for(5 * SECOND);
    world.close(other);
    world.quiet_for(MINUTE);
}

#[test]
fn two_pools_that_filled_at_different_times_are_quiet() {
    let mut world = World::watched();
    for _ in 0..2 {
        fill(&mut world);
        world.quiet_for(10 * MINUTE);
    }
}

#[test]
fn a_pool_of_twenty_in_bursts_is_quiet() {
    let mut world = World::watched();
    let pool: Vec<Cookie> = (0..20).map(|_| world.connect()).collect();
    for _ in 0..5 {
        for &connection in &pool {
            world.query(connection);
        }
        world.quiet_for(2 * MINUTE);
    }
}

#[test]
fn rotation_at_maximum_lifetime_is_quiet() {
    let mut world = World::watched();
    let mut pool: Vec<Cookie> = (0..10).map(|_| world.open()).collect();
    for _ in 0..3 {
        for connection in &mut pool {
            world.close(*connection);
            *connection = world.open();
            world.quiet_for(40 * SECOND);
        }
    }
    // And with the new one opened first.
    for connection in &mut pool {
        let old = std::mem::replace(connection, world.open());
        world.close(old);
        world.quiet_for(40 * SECOND);
    }
}

#[test]
fn two_pools_that_are_rotated_are_quiet() {
    let mut world = World::watched();
    let mut pools = Vec::new();
    for _ in 0..2 {
        pools.extend((0..10).map(|_| world.open()).collect::<Vec<_>>());
        world.quiet_for(MINUTE);
    }
    for connection in &mut pools {
        world.close(*connection);
        *connection = world.open();
        world.quiet_for(40 * SECOND);
    }
}

#[test]
fn a_last_in_first_out_pool_under_falling_load_is_quiet() {
    let mut world = World::watched();
    let mut pool: Vec<Cookie> = (0..20).map(|_| world.connect()).collect();
    while let [.., _] = pool.as_slice() {
        for &connection in &pool {
            world.query(connection);
        }
        pool.pop();
        world.quiet_for(5 * SECOND);
    }
    world.quiet_for(2 * MINUTE);
}

#[test]
fn a_connection_for_each_request_is_quiet() {
    let mut world = World::watched();
    for _ in 0..200 {
        let (one, two) = (world.open(), world.open());
        world.quiet_for(SECOND);
        world.close(one);
        world.close(two);
    }
}

#[test]
fn long_queries_are_not_idle() {
    let mut world = World::watched();
    for _ in 0..10 {
        let connection = world.open();
        world.ask(connection);
        world.wait(40 * SECOND);
    }
    world.quiet_for(10 * MINUTE);
}

#[test]
fn listeners_beside_short_connections_are_quiet() {
    let mut world = World::watched();
    for _ in 0..4 {
        world.open();
        world.wait(300 * MS);
    }
    for _ in 0..300 {
        let short = world.open();
        world.quiet_for(SECOND);
        world.close(short);
        world.wait(200 * MS);
    }
}

#[test]
fn a_leak_kept_by_the_openers_child_is_named_under_the_child() {
    let mut world = World::watched();
    for _ in 0..40 {
        world.open();
        world.wait(SECOND);
    }
    world.process.pid = 5000;
    let finding = world.finding(Kind::Leak);
    assert_eq!(finding.process.pid, 5000);
    assert_eq!(finding.opened, 40);
}

/// Opens one connection a second for as long, each for the tenant that `tenant` says, and looks.
fn for_tenants(tenant: impl Fn(u64) -> u64) -> Option<Confidence> {
    let mut world = World::watched();
    for second in 0..100 {
        let cookie = world.open();
        world.says(
            cookie,
            Identity {
                application: Some(format!("tenant {}", tenant(second))),
                ..Identity::default()
            },
        );
        world.wait(SECOND);
    }
    world.findings().first().map(|finding| finding.confidence)
}

#[test]
fn connections_for_a_hundred_tenants_are_suspect_at_most() {
    assert_eq!(for_tenants(|second| second), Some(Confidence::Suspect));
}

#[test]
fn a_leak_that_says_who_it_is_is_named() {
    assert_eq!(for_tenants(|_| 7), Some(Confidence::Likely));
    // A pool for each of the others does not hide the one that leaks.
    let named = for_tenants(|second| if second % 4 == 0 { second } else { 7 });
    assert_eq!(named, Some(Confidence::Likely));
}

#[test]
fn subscribers_that_are_told_something_all_the_time_are_left_alone_when_they_say_nothing() {
    let mut world = World::watched();
    let mut subscribers = Vec::new();
    for _ in 0..200 {
        let cookie = world.open();
        world.says(
            cookie,
            Identity {
                purpose: Some(Purpose::Subscriber),
                channel: Some("news".to_owned()),
                ..Identity::default()
            },
        );
        subscribers.push(cookie);
        world.wait(SECOND);
        for &subscriber in &subscribers {
            world.answer(subscriber);
        }
    }
    assert_eq!(world.finding(Kind::Leak).confidence, Confidence::Likely);
}
