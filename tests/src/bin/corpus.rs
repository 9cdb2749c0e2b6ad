//! `corpus [FILTER…] [--jobs N]`: runs the labelled corpus, or the scenarios whose name contains one of the words, and
//! says how often the agent was right. `cargo xtask corpus` builds what it needs first.

#![expect(clippy::print_stdout, reason = "a developer tool talks on its terminal")]

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use clap::Parser;
use connleak_tests::{
    corpus::{
        self, labels, page,
        run::{self, Record},
    },
    root,
};

/// Run the labelled corpus and print how often the agent was right
#[derive(Debug, Parser)]
struct Args {
    /// Only scenarios whose name contains one of these
    filter: Vec<String>,
    /// How many at a time: they sleep most of the time
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Don't run anything: judge the journals of the last run again, by the agent as it is now
    #[arg(long)]
    replay: bool,
    /// Write the page there, too
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    ensure!(
        args.replay || root::is_root(),
        "the corpus loads kernel probes and needs root"
    );
    let wanted = |name: &str| args.filter.is_empty() || args.filter.iter().any(|part| name.contains(part));
    let scenarios: Vec<_> = labels::load()?
        .into_iter()
        .filter(|scenario| wanted(&scenario.name))
        .collect();
    ensure!(!scenarios.is_empty(), "no scenario is called like that");
    let tell = |result: &Result<Record>| match result {
        Ok(record) => println!("{}", page::progress(record)),
        Err(error) => println!("ERROR {error:#}"),
    };
    let records = if args.replay {
        let again = scenarios.iter().map(run::rejudge).inspect(tell);
        again.collect::<Result<Vec<_>>>()?
    } else {
        corpus::run_all(&scenarios, args.jobs, tell)?
    };
    let text = page::write(&records)?;
    println!("\n{text}");
    if let Some(path) = args.write {
        fs::write(path, text)?;
    }
    Ok(ExitCode::SUCCESS)
}
