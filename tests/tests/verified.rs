//! The kernel programs stay as small as they are: what the verifier has to look at is what a start takes, and what
//! runs in other people's processes.
//!
//! `verified.toml` has the instructions that this kernel's verifier looked at. A program that has grown by more than a
//! tenth fails; if that is wanted, write the file anew:
//!
//! ```sh
//! CONNLEAK_UPDATE=1 cargo test -p connleak-tests --test verified
//! ```

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, env, fs};

use anyhow::{Context, Result, ensure};
use connleak_tests::{agent, programs, require_root, root, watch::Watch};
use nix::sys::{signal::Signal, utsname::uname};
use serde::Deserialize;

/// A program may grow by this share of itself, in percent.
const ROOM: u32 = 10;

/// What was committed.
#[derive(Debug, Deserialize)]
struct Committed {
    /// The kernel whose verifier was asked; another one's looks at others.
    kernel: String,
    /// By program.
    instructions: BTreeMap<String, u32>,
}

#[test]
fn root_no_kernel_program_has_grown_by_more_than_a_tenth() -> Result<()> {
    require_root!();
    let release = uname()?.release().to_string_lossy().into_owned();
    let kernel: String = release.split('.').take(2).collect::<Vec<_>>().join(".");
    let watch = Watch::attached(["--db", "memcached"])?;
    let found = programs::held_by(watch.pid())
        .into_iter()
        .map(programs::verified)
        .collect::<Result<BTreeMap<_, _>>>()?;
    watch.signal(Signal::SIGINT)?;
    watch.finish()?;
    ensure!(!found.is_empty(), "the agent held no program");

    let path = agent::workspace().join("tests/tests/verified.toml");
    if env::var_os("CONNLEAK_UPDATE").is_some() {
        let counts: Vec<String> = found
            .iter()
            .map(|(name, count)| format!("{name} = {count}\n"))
            .collect();
        let counts = counts.concat();
        let title = "# Written by CONNLEAK_UPDATE=1 cargo test -p connleak-tests --test verified\n";
        fs::write(
            &path,
            format!("{title}kernel = \"{kernel}\"\n\n[instructions]\n{counts}"),
        )?;
        return Ok(());
    }
    let committed: Committed =
        toml::from_str(&fs::read_to_string(&path).with_context(|| path.display().to_string())?)?;
    if committed.kernel != kernel {
        root::say(&format!(
            "SKIPPED: {} is of kernel {}, this is {kernel}",
            path.display(),
            committed.kernel
        ));
        return Ok(());
    }
    for (name, count) in &found {
        let before = committed
            .instructions
            .get(name)
            .with_context(|| format!("{name} is new: CONNLEAK_UPDATE=1 writes {} anew", path.display()))?;
        ensure!(
            u64::from(*count) * 100 <= u64::from(*before) * u64::from(100 + ROOM),
            "{name}: the verifier looked at {count} instructions, {before} are committed; if that is wanted, \
             CONNLEAK_UPDATE=1 writes {} anew",
            path.display()
        );
    }
    Ok(())
}
