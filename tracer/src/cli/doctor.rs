//! `connleak doctor`: what this kernel and these privileges allow, tried rather than guessed.

use std::fs;

use anyhow::Result;

use super::{OK, USAGE};
use crate::{
    output::sink,
    probes::{Options, object, preflight, refusal, table::PROBES},
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
    doctor.require(
        preflight::has_btf(),
        "BTF",
        object::KERNEL_BTF,
        "this kernel does not describe its types",
    );
    if doctor.usable {
        doctor.programs()?;
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
        use std::fmt::Write as _;
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

    /// Loads every program, which is the kernel's own word on it, and attaches none.
    fn programs(&mut self) -> Result<()> {
        let databases = Databases::build(&Flags::default())?;
        let loaded = match object::load(&databases, Options::default()) {
            Ok(loaded) => {
                self.say("ok", "structure offsets, ring buffer, maps", "resolved and made");
                loaded
            }
            Err(error) => {
                self.require(
                    false,
                    "structure offsets, ring buffer, maps",
                    "",
                    &format!("{error:#}"),
                );
                return Ok(());
            }
        };
        for probe in PROBES {
            let hook = format!("{}:{}", probe.hook_kind(), probe.hook_name());
            let refused = loaded
                .refused
                .iter()
                .find(|(other, _)| std::ptr::eq(*other, probe));
            match refused.map(|(_, error)| refusal::reason(error)) {
                None => self.say("ok", &hook, probe.purpose),
                Some(reason) if probe.required => {
                    self.require(false, &hook, "", &format!("needs {}: {reason}", probe.since));
                }
                Some(reason) => {
                    self.say(
                        "warn",
                        &hook,
                        &format!("{} (needs {}: {reason})", probe.without, probe.since),
                    );
                }
            }
        }
        if self.usable {
            self.say("ok", "sockets told apart", loaded.access.describe());
        }
        Ok(())
    }
}
