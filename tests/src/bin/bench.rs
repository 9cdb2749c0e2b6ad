//! `bench [NAME…]`: measures what connleak costs, and what its peers cost, and writes `docs/performance.md`. `bench load …` is
//! one of the loads. `cargo xtask bench` builds and installs what it needs first.

#![expect(clippy::print_stdout, reason = "a developer tool talks on its terminal")]

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use connleak_tests::{
    bench::{Chapter, Outcome, Plan, load, page, rows::SUBJECTS, tracefs},
    root,
};

/// Measure what connleak costs
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Only these subjects
    names: Vec<String>,
    /// Fewer and shorter rounds: does it work?
    #[arg(long)]
    quick: bool,
    /// How long the agent is left alone, in seconds
    #[arg(long, value_name = "SECONDS")]
    rest: Option<u64>,
    /// What `cargo bench --bench growth` printed
    #[arg(long, value_name = "FILE")]
    growth: Option<PathBuf>,
    /// Write the page there, too
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// One of the loads, in a process of its own
    #[command(hide = true)]
    Load {
        #[command(subcommand)]
        load: load::Load,
    },
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(Verb::Load { load }) = &args.verb {
        load::run(load)?;
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(root::is_root(), "the bench loads kernel probes and needs root");
    let mut plan = if args.quick { Plan::quick() } else { Plan::full() };
    plan.growth.clone_from(&args.growth);
    plan.rest = args.rest.map_or(plan.rest, Duration::from_secs);
    let wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|wanted| wanted == name);
    let names: Vec<&str> = SUBJECTS.iter().map(|subject| subject.name).collect();
    for name in &args.names {
        ensure!(
            names.contains(&name.as_str()),
            "no subject {name}; there are: {}",
            names.join(", ")
        );
    }
    let _tracefs = tracefs::Mounted::here()?;
    let begin = Instant::now();
    let mut chapters = Vec::new();
    let mut failed = false;
    for subject in SUBJECTS.iter().filter(|subject| wanted(subject.name)) {
        println!("bench: {} …", subject.name);
        // One that can't be measured must not take the others' figures with it.
        let chapter = (subject.measure)(&plan).unwrap_or_else(|error| {
            failed = true;
            println!("ERROR {error:#}");
            Chapter::default()
        });
        for row in &chapter.rows {
            let word = match &row.outcome {
                Outcome::Reached => "reached",
                Outcome::Missed => "MISSED",
                Outcome::Unmeasured(_) => "not measured",
            };
            println!("  {word:12} {}: {} (reach: {})", row.what, row.result, row.reach);
        }
        for (what, figure) in &chapter.details {
            println!("  {:12} {what}: {figure}", "");
        }
        chapters.push((subject, chapter));
    }
    println!("bench: done in {} s", begin.elapsed().as_secs());
    let page = page::write(&plan, args.quick, &chapters)?;
    if let Some(path) = args.write.filter(|_| !failed) {
        fs::write(path, page)?;
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
