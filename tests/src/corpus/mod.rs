//! The labelled corpus: real applications on real pools against real servers, of which it is known whether they leak.
//!
//! `tests/scenarios/labels.toml` holds the truth and a prediction that was made before the first run. [`run`] starts an
//! application, attaches the agent before or in the middle, and notes what was said and when; [`score`] compares with
//! the truth; [`page`] writes it down.

pub mod labels;
pub mod page;
pub mod run;
pub mod runtimes;
pub mod score;
pub mod servers;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, anyhow};

use self::{labels::Scenario, run::Record, runtimes::Runtimes, servers::Servers};

/// Runs these scenarios, `jobs` at a time, and hands each result to `tell` as soon as it is there.
///
/// A scenario that cannot run is an error, told when the others have ended: a corpus with holes would measure something
/// else.
pub fn run_all(
    scenarios: &[Scenario],
    jobs: usize,
    tell: impl Fn(&Result<Record>) + Sync,
) -> Result<Vec<Record>> {
    let runtimes = Runtimes::prepare(scenarios)?;
    let servers = Servers::start(scenarios)?;
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(scenario) = scenarios.get(index) else {
                        break;
                    };
                    let record = run::run(scenario, &runtimes, &servers)
                        .with_context(|| format!("scenario {}", scenario.name));
                    tell(&record);
                    done.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(index, record);
                }
            });
        }
    });
    let done = done
        .into_inner()
        .map_err(|_| anyhow!("a scenario's thread panicked"))?;
    done.into_values().collect()
}
