//! What is kept of a run, so that its journal can be judged again, by other rules, without servers and in milliseconds.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{
    Heard, Record, Replay, Times,
    application::{Members, Truth},
    parse_all, record, replay, runs, without_summary,
};
use crate::corpus::labels::Scenario;

/// The truth about a run, in seconds from its start.
#[derive(Debug, Deserialize, Serialize)]
struct Kept {
    /// The start, in seconds of the Unix epoch.
    start: f64,
    /// When the agent had attached; negative when that was before the start.
    attached: f64,
    /// Every process.
    pids: Vec<u32>,
    /// When, who, how many.
    truths: Vec<(f64, u32, usize)>,
}

/// Leaves what was said.
pub fn keep(scenario: &Scenario, said: &[Heard], scanned: &str) -> Result<()> {
    let lines: Vec<&str> = said.iter().map(|line| line.text.as_str()).collect();
    fs::write(file(scenario, "watch.jsonl")?, lines.join("\n"))?;
    Ok(fs::write(file(scenario, "scan.jsonl")?, scanned)?)
}

/// Leaves what was true.
pub fn keep_truth(scenario: &Scenario, members: &Members, times: &Times) -> Result<()> {
    let since = |at: Instant| (at - times.start).as_secs_f64() - (times.start - at).as_secs_f64();
    let truths = members.truths.iter();
    let kept = Kept {
        start: times.start_time.duration_since(UNIX_EPOCH)?.as_secs_f64(),
        attached: since(times.attached),
        pids: members.pids.iter().copied().collect(),
        truths: truths
            .map(|truth| (since(truth.at), truth.pid, truth.count))
            .collect(),
    };
    Ok(fs::write(
        file(scenario, "truth.json")?,
        serde_json::to_vec(&kept)?,
    )?)
}

/// Judges the journal of the last run of this scenario by the agent as it is now.
///
/// Times are those of the log, which is written up to a tick before it is read. `scan` cannot be replayed: what it said
/// then is counted again.
pub fn rejudge(scenario: &Scenario) -> Result<Record> {
    let path = file(scenario, "truth.json")?;
    let text =
        fs::read(&path).with_context(|| format!("{}: run `cargo xtask corpus` first", path.display()))?;
    let kept: Kept = serde_json::from_slice(&text)?;
    // Any moment will do that leaves room before it.
    let origin = Instant::now();
    let room = Duration::from_mins(1);
    let at = |seconds: f64| origin + Duration::from_secs_f64((room.as_secs_f64() + seconds).max(0.0));
    let start = at(0.0);
    let truths = kept.truths.iter();
    let members = Members {
        pids: kept.pids.into_iter().collect(),
        truths: truths
            .map(|&(seconds, pid, count)| Truth {
                at: at(seconds),
                pid,
                count,
            })
            .collect(),
    };
    let outcome = replay(&file(scenario, "journal")?)?;
    let said = outcome.lines()?;
    let mut heard = Vec::new();
    for line in &said {
        let stamp: jiff::Timestamp = line["timestamp"].as_str().context("a timestamp")?.parse()?;
        heard.push((at(stamp.as_nanosecond() as f64 / 1e9 - kept.start), line.clone()));
    }
    let read = |extension: &str| -> Result<Vec<serde_json::Value>> {
        let text = fs::read_to_string(file(scenario, extension)?)?;
        parse_all(&text.lines().map(ToOwned::to_owned).collect::<Vec<_>>())
    };
    let times = Times {
        start,
        start_time: SystemTime::now(),
        attached: at(kept.attached),
    };
    Ok(record(
        scenario,
        &heard,
        &read("scan.jsonl")?,
        &members,
        &times,
        Replay {
            equal: without_summary(&said) == without_summary(&read("watch.jsonl")?),
            took: outcome.elapsed,
        },
    ))
}

fn file(scenario: &Scenario, extension: &str) -> Result<PathBuf> {
    Ok(runs()?.join(format!("{}.{extension}", scenario.name)))
}
