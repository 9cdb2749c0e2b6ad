//! Promises and async functions made of bytes, as Node 20 has them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::callsite::{
    node::heap::tests::{heap, memory, object, small},
    process_memory::testing::{Noise, Pieces},
};

fn awaits() -> Awaits {
    Awaits::NODE_20
}

/// Lays objects out one behind the other.
struct World {
    memory: Pieces,
    next: u64,
}

impl World {
    fn new() -> Self {
        Self {
            memory: memory(),
            next: 0x100_0000,
        }
    }

    fn object(&mut self, kind: u16, words: &[u64]) -> u64 {
        self.next += 0x100;
        object(&mut self.memory, self.next, kind, words)
    }

    fn promise(&mut self, reactions: u64) -> u64 {
        self.object(awaits().promise, &[0, 0, reactions, 0])
    }

    fn reaction(&mut self, next: u64, handler: u64, promise: u64) -> u64 {
        self.object(awaits().reaction, &[next, 0, handler, promise, 0])
    }

    fn function(&mut self, context: u64) -> u64 {
        let code = self.object(191, &[0; 7]);
        let shared = self.object(262, &[code, 0, 0, 0]);
        self.object(2066, &[0, 0, shared, context])
    }

    /// An async function that waits at place 7: its function, and the object of its call.
    fn call(&mut self, promise: u64) -> (u64, u64) {
        let function = self.function(0);
        let words = [0, 0, function, 0, 0, small(7), 0, 0, 0, promise];
        (function, self.object(awaits().async_function, &words))
    }

    /// A promise that the call awaits.
    fn awaited_by(&mut self, call: u64) -> u64 {
        let context = self.object(218, &[small(3), 0, 0, call]);
        let handler = self.function(context);
        let reaction = self.reaction(small(0), handler, 0);
        self.promise(reaction)
    }

    /// A promise that `main` awaits through `handle`: the two functions, and it.
    fn chain(&mut self) -> (Vec<u64>, u64) {
        let last = self.promise(small(0));
        let (main, main_call) = self.call(last);
        let of_handle = self.awaited_by(main_call);
        let (handle, handle_call) = self.call(of_handle);
        (vec![handle, main], self.awaited_by(handle_call))
    }

    fn waiting(&self, promise: u64) -> Vec<u64> {
        let found = awaits().waiting(&heap(), &self.memory, promise);
        assert!(
            found
                .iter()
                .all(|one| one.code.is_some() && one.place == Some(small(7)))
        );
        found.iter().map(|one| one.function).collect()
    }

    fn of_arguments(&self, arguments: &[u64]) -> usize {
        let mut frame = BTreeMap::from([(ARGUMENT_COUNT, arguments.len() as u64 + 1)]);
        frame.extend((24..).step_by(8).zip(arguments.iter().copied()));
        let found = awaits().of_arguments(&heap(), &self.memory, |at| frame.get(&at).copied());
        found.len()
    }
}

#[test]
fn who_awaits_is_followed_outwards() {
    let mut world = World::new();
    let (functions, promise) = world.chain();
    assert_eq!(world.waiting(promise), functions);
    // A `then` in between.
    let then = world.function(0);
    let reaction = world.reaction(small(0), then, promise);
    let first = world.promise(reaction);
    assert_eq!(world.waiting(first), functions);
}

#[test]
fn of_two_that_wait_for_a_promise_neither_is_the_caller() {
    let mut world = World::new();
    let (_, promise) = world.chain();
    let other = world.reaction(small(0), 0, 0);
    let reaction = world.reaction(other, 0, promise);
    let both = world.promise(reaction);
    assert!(world.waiting(both).is_empty());
}

#[test]
fn a_promise_that_leads_to_itself_has_an_end() {
    let mut world = World::new();
    let at = world.next + 0x200;
    let reaction = world.reaction(small(0), 0, at + 1);
    assert_eq!(world.promise(reaction), at + 1);
    assert!(world.waiting(at + 1).is_empty());
}

#[test]
fn a_promise_is_found_in_what_a_function_was_given() {
    let mut world = World::new();
    let (_, promise) = world.chain();
    let plain = world.object(191, &[0; 7]);
    let command = world.object(awaits().object, &[plain, 0, 0, promise, small(4)]);
    assert_eq!(world.of_arguments(&[small(1), command]), 2);
    assert_eq!(world.of_arguments(&[promise, command]), 2, "the same one");
    let beside = world.object(awaits().properties, &[small(2), 0, promise]);
    let command = world.object(awaits().object, &[beside, 0, 0, 0, 0]);
    assert_eq!(world.of_arguments(&[command]), 2);
    let (_, other) = world.chain();
    assert_eq!(world.of_arguments(&[promise, other]), 0, "whose is not known");
    assert_eq!(world.of_arguments(&[]), 0);
}

#[test]
fn who_awaits_an_async_function_that_runs_has_called_it() {
    let mut world = World::new();
    let (functions, promise) = world.chain();
    let (own, call) = world.call(promise);
    // The object of the call is in the register that lies 56 bytes below.
    let code = world.object(191, &[0, 0, 0, 0, 0, u64::from((-7_i32).cast_unsigned())]);
    let of_call = |function| {
        let slot = |at| (at == -56).then_some(call);
        let found = awaits().of_call(&heap(), &world.memory, function, code, slot);
        found.iter().map(|one| one.function).collect::<Vec<_>>()
    };
    assert_eq!(of_call(own), functions);
    assert!(of_call(functions[0]).is_empty(), "another function's");
}

proptest! {
    #[test]
    fn no_memory_makes_it_panic_or_run_on(
        bytes in prop::collection::vec(any::<u8>(), 1..200),
        words: Vec<u64>,
        object: u64,
    ) {
        let memory = Noise(bytes);
        let (heap, awaits) = (heap(), awaits());
        let _ = awaits.waiting(&heap, &memory, object | 1);
        let _ = awaits.promises(&heap, &memory, object | 1);
        let slot = |at: i32| words.get(usize::try_from(at.unsigned_abs() / 8).ok()?).copied();
        let _ = awaits.of_arguments(&heap, &memory, slot);
        let _ = awaits.of_call(&heap, &memory, object | 1, object | 1, slot);
    }
}
