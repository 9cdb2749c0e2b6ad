//! As many connects as this machine makes: is anything lost, and what happens if it is?

use std::thread::available_parallelism;

use anyhow::Result;

use crate::{
    bench::{
        Chapter, Plan, Row, Subject,
        process::{Background, measure, number, words},
        tool::Tool,
    },
    port,
};

pub const SUBJECT: Subject = Subject {
    name: "storm",
    title: "A storm of connects",
    method: "All processors connect and close as fast as they can, ten times as long as a turn, and connleak has to count each. Then again with \
             the smallest ring buffer there is (4 KiB), which must overflow: what was lost must be counted, and the connections that were held \
             open meanwhile must be known at the end.",
    measure: storm,
};

/// Connections that are open before, during and after the second storm.
const HELD: usize = 100;

fn storm(plan: &Plan) -> Result<Chapter> {
    let port = port::free()?;
    let threads = available_parallelism()?.get();
    let _server = Background::start(&words(&[&"accept", &port, &threads]))?;
    let args = words(&[&"cycle", &port, &(plan.turn.as_millis() * 10), &threads]);
    let mut chapter = Chapter::default();

    let attached = Tool::connleak(Some(port), &[]).attach()?;
    let cycles = number(&measure(&args)?, "cycles")?;
    let summary = attached.detach()?;
    let (opened, lost) = (
        number(&summary, "opened")?,
        number(&summary["completeness"], "events_lost")?,
    );
    let rate = cycles / (plan.turn.as_secs_f64() * 10.0);
    chapter.rows.push(Row::new(
        "storm",
        "connect storm on all processors",
        "no event lost, each connection counted",
        format!("{cycles:.0} connections, {rate:.0}/s: {lost:.0} events lost, {opened:.0} counted"),
        lost == 0.0 && (opened - cycles).abs() < 0.5,
    ));

    let echo = port::free()?;
    let _echo = Background::start(&words(&[&"echo", &echo]))?;
    let databases = format!("{port}=postgresql");
    let tool = Tool::connleak(Some(echo), &["--port", &databases, "--ring-kib", "4"]);
    let attached = tool.attach()?;
    let held = Background::start(&words(&[&"hold", &echo, &1, &HELD, &0]))?;
    measure(&args)?;
    let summary = attached.detach()?;
    drop(held);
    let (sockets, lost) = (
        number(&summary, "sockets")?,
        number(&summary["completeness"], "events_lost")?,
    );
    chapter.rows.push(Row::new(
        "storm-small",
        "the same with a ring buffer of 4 KiB",
        "counted and healed",
        format!(
            "{lost:.0} events lost and counted; {sockets:.0} of {HELD} connections known as open at the end"
        ),
        lost > 0.0 && (sockets - HELD as f64).abs() < 0.5,
    ));
    Ok(chapter)
}
