//! What needs root says so when it is skipped, past the capture of `cargo test`: a skip that nobody sees is a test
//! that nobody runs.

use std::io::{self, Write};

/// Whether this process may load kernel programs.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Writes one line to standard error even when the test's output is captured.
pub fn say(line: &str) {
    // A closed standard error must not fail a test.
    drop(writeln!(io::stderr(), "{line}"));
}

/// Leaves the test, visibly, when it doesn't run as root.
#[macro_export]
macro_rules! require_root {
    () => {
        if !$crate::root::is_root() {
            $crate::root::say(&format!("SKIPPED: needs root ({}:{})", file!(), line!()));
            return Ok(());
        }
    };
}
