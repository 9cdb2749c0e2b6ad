//! How the books grow, and how large the file is.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    agent,
    bench::{Chapter, Plan, Row, Subject, process::number},
};

pub const SUBJECT: Subject = Subject {
    name: "growth",
    title: "Growth",
    method: "`tracer/benches/growth.rs`: connections of processes that open one each second and keep it, made up and fed to the books as events: opened, who the \
             client says it is, which code it was, 21 snapshots. Each process leaks a thousand, so every socket but the newest is in a finding: the worst case for the rules. \
             Judged healthy: the same by rules for which none of them is idle yet. Then others come and go. Memory is what the process has more than \
             before, after the allocator gave back what it could. One thread.",
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
    let sizes: Vec<Value> = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(serde_json::from_str)
        .collect::<serde_json::Result<_>>()?;
    for size in &sizes {
        chapter.details.push((
            format!("{} connections", size["connections"]),
            format!(
                "{} B each; {} events/s opening, {} events/s coming and going; snapshot merged in {:.1} ms; judged in {:.1} ms, all but a few of them leaking, and in {:.1} ms, none; \
                 compared with what was told before in {:.1} ms",
                size["bytes_each"],
                size["open_events_per_s"],
                size["life_events_per_s"],
                number(size, "merge_ms")?,
                number(size, "judge_ms")?,
                number(size, "healthy_ms")?,
                number(size, "track_ms")?
            ),
        ));
    }
    if let Some(size) = sizes.first() {
        let bytes = &size["structure_bytes"];
        chapter
            .details
            .push(("a connection's own structure".into(), format!("{bytes} B")));
    }
    let of = |connections: u64, name: &str| -> Result<f64> {
        let size = sizes.iter().find(|size| size["connections"] == connections);
        number(
            size.with_context(|| format!("no figures for {connections}"))?,
            name,
        )
    };
    let (hundred_thousand, million) = (of(100_000, "bytes_each")?, of(1_000_000, "bytes_each")?);
    chapter.rows.push(Row::new(
        "growth-bytes",
        "memory of a tracked connection",
        "linear, ≤ 300 bytes each",
        format!("{hundred_thousand:.0} bytes at 10⁵, {million:.0} at 10⁶"),
        hundred_thousand <= 300.0 && million <= 300.0,
    ));
    let fold = of(100_000, "life_events_per_s")?.min(of(100_000, "open_events_per_s")?) / 1e6;
    chapter.rows.push(Row::new(
        "growth-fold",
        "events folded, a core, beside 10⁵ connections",
        "≥ 3 million/s",
        format!("{fold:.1} million/s"),
        fold >= 3.0,
    ));
    let judge = of(100_000, "judge_ms")?;
    chapter.rows.push(Row::new(
        "growth-judge",
        "one verdict pass over 10⁵ connections, all of them leaking",
        "≤ 20 ms",
        format!("{judge:.1} ms"),
        judge <= 20.0,
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
