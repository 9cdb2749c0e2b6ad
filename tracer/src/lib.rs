//! connleak finds leaked database connections on a live host.
//!
//! Data flows one way, and the modules are read in that order:
//! [`probes`] (kernel) → [`event`] → [`ledger`] → [`verdict`] → [`output`]. [`owner`] says who, [`server`]
//! says what a database is, [`agent`] joins them, [`cli`] has a file for each command.
//! `ARCHITECTURE.md` is the map.

pub mod agent;
pub mod callsite;
pub mod case;
pub mod cli;
pub mod event;
pub mod fnv;
pub mod journal;
pub mod ledger;
pub mod output;
pub mod owner;
pub mod policy_file;
pub mod probes;
pub mod server;
pub mod verdict;
