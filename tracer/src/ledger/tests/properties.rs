//! Properties over random worlds, and over events that no world could make.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};

use super::{model::*, *};
use crate::{
    callsite::{Role, SiteId},
    event::{Nanos, Stack},
    ledger::WALKS_TO_BE_GONE,
};

type Steps = Vec<(Nanos, Op)>;

fn op() -> impl Strategy<Value = Op> {
    let any = any::<u8>;
    let flag = prop::bool::ANY;
    prop_oneof![
        6 => (any(), prop::bool::weighted(0.2)).prop_map(|(slot, unix)| Op::Connect { slot, unix }),
        6 => any().prop_map(|socket| Op::Establish { socket }),
        1 => (any(), flag).prop_map(|(socket, collected)| Op::Refuse { socket, collected }),
        1 => any().prop_map(|socket| Op::Reconnect { socket }),
        2 => any().prop_map(|descriptor| Op::Dup { descriptor }),
        2 => (any(), any()).prop_map(|(from, into)| Op::Fork { from, into }),
        2 => any().prop_map(|descriptor| Op::Send { descriptor }),
        2 => any().prop_map(|slot| Op::Receive { slot }),
        1 => (any(), flag).prop_map(|(socket, both)| Op::Shutdown { socket, both }),
        1 => any().prop_map(|socket| Op::ServerCloses { socket }),
        1 => any().prop_map(|socket| Op::Reset { socket }),
        1 => any().prop_map(|socket| Op::Disconnect { socket }),
        4 => (any(), flag).prop_map(|(descriptor, unread)| Op::Close { descriptor, unread }),
        1 => any().prop_map(|slot| Op::Exit { slot }),
        2 => Just(Op::Linger),
        2 => Just(Op::BeginWalk),
        // Up to 5 ms: half of what the ledger allows.
        5 => (0..5000u16).prop_map(|lag| Op::Visit { lag }),
        2 => Just(Op::Merge),
    ]
}

fn steps() -> impl Strategy<Value = Steps> {
    let pause = prop_oneof![3 => 0..100_000u64, 2 => 0..5 * MS, 1 => 20 * MS..500 * MS];
    vec((pause, op()), 0..120)
}

/// Some time without us, then with us, then all that is in flight arrives.
fn world(before: &Steps, after: &Steps) -> World {
    let mut world = World::new();
    for (index, &(pause, op)) in before.iter().chain(after).enumerate() {
        if index == before.len() {
            world.attach();
        }
        world.pass_time(pause);
        world.step(op);
    }
    world.attach();
    world.finish();
    world
}

fn replay(stream: &[Event]) -> Books {
    let mut books = Books::default();
    books.feed(stream.iter().cloned());
    books
}

fn open(books: &Books) -> BTreeMap<Cookie, (State, Vec<Holder>)> {
    let connections = books.ledger.connections();
    connections
        .map(|it| (it.cookie, (it.state, it.holders.to_vec())))
        .collect()
}

/// What is open, and not what has ended and only waits for more walks to miss it.
fn held(books: &Books) -> BTreeMap<Cookie, (State, Vec<Holder>)> {
    let mut held = open(books);
    held.retain(|_, (state, holders)| {
        !holders.is_empty() || !matches!(state, State::Closing | State::Closed)
    });
    held
}

/// Everything that a rule could see.
fn everything(books: &Books) -> String {
    let mut connections: Vec<_> = books.ledger.connections().collect();
    connections.sort_by_key(|connection| connection.cookie);
    let groups: Vec<_> = books
        .ledger
        .groups()
        .map(|(key, group, _)| (key, group))
        .collect();
    format!("{connections:#?} {groups:#?} {:#?}", books.ledger.totals())
}

/// The books agree with themselves: each connection is in its own group, and totals are what was told.
fn consistent(books: &Books) -> Result<(), TestCaseError> {
    let mut members = 0;
    for (key, group, connections) in books.ledger.groups() {
        members += group.members().len();
        prop_assert_eq!(group.members().len(), connections.len());
        for connection in connections {
            prop_assert_eq!(connection.process(), Some(key.process));
        }
    }
    let owned = books.ledger.connections().filter(|it| it.process().is_some());
    prop_assert_eq!(members, owned.count());
    let (opened, closed, failed, before) = books.totals();
    prop_assert_eq!(opened, books.opened.len() as u64);
    prop_assert_eq!(closed, books.closed.len() as u64);
    prop_assert_eq!(failed, books.failed.len() as u64);
    let established = books.ledger.connections().filter(|it| it.established());
    prop_assert_eq!(opened + before, closed + established.count() as u64);
    Ok(())
}

/// What was told of each socket is what its lives were, each thing once.
fn exact(world: &World, books: &Books) -> Result<(), TestCaseError> {
    let told = |cookie: Cookie| {
        let opened = books.opened.iter().filter(|&&of| of == cookie).count();
        let failed = books.failed.iter().filter(|&&of| of == cookie).count();
        let closed = books.closed.iter().filter(|&&(of, _)| of == cookie);
        (
            opened,
            failed,
            closed.map(|&(_, cause)| cause).collect::<Vec<_>>(),
        )
    };
    for (cookie, lives) in world.lives() {
        let seen: Vec<&Life> = lives.iter().filter(|life| life.seen).collect();
        let (opened, failed, closed) = told(cookie);
        let causes: Vec<Cause> = seen
            .iter()
            .filter(|life| life.established && life.over)
            .filter_map(|life| life.cause)
            .collect();
        let expected = (
            seen.iter().filter(|life| life.established).count(),
            seen.iter().filter(|life| !life.established && life.over).count(),
        );
        if seen.len() == lives.len() {
            prop_assert_eq!((opened, failed), expected, "{:?}", cookie);
            prop_assert_eq!(&closed, &causes, "{:?}", cookie);
        } else {
            // Its first life began before attach. Whether anything of that was seen depends on when it
            // ended; at most it was seen once.
            prop_assert!(opened - expected.0 + failed - expected.1 <= 1, "{:?}", cookie);
            prop_assert!(
                closed.ends_with(&causes) && closed.len() <= causes.len() + 1,
                "{:?}",
                cookie
            );
        }
    }
    Ok(())
}

/// Takes events away, and has the agent notice when it drains the ring: before a merge, and at the end.
fn lose(world: &mut World, which: &[bool]) -> Vec<Event> {
    let (mut kept, mut missing) = (Vec::new(), 0);
    let mut which = which.iter().cycle();
    let notice = |at, missing: &mut u64, kept: &mut Vec<Event>| {
        let count = std::mem::take(missing);
        if count > 0 {
            let cause = Loss::RingFull;
            kept.push(Event::Lost { at, cause, count });
        }
    };
    for event in &world.stream {
        match event {
            Event::Snapshot(snapshot) => {
                notice(snapshot.ended, &mut missing, &mut kept);
                kept.push(event.clone());
            }
            _ if which.next() == Some(&true) => missing += 1,
            _ => kept.push(event.clone()),
        }
    }
    notice(world.now(), &mut missing, &mut kept);
    world.stream.clear();
    world.look();
    kept.append(&mut world.stream);
    kept
}

fn cookie_of(event: &Event) -> Option<Cookie> {
    match event {
        Event::Connect(connect) => Some(connect.cookie),
        Event::Change(change) => Some(change.cookie),
        Event::Stack(stack) => Some(stack.cookie),
        Event::Hello(hello) => Some(hello.cookie),
        Event::Snapshot(_) | Event::Lost { .. } | Event::Threads(_) => None,
    }
}

/// Rearranges what lies between two snapshots by `arrange`.
fn between_merges(stream: &[Event], mut arrange: impl FnMut(Vec<Event>) -> Vec<Event>) -> Vec<Event> {
    let mut arranged = Vec::new();
    let mut pending = Vec::new();
    for event in stream {
        if cookie_of(event).is_some() {
            pending.push(event.clone());
        } else {
            arranged.append(&mut arrange(std::mem::take(&mut pending)));
            arranged.push(event.clone());
        }
    }
    arranged.append(&mut arrange(pending));
    arranged
}

/// Another order between sockets, the same order for each.
fn shuffle(events: Vec<Event>, mut choose: impl FnMut() -> usize) -> Vec<Event> {
    let mut queues: BTreeMap<Cookie, std::collections::VecDeque<Event>> = BTreeMap::new();
    for event in events {
        if let Some(cookie) = cookie_of(&event) {
            queues.entry(cookie).or_default().push_back(event);
        }
    }
    let mut shuffled = Vec::new();
    while !queues.is_empty() {
        let chosen = choose() % queues.len();
        let Some(queue) = queues.iter_mut().nth(chosen) else {
            break;
        };
        shuffled.extend(queue.1.pop_front());
        let cookie = *queue.0;
        if queue.1.is_empty() {
            queues.remove(&cookie);
        }
    }
    shuffled
}

/// The stream with stacks in it: each connect's behind it, or as many places later (or earlier, if negative) in
/// what lies between two merges. Not those of sockets that connect twice: a stack's moment tells the lives
/// apart only when they are not milliseconds long.
fn with_stacks(world: &World, moves: &[isize]) -> Vec<Event> {
    let once: BTreeSet<Cookie> = world
        .lives()
        .filter_map(|(cookie, lives)| (lives.len() == 1).then_some(cookie))
        .collect();
    let mut moves = moves.iter().cycle();
    between_merges(&world.stream, |events| {
        let mut woven = events.clone();
        for event in &events {
            let Event::Connect(connect) = event else { continue };
            if !once.contains(&connect.cookie) {
                continue;
            }
            let stack = Event::Stack(Stack {
                at: connect.at,
                cookie: connect.cookie,
                role: Role::Opened,
                process: connect.process,
                site: SiteId(connect.cookie.0 % 3),
            });
            let own = woven.iter().position(|it| it == event).unwrap_or_default();
            let place = (own + 1).saturating_add_signed(moves.next().copied().unwrap_or(0));
            woven.insert(place.min(woven.len()), stack);
        }
        woven
    })
}

proptest! {
    #[test]
    fn a_stack_may_come_before_its_connect_or_after_the_end(
        before in steps(),
        after in steps(),
        moves in vec(-20..20isize, 1..50),
    ) {
        let mut world = world(&before, &after);
        world.look();
        let in_order = replay(&with_stacks(&world, &[0]));
        let moved = replay(&with_stacks(&world, &moves));
        prop_assert_eq!(everything(&moved), everything(&in_order));
        for (_, group, _) in in_order.ledger.groups() {
            let opened: u64 = group.tallies().values().map(|tally| tally.opened).sum();
            let closed: u64 = group.tallies().values().map(|tally| tally.closed).sum();
            prop_assert!(opened <= group.opened_total() && closed <= opened);
        }
    }

    #[test]
    fn without_loss_the_books_are_exact(before in steps(), after in steps()) {
        let mut world = world(&before, &after);
        world.look();
        prop_assert_eq!(held(&replay(&world.stream)), world.truth());
        for _ in 1..WALKS_TO_BE_GONE {
            world.look();
        }
        let books = replay(&world.stream);
        prop_assert_eq!(open(&books), world.truth());
        consistent(&books)?;
        exact(&world, &books)?;
    }

    /// Not exact in the totals, of course: what was opened and closed within the loss is only counted as lost.
    #[test]
    fn after_any_loss_one_later_snapshot_tells_the_truth(
        before in steps(),
        after in steps(),
        which in vec(any::<bool>(), 1..50),
    ) {
        let mut world = world(&before, &after);
        let stream = lose(&mut world, &which);
        let books = replay(&stream);
        prop_assert_eq!(held(&books), world.truth());
        prop_assert!(!books.ledger.unsettled());
        consistent(&books)?;
    }

    /// A duplicate comes before the next merge but one at the latest, as the ring is drained before each. A
    /// connect that came again after that would look like any other: remembering every socket that ever was
    /// is what the bound on memory rules out.
    #[test]
    fn duplicates_change_nothing(
        before in steps(),
        after in steps(),
        places in vec(prop::option::of(0..20usize), 1..50),
    ) {
        let mut world = world(&before, &after);
        world.look();
        let mut places = places.iter().cycle();
        let doubled = between_merges(&world.stream, |events| {
            let mut doubled = events.clone();
            for (index, event) in events.into_iter().enumerate() {
                if let Some(Some(later)) = places.next() {
                    let own = doubled.iter().position(|it| *it == event).unwrap_or(index);
                    doubled.insert((own + 1 + later).min(doubled.len()), event);
                }
            }
            doubled
        });
        prop_assert_eq!(everything(&replay(&doubled)), everything(&replay(&world.stream)));
    }

    #[test]
    fn the_order_between_sockets_does_not_matter(
        before in steps(),
        after in steps(),
        choices in vec(any::<usize>(), 1..50),
    ) {
        let mut world = world(&before, &after);
        world.look();
        let mut choices = choices.iter().cycle();
        let shuffled = between_merges(&world.stream, |events| {
            shuffle(events, || choices.next().copied().unwrap_or(0))
        });
        prop_assert_eq!(everything(&replay(&shuffled)), everything(&replay(&world.stream)));
    }
}
