//! What the rules are told from outside.

use super::Rules;
use crate::event::{Nanos, SECOND};

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Silence after which a socket counts as idle.
    pub idle: Nanos,
    /// There is no history and there will be none: `scan`.
    pub single_look: bool,
    /// The rules' constants.
    pub rules: Rules,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            idle: Self::IDLE,
            single_look: false,
            rules: Rules::default(),
        }
    }
}

impl Policy {
    /// Default of `--idle`: longer than nearly every query and think time of an online application, short
    /// against an incident.
    pub const IDLE: Nanos = 30 * SECOND;

    /// The shorter of `--idle` and [`Rules::soon`].
    #[must_use]
    pub fn soon(&self) -> Nanos {
        self.idle.min(self.rules.soon)
    }
}
