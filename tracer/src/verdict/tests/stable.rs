//! Findings over random histories: each is told, goes on and ends in order, whatever the application does.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::verdict::{FindingId, Limits};

/// What somebody who reads the log knows.
#[derive(Default)]
struct Reader {
    /// Findings that hold: how sure, how many sockets, and when that was told.
    open: BTreeMap<FindingId, (Confidence, usize, Nanos)>,
}

impl Reader {
    fn hear(&mut self, news: &News, now: Nanos, repeat: Nanos) -> Result<(), TestCaseError> {
        match news {
            News::Finding(finding, Status::New) => {
                let told = (finding.confidence, finding.sockets.len(), now);
                prop_assert!(
                    self.open.insert(finding.id, told).is_none(),
                    "new, and never resolved"
                );
            }
            News::Finding(finding, status) => {
                let Some(told) = self.open.get_mut(&finding.id) else {
                    return Err(TestCaseError::fail("told again, and never told"));
                };
                let (confidence, sockets, at) = *told;
                let (surer, more) = (finding.confidence > confidence, finding.sockets.len() > sockets);
                prop_assert!(finding.confidence >= confidence, "less sure");
                prop_assert_eq!(*status == Status::Growing, more);
                prop_assert!(surer || more && now - at >= repeat, "told again for nothing");
                *told = (finding.confidence, finding.sockets.len(), now);
            }
            News::Resolved(finding, resolution) => {
                prop_assert!(
                    self.open.remove(&finding.id).is_some(),
                    "resolved, and never told"
                );
                let counted = matches!(finding.kind, Kind::Exhaustion | Kind::Policy);
                prop_assert_eq!(*resolution == Resolution::Below, counted);
            }
        }
        Ok(())
    }
}

/// What an application does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Open,
    Connect,
    Query(Index),
    Ask(Index),
    Close(Index),
    CloseAll,
    ServerCloses(Index),
    Lose,
    Wait(Nanos),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Open),
        1 => Just(Step::Connect),
        4 => any::<Index>().prop_map(Step::Query),
        1 => any::<Index>().prop_map(Step::Ask),
        2 => any::<Index>().prop_map(Step::Close),
        1 => Just(Step::CloseAll),
        1 => any::<Index>().prop_map(Step::ServerCloses),
        1 => Just(Step::Lose),
        6 => (MS..4 * SECOND).prop_map(Step::Wait),
    ]
}

/// Some do one thing for long: leak, or rest.
fn history() -> impl Strategy<Value = Vec<Step>> {
    let leak = (1..20usize, 100 * MS..2 * SECOND)
        .prop_map(|(count, pace)| [Step::Open, Step::Wait(pace)].repeat(count));
    let rest = (SECOND..20 * SECOND).prop_map(|time| vec![Step::Wait(time)]);
    let some = vec(step(), 1..20);
    vec(prop_oneof![leak, rest, some], 1..8).prop_map(|parts| parts.concat())
}

fn act(world: &mut World, sockets: &mut Vec<Cookie>, ended: &mut Vec<Cookie>, step: &Step) {
    let pick = |index: &Index, sockets: &[Cookie]| (!sockets.is_empty()).then(|| index.index(sockets.len()));
    match step {
        Step::Open => sockets.push(world.open()),
        Step::Connect => sockets.push(world.connect()),
        Step::Query(index) => {
            if let Some(at) = pick(index, sockets) {
                world.query(sockets[at]);
            }
        }
        Step::Ask(index) => {
            if let Some(at) = pick(index, sockets) {
                world.ask(sockets[at]);
            }
        }
        Step::Close(index) => {
            if let Some(at) = pick(index, sockets) {
                world.close(sockets.swap_remove(at));
            }
        }
        Step::CloseAll => sockets
            .drain(..)
            .chain(ended.drain(..))
            .for_each(|socket| world.close(socket)),
        Step::ServerCloses(index) => {
            if let Some(at) = pick(index, sockets) {
                let socket = sockets.swap_remove(at);
                world.server_closes(socket);
                ended.push(socket);
            }
        }
        Step::Lose => world.lose(),
        Step::Wait(time) => world.wait(*time),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_finding_is_told_once_goes_on_and_ends_under_one_id(
        steps in history(),
        idle in SECOND..5 * SECOND,
        watched in any::<bool>(),
        (max_open, server_limit) in (prop::option::of(1..12u64), prop::option::of(5..40u64)),
        longest_idle in prop::option::of(SECOND..20 * SECOND),
    ) {
        let mut world = if watched { World::watched() } else { World::unwatched() };
        world.policy.idle = idle;
        world.policy.limits = Limits {
            max_open,
            longest_idle,
            server_limit,
            headroom: server_limit.map(|_| 2),
        };
        let repeat = world.policy.rules.repeat;
        let (mut tracker, mut reader) = (Tracker::new(&world.policy.rules), Reader::default());
        let (mut sockets, mut ended) = (Vec::new(), Vec::new());
        let attach_at = steps.len() / 2;
        for (number, step) in steps.iter().enumerate() {
            if number == attach_at && !watched {
                world.attach();
            }
            act(&mut world, &mut sockets, &mut ended, step);
            if !watched && number < attach_at {
                continue;
            }
            let findings = world.findings();
            for finding in &findings {
                prop_assert!(finding.growth_per_min.is_none_or(|rate| rate >= 0.0 && rate.is_finite()));
                prop_assert!(finding.exhausted_in().is_none() || server_limit.is_some());
            }
            for news in tracker.step(&world.ledger, world.now, findings) {
                reader.hear(&news, world.now, repeat)?;
            }
            let active: Vec<FindingId> = tracker.active().map(|finding| finding.id).collect();
            prop_assert_eq!(active, reader.open.keys().copied().collect::<Vec<_>>());
        }
    }
}
