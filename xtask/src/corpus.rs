//! `cargo xtask corpus`: how often is the agent right? Real applications, leaking and healthy, in seven languages.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    process::{self, cargo, step},
    setup,
    workspace::Workspace,
};

/// Flags of `cargo xtask corpus`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Don't look whether languages, servers and client libraries are there
    #[arg(long)]
    no_setup: bool,
    /// How many scenarios at a time; they sleep most of the time
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Don't run anything: judge the journals of the last run again, by the agent as it is now
    #[arg(long)]
    replay: bool,
    /// Only scenarios whose name contains one of these; docs/accuracy.md is then left as it is
    filter: Vec<String>,
}

/// Runs the verb.
pub fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if !args.no_setup && !args.replay {
        setup::run(workspace, &setup::Args::for_corpus())?;
    }
    step("building the agent: cargo build --release --package connleak");
    let release = ["build", "--locked", "--release", "--package", "connleak"];
    process::run(cargo().args(release).current_dir(&workspace.root))?;

    step("running the corpus");
    let page = workspace.root.join("docs/accuracy.md");
    let mut corpus = cargo();
    corpus
        .args([
            "run",
            "--locked",
            "--quiet",
            "--package",
            "connleak-tests",
            "--bin",
            "corpus",
            "--",
        ])
        .args(["--jobs", &args.jobs.to_string()])
        .args(&args.filter)
        .env("CONNLEAK_BIN", workspace.target_dir()?.join("release/connleak"))
        .env("CONNLEAK_TEST_ENV", setup::environment()?)
        .current_dir(&workspace.root);
    if args.replay {
        corpus.arg("--replay");
    } else if args.filter.is_empty() {
        corpus.arg("--write").arg(&page);
    }
    process::run(&mut corpus)?;
    Ok(ExitCode::SUCCESS)
}
