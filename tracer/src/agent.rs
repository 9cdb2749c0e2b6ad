//! The agent: feeds a case from the probes. Every live command is a small loop around it.

#![forbid(unsafe_code)]

mod admission;
mod threads;

pub use admission::{Admission, ProcessFilter};
use anyhow::Result;

use crate::{
    callsite::{Sites, worker::Worker},
    case::Case,
    event::{Event, Nanos, Stack},
    journal::{Entry, Writer},
    ledger::Outcome,
    output::{json::Stamps, redact},
    owner::Owners,
    policy_file,
    probes::{Options, Probes, clock, peer},
    server::Databases,
    verdict::{Finding, Policy, track::News},
};

/// Who is told what became of connections.
pub type Tell<'a> = &'a mut dyn FnMut(&mut Case, &Outcome) -> Result<()>;

/// See the module's head.
pub struct Agent {
    /// The kernel side.
    pub probes: Probes,
    /// The books, and what was found.
    pub case: Case,
    admission: Admission,
    journal: Option<Writer>,
    /// Reads stacks; `None` when there are none.
    worker: Option<Worker>,
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
        max_connections: usize,
    ) -> Result<Self> {
        let stamps = Stamps {
            epoch: clock::epoch(),
        };
        let thread_dumps = options.stacks.thread_dumps;
        let mut probes = Probes::attach(databases, options)?;
        let worker = probes
            .take_stacks()
            .map(|stacks| Worker::start(stacks, thread_dumps))
            .transpose()?;
        let mut case = Case::new(policy, max_connections, Owners::default(), stamps);
        if let Some(worker) = &worker {
            case.sites = Sites::with_source(Box::new(worker.desk()));
        }
        Ok(Self {
            probes,
            worker,
            case,
            admission: Admission::new(processes),
            journal: None,
        })
    }

    /// Waits, for a bounded time, until call sites are as exact as they will be: afterwards who says that it watches keeps
    /// its word.
    pub fn settle(&self) {
        if let Some(worker) = &self.worker {
            worker.await_first_look();
        }
    }

    /// From now on, whatever the case is fed is written down, too.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn record(&mut self, mut journal: Writer, max_connections: usize) -> Result<()> {
        journal.append(&Entry::Start {
            policy: policy_file::differences(&self.case.policy),
            single_look: self.case.policy.single_look,
            max_connections: max_connections as u64,
            epoch: self.case.stamps.epoch,
        })?;
        self.case.owners.note_readings();
        self.case.sites.note_readings();
        self.journal = Some(journal);
        Ok(())
    }

    /// Reads what the kernel has sent.
    ///
    /// # Errors
    /// When the loss counters cannot be read, or somebody who was told fails.
    pub fn drain(&mut self, tell: Tell<'_>) -> Result<()> {
        // Of each stack that is here already, the event is in the ring.
        let stacks: Vec<Stack> = self.worker.iter().flat_map(Worker::take).collect();
        let mut events = Vec::new();
        let Self {
            probes,
            case,
            admission,
            ..
        } = self;
        probes.drain(|event| {
            let wanted = match &event {
                Event::Connect(connect) => admission.admits(&mut case.owners, connect.process),
                _ => true,
            };
            if wanted {
                events.push(event);
            }
        })?;
        events.extend(stacks.into_iter().map(Event::Stack));
        events.into_iter().try_for_each(|event| self.feed(event, tell))
    }

    /// Stacks that were not taken, or were lost on the way: so many call sites are unknown.
    #[must_use]
    pub fn stacks_lost(&self) -> u64 {
        // Counters that can't be read have said so in `drain`.
        let lost = self.probes.stacks_lost().unwrap_or_default();
        lost + self.worker.as_ref().map_or(0, Worker::dropped)
    }

    /// Takes a snapshot and merges it, after all events that are older.
    ///
    /// # Errors
    /// When the kernel refuses the walk, or somebody who was told fails.
    pub fn refresh(&mut self, tell: Tell<'_>) -> Result<()> {
        let mut snapshot = self.probes.snapshot()?;
        self.drain(tell)?;
        let Self { case, admission, .. } = self;
        snapshot.observations.retain(|row| {
            let known = case.ledger.connection(row.cookie);
            let opener = known.and_then(|known| known.opener).map(|opener| opener.process);
            admission.admits(&mut case.owners, row.holder.process)
                || opener.is_some_and(|opener| admission.admits(&mut case.owners, opener))
        });
        peer::date(&mut snapshot, self.probes.unix_servers(), |cookie| {
            case.ledger.connection(cookie).is_some()
        });
        let at = snapshot.ended;
        self.feed(Event::Snapshot(snapshot), tell)?;
        threads::look(&self.case.ledger, at)
            .into_iter()
            .try_for_each(|threads| self.feed(Event::Threads(threads), tell))
    }

    fn feed(&mut self, event: Event, tell: Tell<'_>) -> Result<()> {
        let outcomes = self.case.fold(&event);
        self.write(&Entry::Event(event))?;
        for outcome in &outcomes {
            tell(&mut self.case, outcome)?;
        }
        self.write_readings()
    }

    /// What the rules say now.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn judge(&mut self) -> Result<Vec<Finding>> {
        let (at, stamps) = self.moment()?;
        Ok(self.case.judge(at, stamps))
    }

    /// What is new since the rules were asked last.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn news(&mut self) -> Result<Vec<News>> {
        let (at, stamps) = self.moment()?;
        Ok(self.case.news(at, stamps))
    }

    /// The moment now. The wall clock may have been set since the last one.
    fn moment(&mut self) -> Result<(Nanos, Stamps)> {
        let (at, epoch) = (self.probes.now(), clock::epoch());
        self.write(&Entry::Judged { at, epoch })?;
        Ok((at, Stamps { epoch }))
    }

    /// Writes down the processes and call sites that were named since the last call.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn write_readings(&mut self) -> Result<()> {
        for mut process in self.case.owners.take_readings() {
            // A journal is made to be carried elsewhere.
            process.command_line = redact::command_line(&process.command_line);
            self.write(&Entry::Process(Box::new(process)))?;
        }
        for site in self.case.sites.take_readings() {
            self.write(&Entry::Site(Box::new(site)))?;
        }
        Ok(())
    }

    fn write(&mut self, entry: &Entry) -> Result<()> {
        self.journal
            .as_mut()
            .map_or(Ok(()), |journal| journal.append(entry))
    }
}
