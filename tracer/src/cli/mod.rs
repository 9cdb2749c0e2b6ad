//! The commands: arguments in, exit code out. One file a command.

mod args;
mod demo;
mod doctor;
mod pace;
mod policy;
mod record;
mod replay;
mod report;
mod scan;
mod watch;

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand, error::ErrorKind};

use crate::probes::preflight;

/// Finds leaked database connections on a live host, without restarting the application.
#[derive(Debug, Parser)]
#[command(
    name = "connleak",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
struct Cli {
    /// Say more about what connleak itself does (-vv: even more), on standard error
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Who holds which database sockets now, and which of them look leaked: one look, then exit
    Scan(scan::Args),
    /// Follow connections as they open and close, and tell leaks as they show
    Watch(watch::Args),
    /// Write down what happens, to be judged later by 'connleak replay'
    Record(record::Args),
    /// Judge a journal again, anywhere, without root
    Replay(replay::Args),
    /// Show a real finding: a built-in leaking client and server on loopback, ten seconds, no database needed
    Demo(demo::Args),
    /// Print the policy that a call would judge by, with every constant of the rules, as a policy file
    Policy(policy::Args),
    /// What this kernel and these privileges allow, line by line
    Doctor,
    #[command(hide = true)]
    DemoServer,
    #[command(hide = true)]
    DemoClient { port: u16 },
}

/// Nothing found.
const OK: u8 = 0;
/// Something went wrong at run time.
const FAILED: u8 = 1;
/// The call is wrong, or the privileges are missing.
const USAGE: u8 = 2;
/// Something was found.
const FOUND: u8 = 3;

/// A call that can't work as it is: exit code 2.
#[derive(Debug)]
struct UsageError(String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    log_to_stderr(cli.verbose);
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Nothing to do about a standard error that can't be written.
            let _ = writeln!(anstream::stderr(), "connleak: {error:#}");
            ExitCode::from(if error.is::<UsageError>() { USAGE } else { FAILED })
        }
    }
}

fn run(cli: Cli) -> Result<u8> {
    let diagnostics = cli.verbose > 0;
    match cli.command {
        Command::Scan(args) => scan::run(&args, diagnostics),
        Command::Watch(args) => watch::run(&args, diagnostics),
        Command::Record(args) => record::run(&args, diagnostics),
        Command::Replay(args) => replay::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Doctor => doctor::run(),
        Command::DemoServer => demo::server(),
        Command::DemoClient { port } => demo::client(port),
    }
}

/// Fails early, and in one line, where the privileges are missing.
fn need_privileges() -> Result<()> {
    preflight::refusal().map_or(Ok(()), |refusal| Err(UsageError(refusal).into()))
}

/// Help and version as clap has them; an error as one line.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::from(OK);
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(USAGE);
    }
    let rendered = error.render().to_string();
    let lines: Vec<&str> = rendered
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    let text = lines.join(" ");
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let _ = writeln!(anstream::stderr(), "connleak: {text} (see 'connleak --help')");
    ExitCode::from(USAGE)
}

fn log_to_stderr(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let level = match verbose {
        0 => "warn",
        1 => "connleak=debug,connleak_ebpf=debug,warn",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("CONNLEAK_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
}
