//! The agent with nothing to do.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    bench::{
        Chapter, Plan, Row, Subject,
        process::{Background, resident, run_time, words},
        tool::Tool,
    },
    port,
};

pub const SUBJECT: Subject = Subject {
    name: "rest",
    title: "The agent at rest",
    method: "1,000 connections of ten processes, which nobody uses, and `connleak watch`. Its processor time (`/proc/PID/task/*/schedstat`) is counted from a minute \
             after its start on (`--quick`: two seconds), when the pace has slowed down; its memory at the end. Other traffic of the host is in it.",
    measure: rest,
};

fn rest(plan: &Plan) -> Result<Chapter> {
    let port = port::free()?;
    let _server = Background::start(&words(&[&"echo", &port]))?;
    let _holders = Background::start(&words(&[&"hold", &port, &10, &100, &0]))?;
    let attached = Tool::connleak(Some(port), &[]).attach()?;
    let settle = if plan.rest > Duration::from_mins(1) { 60 } else { 2 };
    thread::sleep(Duration::from_secs(settle));
    let (begin, before) = (Instant::now(), run_time(attached.pid())?);
    thread::sleep(plan.rest);
    let spent = run_time(attached.pid())? - before;
    let percent = 100.0 * spent as f64 / begin.elapsed().as_nanos() as f64;
    let memory = resident(attached.pid())? as f64 / f64::from(1 << 20);
    attached.detach()?;
    let mut chapter = Chapter::default();
    let what = format!(
        "agent at rest, 1,000 idle database sockets, {} s",
        plan.rest.as_secs()
    );
    chapter.rows.push(Row::new(
        "rest",
        &format!("{what}: processor"),
        "≤ 0.1 % of a core",
        format!("{percent:.3} %"),
        percent <= 0.1,
    ));
    chapter.rows.push(Row::new(
        "rest-memory",
        &format!("{what}: memory"),
        "≤ 16 MiB resident",
        format!("{memory:.1} MiB"),
        memory <= 16.0,
    ));
    Ok(chapter)
}
