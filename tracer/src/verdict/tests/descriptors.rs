//! Sockets that are wrong each by itself: `close_wait` and `never_used`.

use super::*;

#[test]
fn a_socket_that_the_server_closed_is_named_after_a_while() {
    let mut world = World::watched();
    let connection = world.open();
    world.wait(10 * MINUTE);
    world.server_closes(connection);
    world.wait(4 * SECOND);
    assert_eq!(world.findings(), []);
    world.wait(2 * SECOND);
    assert_eq!(world.finding(Kind::CloseWait).confidence, Confidence::Likely);
    let other = world.open();
    world.query(other);
    assert_eq!(world.finding(Kind::CloseWait).confidence, Confidence::Likely);
    world.wait(30 * SECOND);
    assert_eq!(world.finding(Kind::CloseWait).confidence, Confidence::Certain);
    world.close(connection);
    assert_eq!(world.findings(), []);
}

#[test]
fn dead_ones_beside_one_that_lives_may_rest_in_its_pool() {
    let mut world = World::watched();
    let pool: Vec<_> = (0..3).map(|_| world.open()).collect();
    world.wait(MINUTE);
    world.server_closes(pool[0]);
    world.server_closes(pool[1]);
    world.query(pool[2]);
    world.wait(10 * SECOND);
    assert_eq!(world.finding(Kind::CloseWait).confidence, Confidence::Suspect);
}

#[test]
fn a_pool_that_closes_what_the_server_had_closed_when_it_is_asked_is_suspect_at_most() {
    let mut world = World::watched();
    let pool: Vec<_> = (0..6).map(|_| world.open()).collect();
    for &connection in &pool {
        world.query(connection);
    }
    world.wait(MINUTE);
    for &connection in &pool {
        world.server_closes(connection);
    }
    world.wait(MINUTE);
    // It tests one as it hands it out, and opens another in its place.
    world.close(pool[0]);
    let other = world.open();
    world.query(other);
    world.wait(MINUTE);
    let finding = world.finding(Kind::CloseWait);
    assert_eq!(
        (finding.confidence, finding.sockets.len()),
        (Confidence::Suspect, 5)
    );
}

#[test]
fn a_socket_that_the_server_had_closed_before_is_named_at_one_look() {
    let mut world = World::unwatched();
    let connection = world.open();
    world.server_closes(connection);
    world.wait(MINUTE);
    world.policy.single_look = true;
    world.attach();
    // It has been silent for a minute; how long it has been closed, nobody knows.
    assert_eq!(world.finding(Kind::CloseWait).confidence, Confidence::Likely);
}

#[test]
fn a_socket_that_never_sends_is_named_after_a_while() {
    let mut world = World::watched();
    let connection = world.connect();
    world.wait(4 * SECOND);
    assert_eq!(world.findings(), []);
    world.wait(2 * SECOND);
    assert_eq!(world.finding(Kind::NeverUsed).confidence, Confidence::Likely);
    world.wait(30 * SECOND);
    assert_eq!(world.finding(Kind::NeverUsed).confidence, Confidence::Certain);
    world.query(connection);
    assert_eq!(world.findings(), []);
}

/// As on a host so slow that no look has come since the connect: what was sent since then is not known.
#[test]
fn nothing_is_said_of_a_socket_that_no_look_has_found_silent() {
    let mut world = World::watched();
    world.connect();
    world.now += MINUTE;
    assert_eq!(world.findings_without_a_look(), []);
    assert_eq!(world.finding(Kind::NeverUsed).confidence, Confidence::Certain);
}

#[test]
fn at_one_look_a_socket_that_has_not_sent_yet_is_suspect() {
    let mut world = World::unwatched();
    world.policy.single_look = true;
    world.connect();
    world.wait(500 * MS);
    world.attach();
    assert_eq!(world.findings(), []);
    world.wait(SECOND);
    assert_eq!(world.finding(Kind::NeverUsed).confidence, Confidence::Suspect);
}

#[test]
fn a_short_idle_time_makes_both_rules_faster() {
    let mut world = World::watched();
    world.policy.idle = SECOND;
    world.connect();
    let other = world.open();
    world.server_closes(other);
    world.wait(SECOND);
    let third = world.open();
    world.query(third);
    world.wait(100 * MS);
    let kinds: Vec<(Kind, Confidence)> = world
        .findings()
        .iter()
        .map(|finding| (finding.kind, finding.confidence))
        .collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    assert!(
        kinds
            .iter()
            .all(|(_, confidence)| *confidence == Confidence::Certain)
    );
    assert_eq!(Rules::default().soon, 5 * SECOND);
}
