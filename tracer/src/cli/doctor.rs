//! `connleak doctor`: what this kernel and these privileges allow, tried rather than guessed.

use std::{fmt::Write as _, fs};

use anyhow::Result;

use super::{OK, USAGE};
use crate::{
    output::sink,
    probes::{self, Backend, Options, object, preflight, refusal, table},
    server::{Databases, Flags},
};

pub fn run() -> Result<u8> {
    let mut doctor = Doctor {
        text: String::new(),
        usable: true,
    };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    doctor.say("info", "kernel", release.trim());
    doctor.privileges();
    if preflight::has_btf() {
        doctor.say("ok", "BTF", object::KERNEL_BTF);
    } else {
        doctor.say("warn", "BTF", "none: this kernel does not describe its types");
    }
    if doctor.usable {
        doctor.backends()?;
    }
    let verdict = if doctor.usable {
        "connleak can run here.\n"
    } else {
        "connleak can't run here.\n"
    };
    let _ = sink::print(&format!("{}{verdict}", doctor.text))?;
    Ok(if doctor.usable { OK } else { USAGE })
}

struct Doctor {
    text: String,
    usable: bool,
}

impl Doctor {
    fn say(&mut self, grade: &str, what: &str, detail: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{grade:<5} {what:<34} {detail}");
    }

    fn require(&mut self, good: bool, what: &str, detail: &str, otherwise: &str) {
        if good {
            self.say("ok", what, detail);
        } else {
            self.usable = false;
            self.say("FAIL", what, otherwise);
        }
    }

    fn privileges(&mut self) {
        let lacking = preflight::effective().map(preflight::lacking).unwrap_or_default();
        for capability in preflight::CAPABILITIES {
            self.require(
                !lacking.contains(&capability),
                capability.name,
                capability.purpose,
                capability.purpose,
            );
        }
    }

    /// Tries every back-end: each program is loaded, which is the kernel's own word on it, and none attached.
    fn backends(&mut self) -> Result<()> {
        let databases = Databases::build(&Flags::default())?;
        let mut chosen = None;
        for backend in Backend::ALL {
            let _ = writeln!(self.text, "\nback-end {}", backend.name());
            if self.programs(&databases, backend) {
                chosen = chosen.or(Some(backend));
            }
        }
        let name = chosen.map_or("none", Backend::name);
        let _ = writeln!(self.text);
        if let Some(backend) = chosen {
            self.call_sites(&databases, backend);
        }
        self.require(
            chosen.is_some(),
            "back-end used",
            name,
            "none works on this kernel",
        );
        Ok(())
    }

    /// Tries the programs once more, with stacks.
    fn call_sites(&mut self, databases: &Databases, backend: Backend) {
        let options = Options {
            stacks: probes::stacks::Options::USUAL,
            ..Options::default()
        };
        let probe = |program| backend.probes().find(move |probe| probe.program == program);
        let outcome = object::load(databases, options, backend).and_then(|mut loaded| {
            let mut load = |probe: &table::Probe| probe.load(&mut loaded.ebpf, loaded.btf.as_ref());
            probe("connleak_state").map_or(Ok(()), &mut load)?;
            let sends = probe("connleak_send").filter(|probe| load(probe).is_ok());
            Ok(match sends {
                Some(probe) => Ok(probe),
                None => load(&table::SENDS).map(|()| &table::SENDS),
            })
        });
        match outcome {
            Ok(uses) => {
                self.say("ok", "call sites: opened", "which code opens a connection");
                match uses {
                    Ok(probe) => {
                        let how = format!(
                            "which code uses it, by {}:{}",
                            probe.hook_kind(),
                            probe.hook_name()
                        );
                        self.say("ok", "call sites: last use", &how);
                    }
                    Err(error) => self.say("warn", "call sites: last use", &refusal::reason(&error)),
                }
            }
            Err(error) => self.say(
                "warn",
                "call sites",
                &format!("none (needs 5.15 with BTF: {})", refusal::reason(&error)),
            ),
        }
    }

    /// Whether all that a back-end cannot do without can be loaded.
    fn programs(&mut self, databases: &Databases, backend: Backend) -> bool {
        let mut loaded = match object::load(databases, Options::default(), backend) {
            Ok(loaded) => loaded,
            Err(error) => {
                self.say("no", "ring buffer, maps, offsets", &format!("{error:#}"));
                return false;
            }
        };
        self.say("ok", "ring buffer, maps, offsets", "made and resolved");
        let mut usable = true;
        for probe in backend.probes() {
            let hook = format!("{}:{}", probe.hook_kind(), probe.hook_name());
            match probe.load(&mut loaded.ebpf, loaded.btf.as_ref()) {
                Ok(()) => self.say("ok", &hook, probe.purpose),
                Err(error) => {
                    usable &= !probe.required;
                    let grade = if probe.required { "no" } else { "warn" };
                    self.say(
                        grade,
                        &hook,
                        &format!(
                            "{} (needs {}: {})",
                            probe.without,
                            probe.since,
                            refusal::reason(&error)
                        ),
                    );
                }
            }
        }
        if !backend.iterates() {
            let what = "sock_diag and /proc";
            match probes::try_diag() {
                Ok(()) => self.say(
                    "ok",
                    what,
                    "who holds which sockets, and how long they have been idle",
                ),
                Err(error) => {
                    usable = false;
                    self.say("no", what, &format!("{error:#}"));
                }
            }
        }
        usable
    }
}
