//! Which processes the user asked for. Decided once for each process, by what `/proc` says of it.

use std::collections::HashMap;

use crate::owner::{Owners, ProcessId};

/// What the user asked for; empty lists admit everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFilter {
    /// `--pid`.
    pub pids: Vec<u32>,
    /// `--name`: the process's name, as `ps -o comm` has it.
    pub names: Vec<String>,
    /// `--container`: an id, or the beginning of one.
    pub containers: Vec<String>,
}

/// Decisions remembered; beyond that they are made anew, which costs time but nothing else.
const REMEMBERED: usize = 16_384;

/// A filter with its decisions.
#[derive(Debug)]
pub struct Admission {
    filter: ProcessFilter,
    decided: HashMap<ProcessId, bool>,
}

impl Admission {
    /// Nothing is decided yet.
    #[must_use]
    pub fn new(filter: ProcessFilter) -> Self {
        Self {
            filter,
            decided: HashMap::new(),
        }
    }

    /// Whether this process was asked for.
    pub fn admits(&mut self, owners: &mut Owners, process: ProcessId) -> bool {
        let ProcessFilter {
            pids,
            names,
            containers,
        } = &self.filter;
        if !pids.is_empty() && !pids.contains(&process.pid) {
            return false;
        }
        if names.is_empty() && containers.is_empty() {
            return true;
        }
        if let Some(&known) = self.decided.get(&process) {
            return known;
        }
        let described = owners.describe(process);
        let named = names.is_empty() || names.contains(&described.name);
        let contained = containers.is_empty()
            || described
                .container_id
                .as_ref()
                .is_some_and(|id| containers.iter().any(|wanted| id.starts_with(wanted.as_str())));
        if self.decided.len() >= REMEMBERED {
            self.decided.clear();
        }
        self.decided.insert(process, named && contained);
        named && contained
    }
}
