//! Findings over time: new, growing, taken back; one identity, and a word only when something changed.

use super::*;

/// Looks once a second, and gives what there was to tell.
fn follow(
    world: &mut World,
    tracker: &mut Tracker,
    time: Nanos,
    mut each: impl FnMut(&mut World),
) -> Vec<News> {
    let end = world.now + time;
    let mut news = Vec::new();
    while world.now < end {
        each(world);
        world.wait(SECOND);
        let findings = world.findings();
        news.extend(tracker.step(&world.ledger, world.now, findings));
    }
    news
}

fn leak(world: &mut World, tracker: &mut Tracker, time: Nanos) -> (Vec<News>, Vec<Cookie>) {
    let mut leaked = Vec::new();
    let news = follow(world, tracker, time, |world| leaked.push(world.open()));
    (news, leaked)
}

fn words(news: &[News]) -> Vec<&'static str> {
    news.iter()
        .map(|news| match news {
            News::Finding(_, status) => status.name(),
            News::Resolved(_, resolution) => resolution.name(),
        })
        .collect()
}

#[test]
fn a_leak_is_new_then_grows_then_is_closed_under_one_id() {
    let (mut world, mut tracker) = (World::watched(), Tracker::new(&Rules::default()));
    let (mut news, leaked) = leak(&mut world, &mut tracker, 65 * SECOND);
    for connection in leaked {
        world.close(connection);
    }
    news.extend(follow(&mut world, &mut tracker, MINUTE, |_| {}));
    // A suspicion first, and surer a moment later.
    assert_eq!(
        words(&news),
        ["new", "growing", "growing", "growing", "growing", "closed"]
    );
    let mut ids: Vec<_> = news
        .iter()
        .map(|news| match news {
            News::Finding(finding, _) | News::Resolved(finding, _) => finding.id,
        })
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(tracker.active().count(), 0);
}

#[test]
fn a_leak_that_stops_growing_stays_and_is_told_once() {
    let (mut world, mut tracker) = (World::watched(), Tracker::new(&Rules::default()));
    leak(&mut world, &mut tracker, MINUTE);
    // Those that were opened last become idle, too, and all of them for long; after that there is nothing to tell.
    follow(&mut world, &mut tracker, 4 * MINUTE, |_| {});
    let news = follow(&mut world, &mut tracker, 10 * MINUTE, |_| {});
    assert_eq!(words(&news), [""; 0]);
    assert_eq!(tracker.active().count(), 1);
}

#[test]
fn sockets_that_are_used_again_are_taken_back() {
    let (mut world, mut tracker) = (World::watched(), Tracker::new(&Rules::default()));
    let (_, leaked) = leak(&mut world, &mut tracker, MINUTE);
    let news = follow(&mut world, &mut tracker, 5 * SECOND, |world| {
        for &connection in &leaked {
            world.query(connection);
        }
    });
    assert_eq!(words(&news), [Resolution::UsedAgain.name()]);
}

#[test]
fn closing_most_of_them_is_a_close_though_one_is_used() {
    let (mut world, mut tracker) = (World::watched(), Tracker::new(&Rules::default()));
    let (_, leaked) = leak(&mut world, &mut tracker, MINUTE);
    world.query(leaked[0]);
    for &connection in &leaked[1..] {
        world.close(connection);
    }
    let news = follow(&mut world, &mut tracker, 5 * SECOND, |_| {});
    assert_eq!(words(&news), [Resolution::Closed.name()]);
}

#[test]
fn a_finding_does_not_flap_while_its_sockets_stay() {
    let (mut world, mut tracker) = (World::watched(), Tracker::new(&Rules::default()));
    leak(&mut world, &mut tracker, 4 * MINUTE);
    // A healthy part of the same application opens and closes all the time; events are lost now and then.
    let mut short = Vec::new();
    let news = follow(&mut world, &mut tracker, 5 * MINUTE, |world| {
        for connection in short.drain(..) {
            world.close(connection);
        }
        short.push(world.open());
        if world.now % 7 == 0 {
            world.lose();
        }
    });
    assert!(
        news.iter().all(|news| matches!(
            news,
            News::Finding(finding, Status::Growing) if finding.confidence == Confidence::Certain
        )),
        "{:?}",
        words(&news)
    );
    assert!(news.len() <= 4, "{:?}", words(&news));
}
