//! A case: the books, the findings so far, and who is who. What a live run and a replay have in common.
//!
//! It is fed entries and asked for verdicts. Fed the same, it says the same, byte for byte: the clock, the
//! processes' names and the sites' come in from outside.

#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::{
    callsite::Sites,
    event::{Event, Nanos},
    ledger::{Connection, Ledger, Outcome},
    output::json::Stamps,
    owner::{Owners, Process, ProcessId},
    verdict::{
        Finding, Names, Policy, judge,
        track::{News, Tracker},
    },
};

/// See the module's head.
pub struct Case {
    /// The books.
    pub ledger: Ledger,
    /// Findings over time.
    pub tracker: Tracker,
    /// Who is who.
    pub owners: Owners,
    /// Which code is which.
    pub sites: Sites,
    /// What the rules are told.
    pub policy: Policy,
    /// The moment of which is spoken.
    pub at: Nanos,
    /// Clock for people.
    pub stamps: Stamps,
}

impl Case {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(policy: Policy, max_connections: usize, owners: Owners, stamps: Stamps) -> Self {
        Self {
            ledger: Ledger::bounded(max_connections),
            tracker: Tracker::new(&policy.rules),
            owners,
            sites: Sites::default(),
            policy,
            at: 0,
            stamps,
        }
    }

    /// Folds an event, and returns what became of connections.
    pub fn fold(&mut self, event: &Event) -> Vec<Outcome> {
        if let Event::Connect(connect) = event {
            self.owners.note_name(connect.process, &connect.name, connect.uid);
        }
        let mut outcomes = Vec::new();
        self.ledger.apply(event, |outcome| outcomes.push(outcome));
        outcomes
    }

    /// Asks the rules, at a moment.
    pub fn judge(&mut self, at: Nanos, stamps: Stamps) -> Vec<Finding> {
        (self.at, self.stamps) = (at, stamps);
        let names = self.names();
        judge(&self.ledger, at, &self.policy, &names)
    }

    /// What the processes are called, if the policy asks for it.
    fn names(&mut self) -> Names {
        let Self {
            ledger,
            owners,
            policy,
            ..
        } = self;
        let wanted = policy.asks_for_names();
        let keys = ledger.groups().filter(|_| wanted).map(|(key, ..)| key.process);
        keys.map(|process| (process, owners.describe(process).name.clone()))
            .collect()
    }

    /// Asks the rules, and compares with what was told before.
    pub fn news(&mut self, at: Nanos, stamps: Stamps) -> Vec<News> {
        let findings = self.judge(at, stamps);
        self.tracker.step(&self.ledger, at, findings)
    }

    /// The process that has to close a connection.
    pub fn process_of(&mut self, connection: &Connection) -> Arc<Process> {
        let nobody = ProcessId {
            pid: 0,
            start_ticks: 0,
        };
        self.owners.describe(connection.process().unwrap_or(nobody))
    }
}
