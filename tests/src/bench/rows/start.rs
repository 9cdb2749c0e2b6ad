//! From exec to attached.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use super::has_call_sites;
use crate::{
    agent,
    bench::{Chapter, Plan, Row, Subject, figures::Estimate, process::interrupt},
};

pub const SUBJECT: Subject = Subject {
    name: "start",
    title: "Start",
    method: "`connleak watch`, from exec until it says on standard error that it watches: programs attached, first snapshot merged. Warm page cache.",
    measure: start,
};

fn start(plan: &Plan) -> Result<Chapter> {
    let took = attached_after(plan, &[])?;
    let mut chapter = Chapter::default();
    chapter.rows.push(Row::new(
        "start",
        "start, from exec to attached",
        "≤ 150 ms",
        took.show(0, " ms"),
        took.median <= 150.0,
    ));
    if has_call_sites()? {
        let without = attached_after(plan, &["--no-call-sites"])?;
        chapter
            .details
            .push(("with --no-call-sites: ms".into(), without.show(0, "")));
    }
    Ok(chapter)
}

/// Milliseconds until `connleak watch` says that it watches.
fn attached_after(plan: &Plan, args: &[&str]) -> Result<Estimate> {
    let mut values = Vec::new();
    for round in 0..=plan.rounds * 2 {
        let begin = Instant::now();
        let mut child = agent::command(["watch"])?
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let mut errors = BufReader::new(child.stderr.take().context("stderr")?);
        errors.read_line(&mut line)?;
        let elapsed = begin.elapsed().as_secs_f64() * 1000.0;
        interrupt(&mut child)?;
        ensure!(line.contains("watching"), "connleak watch: {}", line.trim());
        // The first fills the page cache.
        if round > 0 {
            values.push(elapsed);
        }
    }
    Ok(Estimate::of(&values))
}
