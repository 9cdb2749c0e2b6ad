//! How the books grow: 10³ to 10⁶ tracked connections, made here and fed as events. One JSON line for each size.
//!
//! All of them leak, so that each is in a finding: the worst case for the rules. Of each the client has said who it is, and
//! which code opened it and used it is known: all that a connection in the books usually has.
//!
//! No benchmark harness: what is asked for is bytes a connection and one pass over many, not the nanoseconds of
//! a function that is called a thousand times.

#![expect(
    clippy::print_stdout,
    reason = "its output is a measurement for `cargo xtask bench`"
)]

#[allow(dead_code, reason = "a bench uses what it needs of it")]
mod made;

use std::{collections::BTreeMap, fs, hint::black_box};

use connleak::{
    event::{Event, SECOND, Snapshot},
    ledger::{Connection, Ledger},
    verdict::{Policy, judge, track::Tracker},
};
use made::Leaks;
use nix::{
    sys::time::{TimeSpec, TimeValLike as _},
    time::{ClockId, clock_gettime},
};
use serde_json::json;

/// Events that are made before they are fed: making them is not what is measured.
const BATCH: u64 = 10_000;
/// Snapshots that are taken while they are opened: without any, nobody knows that more and more are silent.
const LOOKS: u64 = 20;

fn main() {
    // Cargo adds `--bench`.
    let sizes: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let sizes = if sizes.is_empty() {
        vec![1_000, 10_000, 100_000, 1_000_000]
    } else {
        sizes
    };
    for size in sizes {
        println!("{}", measure(size));
    }
}

fn measure(size: u64) -> serde_json::Value {
    let leaks = Leaks::of(size);
    let mut ledger = Ledger::bounded(usize::MAX);
    feed(&mut ledger, &Event::Snapshot(Snapshot::default()));

    let empty = resident();
    let (mut opened, mut open_nanos) = (0, 0);
    for look in 1..=LOOKS {
        let until = size * look / LOOKS;
        open_nanos += fed(&mut ledger, opened..until, |number| leaks.opening(number));
        opened = until;
        feed(&mut ledger, &leaks.snapshot(opened, leaks.when(opened)));
    }
    let now = leaks.when(size) + 60 * SECOND;
    let walk = leaks.snapshot(size, now);
    let merge_nanos = timed(|| feed(&mut ledger, &walk));
    // The walk's own rows are not the books'.
    drop(walk);
    let bytes = resident().saturating_sub(empty);

    let (policy, names) = (Policy::default(), BTreeMap::new());
    let patient = Policy {
        idle: now,
        ..policy.clone()
    };
    let healthy_nanos = timed(|| assert!(judge(&ledger, now, &patient, &names).is_empty()));
    // The second of two passes: from then on, all have been told.
    let mut tracker = Tracker::new(&policy.rules);
    drop(tracker.step(&ledger, now, judge(&ledger, now, &policy, &names)));
    let mut findings = Vec::new();
    let judge_nanos = timed(|| findings = judge(&ledger, now, &policy, &names));
    let found: usize = findings.iter().map(|finding| finding.sockets.len()).sum();
    let track_nanos = timed(|| drop(black_box(tracker.step(&ledger, now, findings))));

    // Beside them, connections that come and go: a whole life is five events.
    let lives = size.min(100_000);
    let life_nanos = fed(&mut ledger, size..size + lives, |number| leaks.life(number));
    json!({
        "connections": size,
        "bytes_each": bytes / size,
        "structure_bytes": size_of::<Connection>(),
        "open_events_per_s": per_second(5 * size, open_nanos),
        "life_events_per_s": per_second(5 * lives, life_nanos),
        "merge_ms": millis(merge_nanos),
        "found": found,
        "judge_ms": millis(judge_nanos),
        "track_ms": millis(track_nanos),
        "healthy_ms": millis(healthy_nanos),
    })
}

/// Feeds the events of these connections; returns the nanoseconds that took, without those for making them.
fn fed(ledger: &mut Ledger, mut numbers: std::ops::Range<u64>, events_of: impl Fn(u64) -> [Event; 5]) -> u64 {
    let mut nanos = 0;
    while !numbers.is_empty() {
        let until = numbers.end.min(numbers.start + BATCH);
        let events: Vec<Event> = (numbers.start..until).flat_map(&events_of).collect();
        nanos += timed(|| events.iter().for_each(|event| feed(ledger, event)));
        numbers.start = until;
    }
    nanos
}

fn feed(ledger: &mut Ledger, event: &Event) {
    ledger.apply(event, |outcome| drop(black_box(outcome)));
}

/// Nanoseconds of processor time: what is asked for is the work of one core, whoever else wants it.
fn timed(work: impl FnOnce()) -> u64 {
    let begin = thread_time();
    work();
    u64::try_from((thread_time() - begin).num_nanoseconds()).unwrap_or(0)
}

fn thread_time() -> TimeSpec {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has this clock")
}

fn per_second(count: u64, nanos: u64) -> u64 {
    count * SECOND / nanos.max(1)
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// Bytes of memory that this process has now, without those that it could give back: what was used to make events is not
/// the books'.
fn resident() -> u64 {
    // SAFETY: it may be called at any time; there is one thread here, and 0 is a valid padding.
    unsafe { libc::malloc_trim(0) };
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|word| word.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
