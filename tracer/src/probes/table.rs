//! The kernel programs as a table: what each is for, what it needs, and what is lost without it.
//! `doctor` prints it; [`super::Probes`] loads by it.

use std::thread;

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Btf, Ebpf,
    maps::ProgramArray,
    programs::{BtfTracePoint, FEntry, Iter, Program, TracePoint},
};
use connleak_ebpf::classic;

use super::{btf::Wanted, format};

/// How a program is hooked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A tracepoint through BTF (`tp_btf`), by name.
    BtfTracepoint(&'static str),
    /// The same, but run by the one that is attached there, when it has something for it: a tail call. In the map of
    /// this name.
    Next(&'static str, &'static str),
    /// A tracepoint by its published format, by category and name.
    Tracepoint(&'static str, &'static str),
    /// A BPF iterator, by name.
    Iterator(&'static str),
    /// The entry of a kernel function (`fentry`), by name.
    Entry(&'static str),
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// The program's name in the object.
    pub program: &'static str,
    /// Where it hooks in.
    pub hook: Hook,
    /// First kernel that has the hook.
    pub since: &'static str,
    /// Whether connleak cannot work without it.
    pub required: bool,
    /// What it is for.
    pub purpose: &'static str,
    /// What is lost without it.
    pub without: &'static str,
}

/// Every program that needs BTF, in the order in which they are attached: events first, then the snapshot.
pub const PROBES: &[Probe] = &[
    Probe {
        program: "connleak_state",
        hook: Hook::BtfTracepoint("inet_sock_set_state"),
        since: "5.8 with BTF",
        required: true,
        purpose: "connections opened, established and ended",
        without: "nothing works",
    },
    Probe {
        program: "connleak_destroy",
        hook: Hook::BtfTracepoint("tcp_destroy_sock"),
        since: "5.8 with BTF",
        required: true,
        purpose: "the last descriptor of a socket closed",
        without: "nothing works",
    },
    Probe {
        program: "connleak_send",
        hook: Hook::BtfTracepoint("sock_send_length"),
        since: "6.3",
        required: false,
        purpose: "unix sockets: last sent; which code uses a connection",
        without: "idle times of unix sockets are unknown",
    },
    Probe {
        program: "connleak_receive",
        hook: Hook::BtfTracepoint("sock_recv_length"),
        since: "6.3",
        required: false,
        purpose: "unix sockets: last received",
        without: "idle times of unix sockets are unknown",
    },
    Probe {
        program: "connleak_hello",
        hook: Hook::Next("sock_send_length", "HELLO"),
        since: "6.3",
        required: false,
        purpose: "what clients say of themselves: user, database, application",
        without: "two pools of one process are judged as one",
    },
    Probe {
        program: "connleak_snapshot",
        hook: Hook::Iterator("task_file"),
        since: "5.8 with BTF",
        required: true,
        purpose: "who holds which sockets, and how long they have been idle",
        without: "nothing works",
    },
];

/// Who sends on TCP sockets, where the kernel has no `sock_send_length`: used where stacks are wanted.
pub const SENDS: Probe = Probe {
    program: "connleak_tcp_send",
    hook: Hook::Entry("tcp_sendmsg"),
    since: "5.5 with BTF, and the function tracer",
    required: false,
    purpose: "which code uses a connection, on kernels before 6.3",
    without: "which code used a connection last is unknown",
};

/// The programs for kernels without BTF; snapshots are by `sock_diag` then.
pub const CLASSIC: &[Probe] = &[
    Probe {
        program: "connleak_classic",
        hook: Hook::Tracepoint("sock", "inet_sock_set_state"),
        since: "5.8",
        required: true,
        purpose: "connections opened, established and ended",
        without: "nothing works",
    },
    Probe {
        program: "connleak_classic_destroy",
        hook: Hook::Tracepoint("tcp", "tcp_destroy_sock"),
        since: "5.8",
        required: true,
        purpose: "the last descriptor of a socket closed",
        without: "nothing works",
    },
    Probe {
        program: "connleak_classic_reset",
        hook: Hook::Tracepoint("tcp", "tcp_receive_reset"),
        since: "5.8",
        required: false,
        purpose: "a server's reset told from a close",
        without: "a server's reset is told as a close by the application",
    },
];

/// The types that the kernel knows the hooks by.
pub fn by_type() -> impl Iterator<Item = Wanted> {
    PROBES
        .iter()
        .chain([&SENDS])
        .filter_map(|probe| match probe.hook {
            Hook::BtfTracepoint(name) | Hook::Next(name, _) => {
                Some(Wanted::Typedef(format!("btf_trace_{name}")))
            }
            Hook::Iterator(name) => Some(Wanted::Function(format!("bpf_iter_{name}"))),
            Hook::Entry(name) => Some(Wanted::Function(name.to_owned())),
            Hook::Tracepoint(..) => None,
        })
}

impl Probe {
    /// Name of the hook, as the kernel has it.
    #[must_use]
    pub fn hook_name(&self) -> &'static str {
        match self.hook {
            Hook::BtfTracepoint(name)
            | Hook::Next(name, _)
            | Hook::Tracepoint(_, name)
            | Hook::Iterator(name)
            | Hook::Entry(name) => name,
        }
    }

    /// Kind of the hook, as users know it.
    #[must_use]
    pub fn hook_kind(&self) -> &'static str {
        match self.hook {
            Hook::BtfTracepoint(_) | Hook::Next(..) => "tp_btf",
            Hook::Tracepoint(..) => "tracepoint",
            Hook::Iterator(_) => "iter",
            Hook::Entry(_) => "fentry",
        }
    }

    /// Loads the program into the kernel: the verifier's word on whether it can run here.
    ///
    /// # Errors
    /// The kernel's or the verifier's refusal.
    pub fn load(&self, ebpf: &mut Ebpf, btf: Option<&Btf>) -> Result<()> {
        let program = ebpf.program_mut(self.program).with_context(|| self.lacking())?;
        self.load_program(program, btf)
    }

    fn lacking(&self) -> String {
        format!("the kernel object has no program {}", self.program)
    }

    /// Loads several, side by side: to be looked at by the verifier is most of what a start takes, and each can be
    /// looked at by a processor of its own. The outcomes are in the order of the probes.
    pub fn load_all(probes: &[&Self], ebpf: &mut Ebpf, btf: Option<&Btf>) -> Vec<Result<()>> {
        thread::scope(|scope| {
            let mut outcomes: Vec<_> = probes.iter().map(|_| None).collect();
            for (name, program) in ebpf.programs_mut() {
                let wanted = probes.iter().position(|probe| probe.program == name);
                if let Some((place, probe)) = wanted.and_then(|place| Some((place, probes.get(place)?))) {
                    outcomes[place] = Some(scope.spawn(move || probe.load_program(program, btf)));
                }
            }
            let outcomes = outcomes.into_iter().zip(probes);
            outcomes
                .map(
                    |(outcome, probe)| match outcome.map(thread::ScopedJoinHandle::join) {
                        Some(Ok(outcome)) => outcome,
                        Some(Err(_)) => Err(anyhow!(
                            "loading {} failed in a way that it must not",
                            probe.program
                        )),
                        None => Err(anyhow!(probe.lacking())),
                    },
                )
                .collect()
        })
    }

    fn load_program(&self, program: &mut Program, btf: Option<&Btf>) -> Result<()> {
        let btf = btf.context("this kernel has no BTF");
        match self.hook {
            Hook::BtfTracepoint(name) | Hook::Next(name, _) => {
                let program: &mut BtfTracePoint = program.try_into()?;
                program.load(name, btf?)?;
            }
            Hook::Iterator(name) => {
                let program: &mut Iter = program.try_into()?;
                program.load(name, btf?)?;
            }
            Hook::Entry(name) => {
                let program: &mut FEntry = program.try_into()?;
                program.load(name, btf?)?;
            }
            Hook::Tracepoint(category, name) => {
                let fields = match category {
                    "tcp" if format::old_destroy() => classic::destroy::OLD_FIELDS,
                    "tcp" => classic::destroy::FIELDS,
                    _ => classic::state::FIELDS,
                };
                format::check(category, name, fields)?;
                let program: &mut TracePoint = program.try_into()?;
                program.load()?;
            }
        }
        Ok(())
    }

    /// Attaches a loaded program, or puts it where another goes on to it; iterators are attached for each walk.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn attach(&self, ebpf: &mut Ebpf) -> Result<()> {
        let Some(program) = ebpf.program_mut(self.program) else {
            return Ok(());
        };
        match self.hook {
            Hook::BtfTracepoint(_) => {
                let program: &mut BtfTracePoint = program.try_into()?;
                program.attach()?;
            }
            Hook::Tracepoint(category, name) => {
                let program: &mut TracePoint = program.try_into()?;
                program.attach(category, name)?;
            }
            Hook::Entry(_) => {
                let program: &mut FEntry = program.try_into()?;
                program.attach()?;
            }
            Hook::Next(_, map) => {
                let program: &mut BtfTracePoint = program.try_into()?;
                let program = program.fd()?.try_clone()?;
                let map = ebpf
                    .map_mut(map)
                    .with_context(|| format!("the kernel object has no map {map}"))?;
                ProgramArray::try_from(map)?.set(0, &program, 0)?;
            }
            Hook::Iterator(_) => {}
        }
        Ok(())
    }
}
