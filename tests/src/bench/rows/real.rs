//! Real servers under their own benchmarks.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::in_turn;
use crate::{
    bench::{Chapter, Plan, Row, Subject, tool::Tool},
    server::{postgres, redis},
};

pub const POSTGRES: Subject = Subject {
    name: "pgbench",
    title: "PostgreSQL under pgbench",
    method: "pgbench's read-only transactions (`-S`), over TCP, against a server of its own: 32 clients that stay connected, and two that connect \
             anew for each transaction (`-C`). The server, pgbench and connleak share the processors. Before each turn pgbench runs for a moment, whoever is attached, \
             so that connleak knows its code, as it does of a program that has been running for a while.",
    measure: pgbench,
};

pub const REDIS: Subject = Subject {
    name: "redis",
    title: "Redis under redis-benchmark",
    method: "`redis-benchmark -t get`, 50 clients, over TCP; a few requests before each turn, as with pgbench.",
    measure: redis_benchmark,
};

fn pgbench(plan: &Plan) -> Result<Chapter> {
    let server = postgres::start()?;
    let port = server.port.to_string();
    let base = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres"];
    run(
        "pgbench",
        &[&["-i", "-q", "-s", "2"], &base[..], &["postgres"]].concat(),
    )?;
    // Whole seconds are what pgbench knows.
    let seconds = (plan.short * 4).as_secs().to_string();
    let mut chapter = Chapter::default();
    for (id, what, percent, load) in [
        (
            "pgbench-c",
            "pgbench -C: a connect for each transaction",
            2.0,
            &["-C", "-c", "2", "-j", "2"][..],
        ),
        (
            "pgbench-s",
            "pgbench -S, 32 clients",
            1.0,
            &["-c", "32", "-j", "2"][..],
        ),
    ] {
        let first = [&["-n", "-S", "-t", "5"], load, &base[..], &["postgres"]].concat();
        let args = [&["-n", "-S", "-T", &seconds], load, &base[..], &["postgres"]].concat();
        let all = in_turn(
            plan.fewer(),
            &[Tool::Nobody, Tool::connleak(Some(server.port), &[])],
            || {
                run("pgbench", &first)?;
                let text = run("pgbench", &args)?;
                let line = text.lines().find_map(|line| line.strip_prefix("tps = "));
                let word = line.and_then(|rest| rest.split(' ').next());
                Ok(word.context("no tps in pgbench's output")?.parse()?)
            },
        )?;
        add(&mut chapter, (id, what, percent), "transactions/s", &all);
    }
    Ok(chapter)
}

fn redis_benchmark(plan: &Plan) -> Result<Chapter> {
    let server = redis::start()?;
    let port = server.port.to_string();
    // Some 1.5 s: a new process costs the agent more than what it does then, and no client lives as short as that.
    let requests = (plan.short.as_millis() * 300).to_string();
    let base = [
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-t",
        "get",
        "-c",
        "50",
        "--csv",
        "-n",
    ];
    let all = in_turn(
        plan.fewer(),
        &[Tool::Nobody, Tool::connleak(Some(server.port), &[])],
        || {
            run("redis-benchmark", &[&base[..], &["500"]].concat())?;
            let text = run("redis-benchmark", &[&base[..], &[&requests]].concat())?;
            let line = text.lines().find_map(|line| line.strip_prefix("\"GET\",\""));
            let word = line.and_then(|rest| rest.split('"').next());
            Ok(word.context("no GET in redis-benchmark's output")?.parse()?)
        },
    )?;
    let mut chapter = Chapter::default();
    add(
        &mut chapter,
        ("redis", "redis-benchmark GET, 50 clients", 1.0),
        "requests/s",
        &all,
    );
    Ok(chapter)
}

fn add(
    chapter: &mut Chapter,
    (id, what, percent): (&'static str, &str, f64),
    unit: &str,
    all: &[crate::bench::figures::Series],
) {
    let [base, ours] = all else { return };
    let lost = ours.percent_below(base);
    for series in [base, ours] {
        chapter.details.push((
            format!("{what}: {unit}, {}", series.name),
            series.estimate().show(0, ""),
        ));
    }
    chapter.rows.push(Row::lost(id, what, lost, percent));
}

fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("run {program}: 'cargo xtask setup --bench' installs it"))?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
