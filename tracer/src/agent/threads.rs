//! Looks whether threads live that have opened connections which are silent now.

use std::{collections::BTreeMap, path::Path};

use crate::{
    event::{Nanos, SECOND, Threads},
    ledger::{Connection, Ledger},
    owner::ProcessId,
};

/// Threads that are asked for at most at a time: each costs a look-up in `/proc`, some microseconds. Of those
/// beyond, nothing is known, and so nothing is said in their favour.
const MOST: usize = 4096;

/// What has changed since the last look.
pub(super) fn look(ledger: &Ledger, at: Nanos) -> Vec<Threads> {
    let silent = |connection: &&Connection| connection.silent_since(at.saturating_sub(SECOND));
    let mut known: BTreeMap<(ProcessId, u32), Option<bool>> = BTreeMap::new();
    for connection in ledger.connections().filter(silent) {
        // The dead stay dead: a number may be another's then.
        if let Some(opener) = connection.opener
            && opener.lives != Some(false)
        {
            let lives = known.entry((opener.process, opener.tid)).or_insert(opener.lives);
            // One that is new to this thread asks again.
            *lives = lives.and(opener.lives);
        }
    }
    let mut news: BTreeMap<ProcessId, Threads> = BTreeMap::new();
    for ((process, tid), known) in known.into_iter().take(MOST) {
        let lives = Path::new(&format!("/proc/{}/task/{tid}", process.pid)).exists();
        if known == Some(lives) {
            continue;
        }
        let threads = news.entry(process).or_insert_with(|| Threads {
            at,
            process,
            alive: Vec::new(),
            ended: Vec::new(),
        });
        if lives {
            &mut threads.alive
        } else {
            &mut threads.ended
        }
        .push(tid);
    }
    news.into_values().collect()
}
