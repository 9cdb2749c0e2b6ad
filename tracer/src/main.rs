//! The command line's entry point.

use std::process::ExitCode;

fn main() -> ExitCode {
    connleak::cli::main()
}
