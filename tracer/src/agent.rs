//! The agent: feeds the ledger from the probes, and asks for verdicts. Every command is a small loop around it.

#![forbid(unsafe_code)]

mod admission;

use std::sync::Arc;

pub use admission::{Admission, ProcessFilter};
use anyhow::Result;

use crate::{
    event::{Event, Nanos, Snapshot},
    ledger::{Connection, Ledger, Outcome},
    output::json::Stamps,
    owner::{Owners, Process, ProcessId},
    probes::{Options, Probes, clock, peer},
    server::Databases,
    verdict::{self, Finding, Policy},
};

/// See the module's head.
pub struct Agent {
    /// The kernel side.
    pub probes: Probes,
    /// The books.
    pub ledger: Ledger,
    /// Who is who.
    pub owners: Owners,
    /// What the rules are told.
    pub policy: Policy,
    /// Clock for people.
    pub stamps: Stamps,
    admission: Admission,
}

impl Agent {
    /// Attaches the probes; the first [`refresh`](Self::refresh) takes the first snapshot.
    ///
    /// # Errors
    /// When a required program cannot be loaded.
    pub fn attach(
        databases: &Databases,
        processes: ProcessFilter,
        policy: Policy,
        options: Options,
    ) -> Result<Self> {
        Ok(Self {
            probes: Probes::attach(databases, options)?,
            ledger: Ledger::default(),
            owners: Owners::default(),
            policy,
            stamps: Stamps {
                epoch: clock::epoch(),
            },
            admission: Admission::new(processes),
        })
    }

    /// Reads what the kernel has sent, and tells what became of connections.
    ///
    /// # Errors
    /// When the loss counters cannot be read.
    pub fn drain(&mut self, tell: &mut dyn FnMut(&mut Owners, &Ledger, Outcome)) -> Result<()> {
        let Self {
            probes,
            ledger,
            owners,
            admission,
            ..
        } = self;
        probes.drain(|event| {
            if let Event::Connect(connect) = &event {
                if !admission.admits(owners, connect.process) {
                    return;
                }
                owners.note_name(connect.process, &connect.name, connect.uid);
            }
            fold(ledger, owners, &event, tell);
        })
    }

    /// Takes a snapshot and merges it, after all events that are older.
    ///
    /// # Errors
    /// When the kernel refuses the walk.
    pub fn refresh(&mut self, tell: &mut dyn FnMut(&mut Owners, &Ledger, Outcome)) -> Result<()> {
        // The wall clock may have been set since.
        self.stamps = Stamps {
            epoch: clock::epoch(),
        };
        let mut snapshot: Snapshot = self.probes.snapshot()?;
        self.drain(tell)?;
        let Self {
            owners,
            admission,
            ledger,
            ..
        } = self;
        snapshot.observations.retain(|row| {
            let known_opener = ledger
                .connection(row.cookie)
                .and_then(|known| known.opener)
                .map(|opener| opener.process);
            admission.admits(owners, row.holder.process)
                || known_opener.is_some_and(|opener| admission.admits(owners, opener))
        });
        peer::date(&mut snapshot, self.probes.unix_servers(), |cookie| {
            ledger.connection(cookie).is_some()
        });
        fold(
            &mut self.ledger,
            &mut self.owners,
            &Event::Snapshot(snapshot),
            tell,
        );
        Ok(())
    }

    /// What the rules say now.
    #[must_use]
    pub fn judge(&self) -> Vec<Finding> {
        verdict::judge(&self.ledger, self.now(), &self.policy)
    }

    /// The moment now.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.probes.now()
    }

    /// The process that has to close a connection.
    pub fn process_of(owners: &mut Owners, connection: &Connection) -> Arc<Process> {
        let nobody = ProcessId {
            pid: 0,
            start_ticks: 0,
        };
        owners.describe(connection.process().unwrap_or(nobody))
    }
}

fn fold(
    ledger: &mut Ledger,
    owners: &mut Owners,
    event: &Event,
    tell: &mut dyn FnMut(&mut Owners, &Ledger, Outcome),
) {
    let mut outcomes = Vec::new();
    ledger.apply(event, |outcome| {
        if outcome != Outcome::Quiet {
            outcomes.push(outcome);
        }
    });
    for outcome in outcomes {
        tell(owners, ledger, outcome);
    }
}
