//! `docs/performance.md`, from what was measured.

use std::{collections::BTreeMap, fmt::Write as _, fs, process::Command};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::{Chapter, Outcome, Plan, Row, Subject};

/// Why something is as it is: what a program cannot know. Kept when the page is written again.
const NOTES: &str = include_str!("notes.toml");

/// The page.
///
/// # Errors
/// When the notes are damaged.
pub fn write(plan: &Plan, quick: bool, chapters: &[(&Subject, Chapter)]) -> Result<String> {
    let notes: BTreeMap<String, String> = toml::from_str(NOTES).context("notes.toml")?;
    let mut page = String::from(HEAD);
    writeln!(page, "{}", facts(plan, quick)?)?;
    writeln!(page, "## What was to be reached, and what was\n")?;
    writeln!(page, "| what | reach | result | |\n| --- | --- | --- | --- |")?;
    let rows = || chapters.iter().flat_map(|(_, chapter)| &chapter.rows);
    for row in rows() {
        writeln!(page, "{}", line(row))?;
    }
    let missed: Vec<&Row> = rows().filter(|row| row.outcome == Outcome::Missed).collect();
    if !missed.is_empty() {
        writeln!(page, "\n## What was missed, and why\n")?;
    }
    for row in missed {
        let why = notes.get(row.id).map_or("Not explained yet.", |note| note.trim());
        writeln!(
            page,
            "- **{}**: {} where {} was to be reached. {why}",
            row.what, row.result, row.reach
        )?;
    }
    writeln!(page, "\n## How, and all figures")?;
    for (subject, chapter) in chapters {
        writeln!(page, "\n### {}\n\n{}\n", subject.title, subject.method)?;
        if let Some(note) = notes.get(&format!("{}-always", subject.name)) {
            writeln!(page, "{}\n", note.trim())?;
        }
        if chapter.details.is_empty() {
            continue;
        }
        writeln!(page, "| | |\n| --- | --- |")?;
        for (what, figure) in &chapter.details {
            writeln!(page, "| {what} | {figure} |")?;
        }
    }
    Ok(page)
}

const HEAD: &str = "# What it costs

Written by `cargo xtask bench`: don't edit. Times are this machine's, and it is a virtual one; what is compared was measured in turn,
A B A B …, and ratios and differences are what to look at. `a (b … c)` is the median of the rounds, and what it lies
between in 19 of 20 repetitions; differences are taken within each round. Where a reach lies between the two, it is judged by the median,
and said to be within the noise.

";

fn line(row: &Row) -> String {
    let word = match &row.outcome {
        Outcome::Reached => "reached".to_owned(),
        Outcome::Missed => "**missed**, see below".to_owned(),
        Outcome::Unmeasured(why) => format!("not measured: {why}"),
    };
    format!("| {} | {} | {} | {word} |", row.what, row.reach, row.result)
}

/// Where, when and with what.
fn facts(plan: &Plan, quick: bool) -> Result<String> {
    let mut lines = vec![
        format!(
            "{}, kernel {}",
            Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
            first_line("uname", &["-r"])
        ),
        format!(
            "{} processors: {}",
            std::thread::available_parallelism()?,
            fs::read_to_string("/proc/cpuinfo")?
                .lines()
                .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
                .map_or("unknown", |(_, name)| name)
        ),
        format!(
            "load average when it was written: {}",
            fs::read_to_string("/proc/loadavg")?
                .split(' ')
                .take(3)
                .collect::<Vec<_>>()
                .join(" ")
        ),
        first_line(&crate::agent::binary()?.display().to_string(), &["--version"]),
    ];
    let packages = [
        "libbpf-tools",
        "bpftrace",
        "iproute2",
        "lsof",
        "postgresql-15",
        "redis-tools",
    ];
    let versions: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let output = Command::new("dpkg-query")
                .args(["-W", "-f", "${Package} ${Version}", package])
                .output()
                .ok()?;
            output
                .status
                .success()
                .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        })
        .collect();
    lines.push(format!("peers: {}", versions.join(", ")));
    lines.push(format!(
        "{} rounds of each comparison, {} ms a turn; of queries {} rounds of {} ms; of pgbench and redis-benchmark {} rounds of one \
         to two seconds",
        plan.rounds,
        plan.turn.as_millis(),
        plan.many,
        plan.short.as_millis(),
        plan.fewer()
    ));
    if quick {
        lines.push("**`--quick`: fewer and shorter rounds, to see whether the bench works. Don't quote its figures**".to_owned());
    }
    Ok(lines
        .iter()
        .fold(String::new(), |text, line| text + "- " + line + "\n"))
}

fn first_line(program: &str, args: &[&str]) -> String {
    Command::new(program).args(args).output().ok().map_or_else(
        || "unknown".to_owned(),
        |output| {
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned()
        },
    )
}
