//! The page `docs/accuracy.md`, which is also what the terminal shows at the end.

use std::{fmt::Write, fs, path::Path};

use anyhow::Result;

use super::{
    run::{Claim, Confidence, IDLE, Record},
    runtimes::{Runtimes, first_line},
    score::{self, Score, Tally},
};

/// One line about a scenario, as it ends.
#[must_use]
pub fn progress(record: &Record) -> String {
    format!(
        "{} {:<42} {:<10} {}",
        if score::is_right(record) { "ok   " } else { "WRONG" },
        record.scenario.name,
        record.scenario.label,
        record.verdict.main().map_or("-".to_owned(), verdict)
    )
}

/// The whole page.
pub fn write(records: &[Record]) -> Result<String> {
    let score = Score::of(records);
    let mut page = String::new();
    page += "# How often connleak is right\n\nMade by `cargo xtask corpus`; not to be edited. Each row is an \
             application of [tests/scenarios](../tests/scenarios/labels.toml), run for real: its pool, its server, the \
             agent attached to it. The labels and the predictions were written before the first run. Timing decides some \
             rows, so that two runs may differ in one or two.\n\n";
    summary(&mut page, records, &score)?;
    mistakes(&mut page, records)?;
    page += "\n## All scenarios\n\n";
    page += "*attach*: before the application starts, or so many seconds after. *claimed / true*: sockets in the last \
             line of true findings, and those that had leaked by then (one that leaked within the last `--idle` cannot \
             be claimed yet; a line is repeated at most each 10 s). *s*: seconds from attach or from the third leaked \
             socket, whichever is later, to the first true finding, which may be `suspect` yet. *likely*: until it was `likely` or better. *at*: leaked sockets at that \
             moment. *function*: whether the finding has the function of the label: in its message, on the stack that \
             opened the sockets, or on the one that used them last (in brackets where the leak began before attach). *scan*: one look at the end.\n\n";
    page += "| scenario | label | attach | watch | claimed / true | s | likely | at | function | scan | predicted | |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
    for record in records {
        row(&mut page, record)?;
    }
    facts(&mut page, records)?;
    Ok(page)
}

fn summary(page: &mut String, records: &[Record], score: &Score) -> Result<()> {
    let late = records
        .iter()
        .filter(|record| record.scenario.attach.is_some())
        .count();
    writeln!(
        page,
        "{} scenarios, {} leaking and {} healthy; in {late} of them the agent was attached when the application had long \
         begun. `--idle {IDLE}`, so that time is compressed. A claim is a finding of `likely` or better; one false claim \
         makes a scenario wrong.\n",
        records.len(),
        score.leaking,
        score.healthy
    )?;
    *page += "| | right | wrong | missed | precision | recall |\n| --- | --- | --- | --- | --- | --- |\n";
    line(page, "**watch**, overall", score.overall)?;
    for (confidence, tally) in score.by_confidence.iter().rev() {
        line(page, &format!("`{}`", confidence.name()), *tally)?;
    }
    for (kind, tally) in &score.by_kind {
        line(page, &format!("kind `{kind}`"), *tally)?;
    }
    line(page, "**scan**, at the end", score.scan)?;
    *page += "\nThe recall of a confidence counts leaks that were named with it or with a higher one.\n\n";
    let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1} s"));
    let (named, acted_on) = (
        Score::median_and_worst(&score.delays),
        Score::median_and_worst(&score.acted_on),
    );
    writeln!(
        page,
        "Time to the verdict: median {}, worst {}; until it was `likely` or better: median {}, worst {}. True findings that were taken back: {}. Predictions that came true: {} \
         of {}. Events lost: {}. Replays of the journals that said the same as live: {} of {}, the slowest in {} ms.",
        seconds(named.0),
        seconds(named.1),
        seconds(acted_on.0),
        seconds(acted_on.1),
        score.taken_back,
        score.predicted,
        records.len(),
        records.iter().map(|record| record.lost).sum::<u64>(),
        records.iter().filter(|record| record.replay.equal).count(),
        records.len(),
        records
            .iter()
            .map(|record| record.replay.took.as_millis())
            .max()
            .unwrap_or(0)
    )?;
    writeln!(
        page,
        "\nWhich code: of {} leaks that were found, and whose sockets were opened in view, the function is in {}: \
         the message itself names it in {}.",
        score.seen, score.functions, score.in_message
    )?;
    Ok(())
}

fn line(page: &mut String, name: &str, tally: Tally) -> Result<()> {
    let share = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    writeln!(
        page,
        "| {name} | {} | {} | {} | {} | {} |",
        tally.right,
        tally.wrong,
        tally.missed,
        share(tally.precision()),
        share(tally.recall())
    )?;
    Ok(())
}

fn mistakes(page: &mut String, records: &[Record]) -> Result<()> {
    *page += "\n## Where it was wrong\n\n";
    let wrong: Vec<&Record> = records.iter().filter(|record| !score::is_right(record)).collect();
    let too_much = records
        .iter()
        .filter_map(|record| Some((record, score::overclaimed(record)?)));
    for (record, (claimed, leaked)) in too_much {
        let scenario = &record.scenario;
        write!(
            page,
            "- **{}**, a true finding that claims too much: {claimed} sockets, of which {leaked} had leaked.",
            scenario.name
        )?;
        explain(page, record)?;
    }
    for record in records.iter().filter(|record| !record.replay.equal) {
        writeln!(
            page,
            "- **{}**: its replay differs from live.",
            record.scenario.name
        )?;
    }
    if wrong.is_empty() {
        *page += "- No false finding, and none missed.\n";
    }
    for record in wrong {
        let scenario = &record.scenario;
        let what = match (score::mistaken(record), scenario.leaks()) {
            (true, true) => "a false kind of finding",
            (true, false) => "a false finding",
            (false, _) => "missed",
        };
        write!(page, "- **{}**, {what}.", scenario.name)?;
        if let Some(leaks) = &scenario.leaks {
            write!(page, " Truth: {leaks}.")?;
        }
        explain(page, record)?;
    }
    Ok(())
}

fn explain(page: &mut String, record: &Record) -> Result<()> {
    match &record.scenario.blind {
        Some(blind) => writeln!(page, " {blind}")?,
        None => writeln!(page, " *Not explained yet.*")?,
    }
    Ok(())
}

fn row(page: &mut String, record: &Record) -> Result<()> {
    let scenario = &record.scenario;
    let main = record.verdict.main();
    let first = score::first_right(record);
    let seconds = |time: Option<f64>| time.map_or(String::new(), |time| format!("{time:.1}"));
    let sockets = match (scenario.leaks(), record.verdict.sockets) {
        (true, Some((claimed, truly))) => format!("{claimed} / {truly}"),
        (true, None) => format!("0 / {}", record.leaked),
        (false, _) => String::new(),
    };
    let scan = record
        .scan
        .main()
        .map_or("-".to_owned(), |(kind, confidence, _, sockets)| {
            format!("{} {kind} ({sockets})", confidence.name())
        });
    writeln!(
        page,
        "| {} | {} | {} | {} | {sockets} | {} | {} | {} | {} | {scan} | {} | {} |",
        scenario.name,
        scenario.label,
        scenario
            .attach
            .map_or("before".to_owned(), |seconds| format!("{seconds} s")),
        main.map_or("-".to_owned(), verdict),
        seconds(first.and_then(|claim| claim.delay)),
        seconds(first.and_then(|claim| claim.acted_on)),
        first.map_or(String::new(), |claim| claim.leaked_then.to_string()),
        function(record),
        if score::as_predicted(record) {
            "yes"
        } else {
            &scenario.predict
        },
        if score::is_right(record) {
            "ok"
        } else {
            "**wrong**"
        },
    )?;
    Ok(())
}

fn function(record: &Record) -> String {
    match (record.verdict.named, record.seen_from_the_beginning) {
        (None, _) => String::new(),
        (Some(place), true) => place.name().to_owned(),
        (Some(place), false) => format!("({})", place.name().trim_matches('*')),
    }
}

fn verdict(claim: &Claim) -> String {
    let mut text = format!("{} {}", claim.confidence.name(), claim.kind);
    if !claim.right && claim.confidence >= Confidence::Likely {
        write!(text, ", at {:.0} s", claim.at).ok();
    }
    match (claim.resolved, claim.resolutions) {
        (Some(at), 1) => format!("{text}, taken back at {at:.0} s"),
        (Some(at), times) => format!("{text}, taken back {times} times, at last at {at:.0} s"),
        (None, 0) => text,
        (None, times) => format!("{text}, taken back {times} times meanwhile"),
    }
}

fn facts(page: &mut String, records: &[Record]) -> Result<()> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = read("/proc/meminfo");
    let memory = memory
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<u64>().ok());
    *page += "\n## The machine\n\n| | |\n| --- | --- |\n";
    writeln!(page, "| kernel | {} |", read("/proc/sys/kernel/osrelease").trim())?;
    writeln!(
        page,
        "| cores, memory | {cores}, {} GiB |",
        memory.unwrap_or(0) >> 20
    )?;
    let agent = crate::agent::binary()?;
    writeln!(page, "| agent | {} |", first_line(&agent, &["--version"]))?;
    let scenarios: Vec<_> = records.iter().map(|record| record.scenario.clone()).collect();
    for (language, version) in Runtimes::versions(&scenarios) {
        writeln!(page, "| {language} | {} |", version.replace('|', "/"))?;
    }
    for (program, arguments) in [
        ("psql", &["--version"][..]),
        ("mariadbd", &["--version"]),
        ("redis-server", &["--version"]),
        ("pgbouncer", &["--version"]),
    ] {
        writeln!(
            page,
            "| {program} | {} |",
            first_line(Path::new(program), arguments)
        )?;
    }
    Ok(())
}
