//! What is a database, among all the sockets of a host.
//!
//! The kernel programs must decide for each connection of a busy host, so they get a bitmap and a few
//! prefixes that accept a little too much; the exact answer, with the system's name, is given here. A table
//! of defaults means that nobody has to configure anything at nine in the evening; the flags are for those
//! whose servers listen elsewhere.
//!
//! - [`system`] names the systems.
//! - [`ports`] and [`unix_path`] are the defaults, each entry with its source.
//! - [`rules`] parses what the user may add: `--port`, `--server`.
//! - [`filter`] puts them together.
//! - [`wire`] reads what clients say of themselves. Everything here is pure.

#![forbid(unsafe_code)]

use std::{error::Error, fmt};

pub mod default_limit;
pub mod filter;
pub mod ports;
pub mod rules;
pub mod system;
pub mod unix_path;
pub mod wire;

pub use filter::{Databases, Flags};
pub use rules::{PortRule, ServerRule};
pub use system::System;

/// Why a flag can't be used: one line that names the bad part, and what to write instead where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError(String);

impl RuleError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for RuleError {}
