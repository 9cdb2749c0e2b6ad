//! How often the ring buffers are read: their writers wake nobody, unless much is waiting, since a wake-up costs the
//! application 8 to 12 µs. When nothing has come for a while, that costs less than to look again and again: then the first event
//! wakes the agent.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, MapData},
};

/// While there is something in them.
const TICK: Duration = Duration::from_millis(50);
/// After how long a silence, and how often then: the first stack after it may wait as long. The reader of stacks is woken
/// for those that can't wait, and looks meanwhile which processes have begun.
const LULLS: [(Duration, Duration); 3] = [
    (Duration::from_mins(1), Duration::from_secs(1)),
    (Duration::from_secs(30), Duration::from_millis(500)),
    (Duration::from_secs(2), Duration::from_millis(250)),
];
/// After how long a silence the first event wakes the agent.
const QUIET: Duration = Duration::from_secs(2);
/// While the first event wakes the agent, it need not look at all.
const ASLEEP: Duration = Duration::from_secs(10);

/// Time from one look at the stacks to the next, when nothing has come for so long.
#[must_use]
pub fn between_reads(still: Duration) -> Duration {
    let lull = LULLS.iter().find(|(lull, _)| still > *lull);
    lull.map_or(TICK, |&(_, tick)| tick)
}

/// Before the programs run: the agent is woken when a quarter of the ring is full.
pub(super) fn wake_at(ebpf: &mut Ebpf, ring_bytes: u32) -> Result<()> {
    let map = ebpf
        .map_mut(WAKE_AT)
        .context("the kernel object has no map WAKE_AT")?;
    let mut mark: Array<_, u64> = map.try_into()?;
    mark.set(0, u64::from(ring_bytes / 4), 0)?;
    Ok(())
}

const WAKE_AT: &str = "WAKE_AT";

/// Has the first event wake the agent, when none has come for a while.
pub(super) struct Alarm {
    /// Waiting bytes at which the agent is woken.
    mark: Array<MapData, u64>,
    usual: u64,
    on: bool,
    stirred: Instant,
}

impl Alarm {
    /// Takes the map from a loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        let mark = Array::try_from(super::take(ebpf, WAKE_AT)?)?;
        Ok(Self {
            usual: mark.get(&0, 0)?,
            mark,
            on: false,
            stirred: Instant::now(),
        })
    }

    /// Something has come.
    pub(super) fn stir(&mut self) {
        self.stirred = Instant::now();
    }

    /// Time to the next look. None, when what comes from now on wakes the agent: what has come just before did not.
    pub(super) fn between_reads(&mut self) -> Duration {
        let quiet = self.stirred.elapsed() > QUIET;
        if quiet != self.on {
            let mark = if quiet { 0 } else { self.usual };
            if self.mark.set(0, mark, 0).is_err() {
                return TICK;
            }
            self.on = quiet;
            return if quiet { Duration::ZERO } else { TICK };
        }
        if self.on { ASLEEP } else { TICK }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_nothing_comes_the_less_often_anybody_looks() {
        let after = |seconds| between_reads(Duration::from_secs(seconds)).as_millis();
        assert_eq!([2, 3, 31, 60, 61].map(after), [50, 250, 500, 500, 1000]);
    }
}
