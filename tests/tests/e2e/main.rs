//! The sentences of the README, as tests: real applications, real servers, real probes.
//!
//! One binary, a module for each subject. The tests run side by side, each with applications of its own; several share
//! a server. So what they ask about the output they ask about their own process, and where "nothing else is there"
//! matters (exit code 0, exact counts) the agent looks at a server that the test has to itself, or at the test's process.

#![forbid(unsafe_code)]

mod backends;
mod bad_input;
mod call_sites;
mod callsite;
mod churn;
mod demo;
mod journal;
mod kept;
mod leak;
mod limits;
mod log_file;
mod namespaces;
mod pool;
mod python_code;
mod scan_mariadb;
mod scan_postgres;
mod scan_redis;
mod schema;
mod watch;
