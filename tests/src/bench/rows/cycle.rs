//! Connect and close, over and over: what a tracer adds to it.

use std::{fs, thread::available_parallelism};

use anyhow::{Context as _, Result};

use super::{connleak_variants, in_turn, runnable};
use crate::{
    bench::{
        Chapter, Plan, Row, Subject,
        figures::{Estimate, Series},
        process::{Background, measure, number, words},
        tool::Tool,
    },
    port,
};

pub const DATABASE: Subject = Subject {
    name: "cycle",
    title: "Connect and close, on a database's port",
    method: "As many client threads as processors connect to a local server, reset and close, each waiting for its own; as many server \
             threads accept. So all processors are busy, and what a tracer adds to a cycle is processor time, whether it spends it in the \
             kernel or in its own process. Tools write to `/dev/null`, connleak (`watch -o json`) to a pipe that is read. `tcplife` and \
             `tcpstates` are called without arguments, as people do; the one-liner prints each state change.",
    measure: database,
};

pub const OTHER: Subject = Subject {
    name: "other",
    title: "Connect and close, on another port",
    method: "The same, to a port that is no database's. Run times are those that the kernel counts (`bpf_stats`): they contain \
             the two readings of the clock that counting takes. They are counted in turns of their own.",
    measure: other,
};

fn accepting(port: u16) -> Result<(Background, usize)> {
    let threads = available_parallelism()?.get();
    Ok((Background::start(&words(&[&"accept", &port, &threads]))?, threads))
}

fn micros(plan: &Plan, port: u16, threads: usize) -> Result<f64> {
    let measured = measure(&words(&[&"cycle", &port, &plan.turn.as_millis(), &threads]))?;
    number(&measured, "micros")
}

fn database(plan: &Plan) -> Result<Chapter> {
    let port = port::free()?;
    let (_server, threads) = accepting(port)?;
    let (peers, refused) = runnable(vec![Tool::Tcplife, Tool::Tcpstates, Tool::Bpftrace]);
    let ours = connleak_variants(port)?;
    let mut tools = vec![Tool::Nobody];
    tools.extend(ours.iter().cloned());
    tools.extend(peers);
    let all = in_turn(plan.rounds, &tools, || micros(plan, port, threads))?;

    let mut chapter = Chapter::default();
    let [base, others @ ..] = all.as_slice() else {
        return Ok(chapter);
    };
    chapter
        .details
        .push(("nobody: µs a cycle".into(), base.estimate().show(1, "")));
    for series in others {
        let text = series.added_to(base).show(2, "");
        chapter.details.push((format!("{}: µs added", series.name), text));
    }
    for (tool, why) in refused {
        chapter
            .details
            .push((format!("{}: does not run here", tool.name()), why));
    }
    let added = |name: &str| {
        others
            .iter()
            .find(|series| series.name == name)
            .map(|series| series.added_to(base))
    };
    let tcplife = added(Tool::Tcplife.name());
    let without = if ours.len() == 2 {
        "connleak --no-call-sites"
    } else {
        "connleak"
    };
    chapter.rows.push(against(
        ("cycle", "without call sites"),
        added(without),
        tcplife,
        (0.1, 1.5),
    ));
    let with = if ours.len() == 2 { added("connleak") } else { None };
    chapter.rows.push(against(
        ("cycle-sites", "with call sites and last use"),
        with,
        tcplife,
        (0.25, 5.0),
    ));
    Ok(chapter)
}

/// A share of what tcplife adds is to be reached, and some microseconds are aimed at.
fn against(
    (id, how): (&'static str, &str),
    ours: Option<Estimate>,
    tcplife: Option<Estimate>,
    (share, aim): (f64, f64),
) -> Row {
    let what = format!("connect + close on a database's port, {how}");
    let reach = format!("≤ {share} of what tcplife adds; aim: {aim} µs");
    let Some(ours) = ours else {
        return Row::unmeasured(id, &what, &reach, "this build has no call sites");
    };
    match tcplife {
        Some(tcplife) if tcplife.median > 0.0 => {
            let ratio = ours.median / tcplife.median;
            let result = format!(
                "{} µs; tcplife {:.1} µs: {ratio:.2} of it{}",
                ours.show(2, ""),
                tcplife.median,
                ours.doubt(share * tcplife.median)
            );
            Row::new(id, &what, &reach, result, ratio <= share)
        }
        _ => {
            let result = format!("{} µs; no tcplife to compare with", ours.show(2, ""));
            Row::new(id, &what, &reach, result, ours.median <= aim)
        }
    }
}

fn other(plan: &Plan) -> Result<Chapter> {
    let port = port::free()?;
    let (_server, threads) = accepting(port)?;
    let empty = |name: &str| Series {
        name: name.to_owned(),
        values: Vec::new(),
    };
    let (mut base, mut ours) = (empty("nobody"), empty("connleak"));
    let mut runs = Vec::new();
    for _ in 0..plan.rounds {
        base.values.push(micros(plan, port, threads)?);
        let attached = Tool::connleak(None, &[]).attach()?;
        ours.values.push(micros(plan, port, threads)?);
        attached.detach()?;
    }
    let _counting = RunTimes::counted()?;
    for _ in 0..plan.rounds.div_ceil(3) {
        let attached = Tool::connleak(None, &[]).attach()?;
        micros(plan, port, threads)?;
        let summary = attached.detach()?;
        let programs = summary["overhead"]["programs"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let state = programs
            .iter()
            .find(|program| program["name"] == "connleak_state");
        runs.extend(state.and_then(|program| program["ns_per_run"].as_f64()));
    }
    let added = ours.added_to(&base);
    let mut chapter = Chapter::default();
    chapter
        .details
        .push(("nobody: µs a cycle".into(), base.estimate().show(1, "")));
    chapter
        .details
        .push(("connleak: µs added".into(), added.show(2, "")));
    chapter.rows.push(Row::new(
        "other",
        "connect + close on another port",
        "not measurable within noise",
        format!("{} µs added", added.show(2, "")),
        added.low <= 0.0,
    ));
    let what = "an event of another port";
    chapter.rows.push(if runs.is_empty() {
        Row::unmeasured(
            "other-event",
            what,
            "≤ 150 ns",
            "the kernel counts no run times here",
        )
    } else {
        let run = Estimate::of(&runs);
        Row::new(
            "other-event",
            what,
            "≤ 150 ns",
            run.show(0, " ns"),
            run.median <= 150.0,
        )
    });
    Ok(chapter)
}

/// The kernel counts all programs' run times as long as this is there.
struct RunTimes;

impl RunTimes {
    /// See `kernel.bpf_stats_enabled` in the kernel's `admin-guide/sysctl/kernel.rst`.
    const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn counted() -> Result<Self> {
        fs::write(Self::SWITCH, "1").with_context(|| format!("write {}", Self::SWITCH))?;
        Ok(Self)
    }
}

impl Drop for RunTimes {
    fn drop(&mut self) {
        // It was off: nobody else counts on a machine that is measured.
        let _ = fs::write(Self::SWITCH, "0");
    }
}
