//! The subjects, a file each. A subject measures, and says of each row what was to be reached.

mod cycle;
mod growth;
mod real;
mod rest;
mod scan;
mod start;
mod storm;
mod talk;

use anyhow::Result;

use super::{Subject, figures::Series, tool::Tool};

/// All of them, in the order of the page.
pub const SUBJECTS: &[Subject] = &[
    cycle::DATABASE,
    cycle::OTHER,
    talk::SUBJECT,
    real::POSTGRES,
    real::REDIS,
    storm::SUBJECT,
    scan::SUBJECT,
    start::SUBJECT,
    growth::SUBJECT,
    rest::SUBJECT,
    growth::SIZE,
];

/// Whether this build reads call sites, and so knows how not to.
fn has_call_sites() -> Result<bool> {
    let help = crate::agent::run(["watch", "--help"])?;
    Ok(help.stdout.contains("--no-call-sites"))
}

/// connleak without call sites and, if it has them, with.
fn connleak_variants(port: u16) -> Result<Vec<Tool>> {
    if has_call_sites()? {
        Ok(vec![
            Tool::connleak(Some(port), &["--no-call-sites"]),
            Tool::connleak(Some(port), &[]),
        ])
    } else {
        Ok(vec![Tool::connleak(Some(port), &[])])
    }
}

/// Measures a load under each tool in turn, round by round; in every second round in reverse, so that what comes later in a
/// round is no better or worse off.
fn in_turn(rounds: usize, tools: &[Tool], mut load: impl FnMut() -> Result<f64>) -> Result<Vec<Series>> {
    let mut all: Vec<Series> = tools
        .iter()
        .map(|tool| Series {
            name: tool.name().to_owned(),
            values: Vec::new(),
        })
        .collect();
    for round in 0..rounds {
        let mut order: Vec<_> = tools.iter().zip(&mut all).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (tool, series) in order {
            let attached = tool.attach()?;
            series.values.push(load()?);
            attached.detach()?;
        }
    }
    Ok(all)
}

/// Those tools that run here; the others with the reason.
fn runnable(tools: Vec<Tool>) -> (Vec<Tool>, Vec<(Tool, String)>) {
    let mut refused = Vec::new();
    let running = tools
        .into_iter()
        .filter(|tool| match tool.refusal() {
            None => true,
            Some(why) => {
                refused.push((tool.clone(), why));
                false
            }
        })
        .collect();
    (running, refused)
}
