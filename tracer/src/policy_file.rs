//! The policy as text: TOML that people write, that `connleak policy` prints, and that a journal keeps.
//!
//! Written by hand upon the parser's tables: so each error names the line, the key, and what is expected
//! there, and what is printed has every number's reason beside it. A journal keeps only what differs from the
//! defaults: by a later version it is judged by that version's constants, unless somebody chose others.

#![forbid(unsafe_code)]

use std::{fmt, fmt::Write as _, ops::Range, path::Path};

use anyhow::{Context as _, Result, anyhow, ensure};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    output::duration,
    verdict::{Confidence, Exception, Knob, Limits, Policy, Rules, Unit},
};

/// No policy is longer; a wrong file is not read into memory.
const LONGEST: u64 = 1 << 20;
const MIN_CONFIDENCE: &str = "min_confidence";
const LIMIT: &str = "limit";
const RULES: &str = "rules";

/// Reads a policy file over the defaults.
///
/// # Errors
/// When it can't be read, or says what can't be meant; names the file, and the line.
pub fn read(path: &Path) -> Result<Policy> {
    let wrong = || format!("can't read the policy {}", path.display());
    let size = std::fs::metadata(path).with_context(wrong)?.len();
    ensure!(
        size <= LONGEST,
        "{}: {size} bytes are no policy file",
        path.display()
    );
    let text = std::fs::read_to_string(path).with_context(wrong)?;
    parse(&text).map_err(|error| anyhow!("{}:{error}", path.display()))
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Counted from 1.
    line: usize,
    what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.what)
    }
}

/// An error before its line is known: where it is in the text.
type Fault = (Range<usize>, String);

/// Takes a policy's text over the defaults.
///
/// # Errors
/// When it is no TOML, has a key that is not known, or a value that makes no sense.
pub fn parse(text: &str) -> Result<Policy, Wrong> {
    let wrong = |(place, what): Fault| Wrong {
        line: 1 + text
            .bytes()
            .take(place.start)
            .filter(|&byte| byte == b'\n')
            .count(),
        what,
    };
    let table = DeTable::parse(text)
        .map_err(|error| wrong((error.span().unwrap_or(0..0), error.message().to_owned())))?;
    policy(table.get_ref()).map_err(wrong)
}

fn policy(table: &DeTable<'_>) -> Result<Policy, Fault> {
    let mut policy = Policy::default();
    for (key, value) in table {
        let name: &str = key.get_ref();
        if let Some(knob) = find(Policy::KNOBS, name) {
            (knob.set)(&mut policy, number(knob, value)?);
        } else if let Some(knob) = find(Limits::KNOBS, name) {
            (knob.set)(&mut policy.limits, number(knob, value)?);
        } else if name == MIN_CONFIDENCE {
            policy.min_confidence = word(name, value, "\"suspect\", \"likely\" or \"certain\"", |text| {
                Confidence::ALL.into_iter().find(|level| level.name() == text)
            })?;
        } else if name == RULES {
            rules(value, &mut policy.rules)?;
        } else if name == LIMIT {
            let tables = value.get_ref().as_array().ok_or_else(|| {
                (
                    value.span(),
                    "limit: expected tables, each under a line [[limit]]".to_owned(),
                )
            })?;
            policy.exceptions = tables.iter().map(exception).collect::<Result<_, Fault>>()?;
        } else {
            let known = names(Policy::KNOBS).chain(names(Limits::KNOBS)).chain([
                MIN_CONFIDENCE,
                "[[limit]]",
                "[rules]",
            ]);
            return Err(unknown(key, known));
        }
    }
    Ok(policy)
}

fn rules(value: &Spanned<DeValue<'_>>, rules: &mut Rules) -> Result<(), Fault> {
    let table = value.get_ref().as_table().ok_or_else(|| {
        (
            value.span(),
            "rules: expected a table, under a line [rules]".to_owned(),
        )
    })?;
    for (key, value) in table {
        let knob = find(Rules::KNOBS, key.get_ref()).ok_or_else(|| unknown(key, names(Rules::KNOBS)))?;
        (knob.set)(rules, number(knob, value)?);
    }
    Ok(())
}

fn exception(value: &Spanned<DeValue<'_>>) -> Result<Exception, Fault> {
    let table = value
        .get_ref()
        .as_table()
        .ok_or_else(|| (value.span(), "limit: expected a table".to_owned()))?;
    let mut exception = Exception::default();
    for (key, value) in table {
        let name: &str = key.get_ref();
        if let Some(knob) = find(Limits::KNOBS, name) {
            (knob.set)(&mut exception.limits, number(knob, value)?);
            continue;
        }
        match name {
            "process" => {
                exception.process = Some(word(
                    name,
                    value,
                    "a process's name, as 'ps -o comm' has it",
                    |text| (!text.is_empty() && text.len() <= COMM).then(|| text.to_owned()),
                )?);
            }
            "db" => {
                let expected = "a database: \"postgresql\"";
                exception.db = Some(word(name, value, expected, |text| text.parse().ok())?);
            }
            "server" => {
                let expected = "a server: \"10.0.0.5\", \"10.0.0.0/8\", \"[::1]:5432\", \"/run/db.sock\"";
                exception.server = Some(word(name, value, expected, |text| text.parse().ok())?);
            }
            _ => {
                return Err(unknown(
                    key,
                    ["process", "db", "server"]
                        .into_iter()
                        .chain(names(Limits::KNOBS)),
                ));
            }
        }
    }
    if exception.process.is_none() && exception.db.is_none() && exception.server.is_none() {
        let why = "limit: say whose: process, db or server; for all, write it above the first table";
        return Err((value.span(), why.to_owned()));
    }
    if exception.limits == Limits::default() {
        let why = format!("limit: no limit is set: {}", list(names(Limits::KNOBS)));
        return Err((value.span(), why));
    }
    let servers = exception.limits.server_limit.or(exception.limits.headroom);
    if exception.process.is_some() && servers.is_some() {
        let why = "limit: server_limit and headroom are the server's: give db or server, not process";
        return Err((value.span(), why.to_owned()));
    }
    Ok(exception)
}

/// A process's name has this many bytes at most (`TASK_COMM_LEN`, without its end).
const COMM: usize = 15;

fn find<T>(knobs: &'static [Knob<T>], name: &str) -> Option<&'static Knob<T>> {
    knobs.iter().find(|knob| knob.name == name)
}

fn names<T: 'static>(knobs: &'static [Knob<T>]) -> impl Iterator<Item = &'static str> {
    knobs.iter().map(|knob| knob.name)
}

fn list(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn unknown(key: &Spanned<std::borrow::Cow<'_, str>>, known: impl Iterator<Item = &'static str>) -> Fault {
    let why = format!(
        "'{}' is not known here; there are {}",
        key.get_ref().escape_debug(),
        list(known)
    );
    (key.span(), why)
}

/// A knob's value, or what is wrong with it.
fn number<T>(knob: &Knob<T>, value: &Spanned<DeValue<'_>>) -> Result<u64, Fault> {
    let read = match (knob.unit, value.get_ref()) {
        (Unit::Span, DeValue::String(text)) => duration::parse(text)
            .ok()
            .and_then(|time| u64::try_from(time.as_nanos()).ok()),
        (Unit::Count | Unit::Times | Unit::Percent, DeValue::Integer(integer)) => {
            u64::from_str_radix(integer.as_str(), integer.radix()).ok()
        }
        _ => None,
    };
    read.filter(|number| knob.range.contains(number)).ok_or_else(|| {
        let (least, most) = (knob.range.start(), knob.range.end());
        let expected = match knob.unit {
            Unit::Span => format!(
                "a duration from \"{}\" to \"{}\", such as \"30s\"",
                duration::exact(*least),
                duration::exact(*most)
            ),
            Unit::Count | Unit::Times | Unit::Percent => format!("a whole number from {least} to {most}"),
        };
        (
            value.span(),
            format!(
                "{}: expected {expected}, not {}",
                knob.name,
                shown(value.get_ref())
            ),
        )
    })
}

fn word<T>(
    name: &str,
    value: &Spanned<DeValue<'_>>,
    expected: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, Fault> {
    value.get_ref().as_str().and_then(read).ok_or_else(|| {
        let why = format!("{name}: expected {expected}, not {}", shown(value.get_ref()));
        (value.span(), why)
    })
}

/// A value in a message.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("\"{}\"", text.escape_debug()),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        other => format!("a value of type {}", other.type_str()),
    }
}

/// The whole policy with every number's meaning: a policy file.
#[must_use]
pub fn commented(policy: &Policy) -> String {
    let mut out = String::from(
        "# connleak's policy: what counts as idle, what must not be, and the rules' constants.\n\n",
    );
    knobs(&mut out, Policy::KNOBS, policy, None);
    out.push_str("# Least confidence of a finding that makes the exit code 3: suspect, likely or certain.\n");
    let _ = writeln!(out, "{MIN_CONFIDENCE} = \"{}\"\n", policy.min_confidence.name());
    out.push_str(
        "# Limits. What breaks one is a finding of kind \"policy\". Without a value there is none.\n\n",
    );
    knobs(&mut out, Limits::KNOBS, &policy.limits, None);
    out.push_str(
        "# Other limits for some: what all of process, db and server fits. Of several that set the same limit, the\n\
         # last counts.\n\
         #\n\
         # [[limit]]\n\
         # process = \"payments\"\n\
         # db = \"postgresql\"\n\
         # server = \"10.0.0.5:5432\"\n\
         # max_open = 20\n\n",
    );
    for exception in &policy.exceptions {
        write_exception(&mut out, exception);
    }
    out.push_str("# The rules' constants (docs/verdicts.md). idle is the knob to turn; these are for research.\n[rules]\n\n");
    knobs(&mut out, Rules::KNOBS, &policy.rules, None);
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// What differs from the defaults, alone: a policy file that means the same.
#[must_use]
pub fn differences(policy: &Policy) -> String {
    let (mut out, default) = (String::new(), Policy::default());
    knobs(&mut out, Policy::KNOBS, policy, Some(&default));
    if policy.min_confidence != default.min_confidence {
        let _ = writeln!(out, "{MIN_CONFIDENCE} = \"{}\"", policy.min_confidence.name());
    }
    knobs(&mut out, Limits::KNOBS, &policy.limits, Some(&default.limits));
    for exception in &policy.exceptions {
        write_exception(&mut out, exception);
    }
    let mut rules = String::new();
    knobs(&mut rules, Rules::KNOBS, &policy.rules, Some(&default.rules));
    if !rules.is_empty() {
        let _ = write!(out, "[{RULES}]\n{rules}");
    }
    out
}

/// Writes knobs: all with their meaning, or those alone that differ from a default.
fn knobs<T>(out: &mut String, knobs: &[Knob<T>], of: &T, default: Option<&T>) {
    for knob in knobs {
        let value = (knob.get)(of);
        if default.is_some_and(|default| (knob.get)(default) == value) {
            continue;
        }
        if default.is_none() {
            for line in knob.doc {
                let _ = writeln!(out, "#{}", line.replace('`', ""));
            }
        }
        match value {
            Some(value) => setting(out, knob, value),
            None => {
                let _ = writeln!(out, "# {} =", knob.name);
            }
        }
        if default.is_none() {
            out.push('\n');
        }
    }
}

fn setting<T>(out: &mut String, knob: &Knob<T>, value: u64) {
    // Writing to a string cannot fail.
    let _ = match knob.unit {
        Unit::Span => writeln!(out, "{} = \"{}\"", knob.name, duration::exact(value)),
        Unit::Count | Unit::Times | Unit::Percent => writeln!(out, "{} = {value}", knob.name),
    };
}

fn write_exception(out: &mut String, exception: &Exception) {
    let text = |out: &mut String, name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(out, "{name} = {}", quoted(&value));
        }
    };
    let _ = writeln!(out, "[[{LIMIT}]]");
    text(out, "process", exception.process.clone());
    text(out, "db", exception.db.map(|db| db.to_string()));
    text(out, "server", exception.server.as_ref().map(ToString::to_string));
    knobs(out, Limits::KNOBS, &exception.limits, Some(&Limits::default()));
    out.push('\n');
}

/// A TOML basic string: <https://toml.io/en/v1.0.0#string>.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
