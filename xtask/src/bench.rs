//! `cargo xtask bench`: what connleak costs, and what its peers cost, measured here; writes `docs/performance.md`.
//!
//! The measuring is done by `connleak-tests --bin bench`. This installs what it needs, builds the file that users copy to a
//! host (`cargo xtask dist`), and runs it on that.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    dist,
    process::{self, cargo, step},
    setup,
    workspace::Workspace,
};

/// Flags of `cargo xtask bench`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these subjects; docs/performance.md is then left as it is
    names: Vec<String>,
    /// Fewer and shorter rounds, to see whether it works; docs/performance.md is then left as it is
    #[arg(long)]
    quick: bool,
    /// How long the agent is left alone, in seconds after the first minute [default: 120; with --quick: 20]
    #[arg(long, value_name = "SECONDS")]
    rest: Option<u64>,
    /// Don't look whether servers and peers are there
    #[arg(long)]
    no_setup: bool,
}

/// Runs the verb.
pub fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if !args.no_setup {
        setup::run(workspace, &setup::Args::for_bench())?;
    }
    dist::run(workspace, &dist::Args {})?;
    let target = workspace.target_dir()?;
    step("building the loads");
    let loads = [
        "build",
        "--locked",
        "--release",
        "--package",
        "connleak-tests",
        "--bin",
        "bench",
    ];
    process::run(cargo().args(loads).current_dir(&workspace.root))?;
    let mut bench = std::process::Command::new(target.join("release/bench"));
    bench
        .args(&args.names)
        .current_dir(&workspace.root)
        .env("CONNLEAK_BIN", target.join("dist/connleak"));
    if args.names.is_empty() || args.names.iter().any(|name| name == "growth") {
        step("measuring how the books grow");
        let growth = [
            "bench",
            "--locked",
            "--package",
            "connleak",
            "--bench",
            "growth",
            "--",
        ];
        let run =
            |sizes: &[&str]| process::output(cargo().args(growth).args(sizes).current_dir(&workspace.root));
        // The largest takes as long as all others.
        let mut text = run(&["1000000"])?;
        for _ in 0..if args.quick { 1 } else { 9 } {
            text.push('\n');
            text += &run(&["1000", "10000", "100000"])?;
        }
        let file = target.join("growth.jsonl");
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        bench.arg("--growth").arg(file);
    }
    if args.quick {
        bench.arg("--quick");
    }
    if let Some(seconds) = args.rest {
        bench.args(["--rest", &seconds.to_string()]);
    }
    if args.names.is_empty() && !args.quick {
        bench
            .arg("--write")
            .arg(workspace.root.join("docs/performance.md"));
    }
    process::run(&mut bench)?;
    Ok(ExitCode::SUCCESS)
}
