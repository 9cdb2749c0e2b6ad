//! Connections that are forgotten and pinged all the same.

use super::*;

/// One each 0.9 s, `used` and forgotten, all of them pinged once a second; or at work, as often as `at_work` says.
fn pinged(
    world: &mut World,
    steps: u64,
    mut more: impl FnMut(&mut World, u64, &mut Vec<Cookie>),
) -> Option<Confidence> {
    let mut registry: Vec<Cookie> = Vec::new();
    let mut surest = None;
    for step in 0..steps {
        more(world, step, &mut registry);
        if step % 10 == 0 {
            for &connection in &registry.clone() {
                world.ping(connection);
            }
        }
        world.wait(100 * MS);
        if step % 5 == 0 {
            surest = surest.max(world.findings().iter().map(|finding| finding.confidence).max());
        }
    }
    surest
}

fn watched() -> World {
    let mut world = World::watched();
    world.policy.idle = 2 * SECOND;
    world
}

#[test]
fn forgotten_connections_that_are_pinged_are_a_leak() {
    let mut world = watched();
    let surest = pinged(&mut world, 180, |world, step, registry| {
        // Beside short ones that are closed.
        let short = world.open();
        world.close(short);
        if step % 9 == 0 {
            registry.push(world.open());
        }
    });
    assert_eq!(surest, Some(Confidence::Likely));
    let finding = world.finding(Kind::Leak);
    assert!(finding.sockets.len() >= 16, "{finding:#?}");
}

#[test]
fn a_pool_that_is_pinged_while_it_grows_with_its_load_is_quiet() {
    let mut world = watched();
    let surest = pinged(&mut world, 180, |world, step, registry| {
        if step % 9 == 0 {
            registry.push(world.open());
        }
        // All but the last two are at work several times a second.
        for &connection in registry.iter().rev().skip(2) {
            world.query(connection);
        }
    });
    assert_eq!(surest, None);
}

#[test]
fn connections_that_are_used_again_after_pings_are_at_most_suspect() {
    let mut world = watched();
    let surest = pinged(&mut world, 300, |world, step, registry| {
        if step % 9 == 0 {
            registry.push(world.open());
        }
        // Each has a rest of nine seconds.
        if step % 3 == 0 {
            for (place, &connection) in registry.iter().enumerate() {
                if (step / 3 + place as u64 * 3) % 33 < 3 {
                    world.query(connection);
                }
            }
        }
    });
    assert!(surest <= Some(Confidence::Suspect), "{surest:?}");
}

#[test]
fn a_pool_that_is_full_and_pinged_is_quiet() {
    let mut world = watched();
    let surest = pinged(&mut world, 600, |world, step, registry| {
        if step < 3 {
            registry.extend((0..4).map(|_| world.open()));
        }
    });
    assert_eq!(surest, None);
}
