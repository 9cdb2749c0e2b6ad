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

/// A run of sends of one size. Small, since each connection has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pulse {
    /// Bytes of a send; 0 for none yet.
    size: u16,
    /// Sends as large as the one before.
    beats: u8,
    /// Other ones: a statement is prepared at last, the server's name is looked up again.
    odd: u8,
    /// When the first of them was sent, in milliseconds after the connection was first seen.
    from: u32,
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
        let Some(size) = size else {
            *self = Self::default();
            return;
        };
        let new = u8::try_from(sends).unwrap_or(u8::MAX);
        if self.size == size {
            self.beats = self.beats.saturating_add(new);
        } else {
            self.odd = self.odd.saturating_add(1);
            self.size = size;
        }
        // One of three may be odd, not more.
        if u16::from(self.odd) * 2 > u16::from(self.beats) {
            let at = now.last_sent.get().unwrap_or(first_seen);
            *self = Self {
                size,
                beats: new - 1,
                odd: 0,
                from: u32::try_from(at.saturating_sub(first_seen) / MS).unwrap_or(u32::MAX),
            };
        } else if self.beats == u8::MAX {
            (self.beats, self.odd) = (self.beats / 2, self.odd / 2);
        }
    }

    /// What it tells of a connection that was first seen then.
    pub(super) fn kept_alive(self, first_seen: Nanos) -> Option<KeptAlive> {
        (self.size > 0).then(|| KeptAlive {
            since: first_seen.saturating_add(u64::from(self.from) * MS),
            size: self.size,
            beats: self.beats,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks each half second, at which so many more sends with so many more bytes are found.
    fn after(looks: &[(u32, u64)]) -> Option<(Nanos, u16, u8)> {
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
        let told = pulse.kept_alive(10 * SECOND)?;
        Some(((told.since - 10 * SECOND) / MS, told.size, told.beats))
    }

    #[test]
    fn the_same_few_bytes_now_and_then_are_a_pulse() {
        assert_eq!(after(&[]), None);
        assert_eq!(after(&[(5, 400)]), None);
        let pinged = [(5, 400), (0, 0), (1, 5), (0, 0), (1, 5), (0, 0), (1, 5)];
        assert_eq!(after(&pinged), Some((1500, 5, 2)));
    }

    #[test]
    fn one_of_another_size_is_forgiven_when_there_were_enough() {
        let prepared = [(1, 14), (1, 14), (1, 14), (1, 60), (1, 40), (1, 40), (1, 40)];
        assert_eq!(after(&prepared), Some((2500, 40, 2)));
        let later = [
            (1, 14),
            (1, 14),
            (1, 14),
            (1, 14),
            (1, 14),
            (1, 60),
            (1, 40),
            (1, 40),
        ];
        assert_eq!(after(&later), Some((500, 40, 5)));
    }

    #[test]
    fn work_is_no_pulse() {
        assert_eq!(after(&[(1, 5), (1, 5), (1, 5), (3, 300)]), None);
        assert_eq!(
            after(&[(1, 5), (1, 90), (1, 7), (1, 30)]).map(|told| told.2),
            Some(0)
        );
        // As often as not it is something else.
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
