//! Whether all that a connection carries is what keeps it alive: the same few bytes, now and then.
//!
//! Pools, drivers and housekeeping threads ping connections (`SELECT 1`, `COM_PING`, `PING`), forgotten ones, too. By the
//! time of its last use such a connection is never silent. So the books also keep since when it has had nothing but sends of one
//! size, as far as snapshots tell: their number and bytes, and so the mean of the few between two looks.

use super::carried::Carried;
use crate::event::{Nanos, SECOND};

/// More often than this is work.
const SELDOM: Nanos = SECOND / 2;
const MS: Nanos = SECOND / 1000;

/// So many sends as large as the one before make a pulse, whose size may change once.
const PULSE: u8 = 2;

/// A run of sends of one size. Small, since each connection has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pulse {
    /// Bytes of a send; 0 for none yet.
    size: u16,
    /// Sends as large as the one before.
    beats: u8,
    /// What came of the one change that is forgiven.
    change: Change,
    /// When the last send of another size was, in milliseconds after the connection was first seen; if none is known, the
    /// first of them.
    from: u32,
}

/// Drivers prepare a statement when it has been sent a few times (psycopg and pgjdbc: five): one send or two of other sizes,
/// and from then on each is of another size than before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Change {
    /// There was none.
    #[default]
    None,
    /// The last look found something else. If the old size comes back, that was a use.
    Open,
    /// The size has changed.
    Done,
}

/// Nothing but what keeps it alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptAlive {
    /// Since when.
    pub since: Nanos,
    /// Bytes of a send, at present.
    pub size: u16,
    /// How many times, at least.
    pub beats: u8,
    /// The last send was none of another size, of which the next one will tell whether it was a use.
    pub settled: bool,
}

impl Pulse {
    /// Another look: what the connection had carried at the one before, and at this one; `between` is the time from one to the other.
    pub(super) fn beat(&mut self, first_seen: Nanos, before: &Carried, now: &Carried, between: Nanos) {
        let sends = |of: &Carried| Some((u64::from(of.sends.get()?), of.bytes_sent.get()?));
        let (Some((sends_before, bytes_before)), Some((sends, bytes))) = (sends(before), sends(now)) else {
            return;
        };
        let (sends, bytes) = (
            sends.saturating_sub(sends_before),
            bytes.saturating_sub(bytes_before),
        );
        if sends == 0 {
            return;
        }
        let seldom = sends <= (between / SELDOM).max(1);
        let size = u16::try_from(bytes / sends)
            .ok()
            .filter(|&size| seldom && size > 0 && bytes.is_multiple_of(sends));
        let new = u8::try_from(sends).unwrap_or(u8::MAX);
        match (self.change, size) {
            (Change::None | Change::Done, Some(size)) if size == self.size => {
                self.beats = self.beats.saturating_add(new);
                if self.beats == u8::MAX {
                    (self.beats, self.change) = (u8::MAX / 2, Change::None);
                }
            }
            (Change::None, _) if self.beats >= PULSE => self.change = Change::Open,
            (Change::Open, Some(size)) if size != self.size => {
                (self.size, self.change) = (size, Change::Done);
            }
            (_, Some(size)) => {
                let at = before
                    .last_sent
                    .get()
                    .or(now.last_sent.get())
                    .unwrap_or(first_seen);
                *self = Self {
                    size,
                    beats: new - 1,
                    change: Change::None,
                    from: u32::try_from(at.saturating_sub(first_seen) / MS).unwrap_or(u32::MAX),
                };
            }
            (_, None) => *self = Self::default(),
        }
    }

    /// What it tells of a connection that was first seen then.
    pub(super) fn kept_alive(self, first_seen: Nanos) -> Option<KeptAlive> {
        (self.size > 0).then(|| KeptAlive {
            since: first_seen.saturating_add(u64::from(self.from) * MS),
            size: self.size,
            beats: self.beats,
            settled: self.change != Change::Open,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks each half second, at which so many more sends with so many more bytes are found.
    fn after(looks: &[(u32, u64)]) -> Option<(Nanos, u16, u8)> {
        let told = told_after(looks)?;
        Some(((told.since - 10 * SECOND) / MS, told.size, told.beats))
    }

    fn told_after(looks: &[(u32, u64)]) -> Option<KeptAlive> {
        let mut pulse = Pulse::default();
        let mut carried = Carried::default();
        (carried.sends, carried.bytes_sent) = (0.into(), 0.into());
        for (look, &(sends, bytes)) in (1..).zip(looks) {
            let before = carried;
            carried.sends = carried.sends.get().map(|all| all + sends).into();
            carried.bytes_sent = carried.bytes_sent.get().map(|all| all + bytes).into();
            if sends > 0 {
                carried.last_sent = (10 * SECOND + look * SECOND / 2).into();
            }
            pulse.beat(10 * SECOND, &before, &carried, SECOND / 2);
        }
        pulse.kept_alive(10 * SECOND)
    }

    #[test]
    fn the_same_few_bytes_now_and_then_are_a_pulse() {
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[(5, 400)]), None);
        let pinged = [(5, 400), (0, 0), (1, 5), (0, 0), (1, 5), (0, 0), (1, 5)];
        assert_eq!(after(&pinged), Some((500, 5, 2)));
    }

    #[test]
    fn its_size_may_change_once() {
        let prepared = [(1, 14), (1, 14), (1, 14), (2, 95), (1, 40), (1, 40)];
        assert_eq!(after(&prepared), Some((500, 40, 3)));
        let at_once = [(1, 14), (1, 14), (1, 14), (1, 40), (1, 40), (1, 40)];
        assert_eq!(after(&at_once), Some((500, 40, 3)));
        let again = [at_once.as_slice(), &[(1, 30), (1, 30), (1, 30)]].concat();
        assert_eq!(after(&again), Some((3000, 30, 2)));
        // Before there was any pulse it is no change of it.
        let early = [(1, 14), (1, 14), (1, 40), (1, 40), (1, 40)];
        assert_eq!(after(&early), Some((1000, 40, 2)));
    }

    #[test]
    fn whether_one_of_another_size_was_a_use_shows_at_the_next_one() {
        let pinged = [(5, 400), (1, 14), (1, 14), (1, 14), (1, 40)];
        assert_eq!(after(&pinged), Some((500, 14, 2)));
        let told = told_after(&pinged);
        assert_eq!(told.map(|told| told.settled), Some(false));
        let prepared = told_after(&[pinged.as_slice(), &[(1, 40)]].concat());
        assert_eq!(prepared.map(|told| (told.size, told.settled)), Some((40, true)));
        let used = told_after(&[pinged.as_slice(), &[(1, 14)]].concat());
        assert_eq!(used.map(|told| (told.beats, told.settled)), Some((0, true)));
    }

    #[test]
    fn work_is_no_pulse() {
        let worked = told_after(&[(1, 5), (1, 5), (1, 5), (3, 300)]);
        assert_eq!(worked.map(|told| told.settled), Some(false));
        assert_eq!(after(&[(1, 5), (1, 5), (1, 5), (3, 300), (2, 300)]), None);
        assert_eq!(
            after(&[(1, 5), (1, 90), (1, 7), (1, 30)]).map(|told| told.2),
            Some(0)
        );
        // A use between two of them.
        let used = [(1, 5), (1, 5), (1, 5), (1, 90), (1, 5), (1, 5)];
        assert_eq!(after(&used), Some((2000, 5, 1)));
        let turns: Vec<(u32, u64)> = (0..20)
            .map(|turn| (1, if turn % 2 == 0 { 5 } else { 90 }))
            .collect();
        assert_eq!(after(&turns).map(|told| told.2), Some(0));
    }

    #[test]
    fn a_long_one_goes_on_for_ever() {
        let told = after(&[(1, 5)].repeat(5000));
        assert!(
            told.is_some_and(|(since, size, beats)| since == 500 && size == 5 && beats > 100),
            "{told:?}"
        );
    }
}
