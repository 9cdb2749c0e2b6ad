//! Sockets that live on in another process.

use super::*;

#[test]
fn sockets_that_orphans_keep_are_named() {
    let mut world = World::watched();
    for number in 0..3 {
        assert_eq!(
            world
                .findings()
                .iter()
                .filter(|one| one.confidence > Confidence::Suspect)
                .count(),
            0
        );
        world.process.pid = 4121;
        world.open();
        world.look();
        world.process.pid = 5000 + number;
        world.wait(40 * SECOND);
    }
    // In these worlds all sockets have one holder; on a host each orphan has its own.
    assert_eq!(world.finding(Kind::Inherited).confidence, Confidence::Likely);
}

#[test]
fn a_socket_that_was_handed_on_and_is_used_is_quiet() {
    let mut world = World::watched();
    let connection = world.open();
    world.look();
    world.process.pid = 5000;
    world.look();
    world.wait(SECOND);
    world.query(connection);
    world.quiet_for(5 * MINUTE);
}

#[test]
fn one_that_waits_since_it_was_handed_on_is_suspect() {
    let mut world = World::watched();
    world.open();
    world.look();
    world.process.pid = 5000;
    world.wait(5 * MINUTE);
    assert_eq!(world.finding(Kind::Inherited).confidence, Confidence::Suspect);
}
