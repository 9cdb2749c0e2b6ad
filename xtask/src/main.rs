//! `cargo xtask …`: what a developer or a CI job does to this repository besides `cargo build`.
//!
//! These commands are Rust rather than shell so that they need nothing but the toolchain that builds the
//! agent, and so that the rules they enforce (what the committed kernel object was made from, what the tests
//! need) are tested like any other code. One file per verb; `workspace` and `process` are what they share.
#![expect(
    clippy::print_stdout,
    reason = "a developer tool talks on its terminal; it has no other output"
)]
#![expect(
    clippy::print_stderr,
    reason = "a developer tool talks on its terminal; it has no other output"
)]
#![forbid(unsafe_code)]

mod bench;
mod corpus;
mod dist;
mod ebpf;
mod process;
mod setup;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// connleak's developer commands
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build the kernel programs into tracer-ebpf/object/, or say whether the object there is up to date
    Ebpf(ebpf::Args),
    /// Install what the tests need: servers, clients, cargo tools (what is there already is left alone)
    Setup(setup::Args),
    /// Set up, build the agent, and run every test, those that need root included
    Test(test::Args),
    /// Run the labelled corpus, leaking and healthy applications in seven languages, and write docs/accuracy.md
    Corpus(corpus::Args),
    /// Measure what the agent and its peers cost, and write docs/performance.md
    Bench(bench::Args),
    /// Boot other kernels in QEMU, and try the agent on each
    Vm(vm::Args),
    /// Build the agent as a single static file: target/dist/connleak
    Dist(dist::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = Workspace::locate().and_then(|workspace| match cli.verb {
        Verb::Ebpf(args) => ebpf::run(&workspace, &args),
        Verb::Setup(args) => setup::run(&workspace, &args).map(|()| ExitCode::SUCCESS),
        Verb::Test(args) => test::run(&workspace, &args),
        Verb::Corpus(args) => corpus::run(&workspace, &args),
        Verb::Bench(args) => bench::run(&workspace, &args),
        Verb::Vm(args) => vm::run(&workspace, &args),
        Verb::Dist(args) => dist::run(&workspace, &args).map(|()| ExitCode::SUCCESS),
    });
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
