//! How the books grow, and how large the file is.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    agent,
    bench::{Chapter, Plan, Row, Subject, figures::Estimate, process::number},
};

pub const SUBJECT: Subject = Subject {
    name: "growth",
    title: "Growth",
    method: "`tracer/benches/growth.rs`: connections of processes that open one each second and keep it, made up and fed to the books as events: opened, who the \
             client says it is, which code it was, 21 snapshots. Each process leaks a thousand, so every socket but the newest is in a finding: the worst case for the rules. \
             Judged healthy: the same by rules for which none of them is idle yet. Then others come and go. Memory is what the process has more than \
             before, after the allocator gave back what it could. One thread. Medians of nine runs; of 10⁶, one run.",
    measure: growth,
};

pub const SIZE: Subject = Subject {
    name: "size",
    title: "One file",
    method: "The file that was measured: `cargo xtask dist`.",
    measure: size,
};

fn growth(plan: &Plan) -> Result<Chapter> {
    let mut chapter = Chapter::default();
    let what = "growth: 10³ to 10⁶ tracked connections";
    let Some(path) = &plan.growth else {
        chapter.rows.push(Row::unmeasured(
            "growth",
            what,
            "",
            "'cargo xtask bench' measures it",
        ));
        return Ok(chapter);
    };
    let text = fs::read_to_string(path)?;
    let runs: Vec<Value> = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(serde_json::from_str)
        .collect::<serde_json::Result<_>>()?;
    let mut sizes: Vec<u64> = runs
        .iter()
        .filter_map(|run| run["connections"].as_u64())
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    let of = |connections: u64, name: &str| -> Result<Estimate> {
        let runs = runs.iter().filter(|run| run["connections"] == connections);
        let values: Vec<f64> = runs.map(|run| number(run, name)).collect::<Result<_>>()?;
        ensure!(!values.is_empty(), "no figures for {connections}");
        Ok(Estimate::of(&values))
    };
    for &size in &sizes {
        let of = |name| of(size, name).map(|estimate| estimate.median);
        chapter.details.push((
            format!("{size} connections"),
            format!(
                "{:.0} B each; {:.0} events/s opening, {:.0} events/s coming and going; snapshot merged in {:.1} ms; judged in {:.1} ms, all but a few of them leaking, \
                 and in {:.1} ms, none; compared with what was told before in {:.1} ms",
                of("bytes_each")?,
                of("open_events_per_s")?,
                of("life_events_per_s")?,
                of("merge_ms")?,
                of("judge_ms")?,
                of("healthy_ms")?,
                of("track_ms")?
            ),
        ));
    }
    if let Some(run) = runs.first() {
        let bytes = &run["structure_bytes"];
        chapter
            .details
            .push(("a connection's own structure".into(), format!("{bytes} B")));
    }
    let (hundred_thousand, million) = (
        of(100_000, "bytes_each")?.median,
        of(1_000_000, "bytes_each")?.median,
    );
    chapter.rows.push(Row::new(
        "growth-bytes",
        "memory of a tracked connection",
        "linear, ≤ 300 bytes each",
        format!("{hundred_thousand:.0} bytes at 10⁵, {million:.0} at 10⁶"),
        hundred_thousand <= 300.0 && million <= 300.0,
    ));
    let (opening, life) = (
        of(100_000, "open_events_per_s")?,
        of(100_000, "life_events_per_s")?,
    );
    let slower = if opening.median < life.median {
        opening
    } else {
        life
    };
    let fold = slower.scaled(1e-6);
    chapter.rows.push(Row::new(
        "growth-fold",
        "events folded, a core, beside 10⁵ connections",
        "≥ 3 million/s",
        fold.show(1, " million/s"),
        fold.median >= 3.0,
    ));
    let judge = of(100_000, "judge_ms")?;
    chapter.rows.push(Row::new(
        "growth-judge",
        "one verdict pass over 10⁵ connections, all of them leaking",
        "≤ 20 ms",
        judge.show(1, " ms"),
        judge.median <= 20.0,
    ));
    Ok(chapter)
}

fn size(_: &Plan) -> Result<Chapter> {
    let bytes = fs::metadata(agent::binary()?)?.len();
    let mut chapter = Chapter::default();
    chapter.rows.push(Row::new(
        "size",
        "one file, static",
        "≤ 10 MB",
        format!("{:.1} MB", bytes as f64 / 1e6),
        bytes <= 10_000_000,
    ));
    Ok(chapter)
}
