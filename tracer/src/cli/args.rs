//! Arguments that several commands share, and how they become configuration.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::{UsageError, need_privileges};
use crate::{
    agent::{Agent, ProcessFilter},
    event::Nanos,
    ledger::Ledger,
    output::duration,
    owner, policy_file,
    probes::{self, Options, stacks},
    server::{Databases, Flags, PortRule, ServerRule, System},
    verdict::{Confidence, Knob, Limits, Policy, Unit},
};

/// Not a doc comment: an address in brackets would be taken for a link.
const SERVER_HELP: &str = "Only this server, network or unix socket; with a port, that port is a database's: \
                           10.0.0.5, 10.0.0.0/8, [::1]:6000, /run/app/db.sock";

/// Not a doc comment: it would have to mark the setting's name up.
const LIMIT_HELP: &str =
    "Connections that the server accepts: its max_connections, less those reserved for administrators";

/// Which connections to look at.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Filter")]
pub struct Filter {
    /// Only these processes
    #[arg(long, value_name = "PID", value_delimiter = ',', num_args = 1..)]
    pub pid: Vec<u32>,
    /// Only processes of this name (as 'ps -o comm' has it)
    #[arg(long, value_name = "COMM", value_delimiter = ',', num_args = 1..)]
    pub name: Vec<String>,
    /// Only processes in this container (id, or its beginning)
    #[arg(long, value_name = "ID", value_delimiter = ',', num_args = 1..)]
    pub container: Vec<String>,
    /// Only these databases: postgresql, mysql, redis, …
    #[arg(long, value_name = "DB", value_delimiter = ',', num_args = 1..)]
    pub db: Vec<System>,
    /// A port that is a database's, beside the well-known ones: 6000=postgresql, or just 6000
    #[arg(long, value_name = "PORT[=DB]", value_delimiter = ',', num_args = 1..)]
    pub port: Vec<PortRule>,
    /// Servers to look at.
    #[arg(
        long,
        help = SERVER_HELP,
        value_name = "ADDR[/LEN][:PORT]|PATH",
        value_delimiter = ',',
        num_args = 1..
    )]
    pub server: Vec<ServerRule>,
    /// Every outgoing TCP connection, whatever its port
    #[arg(long)]
    pub all_ports: bool,
    /// Most connections that are followed at once; the summary counts those beyond
    #[arg(long, value_name = "N", default_value_t = Ledger::LIMIT)]
    pub max_connections: usize,
}

impl Filter {
    /// What counts as a database.
    ///
    /// # Errors
    /// When the flags contradict each other.
    pub fn databases(&self) -> Result<Databases> {
        let flags = Flags {
            db: self.db.clone(),
            ports: self.port.clone(),
            servers: self.server.clone(),
            all_ports: self.all_ports,
        };
        Databases::build(&flags).map_err(|error| UsageError(error.to_string()).into())
    }

    /// Which processes count.
    ///
    /// # Errors
    /// When a pid does not exist.
    pub fn processes(&self) -> Result<ProcessFilter> {
        for pid in &self.pid {
            if owner::start_ticks(Path::new("/proc"), *pid).is_none() {
                return Err(UsageError(format!("no process has pid {pid}")).into());
            }
        }
        Ok(ProcessFilter {
            pids: self.pid.clone(),
            names: self.name.clone(),
            containers: self.container.clone(),
        })
    }
}

/// How to ask the kernel: for kernels that lack what connleak prefers, and to try their path on those that don't.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The best one that works here.
    #[default]
    Auto,
    /// Tracepoints through BTF, snapshots by a BPF iterator.
    Btf,
    /// Likewise, without the helpers that kernels before 5.12 lack.
    Memory,
    /// Tracepoints through BTF, snapshots by `sock_diag` and /proc.
    Diag,
    /// Tracepoints by their published format, snapshots by `sock_diag` and /proc.
    Tracepoint,
}

impl From<Backend> for Option<probes::Backend> {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Auto => None,
            Backend::Btf => Some(probes::Backend::Btf),
            Backend::Memory => Some(probes::Backend::Memory),
            Backend::Diag => Some(probes::Backend::Diag),
            Backend::Tracepoint => Some(probes::Backend::Tracepoint),
        }
    }
}

/// How to judge.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Policy")]
pub struct PolicyArgs {
    /// Silence after which a connection counts as idle [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub idle: Option<Duration>,
    /// Most connections that one process may have open to one server
    #[arg(long, value_name = "N")]
    pub max_open: Option<u64>,
    /// Connections that the server accepts.
    #[arg(long, value_name = "N", help = LIMIT_HELP)]
    pub server_limit: Option<u64>,
    /// Take all this, and more, from a file: 'connleak policy' prints one
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

impl PolicyArgs {
    /// What the rules are told: the flags, over the file, over what was recorded, over the defaults.
    ///
    /// # Errors
    /// When the file can't be read, or something can't be meant.
    pub fn over(&self, recorded: Option<Policy>) -> Result<Policy> {
        let mut policy = match &self.policy {
            Some(path) => policy_file::read(path).map_err(|error| UsageError(format!("{error:#}")))?,
            None => recorded.unwrap_or_default(),
        };
        let idle = self
            .idle
            .map(|idle| Nanos::try_from(idle.as_nanos()).unwrap_or(Nanos::MAX));
        turn(Policy::KNOBS, &mut policy, "idle", idle)?;
        turn(Limits::KNOBS, &mut policy.limits, "max_open", self.max_open)?;
        turn(
            Limits::KNOBS,
            &mut policy.limits,
            "server_limit",
            self.server_limit,
        )?;
        match policy.contradiction() {
            Some(why) => Err(UsageError(why).into()),
            None => Ok(policy),
        }
    }
}

/// Sets a knob from a flag of the same name.
fn turn<T>(knobs: &[Knob<T>], of: &mut T, name: &str, value: Option<u64>) -> Result<()> {
    let (Some(value), Some(knob)) = (value, knobs.iter().find(|knob| knob.name == name)) else {
        return Ok(());
    };
    if !knob.range.contains(&value) {
        let show = |number: u64| match knob.unit {
            Unit::Span => duration::exact(number),
            Unit::Count | Unit::Times | Unit::Percent => number.to_string(),
        };
        let flag = name.replace('_', "-");
        let (least, most) = (show(*knob.range.start()), show(*knob.range.end()));
        return Err(UsageError(format!(
            "--{flag} must be from {least} to {most}, not {}",
            show(value)
        ))
        .into());
    }
    (knob.set)(of, value);
    Ok(())
}

/// What counts for the exit code.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Policy")]
pub struct ExitArgs {
    /// Least confidence of a finding that makes the exit code 3 [default: likely]
    #[arg(long, value_enum)]
    min_confidence: Option<Level>,
}

impl ExitArgs {
    /// Changes the policy, if the flag is given.
    pub fn turn(self, policy: &mut Policy) {
        if let Some(level) = self.min_confidence {
            policy.min_confidence = level.into();
        }
    }
}

/// Which stacks are taken, in commands that follow connections.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Call sites")]
pub struct CallSites {
    /// Do not read which code opens and uses connections
    #[arg(long = "no-call-sites")]
    off: bool,
    /// Read which code opens connections, but not which code uses them
    #[arg(long = "no-last-use")]
    openings_only: bool,
    /// Do not ask Java machines for thread dumps where their frames can't be read otherwise
    #[arg(long)]
    no_thread_dumps: bool,
    /// Most bytes of a thread's stack that are read, in KiB; deeper ones are cut and say so
    #[arg(long, value_name = "KIB", default_value_t = stacks::Options::USUAL.bytes / 1024, value_parser = clap::value_parser!(u32).range(1..=i64::from(stacks::Options::MOST_KIB)))]
    stack_kib: u32,
    /// Size of the kernel's buffer for stacks in KiB (a power of two); what does not fit leaves a call site unknown
    #[arg(long, value_name = "KIB", default_value_t = stacks::Options::USUAL.ring_bytes / 1024, value_parser = ring_kib)]
    stacks_kib: u32,
}

impl CallSites {
    /// What the kernel programs are told.
    #[must_use]
    pub fn options(self) -> stacks::Options {
        if self.off {
            return stacks::Options::NONE;
        }
        stacks::Options {
            bytes: self.stack_kib * 1024,
            last_use: !self.openings_only,
            ring_bytes: self.stacks_kib * 1024,
            thread_dumps: !self.no_thread_dumps,
        }
    }
}

/// Size of a ring buffer.
///
/// # Errors
/// When the kernel has none of that size.
pub fn ring_kib(text: &str) -> Result<u32, String> {
    let kib: u32 = text.parse().map_err(|_| format!("'{text}' is no number"))?;
    // A ring buffer is at least a page; above 1 GiB its position counters would not fit the ABI's 32 bits.
    if kib.is_power_of_two() && (4..=1 << 20).contains(&kib) {
        Ok(kib)
    } else {
        Err(format!("{kib} is not a power of two from 4 to {}", 1 << 20))
    }
}

/// What every command takes that asks the kernel.
#[derive(Args, Debug)]
pub struct Live {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    policy: PolicyArgs,
    /// How to ask the kernel
    #[arg(long, value_enum, default_value_t, help_heading = "Kernel")]
    backend: Backend,
}

/// A call with nothing wrong about it; nothing is opened or attached yet.
pub struct Ready {
    databases: Databases,
    processes: ProcessFilter,
    policy: Policy,
    backend: Option<probes::Backend>,
    /// `--max-connections`.
    pub max_connections: usize,
}

impl Live {
    /// Checks all that can be checked of the call.
    ///
    /// # Errors
    /// When flags contradict each other, privileges are missing, or a pid does not exist.
    pub fn ready(&self, single_look: bool, exit: Option<ExitArgs>) -> Result<Ready> {
        let mut policy = self.policy.over(None)?;
        policy.single_look = single_look;
        if let Some(exit) = exit {
            exit.turn(&mut policy);
        }
        let databases = self.filter.databases()?;
        need_privileges()?;
        Ok(Ready {
            databases,
            processes: self.filter.processes()?,
            policy,
            backend: self.backend.into(),
            max_connections: self.filter.max_connections,
        })
    }
}

impl Ready {
    /// Attaches the probes.
    ///
    /// # Errors
    /// When no back-end works.
    pub fn attach(&self, options: Options) -> Result<Agent> {
        let options = Options {
            backend: self.backend,
            ..options
        };
        Agent::attach(
            &self.databases,
            self.processes.clone(),
            self.policy.clone(),
            options,
            self.max_connections,
        )
    }
}

/// A confidence, as users write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Worth a longer look.
    Suspect,
    /// Rare in healthy applications.
    Likely,
    /// Seen from beginning to end.
    Certain,
}

impl From<Level> for Confidence {
    fn from(level: Level) -> Self {
        match level {
            Level::Suspect => Self::Suspect,
            Level::Likely => Self::Likely,
            Level::Certain => Self::Certain,
        }
    }
}

/// What to write on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// JSON Lines.
    Json,
    /// The leaked sockets' stacks, for 'flamegraph.pl' or 'inferno-flamegraph'.
    Folded,
}

/// The filter flags of this very call, to be repeated in a command that we recommend.
#[must_use]
pub fn filter_flags(arguments: impl Iterator<Item = String>) -> String {
    let mut out = String::new();
    let mut keep = false;
    for argument in arguments {
        if let Some(flag) = argument.strip_prefix("--") {
            let name = flag.split('=').next().unwrap_or(flag);
            keep = matches!(
                name,
                "port" | "server" | "all-ports" | "db" | "idle" | "max-open" | "server-limit" | "policy"
            );
        } else if argument.starts_with('-') {
            keep = false;
        }
        if keep {
            out.push(' ');
            out.push_str(&argument);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recommended_command_repeats_the_filter_but_not_the_rest() {
        let call = [
            "connleak",
            "scan",
            "-o",
            "json",
            "--port",
            "6000=mysql",
            "--pid",
            "7",
            "--server=::1",
        ];
        let flags = filter_flags(call.iter().map(ToString::to_string));
        assert_eq!(flags, " --port 6000=mysql --server=::1");
    }
}
