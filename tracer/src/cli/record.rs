//! `connleak record`: write down what happens, and leave the judging for later.
//!
//! The same as `watch --journal`, but for a terminal that somebody needs for something else: only the end is
//! told.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Args as ClapArgs;

use super::{
    OK,
    args::{Backend, Filter, PolicyArgs},
    need_privileges,
    report::Report,
    watch::{self, Watch},
};
use crate::{agent::Agent, journal::Writer, output::duration, probes::Options};

#[derive(ClapArgs, Debug)]
pub struct Args {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    policy: PolicyArgs,
    /// The file to write: a new one
    #[arg(short, long, value_name = "FILE")]
    journal: PathBuf,
    /// End after this time
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    run_for: Option<Duration>,
    /// How to ask the kernel
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
}

pub fn run(args: &Args, diagnostics: bool) -> Result<u8> {
    let policy = args.policy.policy(false)?;
    let databases = args.filter.databases()?;
    need_privileges()?;
    let processes = args.filter.processes()?;
    let journal = Writer::create(&args.journal)?;
    let options = Options {
        diagnostics,
        backend: args.backend.into(),
        ..Options::default()
    };
    let limit = args.filter.max_connections;
    let mut agent = Agent::attach(&databases, processes, policy, options, limit)?;
    agent.record(journal, limit)?;
    let mut watch = Watch::new(agent, false);
    watch::runtime()?.block_on(watch.run(&mut Report::silent(), args.run_for, |_| false))?;
    let mut report = Report::new(super::args::Format::Text, None, true)?;
    watch.end(&mut report)?;
    report.text(&format!(
        "Judge it with 'connleak replay {}'.\n",
        args.journal.display()
    ))?;
    Ok(OK)
}
