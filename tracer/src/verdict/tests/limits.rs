//! Limits: of the policy, and of the server.

use super::*;
use crate::verdict::{Breach, Limits};

fn kinds(findings: &[Finding]) -> Vec<(Kind, Confidence)> {
    findings
        .iter()
        .map(|finding| (finding.kind, finding.confidence))
        .collect()
}

fn of(findings: Vec<Finding>, kind: Kind) -> Option<Finding> {
    findings.into_iter().find(|finding| finding.kind == kind)
}

/// A leak each five seconds, at a server with this limit; and the findings at the end.
fn leaking(world: &mut World, limit: u64, time: Nanos) -> Vec<Finding> {
    world.policy.limits.server_limit = Some(limit);
    for _ in 0..time / (5 * SECOND) {
        world.open();
        world.wait(5 * SECOND);
    }
    world.findings()
}

#[test]
fn one_more_than_max_open_breaks_it_and_is_certain() {
    let mut world = World::watched();
    world.policy.limits.max_open = Some(3);
    for _ in 0..3 {
        world.open();
    }
    assert_eq!(world.findings(), []);
    world.open();
    let finding = world.finding(Kind::Policy);
    assert_eq!(finding.confidence, Confidence::Certain);
    assert_eq!(finding.sockets.len(), 4);
    let (allowed, actual) = (3, 4);
    assert_eq!(finding.breach, Some(Breach::MaxOpen { allowed, actual }));
}

#[test]
fn a_connection_that_is_idle_for_too_long_breaks_the_policy_and_one_that_waits_does_not() {
    let mut world = World::watched();
    world.policy.limits.longest_idle = Some(10 * MINUTE);
    let (resting, waiting) = (world.open(), world.open());
    world.ask(waiting);
    world.wait(9 * MINUTE);
    assert_eq!(world.findings(), []);
    world.wait(2 * MINUTE);
    let finding = world.finding(Kind::Policy);
    assert_eq!(finding.cookies().collect::<Vec<_>>(), [resting]);
}

#[test]
fn two_broken_limits_are_two_findings_with_ids_of_their_own() {
    let mut world = World::watched();
    world.policy.limits = Limits {
        max_open: Some(1),
        longest_idle: Some(MINUTE),
        ..Limits::default()
    };
    world.open();
    world.open();
    world.wait(2 * MINUTE);
    let findings = world.findings();
    assert_eq!(kinds(&findings), [(Kind::Policy, Confidence::Certain); 2]);
    assert_ne!(findings[0].id, findings[1].id);
}

#[test]
fn too_little_headroom_breaks_the_policy() {
    let mut world = World::watched();
    (world.policy.limits.server_limit, world.policy.limits.headroom) = (Some(100), Some(97));
    for _ in 0..3 {
        world.open();
    }
    world.wait(5 * SECOND);
    assert_eq!(world.findings(), []);
    world.open();
    world.wait(5 * SECOND);
    let finding = world.finding(Kind::Policy);
    let (allowed, actual) = (97, 96);
    assert_eq!(finding.breach, Some(Breach::Headroom { allowed, actual }));
}

#[test]
fn a_leak_towards_the_limit_is_foretold_with_the_time_left() {
    let mut world = World::watched();
    let findings = leaking(&mut world, 100, 3 * MINUTE);
    let leak = of(findings.clone(), Kind::Leak).expect("the leak");
    let full = of(findings, Kind::Exhaustion).expect("its end");
    assert_eq!(full.confidence, Confidence::Likely);
    assert_eq!((full.outlook.limit, full.outlook.open), (Some(100), 36));
    // 64 are free, and 12 are leaked each minute.
    let left = full.exhausted_in().map(|left| left / SECOND);
    assert!(left.is_some_and(|left| (280..=360).contains(&left)), "{left:?}");
    assert_eq!(leak.exhausted_in(), full.exhausted_in());
    assert!(
        leak.growth_per_min
            .is_some_and(|rate| (11.0..13.0).contains(&rate))
    );
}

#[test]
fn a_full_server_is_certain() {
    let mut world = World::watched();
    let findings = leaking(&mut world, 20, 2 * MINUTE);
    let full = of(findings, Kind::Exhaustion).expect("a full server");
    assert_eq!(
        (full.confidence, full.exhausted_in()),
        (Confidence::Certain, Some(0))
    );
}

#[test]
fn a_leak_that_has_stopped_exhausts_nothing() {
    let mut world = World::watched();
    leaking(&mut world, 100, 3 * MINUTE);
    world.wait(5 * MINUTE);
    let findings = world.findings();
    let leak = of(findings.clone(), Kind::Leak).expect("the leak");
    assert_eq!((leak.growth_per_min, leak.exhausted_in()), (Some(0.0), None));
    assert_eq!(of(findings, Kind::Exhaustion), None);
}

#[test]
fn without_a_limit_nothing_is_foretold() {
    let mut world = World::watched();
    for _ in 0..30 {
        world.open();
        world.wait(5 * SECOND);
    }
    let leak = world.finding(Kind::Leak);
    assert_eq!((leak.outlook.limit, leak.exhausted_in()), (None, None));
}

#[test]
fn a_healthy_pool_that_fills_up_beside_a_limit_is_quiet() {
    let mut world = World::watched();
    world.policy.limits.server_limit = Some(100);
    let pool: Vec<Cookie> = (0..20).map(|_| world.open()).collect();
    let end = world.now + 5 * MINUTE;
    while world.now < end {
        for &connection in &pool {
            world.query(connection);
        }
        world.wait(SECOND);
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn a_pool_that_holds_nearly_all_of_the_limit_is_named() {
    let mut world = World::watched();
    world.policy.limits.server_limit = Some(24);
    let pool: Vec<Cookie> = (0..20).map(|_| world.open()).collect();
    for &connection in &pool {
        world.query(connection);
    }
    world.wait(5 * SECOND);
    let full = world.finding(Kind::Exhaustion);
    assert_eq!((full.confidence, full.exhausted_in()), (Confidence::Likely, None));
    assert!(full.because[0].contains("20 of 24"), "{full:?}");
}

#[test]
fn a_limit_that_is_kept_again_is_told_after_a_while_and_not_at_once() {
    let (mut world, mut tracker) = (World::watched(), Tracker::new(&Rules::default()));
    world.policy.limits.max_open = Some(3);
    let sockets: Vec<Cookie> = (0..4).map(|_| world.open()).collect();
    let mut told = Vec::new();
    let mut look = |world: &mut World| {
        world.wait(SECOND);
        let findings = world.findings();
        told.extend(tracker.step(&world.ledger, world.now, findings));
        told.len()
    };
    look(&mut world);
    // To and fro around the limit: one finding.
    let mut last = sockets[0];
    for _ in 0..20 {
        world.close(last);
        look(&mut world);
        last = world.open();
        assert_eq!(look(&mut world), 1);
    }
    world.close(last);
    assert_eq!(look(&mut world), 1);
    for _ in 0..12 {
        look(&mut world);
    }
    assert!(
        matches!(
            told.as_slice(),
            [
                News::Finding(_, Status::New),
                News::Resolved(_, Resolution::Below)
            ]
        ),
        "{told:?}"
    );
}
