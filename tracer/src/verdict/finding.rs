//! A finding: a claim with its evidence in numbers.

use std::{cmp::Reverse, fmt, sync::Arc};

use super::{
    Breach, Outlook, Policy, Rules,
    code::Code,
    growth::{Point, growth, slope, thin},
    view::View,
};
use crate::{
    event::{Cookie, Nanos, SECOND, Server},
    fnv,
    ledger::{Connection, GroupKey},
    owner::ProcessId,
};

/// What is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Idle sockets, passed over again and again, growing in number.
    Leak,
    /// Sockets of a bounded pool that have dropped out of use, one by one, while nothing is opened.
    Unreturned,
    /// The server has closed, the application has not.
    CloseWait,
    /// Held by a process that neither opened nor used it, after the opener let go.
    Inherited,
    /// Connected, and no request ever sent.
    NeverUsed,
    /// The server is full, or will be.
    Exhaustion,
    /// A limit of the policy is broken.
    Policy,
}

impl Kind {
    /// Word for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::Unreturned => "unreturned",
            Self::CloseWait => "close_wait",
            Self::Inherited => "inherited",
            Self::NeverUsed => "never_used",
            Self::Exhaustion => "exhaustion",
            Self::Policy => "policy",
        }
    }
}

/// How sure the claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Confidence {
    /// Worth a longer look; not enough to act on.
    Suspect,
    /// What is seen is rare in healthy applications.
    Likely,
    /// Seen from beginning to end.
    Certain,
}

impl Confidence {
    /// Every confidence, weakest first.
    pub const ALL: [Self; 3] = [Self::Suspect, Self::Likely, Self::Certain];

    /// Word for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Suspect => "suspect",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// Stays the same over the life of a finding: a hash of what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FindingId(pub u32);

impl fmt::Display for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// What a rule says about a group.
pub(super) struct Claim<'a> {
    pub kind: Kind,
    pub confidence: Confidence,
    pub sockets: Vec<&'a Connection>,
    /// Why, in the reader's words: each a whole clause with its numbers.
    pub because: Vec<String>,
    /// What keeps the confidence from being higher.
    pub but: Vec<String>,
    /// All that they carry is what keeps them alive, for so long one of them.
    pub kept_alive: Option<Nanos>,
}

/// One socket of a finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The connection as the ledger has it.
    pub connection: Connection,
    /// How long it has been silent.
    pub idle: Option<Nanos>,
    /// How often another one was opened meanwhile.
    pub passed_over: u64,
}

/// See the module's head.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Stable identity.
    pub id: FindingId,
    /// What.
    pub kind: Kind,
    /// How sure.
    pub confidence: Confidence,
    /// Whose.
    pub process: ProcessId,
    /// To where.
    pub server: Arc<Server>,
    /// The sockets, longest silence first.
    pub sockets: Vec<Evidence>,
    /// Connections to that server that the process has open in all.
    pub open: u64,
    /// Opened in view.
    pub opened: u64,
    /// Closed in view.
    pub closed: u64,
    /// How many connections to that server come up a minute and stay; of `exhaustion`, of all processes. `None`:
    /// not known.
    pub growth_per_min: Option<f64>,
    /// The growth is no measurement: it is the pace at which these sockets were opened or fell silent.
    pub growth_estimated: bool,
    /// How the server stands.
    pub outlook: Outlook,
    /// The limit that is broken.
    pub breach: Option<Breach>,
    /// Sockets that were opened before attach.
    pub opened_before_attach: usize,
    /// The sockets are not silent, but all that they carry is what keeps them alive; for so long one of them.
    pub kept_alive: Option<Nanos>,
    /// Why.
    pub because: Vec<String>,
    /// What is not known.
    pub but: Vec<String>,
    /// Which code.
    pub code: Code,
}

impl Finding {
    pub(super) fn new(
        key: &GroupKey,
        view: &View<'_>,
        policy: &Policy,
        outlook: Outlook,
        claim: Claim<'_>,
    ) -> Self {
        let measured = if claim.kind == Kind::Exhaustion {
            outlook.growth
        } else {
            growth(&view.group.open_points(), &policy.rules)
        };
        let measured = measured.map(|growth| growth.per_min);
        let estimate = || pace(&claim.sockets, view.now, &policy.rules);
        let growth_per_min = measured.or_else(estimate);
        let idle = |connection: &Connection| {
            // Silence since we began to look is no idle time when we have only just begun.
            view.silent(connection)
                .filter(|_| !policy.single_look || connection.last_known_activity().is_some())
        };
        let mut longest_first: Vec<(Reverse<Option<Nanos>>, Cookie, &Connection)> = claim
            .sockets
            .iter()
            .map(|&connection| (Reverse(idle(connection)), connection.cookie, connection))
            .collect();
        longest_first.sort_unstable_by_key(|&(idle, cookie, _)| (idle, cookie));
        let mut passed_over = view.passed_over();
        let evidence = |(Reverse(idle), _, connection): (_, _, &Connection)| Evidence {
            connection: connection.clone(),
            idle,
            passed_over: passed_over(connection),
        };
        let sockets: Vec<Evidence> = longest_first.into_iter().map(evidence).collect();
        Self {
            id: identify(claim.kind, key),
            kind: claim.kind,
            confidence: claim.confidence,
            process: key.process,
            server: Arc::clone(&key.server),
            opened_before_attach: claim
                .sockets
                .iter()
                .filter(|socket| socket.opened_at().is_none())
                .count(),
            code: Code::of(&sockets, view.group),
            sockets,
            open: view.connections.len() as u64,
            opened: view.group.opened_total(),
            closed: view.group.closed_total(),
            growth_per_min,
            growth_estimated: measured.is_none() && growth_per_min.is_some(),
            outlook,
            breach: None,
            kept_alive: claim.kept_alive,
            because: claim.because,
            but: claim.but,
        }
    }

    /// The same finding, of a broken limit.
    pub(super) fn of_breach(mut self, breach: Breach) -> Self {
        self.id = match breach {
            Breach::Headroom { .. } => FindingId::of_server(self.kind, &self.server),
            other => FindingId(fnv::short(&format!("{} {}", self.id, other.name()))),
        };
        self.breach = Some(breach);
        self
    }

    /// How long until the server's limit is reached at the present pace; `None`: not known, or not foreseeable.
    #[must_use]
    pub fn exhausted_in(&self) -> Option<Nanos> {
        let estimate = || self.growth_per_min.filter(|_| self.growth_estimated);
        self.outlook
            .exhausted_in()
            .or_else(|| self.outlook.full_in(estimate()?))
    }

    /// Whether it is about a server and all that use it; the process is only the one that stands out.
    #[must_use]
    pub fn is_about_server(&self) -> bool {
        self.kind == Kind::Exhaustion || matches!(self.breach, Some(Breach::Headroom { .. }))
    }

    /// The group that it is about.
    #[must_use]
    pub fn key(&self) -> GroupKey {
        GroupKey {
            process: self.process,
            server: Arc::clone(&self.server),
        }
    }

    /// Longest silence.
    #[must_use]
    pub fn idle_max(&self) -> Option<Nanos> {
        self.sockets.iter().filter_map(|socket| socket.idle).max()
    }

    /// Shortest silence.
    #[must_use]
    pub fn idle_min(&self) -> Option<Nanos> {
        self.sockets.iter().filter_map(|socket| socket.idle).min()
    }

    /// How often the most passed-over socket was passed over.
    #[must_use]
    pub fn passed_over_max(&self) -> u64 {
        self.sockets
            .iter()
            .map(|socket| socket.passed_over)
            .max()
            .unwrap_or(0)
    }

    /// The finding's sockets by cookie.
    pub fn cookies(&self) -> impl Iterator<Item = Cookie> {
        self.sockets.iter().map(|socket| socket.connection.cookie)
    }
}

impl FindingId {
    /// Of what is about a server, whichever process it names.
    pub(super) fn of_server(kind: Kind, server: &Server) -> Self {
        Self(fnv::short(&format!(
            "{} {} {}",
            kind.name(),
            server.system,
            server.place
        )))
    }
}

fn identify(kind: Kind, key: &GroupKey) -> FindingId {
    FindingId(fnv::short(&format!(
        "{} {} {} {} {}",
        kind.name(),
        key.process.pid,
        { key.process.start_ticks },
        key.server.system,
        key.server.place
    )))
}

/// Without history: the pace at which these sockets came up. Each counts from when it was opened, or, where that
/// was not seen, was last used. `None` when they are few, or when more would have come since at that pace.
fn pace(sockets: &[&Connection], now: Nanos, rules: &Rules) -> Option<f64> {
    let moment = |connection: &&Connection| connection.opened_at().or(connection.last_known_activity());
    let mut moments: Vec<Nanos> = sockets.iter().filter_map(moment).collect();
    moments.sort_unstable();
    let points: Vec<Point> = moments.into_iter().zip(1..).collect();
    let (&(first, _), &(last, _)) = (points.first()?, points.last()?);
    let per_min = slope(&thin(&points))?;
    let since = now.saturating_sub(last) as f64 / (60.0 * SECOND as f64);
    // Requests come as they like: three times the mean distance without one is no rare thing, six times is.
    let goes_on = per_min * since < 2.0 * rules.links as f64;
    // A rate from moments that are one burst would be a wild guess.
    (last - first >= rules.spread && goes_on).then_some(per_min)
}
