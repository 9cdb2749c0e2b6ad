//! `connleak record`: write down what happens, and leave the judging for later.
//!
//! The same as `watch --journal`, but for a terminal that somebody needs for something else: only the end is
//! told.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Args as ClapArgs;

use super::{
    OK,
    args::{CallSites, Format, Live},
    report::Report,
    watch::{self, Watch},
};
use crate::{journal::Writer, output::duration, probes::Options};

#[derive(ClapArgs, Debug)]
pub struct Args {
    #[command(flatten)]
    live: Live,
    #[command(flatten)]
    sites: CallSites,
    /// The file to write: a new one
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    journal: PathBuf,
    /// End after this time
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse, help_heading = "Output")]
    run_for: Option<Duration>,
}

pub fn run(args: &Args, diagnostics: bool) -> Result<u8> {
    let ready = args.live.ready(false, None)?;
    let journal = Writer::create(&args.journal)?;
    let options = Options {
        diagnostics,
        stacks: args.sites.options(),
        ..Options::default()
    };
    let limit = ready.max_connections;
    let mut agent = ready.attach(options)?;
    agent.record(journal, limit)?;
    let mut watch = Watch::new(agent, false);
    watch::runtime()?.block_on(watch.run(&mut Report::silent(), args.run_for, |_| false))?;
    let mut report = Report::new(Format::Text, None, true)?;
    watch.end(&mut report)?;
    report.text(&format!(
        "Judge it with 'connleak replay {}'.\n",
        args.journal.display()
    ))?;
    Ok(OK)
}
