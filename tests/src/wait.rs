//! Waiting for conditions, because a sleep is either too short on a busy machine or too long on an idle one.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How long a condition may take before the test gives up. Only a hang or a bug comes near it.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Asks `probe` until it has an answer, and names `what` it waited for when [`PATIENCE`] runs out.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if start.elapsed() > PATIENCE {
            bail!("gave up after {} s waiting for {what}", PATIENCE.as_secs());
        }
        thread::sleep(Duration::from_millis(20));
    }
}
