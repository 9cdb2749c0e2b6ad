//! Precision and recall: how often a claim was true, and how many of the leaks were named.
//!
//! Counted by scenario, so that one with many findings weighs no more than another. A claim is what the agent
//! acts on: `likely` or `certain`. One false claim makes a scenario wrong, whatever else was said about it.

use std::collections::BTreeMap;

use super::run::{Claim, Confidence, Named, Record};

/// True and false claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Scenarios of which something true was claimed.
    pub right: usize,
    /// Scenarios of which something false was claimed.
    pub wrong: usize,
    /// Leaks of which nothing true was claimed.
    pub missed: usize,
}

impl Tally {
    /// Share of claims that are true; none when nothing was claimed.
    #[must_use]
    pub fn precision(self) -> Option<f64> {
        share(self.right, self.right + self.wrong)
    }

    /// Share of leaks that were named; none when there are none.
    #[must_use]
    pub fn recall(self) -> Option<f64> {
        share(self.right, self.right + self.missed)
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// All numbers of a run.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// `watch`, by scenario.
    pub overall: Tally,
    /// `watch`: claims by their highest confidence.
    pub by_confidence: BTreeMap<Confidence, Tally>,
    /// `watch`: recall by label, precision by what was claimed.
    pub by_kind: BTreeMap<String, Tally>,
    /// `scan` at the end, by scenario.
    pub scan: Tally,
    /// Healthy scenarios, leaking ones.
    pub healthy: usize,
    /// Leaking scenarios.
    pub leaking: usize,
    /// Seconds to the verdict, sorted.
    pub delays: Vec<f64>,
    /// Seconds until it was `likely` or better, sorted.
    pub acted_on: Vec<f64>,
    /// Predictions that came true.
    pub predicted: usize,
    /// Leaks that were found, in scenarios in which the agent saw the first leaked socket being opened.
    pub seen: usize,
    /// Those of them whose function is on the stack that opened the sockets, or that used them last.
    pub functions: usize,
    /// Those of them whose function the message itself names.
    pub in_message: usize,
    /// True findings that were taken back though the leak went on.
    pub taken_back: usize,
}

impl Score {
    /// Counts.
    #[must_use]
    pub fn of(records: &[Record]) -> Self {
        let mut score = Self::default();
        for record in records {
            score.count(record);
        }
        score.delays.sort_by(f64::total_cmp);
        score.acted_on.sort_by(f64::total_cmp);
        score
    }

    /// The time in the middle of sorted ones, and the longest.
    #[must_use]
    pub fn median_and_worst(times: &[f64]) -> (Option<f64>, Option<f64>) {
        (times.get(times.len() / 2).copied(), times.last().copied())
    }

    fn count(&mut self, record: &Record) {
        let leaks = record.scenario.leaks();
        if leaks {
            self.leaking += 1;
        } else {
            self.healthy += 1;
        }
        self.predicted += usize::from(as_predicted(record));
        add(&mut self.overall, leaks, named(record), mistaken(record));
        let scanned = |right: bool| {
            let mut claims = record.scan.claims.iter();
            claims.any(|claim| claim.1 >= Confidence::Likely && claim.2 == right)
        };
        add(&mut self.scan, leaks, scanned(true), scanned(false));

        for level in [Confidence::Suspect, Confidence::Likely, Confidence::Certain] {
            let at = |right: bool| {
                let mut claims = record.verdict.claims.iter();
                claims.any(|claim| claim.confidence == level && claim.right == right)
            };
            // Recall of a level: leaks that are named with at least that confidence.
            let enough = |claim: &Claim| claim.right && claim.confidence >= level;
            let tally = self.by_confidence.entry(level).or_default();
            tally.right += usize::from(at(true));
            tally.wrong += usize::from(at(false));
            tally.missed += usize::from(leaks && !record.verdict.claims.iter().any(enough));
        }
        if leaks {
            let tally = self.by_kind.entry(record.scenario.label.clone()).or_default();
            tally.right += usize::from(named(record));
            tally.missed += usize::from(!named(record));
        }
        let false_kinds: std::collections::BTreeSet<&str> = record
            .verdict
            .claims
            .iter()
            .filter(|claim| !claim.right && claim.confidence >= Confidence::Likely)
            .map(|claim| claim.kind.as_str())
            .collect();
        for kind in false_kinds {
            self.by_kind.entry(kind.to_owned()).or_default().wrong += 1;
        }
        if let (true, Some(place)) = (record.seen_from_the_beginning, record.verdict.named) {
            self.seen += 1;
            self.functions += usize::from(place > Named::Nowhere);
            self.in_message += usize::from(place == Named::Message);
        }
        if let Some(claim) = first_right(record) {
            self.delays.extend(claim.delay);
            self.acted_on.extend(claim.acted_on);
            self.taken_back += usize::from(claim.resolutions > 0);
        }
    }
}

fn add(tally: &mut Tally, leaks: bool, right: bool, wrong: bool) {
    tally.right += usize::from(right);
    tally.wrong += usize::from(wrong);
    tally.missed += usize::from(leaks && !right);
}

/// The first true claim that is worth acting on.
#[must_use]
pub fn first_right(record: &Record) -> Option<&Claim> {
    let mut claims = record.verdict.claims.iter();
    claims.find(|claim| claim.right && claim.confidence >= Confidence::Likely)
}

/// Whether something true was claimed, `likely` or better.
#[must_use]
pub fn named(record: &Record) -> bool {
    first_right(record).is_some()
}

/// Whether something false was claimed, `likely` or better.
#[must_use]
pub fn mistaken(record: &Record) -> bool {
    let mut claims = record.verdict.claims.iter();
    claims.any(|claim| !claim.right && claim.confidence >= Confidence::Likely)
}

/// Sockets that true findings claimed though they had not leaked: claimed, truly leaked then.
#[must_use]
pub fn overclaimed(record: &Record) -> Option<(usize, usize)> {
    let (claimed, leaked) = record.verdict.sockets?;
    (record.scenario.leaks() && claimed > leaked).then_some((claimed, leaked))
}

/// Whether the agent was right about a scenario.
#[must_use]
pub fn is_right(record: &Record) -> bool {
    !mistaken(record) && named(record) == record.scenario.leaks()
}

/// Whether the first finding was as predicted.
#[must_use]
pub fn as_predicted(record: &Record) -> bool {
    let first = record.verdict.first.as_ref();
    let said = first.map_or("none".to_owned(), |(kind, confidence)| {
        format!("{kind} {}", confidence.name())
    });
    said == record.scenario.predict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_nothing_are_not_numbers() {
        let tally = Tally {
            right: 3,
            wrong: 1,
            missed: 0,
        };
        assert_eq!(tally.precision(), Some(0.75));
        assert_eq!(tally.recall(), Some(1.0));
        assert_eq!(Tally::default().precision(), None);
    }
}
