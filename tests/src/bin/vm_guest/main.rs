//! `/init` of the virtual machines that `cargo xtask vm` boots, and the applications that run in them.
//!
//! A Debian kernel, this program and `connleak`, both static: nothing else is in the machine. As process 1 it
//! mounts what the agent reads, lets applications leak and behave, asks `connleak` about them, writes a line a
//! check on the console, and turns the machine off. Started with a word, it is one of those applications.
//!
//! The console's lines are read by `xtask/src/vm/outcome.rs`:
//!
//! ```text
//! vm-check: NAME[:BACKEND] ok|FAIL WORDS
//! vm-end
//! ```

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

mod applications;
mod boot;
mod checks;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = if std::process::id() == 1 {
        // The kernel passes what it does not understand of its own command line on to us.
        let done = boot::mount()
            .and_then(|()| boot::load_modules())
            .and_then(|()| boot::loopback_up());
        let done = done.map(|()| checks::run());
        if let Err(error) = done {
            say(&format!("vm-check: boot FAIL {error:#}"));
        }
        say("vm-end");
        boot::turn_off()
    } else {
        application(&words)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("vm-guest {}: {error:#}", words.join(" ")));
            ExitCode::FAILURE
        }
    }
}

fn application(words: &[&str]) -> Result<()> {
    let port = |word: &str| word.parse().with_context(|| format!("{word} is no port"));
    match words {
        ["server"] => applications::server(),
        ["leaker", at] => applications::leaker(port(at)?),
        ["pool", at] => applications::pool(port(at)?),
        ["bursts", at] => applications::bursts(port(at)?),
        ["churn", at] => applications::churn(port(at)?),
        ["unix"] => applications::unix(),
        _ => bail!("not an application of the virtual machine"),
    }
}

/// Writes a line on the console. There is nobody to tell when that fails.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
