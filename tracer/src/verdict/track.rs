//! Findings over time: one identity from first claim to retraction, and a word only when something changed.

use std::collections::BTreeMap;

use super::{Finding, FindingId, Kind, Rules};
use crate::{
    event::{Nanos, State},
    ledger::Ledger,
};

/// Where a finding is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// First told.
    New,
    /// More sockets than when last told.
    Growing,
    /// As many as when last told, or fewer, or surer.
    Steady,
}

impl Status {
    /// Word for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Growing => "growing",
            Self::Steady => "steady",
        }
    }
}

/// What there is to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// A finding is new or has changed.
    Finding(Box<Finding>, Status),
    /// A finding no longer holds: its sockets are closed, or used again.
    Resolved(Box<Finding>, Resolution),
}

/// Why a finding was retracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The sockets were closed.
    Closed,
    /// The sockets carry data again.
    UsedAgain,
    /// A limit is kept again, and for some time.
    Below,
}

impl Resolution {
    /// Word for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::UsedAgain => "used_again",
            Self::Below => "below",
        }
    }
}

struct Told {
    finding: Finding,
    at: Nanos,
    /// When it was last claimed.
    claimed_at: Nanos,
    sockets: usize,
}

/// See the module's head.
pub struct Tracker {
    /// See [`Rules::repeat`].
    repeat: Nanos,
    active: BTreeMap<FindingId, Told>,
}

impl Tracker {
    /// Nothing was told yet.
    #[must_use]
    pub fn new(rules: &Rules) -> Self {
        Self {
            repeat: rules.repeat,
            active: BTreeMap::new(),
        }
    }

    /// Compares the claims of this moment with what was told before.
    pub fn step(&mut self, ledger: &Ledger, now: Nanos, findings: Vec<Finding>) -> Vec<News> {
        let mut news = Vec::new();
        let mut current: BTreeMap<FindingId, Finding> = findings
            .into_iter()
            .map(|finding| (finding.id, finding))
            .collect();
        self.active.retain(|id, told| {
            if let Some(finding) = current.remove(id) {
                update(told, finding, now, self.repeat, &mut news);
                return true;
            }
            let kept = now.saturating_sub(told.claimed_at) >= self.repeat;
            let Some(resolution) = retracted(&told.finding, ledger, kept) else {
                return true;
            };
            let mut finding = told.finding.clone();
            if let Some(group) = ledger.group(&finding.key()) {
                (finding.opened, finding.closed) = (group.opened_total(), group.closed_total());
            }
            news.push(News::Resolved(Box::new(finding), resolution));
            false
        });
        for (id, finding) in current {
            news.push(News::Finding(Box::new(finding.clone()), Status::New));
            let sockets = finding.sockets.len();
            self.active.insert(
                id,
                Told {
                    finding,
                    at: now,
                    claimed_at: now,
                    sockets,
                },
            );
        }
        news
    }

    /// Findings that hold now.
    pub fn active(&self) -> impl Iterator<Item = &Finding> {
        self.active.values().map(|told| &told.finding)
    }
}

fn update(told: &mut Told, mut finding: Finding, now: Nanos, repeat: Nanos, news: &mut Vec<News>) {
    let surer = finding.confidence > told.finding.confidence;
    // A claim at a weaker moment does not take back what was seen.
    finding.confidence = finding.confidence.max(told.finding.confidence);
    let more = finding.sockets.len() > told.sockets;
    if surer || more && now.saturating_sub(told.at) >= repeat {
        let status = if more { Status::Growing } else { Status::Steady };
        news.push(News::Finding(Box::new(finding.clone()), status));
        told.at = now;
        told.sockets = finding.sockets.len();
    }
    told.finding = finding;
    told.claimed_at = now;
}

/// Why a finding that is no longer claimed is to be taken back; `None` while most of its sockets are as they were,
/// or, of what is counted, until the limit has been `kept` for a while: a number near its limit goes to and fro.
fn retracted(finding: &Finding, ledger: &Ledger, kept: bool) -> Option<Resolution> {
    if matches!(finding.kind, Kind::Exhaustion | Kind::Policy) {
        return kept.then_some(Resolution::Below);
    }
    let (mut same, mut used, mut closed) = (0, 0, 0);
    for evidence in &finding.sockets {
        let Some(now) = ledger.connection(evidence.connection.cookie) else {
            closed += 1;
            continue;
        };
        if now.last_use() > evidence.connection.last_use() || now.state == State::Closing {
            used += 1;
        } else {
            same += 1;
        }
    }
    if same * 2 >= finding.sockets.len() && same > 0 {
        None
    } else if used > closed {
        Some(Resolution::UsedAgain)
    } else {
        Some(Resolution::Closed)
    }
}
