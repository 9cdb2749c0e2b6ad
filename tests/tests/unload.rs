//! Nothing stays loaded: however the agent ends, its kernel programs go with it.
//!
//! A test binary of its own, because cargo runs these one after another, so that no other test loads programs meanwhile.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    process::{Child, Stdio},
    time::Instant,
};

use anyhow::{Result, ensure};
use connleak_tests::{agent, programs, require_root, wait, watch::Watch};
use nix::sys::signal::Signal;

/// Runs `connleak ARGS` to its end, and returns the ids of the programs that it held on the way.
fn held_while_running(args: &[&str]) -> Result<BTreeSet<u32>> {
    let mut child: Child = agent::command(args)?
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut held = BTreeSet::new();
    let start = Instant::now();
    // Without a pause, since a scan is over soon.
    while child.try_wait()?.is_none() {
        held.append(&mut programs::held_by(child.id()));
        if start.elapsed() > wait::PATIENCE {
            child.kill()?;
        }
    }
    Ok(held)
}

/// The kernel frees programs a moment after the last descriptor is closed.
fn unloaded(held: &BTreeSet<u32>) -> Result<()> {
    ensure!(
        !held.is_empty(),
        "the agent held no program at all, so that this test shows nothing"
    );
    wait::until("its programs to be unloaded", || {
        Ok(held.is_disjoint(&programs::loaded()?).then_some(()))
    })
}

#[test]
fn root_no_program_stays_loaded_after_scan() -> Result<()> {
    require_root!();
    // On a host with little to look at it holds them for some milliseconds, and we may not get to look meanwhile.
    let held = wait::until("a scan to be seen with its programs", || {
        let held = held_while_running(&["scan"])?;
        Ok((!held.is_empty()).then_some(held))
    })?;
    unloaded(&held)
}

#[test]
fn root_no_program_stays_loaded_after_demo() -> Result<()> {
    require_root!();
    unloaded(&held_while_running(&["demo"])?)
}

#[test]
fn root_no_program_stays_loaded_after_a_full_disk() -> Result<()> {
    require_root!();
    unloaded(&held_while_running(&[
        "watch",
        "--for",
        "1s",
        "--log-file",
        "/dev/full",
    ])?)
}

#[test]
fn root_no_program_stays_loaded_after_watch_however_it_ends() -> Result<()> {
    require_root!();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let watch = Watch::attached(["--db", "memcached"])?;
        let held = programs::held_by(watch.pid());
        ensure!(held.is_subset(&programs::loaded()?), "what it holds is loaded");
        watch.signal(signal)?;
        watch.finish()?;
        unloaded(&held)?;
    }
    Ok(())
}
