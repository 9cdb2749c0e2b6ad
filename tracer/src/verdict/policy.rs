//! What the rules are told from outside: what counts as idle, what must not be, and their constants.

use std::ops::RangeInclusive;

use super::{
    Confidence, Finding, Rules,
    knob::{Knob, Quantity as _, Unit},
};
use crate::{
    event::{Nanos, Place, SECOND, Server},
    server::{ServerRule, System},
};

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Silence after which a socket counts as idle.
    pub idle: Nanos,
    /// Least confidence of a finding that makes the exit code 3.
    pub min_confidence: Confidence,
    /// There is no history and there will be none: `scan`.
    pub single_look: bool,
    /// What must not be, for every process and server.
    pub limits: Limits,
    /// What must not be, for some.
    pub exceptions: Vec<Exception>,
    /// The rules' constants.
    pub rules: Rules,
}

/// What must not be; `None`: no limit is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most connections of one process to one server.
    pub max_open: Option<u64>,
    /// Longest silence of a connection.
    pub longest_idle: Option<Nanos>,
    /// Connections that the server accepts in all.
    pub server_limit: Option<u64>,
    /// How many of those must stay free.
    pub headroom: Option<u64>,
}

/// Limits of their own for some connections: those that all of what is named here fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exception {
    /// The process's name, as `ps -o comm` has it.
    pub process: Option<String>,
    /// What the server is.
    pub db: Option<System>,
    /// Where the server is.
    pub server: Option<ServerRule>,
    /// The limits that are other than for all.
    pub limits: Limits,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            idle: Self::IDLE,
            min_confidence: Confidence::Likely,
            single_look: false,
            limits: Limits::default(),
            exceptions: Vec::new(),
            rules: Rules::default(),
        }
    }
}

impl Policy {
    /// Default of `--idle`: longer than nearly every query and think time of an online application, short
    /// against an incident.
    pub const IDLE: Nanos = 30 * SECOND;

    /// `idle`, as a policy file has it.
    pub const KNOBS: &[Knob<Self>] = &[Knob {
        name: "idle",
        doc: &[
            " Silence after which a connection counts as idle: longer than nearly every query and think time of an",
            " online application, short against an incident.",
        ],
        unit: Unit::Span,
        // Below this, the time between two requests of one session counts as idle.
        range: SECOND / 10..=30 * DAY,
        get: |policy| Some(policy.idle),
        set: |policy, idle| policy.idle = idle,
    }];

    /// The shorter of `--idle` and [`Rules::soon`].
    #[must_use]
    pub fn soon(&self) -> Nanos {
        self.idle.min(self.rules.soon)
    }

    /// Whether a finding is sure enough for the exit code.
    #[must_use]
    pub fn counts(&self, finding: &Finding) -> bool {
        finding.confidence >= self.min_confidence
    }

    /// Whether anything depends on a process's name.
    #[must_use]
    pub fn asks_for_names(&self) -> bool {
        self.exceptions
            .iter()
            .any(|exception| exception.process.is_some())
    }

    /// What must not be for a process of this name (unless nobody asked for it) and this server. Of several
    /// exceptions that set the same limit, the last counts.
    #[must_use]
    pub fn limits_of(&self, name: Option<&str>, server: &Server) -> Limits {
        let fits = |exception: &&Exception| {
            (exception.process.is_none() || exception.process.as_deref() == name)
                && exception.db.is_none_or(|db| db == server.system)
                && exception.server.as_ref().is_none_or(|rule| is_at(rule, server))
        };
        let exceptions = self.exceptions.iter().filter(fits);
        exceptions.fold(self.limits.clone(), |general, special| {
            let special = special.limits.clone();
            Limits {
                max_open: special.max_open.or(general.max_open),
                longest_idle: special.longest_idle.or(general.longest_idle),
                server_limit: special.server_limit.or(general.server_limit),
                headroom: special.headroom.or(general.headroom),
            }
        })
    }

    /// What can't be meant, in words; `None` when all can.
    #[must_use]
    pub fn contradiction(&self) -> Option<String> {
        let all = || std::iter::once(&self.limits).chain(self.exceptions.iter().map(|one| &one.limits));
        let headroom = all().filter_map(|limits| limits.headroom).max()?;
        match all().filter_map(|limits| limits.server_limit).max() {
            None => Some("headroom is counted from the server's limit: set server_limit, too".to_owned()),
            Some(limit) if limit <= headroom => Some(format!(
                "headroom {headroom} leaves nothing of server_limit {limit}"
            )),
            Some(_) => None,
        }
    }
}

const DAY: Nanos = 24 * 3600 * SECOND;
/// More than any server takes, and than any process has descriptors by default (`fs.nr_open`, 2^20).
const SOCKETS: RangeInclusive<u64> = 1..=10_000_000;

impl Limits {
    /// Every limit, as a policy file has it.
    pub const KNOBS: &[Knob<Self>] = &[
        Knob {
            name: "max_open",
            doc: &[" Most connections that one process may have open to one server."],
            unit: Unit::Count,
            range: SOCKETS,
            get: |limits| limits.max_open,
            set: |limits, number| limits.max_open = Some(number),
        },
        Knob {
            name: "longest_idle",
            doc: &[" Longest time that a connection may be idle."],
            unit: Unit::Span,
            range: SECOND / 10..=365 * DAY,
            get: |limits| limits.longest_idle.map(Nanos::number),
            set: |limits, number| limits.longest_idle = Some(number),
        },
        Knob {
            name: "server_limit",
            doc: &[
                " Connections that the server accepts in all (PostgreSQL: max_connections less what is reserved for",
                " administrators; MySQL: max_connections; Redis: maxclients). Nobody asks the server.",
            ],
            unit: Unit::Count,
            range: SOCKETS,
            get: |limits| limits.server_limit,
            set: |limits, number| limits.server_limit = Some(number),
        },
        Knob {
            name: "headroom",
            doc: &[" How many of server_limit must stay free, as far as this host's connections go."],
            unit: Unit::Count,
            range: SOCKETS,
            get: |limits| limits.headroom,
            set: |limits, number| limits.headroom = Some(number),
        },
    ];
}

fn is_at(rule: &ServerRule, server: &Server) -> bool {
    match (rule, &server.place) {
        (ServerRule::Address { prefix, port }, Place::Tcp(address)) => {
            prefix.contains(address.ip()) && port.is_none_or(|port| port == address.port())
        }
        (ServerRule::Path { path, system }, Place::Unix(place)) => {
            path == place && system.is_none_or(|system| system == server.system)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn server(address: &str) -> Server {
        let place = Place::Tcp(address.parse::<SocketAddr>().expect("an address"));
        Server {
            system: System::Postgresql,
            place,
        }
    }

    fn exception(process: Option<&str>, server: Option<&str>, max_open: u64) -> Exception {
        Exception {
            process: process.map(ToOwned::to_owned),
            server: server.map(|rule| rule.parse().expect("a rule")),
            limits: Limits {
                max_open: Some(max_open),
                ..Limits::default()
            },
            ..Exception::default()
        }
    }

    #[test]
    fn the_last_exception_that_fits_counts_and_leaves_the_other_limits() {
        let mut policy = Policy::default();
        policy.limits.max_open = Some(10);
        policy.limits.server_limit = Some(100);
        policy.exceptions = vec![
            exception(None, Some("10.0.0.0/8"), 20),
            exception(Some("payments"), Some("10.0.0.5:5432"), 30),
        ];
        let most = |name, at| policy.limits_of(name, &server(at)).max_open;
        assert_eq!(most(Some("payments"), "10.0.0.5:5432"), Some(30));
        assert_eq!(most(Some("payments"), "10.0.0.5:5433"), Some(20));
        assert_eq!(most(None, "10.0.0.5:5432"), Some(20));
        assert_eq!(most(Some("payments"), "192.0.2.1:5432"), Some(10));
        let limits = policy.limits_of(Some("payments"), &server("10.0.0.5:5432"));
        assert_eq!(limits.server_limit, Some(100));
    }

    #[test]
    fn headroom_needs_a_limit_that_is_larger() {
        let mut policy = Policy::default();
        policy.limits.headroom = Some(10);
        assert!(
            policy
                .contradiction()
                .is_some_and(|why| why.contains("server_limit"))
        );
        policy.limits.server_limit = Some(10);
        assert!(policy.contradiction().is_some_and(|why| why.contains("nothing")));
        policy.limits.server_limit = Some(11);
        assert_eq!(policy.contradiction(), None);
    }
}
