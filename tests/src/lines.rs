//! Questions about the agent's JSON Lines, in the words of the contract.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// One line of output.
pub fn parse(line: &str) -> Result<Value> {
    serde_json::from_str(line).with_context(|| format!("not a line of JSON: {line}"))
}

/// Whether the line is an `event`: `finding`, `socket`, `summary`, …
#[must_use]
pub fn is(line: &Value, event: &str) -> bool {
    line["event"] == event
}

/// Whether the line is about the process `pid`.
#[must_use]
pub fn of_pid(line: &Value, pid: u32) -> bool {
    line["process"]["pid"] == pid
}

/// Whether the line is a finding of `kind` about `pid`.
#[must_use]
pub fn is_finding(line: &Value, kind: &str, pid: u32) -> bool {
    is(line, "finding") && line["finding"]["kind"] == kind && of_pid(line, pid)
}

/// The findings about `pid`, of any kind.
#[must_use]
pub fn findings_of(lines: &[Value], pid: u32) -> Vec<&Value> {
    lines
        .iter()
        .filter(|line| is(line, "finding") && of_pid(line, pid))
        .collect()
}

/// All findings.
#[must_use]
pub fn findings(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| is(line, "finding")).collect()
}

/// The one summary, which is the last line.
pub fn summary(lines: &[Value]) -> Result<&Value> {
    match lines.split_last() {
        Some((last, rest)) if is(last, "summary") && !rest.iter().any(|line| is(line, "summary")) => Ok(last),
        _ => bail!("the last line, and no other, should be the summary: {lines:#?}"),
    }
}
