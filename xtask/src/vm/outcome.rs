//! What the console said, as a row of the table.
//!
//! The lines are written by `tests/src/bin/vm_guest`: `vm-check: NAME[:BACKEND] ok|FAIL WORDS`, and `vm-end` last. The
//! back-end `auto` is the one that connleak takes by itself; the others are tried beside it.

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
    /// The back-ends that `doctor` offered, the one it takes by itself first.
    backends: String,
    /// What `doctor` says of who uses a connection: see [`call_sites`].
    call_sites: String,
    /// Why the machine did not come to its end.
    broken: Option<String>,
    seconds: u64,
}

impl Outcome {
    /// Reads a console.
    pub fn of(release: String, expected: &str, expected_call_sites: &str, ran: Ran) -> Self {
        // The kernel may have begun the line.
        let said = |line: &str| {
            let (_, said) = line.split_once("vm-check: ")?;
            let (name, rest) = said.split_once(' ')?;
            let (grade, words) = rest.split_once(' ').unwrap_or((rest, ""));
            Some((name.to_owned(), grade == "ok", words.to_owned()))
        };
        let checks: Vec<_> = ran.console.iter().filter_map(|line| said(line)).collect();
        let backends = checks
            .iter()
            .filter(|(name, _, _)| name == "doctor")
            .find_map(|(_, _, words)| Some(words.strip_prefix("back-ends ")?.split_once(" (")?.0))
            .unwrap_or_default()
            .to_owned();
        let other = || {
            let message = format!("the back-ends should be {expected}, and are {backends}");
            (backends != expected).then_some(message)
        };
        let call_sites = call_sites(&ran.console);
        let otherwise = || {
            let message = format!("call sites should be by {expected_call_sites}, and are by {call_sites}");
            (call_sites != expected_call_sites).then_some(message)
        };
        let ended = ran.console.iter().any(|line| line.contains("vm-end"));
        let unended = || (!ended).then(|| "the machine stopped before all was checked".to_owned());
        Self {
            release,
            broken: ran.killed.or_else(unended).or_else(other).or_else(otherwise),
            checks,
            backends,
            call_sites,
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
        let of_back_ends: Vec<bool> = self
            .checks
            .iter()
            .filter(|(name, _, _)| name.split(':').next() == Some(check))
            .map(|(_, good, _)| *good)
            .collect();
        // `doctor` speaks of all back-ends at once.
        let due = if check == "doctor" {
            1
        } else {
            self.backends.split(", ").count()
        };
        match of_back_ends.len() {
            0 => "not run",
            made if made == due && !of_back_ends.contains(&false) => "ok",
            _ => "FAIL",
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

/// How a kernel tells which code uses a connection, as `doctor` says on the console: by which hook; `none` where it tells
/// nothing, or only who opens one.
fn call_sites(console: &[String]) -> String {
    let last_use = |line: &String| {
        let (_, said) = line.split_once("doctor: ok ")?;
        let (_, hook) = said
            .trim_start()
            .strip_prefix("call sites: last use")?
            .split_once(", by ")?;
        Some(hook.trim().to_owned())
    };
    console
        .iter()
        .find_map(last_use)
        .unwrap_or_else(|| "none".to_owned())
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
    text.push_str("  seconds  back-ends, call sites\n");
    for outcome in outcomes {
        let _ = write!(text, "{:<width$}", outcome.release);
        for (check, _) in CHECKS {
            let _ = write!(text, "  {:<7}", outcome.grade(check));
        }
        let _ = writeln!(
            text,
            "  {:>7}  {}; {}",
            outcome.seconds, outcome.backends, outcome.call_sites
        );
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
            "btf, diag",
            "fentry:tcp_sendmsg",
            Ran {
                console: lines.iter().map(|line| (*line).to_owned()).collect(),
                killed: killed.map(ToOwned::to_owned),
                took: Duration::from_secs(17),
            },
        )
    }

    const GOOD: [&str; 9] = [
        "vm-check: doctor ok back-ends btf, diag (0.7 s)",
        "[    3.1] a word of the kernel vm-check: scan:auto ok likely leak (1.1 s)",
        "vm-check: scan:diag ok likely leak (1.1 s)",
        "vm-check: watch:auto ok certain leak (8.5 s)",
        "vm-check: watch:diag ok certain leak (8.5 s)",
        "vm-check: unload:auto ok 5 programs (0.4 s)",
        "vm-check: unload:diag ok 5 programs (0.4 s)",
        "doctor: ok    call sites: last use               which code uses it, by fentry:tcp_sendmsg",
        "vm-end",
    ];

    #[test]
    fn a_console_becomes_a_row() {
        let good = outcome(&GOOD, None);
        assert!(good.is_good(), "{good:?}");
        assert_eq!(
            table(&[good]),
            "\nkernel    probes   scan     watch    unload   seconds  back-ends, call sites\n\
             6.1.0-56  ok       ok       ok       ok            17  btf, diag; fentry:tcp_sendmsg\n"
        );
    }

    #[test]
    fn whatever_is_missing_or_wrong_is_a_failure() {
        assert!(!outcome(&GOOD[..8], None).is_good(), "it did not end");
        let no_uses = [&GOOD[..7], &GOOD[8..]].concat();
        assert_eq!(
            outcome(&no_uses, None).details().last().map(String::as_str),
            Some("FAIL: call sites should be by fentry:tcp_sendmsg, and are by none")
        );
        assert!(!outcome(&GOOD[1..], None).is_good(), "a check was not made");
        assert!(!outcome(&GOOD, Some("soft lockup")).is_good(), "it was killed");
        let without_one = [&GOOD[..2], &GOOD[3..]].concat();
        assert_eq!(outcome(&without_one, None).grade("scan"), "FAIL");
        let mut lines = GOOD;
        lines[2] = "vm-check: scan:diag FAIL no finding (1.1 s)";
        let one_back_end = outcome(&lines, None);
        assert_eq!(one_back_end.grade("scan"), "FAIL");
        lines[0] = "vm-check: doctor ok back-ends diag (0.7 s)";
        lines[2] = GOOD[2];
        let fewer = outcome(&lines, None);
        assert_eq!(
            fewer.details().last().map(String::as_str),
            Some("FAIL: the back-ends should be btf, diag, and are diag")
        );
        let failed = outcome(&["vm-check: boot FAIL cannot mount /proc", "vm-end"], None);
        assert!(!failed.is_good());
        assert_eq!(failed.details()[0], "boot FAIL: cannot mount /proc");
        assert!(table(&[failed]).contains("not run"));
    }
}
