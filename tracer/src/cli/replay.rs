//! `connleak replay`: judge a journal again, anywhere, without root.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow};
use clap::Args as ClapArgs;

use super::{
    FOUND, OK,
    args::{ExitArgs, Format, PolicyArgs},
    report::{Cost, Report},
    watch,
};
use crate::{
    case::Case,
    journal::{self, Entry},
    ledger::Ledger,
    output::json::Stamps,
    owner::Owners,
    policy_file,
    verdict::Policy,
};

#[derive(ClapArgs, Debug)]
pub struct Args {
    /// A file that 'connleak record' or 'connleak watch --journal' has written
    #[arg(value_name = "FILE")]
    journal: PathBuf,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Tell every connection that opened, closed or failed, too
    #[arg(long)]
    events: bool,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    exit: ExitArgs,
}

pub fn run(args: &Args) -> Result<u8> {
    let journal = journal::read(&args.journal)?;
    let mut report = Report::new(args.output, None, true)?;
    let mut case = beginning(&journal.entries, args)?;
    let mut entries = journal.entries.into_iter().peekable();
    while let Some(entry) = entries.next() {
        // What was named while an entry was told stands right behind it.
        while let Some(named) = entries.next_if(|next| matches!(next, Entry::Process(_) | Entry::Site(_))) {
            remember(&mut case, named);
        }
        match entry {
            Entry::Start { .. } => {}
            named @ (Entry::Process(_) | Entry::Site(_)) => remember(&mut case, named),
            Entry::Event(event) => {
                for outcome in case.fold(&event) {
                    if args.events {
                        report.outcome(&mut case, &outcome)?;
                    }
                }
            }
            Entry::Judged { at, epoch } => {
                report.losses(&case)?;
                let news = case.news(at, Stamps { epoch });
                report.all_news(&mut case, &news)?;
            }
        }
    }
    watch::end(&mut case, &mut report, &Cost::default())?;
    if let Some(damage) = journal.damage {
        // The findings stand on what was read; nothing to do about a standard error that can't be written.
        let _ = writeln!(
            anstream::stderr(),
            "connleak: {}: {damage}",
            args.journal.display()
        );
    }
    let found = case.tracker.active().any(|finding| case.policy.counts(finding));
    Ok(if found { FOUND } else { OK })
}

fn remember(case: &mut Case, named: Entry) {
    match named {
        Entry::Process(process) => case.owners.remember(*process),
        Entry::Site(site) => case.sites.remember(*site),
        Entry::Start { .. } | Entry::Event(_) | Entry::Judged { .. } => {}
    }
}

/// The case as the run began it, unless this call says otherwise. Nobody's `/proc` is asked: it is not the
/// host that was recorded.
fn beginning(entries: &[Entry], args: &Args) -> Result<Case> {
    let (mut recorded, mut limit, mut start) = (Policy::default(), Ledger::LIMIT, 0);
    if let Some(Entry::Start {
        policy,
        single_look,
        max_connections,
        epoch,
    }) = entries.first()
    {
        recorded = policy_file::parse(policy).map_err(|wrong| {
            anyhow!(
                "{}: the policy in the journal is not known to this version (line {wrong})",
                args.journal.display()
            )
        })?;
        recorded.single_look = *single_look;
        limit = usize::try_from(*max_connections).unwrap_or(limit);
        start = *epoch;
    }
    let single_look = recorded.single_look;
    let mut policy = args.policy.over(Some(recorded))?;
    policy.single_look = single_look;
    args.exit.turn(&mut policy);
    let nobodys = Owners::new(Path::new("/nonexistent"));
    Ok(Case::new(policy, limit, nobodys, Stamps { epoch: start }))
}
