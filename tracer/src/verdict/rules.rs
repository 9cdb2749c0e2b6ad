//! The constants of the rules, each with what it means and why it has this value.
//!
//! They are one table, so that what a rule uses, what `connleak policy` prints and what a policy file may say
//! cannot differ. Whoever changes one knows why: `--idle` is the knob for everybody, these are for research.

use std::ops::RangeInclusive;

use super::knob::{Knob, Quantity, Unit};
use crate::event::{Nanos, SECOND};

const MS: Nanos = SECOND / 1000;
/// No constant of a rule is longer than a watch can be waited for.
const LONGEST: Nanos = 24 * 3600 * SECOND;

/// Makes the struct, its defaults and its table of [`Knob`]s of one list.
macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident: $unit:ident $kind:ty = $default:expr, $range:expr;)+) => {
        /// See the module's head.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Rules {
            $($(#[doc = $doc])+ pub $name: $kind,)+
        }

        impl Default for Rules {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Rules {
            /// Every constant, in the order of this file.
            pub const KNOBS: &[Knob<Self>] = &[$(Knob {
                name: stringify!($name),
                doc: &[$($doc),+],
                unit: Unit::$unit,
                range: $range,
                get: |rules| Some(rules.$name.number()),
                set: |rules, number| rules.$name = Quantity::of(number),
            },)+];
        }
    };
}

const COUNT: RangeInclusive<u64> = 1..=100_000;
/// Fewer than two of anything are no habit.
const HABIT: RangeInclusive<u64> = 2..=1_000;
const PERCENT: RangeInclusive<u64> = 1..=100;
const SPAN: RangeInclusive<u64> = MS..=LONGEST;

rules! {
    /// Silence that is worth a word even when idle is long: no healthy client waits this long between
    /// connecting and its first request, or before it notices that the server has closed.
    soon: Span Nanos = 5 * SECOND, SPAN;
    /// Slack between "used last" and "another one opened": below it, the two may belong to one request, or to
    /// two threads that could not know of each other. The kernel's own ticks are up to 10 ms coarse.
    grace: Span Nanos = 100 * MS, SPAN;

    /// leak: links of the chain that make a claim. Two can be chance (a request for each of two pools); three
    /// in a row, each with its predecessors idle, is the least that shows a habit.
    links: Count usize = 3, HABIT;
    /// leak: separate openings that make a habit even when they stop soon. An application may well open a few
    /// single connections as it starts: for a lock, a listener, a monitor, a migration.
    separate: Count usize = 5, HABIT;
    /// leak: time over which such sockets came up, in percent of idle, that makes five of them a habit. What an
    /// application opens one by one as it starts has come up by then.
    growth: Percent u64 = 250, 100..=100_000;
    /// leak: silence, in multiples of idle, that makes it certain. Idle separates think times from silence by
    /// a choice, and applications differ by a few times; what has been silent for this many times as long has
    /// no rhythm that anybody would wait for.
    sure: Times u64 = 5, 1..=1_000;
    /// leak: sockets from before attach that fell silent this near each other did so together: one burst of a
    /// pool. Two of the kernel's coarsest ticks.
    together: Span Nanos = 20 * MS, SPAN;
    /// leak: the silent are counted by snapshots, which come a second apart or less; so moments at which their
    /// numbers are compared lie this far apart at least.
    compare: Span Nanos = SECOND, SPAN;

    /// leak: of the pairs of such moments, those at which more were silent later than before, in percent. A pool
    /// that keeps as many as it had has as many of these as of the opposite.
    rising: Percent u64 = 75, PERCENT;

    /// `kept_alive`: bytes of one send up to which it may be what keeps a connection alive. `COM_PING` has 5, Redis' `PING`
    /// 14, `SELECT 1` by `PostgreSQL`'s extended protocol some 60.
    ping: Count u64 = 64, COUNT;
    /// `kept_alive`: of the same size so many times more, until it is no chance.
    beats: Count usize = 2, 1..=100;

    /// unreturned: sockets that are in no order of the pool and make a habit, for the reason of `links`.
    missing: Count usize = 3, HABIT;
    /// unreturned: they are silent this many times as long as any rest that ended meanwhile: a health check,
    /// or a round of a long queue, comes back.
    rests: Times u64 = 2, 1..=1_000;

    /// unreturned: what is sent since the last one fell silent, in percent of what was sent as they did so. When
    /// less than three quarters are left, it may as well be the work that is less.
    load: Percent u64 = 75, 1..=1_000;

    /// inherited: unused sockets to one server on this host that are a habit. One may be a daemon that has put
    /// itself into the background and waits.
    inherited: Count usize = 3, HABIT;

    /// `never_used`: silence at a single look. A scan can't wait for `soon`, and a login is sent at once.
    mute: Span Nanos = SECOND, SPAN;

    /// From one look: fewer sockets than this many say nothing.
    few: Count usize = 3, HABIT;
    /// From one look: this many in a row, the latest of them recent, are no chance: a random order of five is
    /// in order once in 120.
    some: Count usize = 5, HABIT;
    /// From one look: this many are no pool that was rotated: common pools default to ten or fewer (`HikariCP`
    /// 10, `SQLAlchemy` 5 + 10, pgx 4 or the number of cores).
    many: Count usize = 16, HABIT;
    /// From one look: this many, and one more while we look, are not single connections that come up, for workers
    /// or for tenants: few applications have a dozen of those. For a scan, and where each says that it is for
    /// somebody else.
    dozen: Count usize = 12, HABIT;
    /// From one look: moments closer than this belong to one burst. Ticks are 10 ms at the coarsest.
    moment: Span Nanos = 20 * MS, SPAN;
    /// From one look: a leak is spread out at least this much.
    spread: Span Nanos = 500 * MS, SPAN;
    /// From one look: share of the sockets that fell silent at a moment of its own, in percent.
    staggered: Percent usize = 60, PERCENT;
    /// From one look: share of the sockets that fell silent in the order in which they were opened, in percent. By
    /// chance that many of six are so once in 28 times, and of twenty never.
    ordered: Percent usize = 80, PERCENT;
    /// From one look: sends on one socket up to which it counts as used once: handshake, TLS, login, settings,
    /// a transaction.
    used_once: Count u64 = 32, COUNT;
    /// From one look: what is used once has sent about as often each time; what was lent out and returned before
    /// has not. The most against the least, in percent.
    differ: Percent u64 = 150, 101..=10_000;
    /// From one look: "recent", if the sockets do not lie further apart anyway.
    recent: Span Nanos = 30 * SECOND, SPAN;
    /// From one look: a pool that is filled one by one takes less than this for each: a connect to a remote server,
    /// with TLS and a login.
    connect: Span Nanos = 150 * MS, SPAN;
    /// From one look: a pool that is being filled is full by then.
    filled: Span Nanos = 4 * SECOND, SPAN;
    /// From one look: what has sent this many times as much is at work all the time, and is not one of those come back.
    at_work: Times u64 = 4, 2..=1_000;
    /// From one look: a watch can wait, and looks again meanwhile: a pool in use, or workers, give themselves away by
    /// using one of them. Suspect after half of that. (A scan does the same, for as long as somebody may be kept
    /// waiting.)
    patience: Span Nanos = 4 * SECOND, SPAN;
    /// From one look: sockets without any times are worth the command that decides when they are this many;
    /// fewer are what an idle application keeps (redis-py and ioredis keep one, pgx four).
    undated: Count usize = 5, HABIT;

    /// growth per minute: the time that is looked at first, then twice as long, and so on. Within a minute a leak
    /// shows that matters in an incident.
    pace: Span Nanos = 60 * SECOND, SPAN;
    /// exhaustion: a forecast further ahead than a shift is nobody's incident yet.
    horizon: Span Nanos = 6 * 3600 * SECOND, SPAN;
    /// exhaustion: share of the server's limit, in percent, from which one process holds nearly all.
    most: Percent u64 = 80, PERCENT;
    /// exhaustion: share of the server's limit, in percent, from which one process is in the others' way.
    half: Percent u64 = 50, PERCENT;

    /// A finding that grows is told again after this time, and a limit that is kept again counts as kept after it:
    /// a log is read by people.
    repeat: Span Nanos = 10 * SECOND, SPAN;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_makes_sense_and_every_name_is_used_once() {
        let mut names: Vec<_> = Rules::KNOBS.iter().map(|knob| knob.name).collect();
        for knob in Rules::KNOBS {
            let value = (knob.get)(&Rules::default());
            assert!(
                value.is_some_and(|value| knob.range.contains(&value)),
                "{}",
                knob.name
            );
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Rules::KNOBS.len());
    }

    #[test]
    fn a_knob_sets_what_it_gets() {
        for knob in Rules::KNOBS {
            let mut rules = Rules::default();
            (knob.set)(&mut rules, *knob.range.end());
            assert_eq!((knob.get)(&rules), Some(*knob.range.end()), "{}", knob.name);
        }
    }
}
