//! What the console said, as a row of the table.
//!
//! The lines are written by `tests/src/bin/vm_guest`: `vm-check: NAME ok|FAIL WORDS`, and `vm-end` last.

use std::fmt::Write as _;

use super::machine::Ran;

/// The checks, in order, with the columns' headings.
pub const CHECKS: [(&str, &str); 4] = [
    ("doctor", "probes"),
    ("scan", "scan"),
    ("watch", "watch"),
    ("unload", "unload"),
];

/// How a kernel did.
#[derive(Debug)]
pub struct Outcome {
    release: String,
    /// Name, whether it is good, words; in the order of the console.
    checks: Vec<(String, bool, String)>,
    /// Why the machine did not come to its end.
    broken: Option<String>,
    seconds: u64,
}

impl Outcome {
    /// Reads a console.
    pub fn of(release: String, ran: Ran) -> Self {
        // The kernel may have begun the line.
        let said = |line: &str| {
            let (_, said) = line.split_once("vm-check: ")?;
            let (name, rest) = said.split_once(' ')?;
            let (grade, words) = rest.split_once(' ').unwrap_or((rest, ""));
            Some((name.to_owned(), grade == "ok", words.to_owned()))
        };
        let ended = ran.console.iter().any(|line| line.contains("vm-end"));
        let unended = || (!ended).then(|| "the machine stopped before all was checked".to_owned());
        Self {
            release,
            checks: ran.console.iter().filter_map(|line| said(line)).collect(),
            broken: ran.killed.or_else(unended),
            seconds: ran.took.as_secs(),
        }
    }

    /// Whether every check was made, and was good.
    pub fn is_good(&self) -> bool {
        self.broken.is_none()
            && self.checks.iter().all(|(_, good, _)| *good)
            && CHECKS.iter().all(|(check, _)| self.grade(check) == "ok")
    }

    fn grade(&self, check: &str) -> &'static str {
        match self.checks.iter().find(|(name, _, _)| name == check) {
            Some((_, true, _)) => "ok",
            Some((_, false, _)) => "FAIL",
            None => "not run",
        }
    }

    /// What each check found, and what went wrong.
    pub fn details(&self) -> Vec<String> {
        let check = |(name, good, words): &(String, bool, String)| {
            format!("{name} {}: {words}", if *good { "ok" } else { "FAIL" })
        };
        let broken = self.broken.iter().map(|reason| format!("FAIL: {reason}"));
        self.checks.iter().map(check).chain(broken).collect()
    }
}

/// All kernels, one a row.
pub fn table(outcomes: &[Outcome]) -> String {
    let width = outcomes
        .iter()
        .map(|outcome| outcome.release.len())
        .max()
        .unwrap_or(0)
        .max(6);
    let mut text = format!("\n{:<width$}", "kernel");
    for (_, heading) in CHECKS {
        // Writing to a string cannot fail.
        let _ = write!(text, "  {heading:<7}");
    }
    text.push_str("  seconds\n");
    for outcome in outcomes {
        let _ = write!(text, "{:<width$}", outcome.release);
        for (check, _) in CHECKS {
            let _ = write!(text, "  {:<7}", outcome.grade(check));
        }
        let _ = writeln!(text, "  {:>7}", outcome.seconds);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn outcome(lines: &[&str], killed: Option<&str>) -> Outcome {
        Outcome::of(
            "6.1.0-56".to_owned(),
            Ran {
                console: lines.iter().map(|line| (*line).to_owned()).collect(),
                killed: killed.map(ToOwned::to_owned),
                took: Duration::from_secs(17),
            },
        )
    }

    const GOOD: [&str; 5] = [
        "vm-check: doctor ok everything (0.7 s)",
        "[    3.1] a word of the kernel vm-check: scan ok likely leak (1.1 s)",
        "vm-check: watch ok certain leak (8.5 s)",
        "vm-check: unload ok 5 programs (0.4 s)",
        "vm-end",
    ];

    #[test]
    fn a_console_becomes_a_row() {
        let good = outcome(&GOOD, None);
        assert!(good.is_good(), "{good:?}");
        assert_eq!(
            table(&[good]),
            "\nkernel    probes   scan     watch    unload   seconds\n\
             6.1.0-56  ok       ok       ok       ok            17\n"
        );
    }

    #[test]
    fn whatever_is_missing_or_wrong_is_a_failure() {
        assert!(!outcome(&GOOD[..4], None).is_good(), "it did not end");
        assert!(!outcome(&GOOD[1..], None).is_good(), "a check was not made");
        assert!(!outcome(&GOOD, Some("soft lockup")).is_good(), "it was killed");
        let failed = outcome(&["vm-check: boot FAIL cannot mount /proc", "vm-end"], None);
        assert!(!failed.is_good());
        assert_eq!(failed.details(), ["boot FAIL: cannot mount /proc"]);
        assert!(table(&[failed]).contains("not run"));
    }
}
