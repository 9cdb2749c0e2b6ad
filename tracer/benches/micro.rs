//! Micro-benches of the pure core and of what is decoded: `cargo bench -p connleak --bench micro`.
//!
//! Not for figures that are quoted (`cargo xtask bench` makes those), but to see which of two versions is faster.

#[allow(dead_code, reason = "a bench uses what it needs of it")]
mod made;

use std::{collections::BTreeMap, fs, hint::black_box};

use connleak::{
    event::{Event, SECOND, Snapshot},
    journal::{self, Entry},
    ledger::Ledger,
    verdict::{Policy, judge},
};
use connleak_ebpf::{Record as _, Transition};
use divan::{Bencher, counter::ItemsCount};
use made::Leaks;

/// Connections that are open meanwhile.
const OPEN: [u64; 3] = [100, 10_000, 100_000];
/// Things that are done in one go.
const MANY: u64 = 1000;

fn main() {
    divan::main();
}

fn books(open: u64) -> (Leaks, Ledger) {
    let leaks = Leaks::of(open);
    let mut ledger = Ledger::bounded(usize::MAX);
    ledger.apply(&Event::Snapshot(Snapshot::default()), drop);
    for part in 1..=10 {
        let opened = open * (part - 1) / 10..open * part / 10;
        let until = opened.end;
        for event in opened.flat_map(|number| leaks.opening(number)) {
            ledger.apply(&event, drop);
        }
        ledger.apply(&leaks.snapshot(until, leaks.when(until)), drop);
    }
    (leaks, ledger)
}

/// After the last connect, when all have been silent for a minute.
fn later(leaks: &Leaks, open: u64) -> u64 {
    leaks.when(open) + 60 * SECOND
}

#[divan::bench(args = OPEN)]
fn fold_lives(bencher: Bencher, open: u64) {
    let (leaks, mut ledger) = books(open);
    let mut next = open;
    bencher
        .counter(ItemsCount::new(5 * MANY))
        .with_inputs(|| {
            // Others each time: what has ended stays so.
            next += MANY;
            let numbers = next - MANY..next;
            numbers.flat_map(|number| leaks.life(number)).collect::<Vec<_>>()
        })
        .bench_local_refs(|events| {
            for event in events {
                ledger.apply(event, |outcome| drop(black_box(outcome)));
            }
        });
}

#[divan::bench(args = OPEN)]
fn merge_snapshot(bencher: Bencher, open: u64) {
    let (leaks, mut ledger) = books(open);
    let walk = leaks.snapshot(open, later(&leaks, open));
    bencher
        .counter(ItemsCount::new(open))
        .bench_local(|| ledger.apply(black_box(&walk), |outcome| drop(black_box(outcome))));
}

#[divan::bench(args = OPEN)]
fn judge_all(bencher: Bencher, open: u64) {
    let (leaks, ledger) = books(open);
    let now = later(&leaks, open);
    let (policy, names) = (Policy::default(), BTreeMap::new());
    bencher
        .counter(ItemsCount::new(open))
        .bench_local(|| judge(black_box(&ledger), now, &policy, &names));
}

#[divan::bench]
fn decode_records(bencher: Bencher) {
    let bytes = vec![1_u8; size_of::<Transition>()];
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench_local(|| Transition::read_from(black_box(&bytes)));
}

#[divan::bench]
fn read_journal(bencher: Bencher) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal");
    let leaks = Leaks::of(MANY);
    let mut writer = journal::Writer::create(&path).expect("a journal");
    let events = (0..MANY).flat_map(|number| leaks.life(number));
    let mut count = 0_u32;
    for event in events {
        writer.append(&Entry::Event(event)).expect("appended");
        count += 1;
    }
    let data = fs::read(&path).expect("read");
    bencher
        .counter(ItemsCount::new(count))
        .bench_local(|| journal::parse(black_box(&data)));
}
