//! Every line of real output is valid against the JSON Schema that the documentation gives to users.

use std::fs;

use anyhow::{Context, Result, anyhow, ensure};
use connleak_tests::{agent, lines, require_root, server::postgres, watch::Watch};
use jsonschema::Validator;
use serde_json::Value;

use crate::leak::leaking;

fn schema() -> Result<Validator> {
    let path = agent::workspace().join("docs/log.schema.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    jsonschema::draft202012::new(&serde_json::from_str(&text)?)
        .map_err(|error| anyhow!("the schema: {error}"))
}

fn all_valid(schema: &Validator, all: &[Value], events: &[&str]) -> Result<()> {
    for line in all {
        let errors: Vec<String> = schema
            .iter_errors(line)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        ensure!(errors.is_empty(), "{errors:#?} in {line:#}");
    }
    for event in events {
        ensure!(
            all.iter().any(|line| lines::is(line, event)),
            "there was no {event} line to validate"
        );
    }
    Ok(())
}

#[test]
fn root_every_line_of_scan_and_watch_is_valid_against_the_schema() -> Result<()> {
    require_root!();
    let schema = schema()?;
    let server = postgres::start()?;
    let dsn = format!(
        "host=127.0.0.1 port={} user=postgres dbname=postgres",
        server.port
    );
    let mut app = leaking("leak_psycopg.py", &[&dsn])?;
    let only = server.only_this("postgresql");
    let scan = agent::scan(&only)?.lines()?;
    all_valid(&schema, &scan, &["socket", "finding", "summary"])?;

    let mut watch = Watch::attached(
        only.iter()
            .map(String::as_str)
            .chain(["--idle", "1s", "--events"]),
    )?;
    app.tell("leak 100")?;
    watch.wait_for("a finding", |line| lines::is(line, "finding"))?;
    app.tell("close")?;
    watch.wait_for("its retraction", |line| lines::is(line, "resolved"))?;
    all_valid(
        &schema,
        &watch.interrupt()?.lines,
        &["open", "close", "finding", "resolved", "summary"],
    )
}
