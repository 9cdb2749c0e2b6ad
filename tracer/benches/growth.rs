//! How the books grow: 10³ to 10⁶ tracked connections, made here and fed as events. One JSON line for each size.
//!
//! No benchmark harness: what is asked for is bytes a connection and one pass over many, not the nanoseconds of
//! a function that is called a thousand times. `cargo xtask bench` runs this in a process of its own, since memory that
//! was used once is not given back.

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
    verdict::{Policy, judge},
};
use made::{STEP, life, opening, snapshot};
use nix::{
    sys::time::{TimeSpec, TimeValLike as _},
    time::{ClockId, clock_gettime},
};
use serde_json::json;

/// Events that are made before they are fed: making them is not what is measured.
const BATCH: u64 = 10_000;
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
    let server = made::server();
    let mut ledger = Ledger::bounded(usize::MAX);
    feed(&mut ledger, &Event::Snapshot(Snapshot::default()));

    let empty = resident();
    let mut open_nanos = 0;
    for first in (0..size).step_by(usize::try_from(BATCH).unwrap_or(1)) {
        let events: Vec<Event> = (first..size.min(first + BATCH))
            .flat_map(|number| opening(&server, number))
            .collect();
        open_nanos += timed(|| events.iter().for_each(|event| feed(&mut ledger, event)));
    }
    let now = size * STEP + 60 * SECOND;
    let mut walk = snapshot(&server, size, now);
    let merge_nanos = timed(|| feed(&mut ledger, &walk));
    // The walk's own rows are not the books'.
    drop(std::mem::replace(&mut walk, Event::Snapshot(Snapshot::default())));
    let bytes = resident().saturating_sub(empty);

    let (policy, names) = (Policy::default(), BTreeMap::new());
    let judge_nanos = timed(|| drop(black_box(judge(&ledger, now, &policy, &names))));

    // Beside them, connections that come and go: a whole life is five events.
    let lives = size.min(100_000);
    let mut life_nanos = 0;
    for first in (0..lives).step_by(usize::try_from(BATCH).unwrap_or(1)) {
        let events: Vec<Event> = (first..lives.min(first + BATCH))
            .flat_map(|number| life(&server, size + number))
            .collect();
        life_nanos += timed(|| events.iter().for_each(|event| feed(&mut ledger, event)));
    }
    json!({
        "connections": size,
        "bytes_each": bytes / size,
        "structure_bytes": size_of::<Connection>(),
        "open_events_per_s": per_second(2 * size, open_nanos),
        "life_events_per_s": per_second(5 * lives, life_nanos),
        "merge_ms": millis(merge_nanos),
        "judge_ms": millis(judge_nanos),
    })
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

/// Bytes of memory that this process has now.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|word| word.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
