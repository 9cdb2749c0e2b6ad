//! One look at a host with many descriptors.

use std::{process::Command, time::Instant};

use anyhow::Result;

use crate::{
    agent,
    bench::{
        Chapter, Plan, Row, Subject,
        figures::Series,
        process::{Background, measure, run_quietly, words},
    },
    port,
};

pub const SUBJECT: Subject = Subject {
    name: "scan",
    title: "One look",
    method: "200 processes with 500 descriptors each, 50 of them connections to a database: 100,000 descriptors and 10,000 database sockets, and as \
             many again in the server. Each command from its start to its end, its output read and thrown away. `connleak scan` in its default form, \
             in which it also reads who the processes are and prints a verdict; the /proc scanner is what scripts do: `/proc/PID/net/tcp`, then \
             each descriptor's link, in Rust.",
    measure: scan,
};

fn scan(plan: &Plan) -> Result<Chapter> {
    let port = port::free()?;
    let (processes, connections, others) = (200, 50, 450);
    let _server = Background::start(&words(&[&"echo", &port]))?;
    let _holders = Background::start(&words(&[&"hold", &port, &processes, &connections, &others]))?;
    let database = format!("{port}=postgresql");
    let scanner = words(&[&"scan-proc", &port]);
    let mut all: Vec<Series> = ["connleak scan", "ss -tanpi", "lsof -nP -i", "/proc scanner"]
        .map(|name| Series {
            name: name.to_owned(),
            values: Vec::new(),
        })
        .into();
    // The first of each is for the caches.
    for round in 0..=plan.rounds {
        for series in &mut all {
            let begin = Instant::now();
            match series.name.as_str() {
                "connleak scan" => drop(run_quietly(&mut agent::command(["scan", "--port", &database])?)?),
                "ss -tanpi" => drop(run_quietly(Command::new("ss").arg("-tanpi"))?),
                "lsof -nP -i" => drop(run_quietly(Command::new("lsof").args(["-nP", "-i"]))?),
                _ => drop(measure(&scanner)?),
            }
            if round > 0 {
                series.values.push(begin.elapsed().as_secs_f64() * 1000.0);
            }
        }
    }
    let mut chapter = Chapter::default();
    for series in &all {
        chapter
            .details
            .push((format!("{}: ms", series.name), series.estimate().show(0, "")));
    }
    let [ours, ss, lsof, _] = all.as_slice() else {
        return Ok(chapter);
    };
    let (ours, ss, lsof) = (ours.estimate(), ss.estimate(), lsof.estimate());
    chapter.rows.push(Row::new(
        "scan",
        "scan of 100,000 descriptors, 10,000 of them database sockets",
        "≤ 100 ms",
        ours.show(0, " ms"),
        ours.median <= 100.0,
    ));
    let (by_ss, by_lsof) = (ss.median / ours.median, lsof.median / ours.median);
    chapter.rows.push(Row::new(
        "scan-peers",
        "the same, against what is used today",
        "≥ 10× faster than `ss -tanpi` and `lsof -nP -i`",
        format!("{by_ss:.1}× and {by_lsof:.1}×"),
        by_ss >= 10.0 && by_lsof >= 10.0,
    ));
    Ok(chapter)
}
