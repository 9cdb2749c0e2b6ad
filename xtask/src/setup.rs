//! `cargo xtask setup`: what the tests need and a fresh machine lacks.
//!
//! The tests run real servers and real client libraries. Each part below looks first and installs only what is
//! absent, so that a second run costs a second and `cargo xtask test` can always begin with it. Nothing is
//! taken from a package source that the machine does not already use.

mod apt;
mod cargo_tools;
mod corpus;
mod policy;
mod python;

use anyhow::Result;

use crate::{process::step, workspace::Workspace};

pub use self::python::environment;

/// Flags of `cargo xtask setup`
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Also install the toolchain that rebuilds the kernel programs (Debian; not needed to build or test)
    #[arg(long)]
    ebpf: bool,
    /// Also install the languages, drivers and pools that `cargo xtask corpus` runs
    #[arg(long)]
    corpus: bool,
    /// Also install the peers that `cargo xtask bench` compares with
    #[arg(long)]
    bench: bool,
}

impl Args {
    /// What the bench needs, and no more.
    pub fn for_bench() -> Self {
        Self {
            bench: true,
            ..Self::default()
        }
    }

    /// What the corpus needs, and no more.
    pub fn for_corpus() -> Self {
        Self {
            corpus: true,
            ..Self::default()
        }
    }
}

/// Runs the verb.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    apt::install("the tests' servers and tools", &apt::FOR_TESTS)?;
    python::install(workspace)?;
    cargo_tools::install()?;
    if args.corpus {
        corpus::install(workspace)?;
    }
    if args.bench {
        apt::install("the bench's peers", &apt::FOR_BENCH)?;
    }
    if args.ebpf {
        apt::install("the BPF toolchain", &apt::for_ebpf())?;
        cargo_tools::install_linker()?;
    }
    step("setup: done");
    Ok(())
}
