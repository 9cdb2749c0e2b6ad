//! Queries and answers: what last-use tracking takes from them.

use anyhow::Result;

use super::in_turn;
use crate::{
    bench::{
        Chapter, Plan, Row, Subject,
        figures::Series,
        process::{Background, measure, number, words},
        tool::Tool,
    },
    port,
};

pub const SUBJECT: Subject = Subject {
    name: "talk",
    title: "Queries and answers",
    method: "A client sends a query and waits for the answer of a server that sends it back: one byte on one connection, and a KiB in turn on each \
             of 100 connections. Nothing else is done: of a database's time there is nothing in it, so a real query loses less.",
    measure: talks,
};

fn talks(plan: &Plan) -> Result<Chapter> {
    let mut chapter = Chapter::default();
    for (id, what, bytes, connections) in [
        ("talk-1", "1 byte back and forth, one connection", 1, 1),
        ("talk-100", "1 KiB query and answer, 100 connections", 1024, 100),
    ] {
        let port = port::free()?;
        let _server = Background::start(&words(&[&"echo", &port]))?;
        let args = words(&[&"talk", &port, &plan.short.as_millis(), &bytes, &connections]);
        let all = in_turn(
            plan.many,
            &[Tool::Nobody, Tool::connleak(Some(port), &[])],
            || number(&measure(&args)?, "turns_per_s"),
        )?;
        let [base, ours] = all.as_slice() else { continue };
        let lost = ours.percent_below(base);
        chapter
            .details
            .push((format!("{what}: turns/s, nobody"), base.estimate().show(0, "")));
        chapter
            .details
            .push((format!("{what}: turns/s, connleak"), ours.estimate().show(0, "")));
        // Each series in turns a second; what a turn takes of all processors is what a program adds to.
        let micros = |series: &Series| Series {
            name: series.name.clone(),
            values: series.values.iter().map(|turns| 1e6 / turns).collect(),
        };
        let added = micros(ours).added_to(&micros(base));
        chapter
            .details
            .push((format!("{what}: µs added to a turn's time"), added.show(2, "")));
        chapter.rows.push(Row::lost(id, what, lost, 3.0));
    }
    Ok(chapter)
}
