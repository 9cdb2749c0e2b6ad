//! The kernel side, seen from the agent: loads and attaches the programs, reads what they send, and turns
//! it into [`Event`]s. Nothing here judges.

pub mod btf;
pub mod clock;
mod diag;
mod format;
mod identity;
pub mod lull;
mod meter;
pub mod object;
pub mod offsets;
pub mod peer;
pub mod preflight;
pub mod refusal;
pub mod stacks;
pub mod table;
mod translate;

use std::{
    io::Read as _,
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{Map, MapData, PerCpuArray, RingBuf},
    programs::Iter,
};
use aya_log::EbpfLogger;
use connleak_ebpf::Counter;
use lull::Alarm;
use meter::Meter;
use tokio::io::{Interest, unix::AsyncFd};
use translate::Translator;

use crate::{
    event::{Event, Loss, Nanos, Observation, Snapshot},
    server::Databases,
};

/// How the kernel is asked. Each is tried in turn; the first that works is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Tracepoints through BTF, and snapshots by a BPF iterator: one pass in the kernel.
    Btf,
    /// Likewise, on a kernel whose programs may not ask for a socket's cookie (before 5.12): numbers of our own
    /// stand for it.
    Memory,
    /// Tracepoints through BTF, and snapshots by `sock_diag` and `/proc`.
    Diag,
    /// Tracepoints by their published format, and snapshots by `sock_diag` and `/proc`.
    Tracepoint,
}

impl Backend {
    /// All of them, best first.
    pub const ALL: [Self; 4] = [Self::Btf, Self::Memory, Self::Diag, Self::Tracepoint];

    /// Word for users.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Btf => "btf",
            Self::Memory => "memory",
            Self::Diag => "diag",
            Self::Tracepoint => "tracepoint",
        }
    }

    /// Snapshots are taken by a BPF iterator, not by `sock_diag`.
    #[must_use]
    pub fn iterates(self) -> bool {
        matches!(self, Self::Btf | Self::Memory)
    }

    fn described(self) -> bool {
        self != Self::Tracepoint
    }

    /// The programs that it uses.
    pub fn probes(self) -> impl Iterator<Item = &'static table::Probe> {
        let table = if self.described() {
            table::PROBES
        } else {
            table::CLASSIC
        };
        table
            .iter()
            .filter(move |probe| self.iterates() || !matches!(probe.hook, table::Hook::Iterator(_)))
    }
}

/// What the caller may choose.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of the ring buffer in bytes: a power of two, at least a page.
    pub ring_bytes: u32,
    /// How the kernel is asked; `None` tries all.
    pub backend: Option<Backend>,
    /// Let the kernel measure the programs' run time (`BPF_ENABLE_STATS`), now and then.
    pub measure: bool,
    /// Whether threads' stacks are copied, and how much of them.
    pub stacks: stacks::Options,
    /// No events, only snapshots: of the programs, those alone that these need.
    pub looks_only: bool,
    /// Pass on what the kernel programs have to say about themselves.
    pub diagnostics: bool,
}

impl Default for Options {
    fn default() -> Self {
        // 2 MiB hold 20,000 events: 0.1 s of the fastest connect storm that two cores make, and the agent is woken when a
        // quarter is full. It is mapped twice in a row, so that a process's resident size shows twice of it.
        Self {
            ring_bytes: 2 << 20,
            backend: None,
            measure: false,
            stacks: stacks::Options::NONE,
            looks_only: false,
            diagnostics: false,
        }
    }
}

/// What a program has cost in those runs that were measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Its name.
    pub program: &'static str,
    /// How often it ran.
    pub runs: u64,
    /// Nanoseconds in all.
    pub nanos: u64,
}

/// The attached programs. Dropping it detaches and unloads them: they live by our file descriptors alone,
/// so even a killed agent leaves nothing behind.
pub struct Probes {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    counters: PerCpuArray<MapData, u64>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    translator: Translator,
    backend: Backend,
    /// Better back-ends that this kernel refused, and why.
    refused: Vec<(Backend, String)>,
    /// One bit for each port that is watched.
    ports: Box<[u64]>,
    lost: [u64; Counter::ALL.len()],
    /// Events that were read while a snapshot was taken.
    early: Vec<Event>,
    /// Buffer for walks, kept for its size.
    rows: Vec<u8>,
    missing: Vec<(&'static table::Probe, String)>,
    stacks: Option<stacks::Stacks>,
    /// Why there are no stacks, though they were asked for.
    no_stacks: Option<String>,
    /// Why uses are not followed, though they were asked for.
    no_uses: Option<String>,
    meter: Meter,
    alarm: Alarm,
    /// What notes when unix sockets receive, if it is not attached yet: see [`Self::follow_receives`].
    receives: Option<&'static table::Probe>,
}

impl Probes {
    /// Loads and attaches everything that this kernel can run, by the best back-end that works.
    ///
    /// # Errors
    /// When none does; says which program failed with the last one, and what to do.
    pub fn attach(databases: &Databases, options: Options) -> Result<Self> {
        share_one_heap();
        let mut refused = Vec::new();
        let one = options.backend.map(|backend| [backend]);
        for &backend in one.as_ref().map_or(&Backend::ALL[..], |one| &one[..]) {
            match Self::attach_with_stacks(backend, databases, options) {
                Ok(probes) => {
                    give_back_memory();
                    return Ok(Self { refused, ..probes });
                }
                Err(error) => refused.push((backend, refusal::reason(&error))),
            }
        }
        bail!(
            "no way to ask this kernel works: {}; run 'connleak doctor'",
            reasons(&refused)
        )
    }

    /// With stacks if they are wanted and can be had; they are worth nothing without the rest.
    fn attach_with_stacks(backend: Backend, databases: &Databases, options: Options) -> Result<Self> {
        if options.stacks.bytes == 0 {
            return Self::attach_by(backend, databases, options);
        }
        Self::attach_by(backend, databases, options).or_else(|error| {
            let reason = refusal::reason(&error);
            let without = Options {
                stacks: stacks::Options::NONE,
                ..options
            };
            let mut probes = Self::attach_by(backend, databases, without)?;
            probes.no_stacks = Some(reason);
            Ok(probes)
        })
    }

    fn attach_by(backend: Backend, databases: &Databases, options: Options) -> Result<Self> {
        let mut loaded = object::load(databases, options, backend)?;
        let mut missing: Vec<(&'static table::Probe, String)> = Vec::new();
        // Where snapshots need no program, to try the others tells whether this back-end works.
        let looks_only = options.looks_only && backend.iterates();
        let needed = |probe: &&table::Probe| !looks_only || matches!(probe.hook, table::Hook::Iterator(_));
        let probes: Vec<&'static table::Probe> = backend.probes().filter(needed).collect();
        let listeners = stacks::unix_listeners(databases);
        let greets = listeners.iter().any(|(_, system)| system.may_speak_first());
        let mut receives = None;
        let outcomes = table::Probe::load_all(&probes, &mut loaded.ebpf, loaded.btf.as_ref());
        for (probe, outcome) in probes.into_iter().zip(outcomes) {
            let attached = outcome.and_then(|()| {
                if probe.program == RECEIVES && !greets {
                    receives = Some(probe);
                    return Ok(());
                }
                probe.attach(&mut loaded.ebpf)
            });
            match attached {
                Ok(()) => {}
                Err(error) if probe.required => {
                    return Err(error.context(format!(
                        "can't attach {} to {}:{} ({})",
                        probe.program,
                        probe.hook_kind(),
                        probe.hook_name(),
                        probe.purpose
                    )));
                }
                Err(error) => missing.push((probe, refusal::reason(&error))),
            }
        }
        let no_uses = match missing.iter().find(|(probe, _)| probe.program == "connleak_send") {
            Some(_) if options.stacks.last_use => {
                let probe = &table::SENDS;
                let outcome = probe
                    .load(&mut loaded.ebpf, loaded.btf.as_ref())
                    .and_then(|()| probe.attach(&mut loaded.ebpf));
                outcome.err().map(|error| refusal::reason(&error))
            }
            _ => None,
        };
        let mut ebpf = loaded.ebpf;
        let logger = options
            .diagnostics
            .then(|| EbpfLogger::init(&mut ebpf))
            .transpose()?;
        let ring = RingBuf::try_from(take(&mut ebpf, "EVENTS")?)?;
        let counters = PerCpuArray::try_from(take(&mut ebpf, "COUNTERS")?)?;
        let alarm = Alarm::take(&mut ebpf)?;
        let stacks = (options.stacks.bytes > 0)
            .then(|| stacks::Stacks::take(&mut ebpf))
            .transpose()?;
        let ports = Box::from(databases.port_bitmap());
        let mut translator = Translator::new(databases.clone(), backend);
        translator.follows_unix = backend.described()
            && !options.looks_only
            && !missing
                .iter()
                .any(|(probe, _)| ["connleak_send", RECEIVES].contains(&probe.program));
        if stacks.is_some() {
            translator.unix_sites = Some(stacks::UnixSites::take(&mut ebpf, &listeners)?);
        }
        Ok(Self {
            ebpf,
            ring,
            counters,
            logger,
            translator,
            backend,
            refused: Vec::new(),
            ports,
            lost: [0; Counter::ALL.len()],
            early: Vec::new(),
            rows: Vec::new(),
            missing,
            stacks,
            no_stacks: None,
            no_uses,
            meter: Meter::new(options.measure),
            alarm,
            receives,
        })
    }

    /// Optional programs that this kernel refused, and why.
    #[must_use]
    pub fn missing(&self) -> &[(&'static table::Probe, String)] {
        &self.missing
    }

    /// How the kernel is asked.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Better back-ends that this kernel refused, and why.
    #[must_use]
    pub fn refused(&self) -> &[(Backend, String)] {
        &self.refused
    }

    /// Becomes readable when much is waiting in the ring buffer. To be called within a tokio runtime.
    ///
    /// # Errors
    /// When no further descriptor can be had.
    pub fn waker(&self) -> Result<AsyncFd<OwnedFd>> {
        let own = self.ring.as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is a duplicate that the `AsyncFd` owns, so it stays open and the same.
        Ok(unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }?)
    }

    /// Time until the ring buffer is to be read again, if [`waker`](Self::waker) does not ask for it before.
    pub fn between_reads(&mut self) -> Duration {
        let time = self.alarm.between_reads();
        let due = self.meter.until_next(Instant::now());
        due.map_or(time, |due| time.min(due))
    }

    /// Hands on what is waiting, in the order in which it happened, and then what was lost.
    ///
    /// # Errors
    /// When the loss counters cannot be read.
    pub fn drain(&mut self, mut take: impl FnMut(Event)) -> Result<()> {
        self.meter.tick(Instant::now());
        let mut stirred = !self.early.is_empty();
        self.early.drain(..).for_each(&mut take);
        while let Some(record) = self.ring.next() {
            stirred = true;
            self.translator.record(&record, &mut take);
        }
        if stirred {
            self.alarm.stir();
        }
        self.follow_receives();
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        for (counter, cause) in [
            (Counter::RingFull, Loss::RingFull),
            (Counter::ReadFault, Loss::ReadFault),
            (Counter::MapFull, Loss::MapFull),
        ] {
            let total = self.counter(counter)?;
            let known = &mut self.lost[counter as usize];
            if total > *known {
                take(Event::Lost {
                    at: clock::monotonic(),
                    cause,
                    count: total - *known,
                });
                *known = total;
            }
        }
        Ok(())
    }

    /// Walks every descriptor of every process.
    ///
    /// The events that happened before a row was read are in the ring when this returns: the caller has to
    /// [`drain`](Self::drain) before it merges the snapshot.
    ///
    /// # Errors
    /// When the kernel refuses the walk.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let began = clock::monotonic();
        let observations = match self.backend {
            Backend::Btf | Backend::Memory => self.iterate()?,
            Backend::Diag | Backend::Tracepoint => {
                let ports = &self.ports;
                let wanted = |port: u16| {
                    ports
                        .get(usize::from(port) / 64)
                        .is_some_and(|word| word >> (port % 64) & 1 == 1)
                };
                let rows = diag::rows(wanted)?;
                // Where events have no cookies, those that came before a row say which socket the row means.
                while let Some(record) = self.ring.next() {
                    self.translator.record(&record, |event| self.early.push(event));
                }
                self.translator.diag_rows(rows)
            }
        };
        self.follow_receives();
        let ended = clock::monotonic();
        self.translator.walked.get_or_insert(ended);
        tracing::debug!(
            rows = observations.len(),
            micros = (ended - began) / 1000,
            "snapshot"
        );
        Ok(Snapshot {
            began,
            ended,
            observations,
            open_only: !self.backend.iterates(),
        })
    }

    /// Attaches what notes when unix sockets receive, once a database is met that is connected to by one (by then it is already
    /// where a server listens that may speak first): it is asked at each receive of each socket of the host, TCP's too, and on
    /// most hosts there is nothing that it could note.
    fn follow_receives(&mut self) {
        if !self.translator.met_unix {
            return;
        }
        let Some(probe) = self.receives.take() else { return };
        match probe.attach(&mut self.ebpf) {
            Ok(()) => self.translator.receives_since = clock::monotonic(),
            Err(error) => {
                self.translator.follows_unix = false;
                self.missing.push((probe, refusal::reason(&error)));
            }
        }
    }

    fn iterate(&mut self) -> Result<Vec<Observation>> {
        let program = self
            .ebpf
            .program_mut("connleak_snapshot")
            .context("no snapshot program")?;
        let program: &mut Iter = program.try_into()?;
        let link = program
            .attach()
            .context("can't start a walk over all descriptors")?;
        let mut walk = program.take_link(link)?.into_file()?;
        self.rows.clear();
        walk.read_to_end(&mut self.rows)
            .context("can't read the walk over all descriptors")?;
        Ok(self.translator.rows(&self.rows))
    }

    /// The way of threads' stacks, for the thread that is to read them; `None` when there are none, or it was taken.
    pub fn take_stacks(&mut self) -> Option<stacks::Stacks> {
        self.stacks.take()
    }

    /// Why there are no stacks, though they were asked for.
    #[must_use]
    pub fn no_stacks(&self) -> Option<&str> {
        self.no_stacks.as_deref()
    }

    /// Why uses are not followed, though they were asked for.
    #[must_use]
    pub fn no_uses(&self) -> Option<&str> {
        self.no_uses.as_deref()
    }

    /// Stacks that were not handed up, because their ring buffer was full or there were too many of them.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn stacks_lost(&self) -> Result<u64> {
        Ok(self.counter(Counter::StackRingFull)? + self.counter(Counter::StacksRefused)?)
    }

    fn counter(&self, counter: Counter) -> Result<u64> {
        let slots = self.counters.get(&(counter as u32), 0);
        Ok(slots.context("can't read the loss counters")?.iter().sum())
    }

    /// Servers' ends of unix connections, as of the last walk.
    #[must_use]
    pub fn unix_servers(&self) -> &[peer::ServerEnd] {
        &self.translator.unix_servers
    }

    /// What each program has cost while that was measured; empty where the kernel does not measure.
    #[must_use]
    pub fn costs(&self) -> Vec<Cost> {
        if !self.meter.works() {
            return Vec::new();
        }
        let cost = |probe: &table::Probe| {
            let info = self.ebpf.program(probe.program)?.info().ok()?;
            Some(Cost {
                program: probe.program,
                runs: info.run_count(),
                nanos: u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX),
            })
        };
        // A program that another goes on to is counted with that one.
        let entered = |probe: &&table::Probe| !matches!(probe.hook, table::Hook::Next(..));
        let probes = self.backend.probes().filter(entered).chain([&table::SENDS]);
        probes.filter_map(cost).collect()
    }

    /// The moment now, as events count it.
    #[must_use]
    pub fn now(&self) -> Nanos {
        clock::monotonic()
    }
}

/// Takes a snapshot by `sock_diag` and `/proc`, and throws it away.
///
/// # Errors
/// When that does not work here.
pub fn try_diag() -> Result<()> {
    diag::rows(|_| false).map(drop)
}

/// Each reason once, with the back-ends that it stopped.
fn reasons(refused: &[(Backend, String)]) -> String {
    let mut told: Vec<(&str, Vec<&str>)> = Vec::new();
    for (backend, reason) in refused {
        match told.iter_mut().find(|(known, _)| known == reason) {
            Some((_, names)) => names.push(backend.name()),
            None => told.push((reason, vec![backend.name()])),
        }
    }
    let texts: Vec<String> = told
        .iter()
        .map(|(reason, names)| format!("{} ({reason})", names.join(", ")))
        .collect();
    texts.join(", ")
}

/// What is free goes back to the kernel: what was needed for a moment (types, other processes' files) would stay with the
/// allocator for ever.
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// All threads take memory from one heap. By itself each would have one of its own, whose free end is not given back: the
/// thread that builds types for a moment would leave 4.5 MiB behind.
fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes numbers, sets a limit for heaps that are made later.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// The program that [`Probes::follow_receives`] is about.
const RECEIVES: &str = "connleak_receive";

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name)
        .with_context(|| format!("the kernel object has no map {name}: this build is damaged"))
}
