//! Harness of the end-to-end tests: real servers, real clients, the real agent.
//!
//! A test reads like the sentence it proves: start a server, start an application that leaks into it, run
//! `connleak`, look at the lines it printed. Everything here waits for a condition and never for a duration, picks
//! free ports, and takes down by pid what it started, so that the tests can run side by side and leave no trace.

#![deny(unsafe_code)]
#![expect(
    clippy::missing_errors_doc,
    reason = "every error of a harness is a failed test and says what failed"
)]

pub mod agent;
pub mod app;
pub mod bench;
pub mod control;
pub mod corpus;
pub mod lines;
pub mod port;
#[expect(unsafe_code, reason = "bpf(2) has no safe wrapper in nix")]
pub mod programs;
#[expect(unsafe_code, reason = "system calls that have no safe wrapper in nix")]
pub mod raw;
pub mod root;
pub mod server;
pub mod sink;
#[expect(unsafe_code, reason = "an io_uring is shared memory")]
pub mod uring;
pub mod wait;
pub mod watch;
