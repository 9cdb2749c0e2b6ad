//! What is known beforehand about each application.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::agent;

/// The word for an application that has no leak.
pub const HEALTHY: &str = "healthy";

/// Which servers a scenario needs, and how it reaches them.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `PostgreSQL` over TCP.
    Postgres,
    /// `PostgreSQL` over its unix-domain socket.
    PostgresUnix,
    /// `PostgreSQL` over TCP that accepts TLS, and clients that insist on it.
    PostgresTls,
    /// `MariaDB` over TCP.
    Mariadb,
    /// `MariaDB` over its unix-domain socket.
    MariadbUnix,
    /// Redis over TCP.
    Redis,
    /// `PostgreSQL` through a `PgBouncer` of the scenario's own.
    Pgbouncer,
    /// Four servers at once: `PostgreSQL` on `127.0.0.1` and on `::1`, `MariaDB`, Redis, all over TCP.
    Several,
}

/// One application with its label.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The name: its table's key.
    #[serde(skip)]
    pub name: String,
    /// Program, under `tests/scenarios`: `LANGUAGE/PROGRAM`.
    pub run: String,
    /// What it talks to.
    pub server: Kind,
    /// [`HEALTHY`], or the kind of finding that is right.
    pub label: String,
    /// Other kinds that are as true.
    #[serde(default)]
    pub accept: Vec<String>,
    /// How many leak, and since when, for readers.
    pub leaks: Option<String>,
    /// Which function opens what leaks.
    pub function: Option<String>,
    /// Seconds after the start at which the agent is attached; before the start when absent.
    pub attach: Option<f64>,
    /// How long the application runs.
    pub seconds: f64,
    /// Kind and confidence of the first finding, or `none`, as predicted before the first run.
    pub predict: String,
    /// Anything else.
    #[serde(default)]
    pub note: String,
    /// Why the agent has been wrong about it, as far as is known.
    pub blind: Option<String>,
    /// Whether `cargo test` runs it, too.
    #[serde(default)]
    pub fast: bool,
}

impl Scenario {
    /// The language: the first folder of its path.
    #[must_use]
    pub fn language(&self) -> &str {
        self.run.split('/').next().unwrap_or_default()
    }

    /// The program's file, without its language.
    #[must_use]
    pub fn program(&self) -> &str {
        self.run.split_once('/').map_or("", |(_, program)| program)
    }

    /// Whether it leaks.
    #[must_use]
    pub fn leaks(&self) -> bool {
        self.label != HEALTHY
    }

    /// Whether a finding of this kind is true of it.
    #[must_use]
    pub fn is_true(&self, kind: &str) -> bool {
        self.leaks() && (self.label == kind || self.accept.iter().any(|other| other == kind))
    }

    /// How long it runs.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// The folder of the applications.
#[must_use]
pub fn folder() -> PathBuf {
    agent::workspace().join("tests/scenarios")
}

/// All scenarios, by name.
pub fn load() -> Result<Vec<Scenario>> {
    let path = folder().join("labels.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let table: BTreeMap<String, Scenario> =
        toml::from_str(&text).with_context(|| format!("understand {}", path.display()))?;
    let scenarios: Vec<Scenario> = table
        .into_iter()
        .map(|(name, scenario)| Scenario { name, ..scenario })
        .collect();
    for scenario in &scenarios {
        let name = &scenario.name;
        ensure!(
            scenario.leaks() == scenario.function.is_some(),
            "{name}: what leaks has a function, what does not has none"
        );
        ensure!(
            scenario.attach.unwrap_or(0.0) < scenario.seconds,
            "{name}: attached after its end"
        );
    }
    Ok(scenarios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_as_large_and_as_mixed_as_was_promised() -> Result<()> {
        let all = load()?;
        let leaking = all.iter().filter(|scenario| scenario.leaks()).count();
        let late = all.iter().filter(|scenario| scenario.attach.is_some()).count();
        ensure!(leaking >= 24 && all.len() - leaking >= 24, "24 of each");
        ensure!(
            late * 2 >= all.len() - 2,
            "half of them attached late, not {late}"
        );
        for language in ["python", "java", "go", "node", "ruby", "php", "rust"] {
            for leaks in [true, false] {
                ensure!(
                    all.iter()
                        .any(|scenario| scenario.language() == language && scenario.leaks() == leaks),
                    "{language}: a leaking and a healthy one"
                );
            }
        }
        Ok(())
    }
}
