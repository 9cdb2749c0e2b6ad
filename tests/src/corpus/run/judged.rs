//! What the agent said about an application, held against the truth.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use serde_json::Value;

use super::{
    application::Members,
    named::{Named, named},
    pid_of,
};
use crate::{corpus::labels::Scenario, lines};

/// One finding over its life.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What is claimed.
    pub kind: String,
    /// The highest confidence with which it was.
    pub confidence: Confidence,
    /// Whether it is true.
    pub right: bool,
    /// Seconds after the start, and after attach.
    pub at: f64,
    /// Seconds after attach.
    pub after_attach: f64,
    /// Seconds after attach or the third leaked socket, whichever came later.
    pub delay: Option<f64>,
    /// The same until it was claimed with `likely` or better, if it ever was.
    pub acted_on: Option<f64>,
    /// Truly leaked sockets at that time, of all processes.
    pub leaked_then: usize,
    /// Seconds after the start at which it was taken back, if that was the last word.
    pub resolved: Option<f64>,
    /// How often it was taken back.
    pub resolutions: usize,
}

/// The words of the log, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// Never enough to act on.
    Suspect,
    /// Makes the exit code 3.
    Likely,
    /// Must never be wrong.
    Certain,
}

impl Confidence {
    /// Reads the word of the log.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "suspect" => Self::Suspect,
            "likely" => Self::Likely,
            "certain" => Self::Certain,
            _ => return None,
        })
    }

    /// The word of the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Suspect => "suspect",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// All that `watch` said about one application.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Each finding, in the order of their first appearance.
    pub claims: Vec<Claim>,
    /// The first line's kind and confidence, as they were then.
    pub first: Option<(String, Confidence)>,
    /// Sockets claimed by true findings in their last lines, each socket once, and truly leaked at the last of those.
    pub sockets: Option<(usize, usize)>,
    /// Where the last lines of true findings have the function that leaks; `None` without a true finding.
    pub named: Option<Named>,
}

impl Verdict {
    /// The claim that counts: the surest, the right one of equals.
    #[must_use]
    pub fn main(&self) -> Option<&Claim> {
        self.claims.iter().max_by(|a, b| {
            (a.confidence, a.right)
                .cmp(&(b.confidence, b.right))
                .then(b.at.total_cmp(&a.at))
        })
    }
}

/// What one `scan` said.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Kind, confidence, whether it is true, sockets.
    pub claims: Vec<(String, Confidence, bool, u64)>,
}

impl Scan {
    /// Reads the lines of a scan that are about these processes.
    #[must_use]
    pub fn read(scenario: &Scenario, all: &[Value], members: &Members) -> Self {
        let about = |line: &&Value| pid_of(line).is_some_and(|pid| members.pids.contains(&pid));
        let claims = lines::findings(all)
            .into_iter()
            .filter(about)
            .filter_map(|line| {
                let (kind, confidence) = words(line)?;
                let right = is_right(scenario, members, &kind, pid_of(line)?);
                let sockets = line["finding"]["sockets"].as_u64().unwrap_or(0);
                Some((kind, confidence, right, sockets))
            })
            .collect();
        Self { claims }
    }

    /// The surest claim.
    #[must_use]
    pub fn main(&self) -> Option<&(String, Confidence, bool, u64)> {
        self.claims.iter().max_by_key(|claim| (claim.1, claim.2, claim.3))
    }
}

/// Holds what `watch` said against the truth.
pub fn judge(
    scenario: &Scenario,
    said: &[(Instant, Value)],
    members: &Members,
    attached: Instant,
    start: Instant,
) -> Verdict {
    let since = |at: Instant, from: Instant| at.saturating_duration_since(from).as_secs_f64();
    let mut order = Vec::new();
    let mut claims: BTreeMap<String, Claim> = BTreeMap::new();
    let mut first = None;
    let mut claimed: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let mut sockets = None;
    let mut functions: BTreeMap<String, Named> = BTreeMap::new();
    for (at, line) in said {
        let Some(pid) = pid_of(line).filter(|pid| members.pids.contains(pid)) else {
            continue;
        };
        let Some(id) = line["finding"]["id"].as_str() else {
            continue;
        };
        if lines::is(line, "resolved") {
            if let Some(claim) = claims.get_mut(id) {
                claim.resolved = Some(since(*at, start));
                claim.resolutions += 1;
            }
            continue;
        }
        let Some((kind, confidence)) = words(line).filter(|_| lines::is(line, "finding")) else {
            continue;
        };
        first.get_or_insert((kind.clone(), confidence));
        let right = is_right(scenario, members, &kind, pid);
        if right {
            let listed = line["sockets"].as_array().into_iter().flatten();
            let cookies = listed.filter_map(|socket| socket["cookie"].as_u64()).collect();
            claimed.insert(id.to_owned(), cookies);
            if let Some(function) = &scenario.function {
                functions.insert(id.to_owned(), named(function, line));
            }
            let all: BTreeSet<&u64> = claimed.values().flatten().collect();
            sockets = Some((all.len(), members.leaked_by(*at)));
        }
        // A scenario that leaks fewer than three is late when its last one is old.
        let enough = members.reached(3).or_else(|| members.reached(1));
        let delay = enough.map(|enough| since(*at, enough.max(attached)));
        let claim = claims.entry(id.to_owned()).or_insert_with(|| {
            order.push(id.to_owned());
            Claim {
                kind,
                confidence,
                right,
                at: since(*at, start),
                after_attach: since(*at, attached),
                delay,
                acted_on: None,
                leaked_then: members.leaked_by(*at),
                resolved: None,
                resolutions: 0,
            }
        });
        claim.confidence = claim.confidence.max(confidence);
        if confidence >= Confidence::Likely {
            claim.acted_on = claim.acted_on.or(delay);
        }
        claim.resolved = None;
    }
    Verdict {
        claims: order.into_iter().filter_map(|id| claims.remove(&id)).collect(),
        first,
        sockets,
        named: functions.into_values().max(),
    }
}

fn words(line: &Value) -> Option<(String, Confidence)> {
    let finding = &line["finding"];
    Some((
        finding["kind"].as_str()?.to_owned(),
        Confidence::parse(finding["confidence"].as_str()?)?,
    ))
}

/// Whether a finding of this kind about this process is true.
///
/// Of a process that has not leaked anything nothing is true, except that an inherited socket may be blamed on
/// either side.
fn is_right(scenario: &Scenario, members: &Members, kind: &str, pid: u32) -> bool {
    let leaks = members
        .truths
        .iter()
        .any(|truth| truth.pid == pid && truth.count > 0);
    scenario.is_true(kind) && (leaks || scenario.label == "inherited")
}
