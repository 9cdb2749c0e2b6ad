//! The kernel side, seen from the agent: loads and attaches the programs, reads what they send, and turns
//! it into [`Event`]s. Nothing here judges.

pub mod btf;
pub mod clock;
pub mod object;
pub mod offsets;
pub mod peer;
pub mod preflight;
pub mod refusal;
pub mod table;
mod translate;

use std::{
    io::Read as _,
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{Map, MapData, PerCpuArray, RingBuf},
    programs::Iter,
    sys::{Stats, enable_stats},
};
use aya_log::EbpfLogger;
use connleak_ebpf::Counter;
use tokio::io::{Interest, unix::AsyncFd};
use translate::Translator;

use crate::{
    event::{Event, Loss, Nanos, Snapshot},
    server::Databases,
};

/// What the caller may choose.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size of the ring buffer in bytes: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Let the kernel measure the programs' run time (`BPF_ENABLE_STATS`).
    pub measure: bool,
    /// Pass on what the kernel programs have to say about themselves.
    pub diagnostics: bool,
}

impl Default for Options {
    fn default() -> Self {
        // 4 MiB hold 40,000 events: over a second of the fastest connect storm that two cores make.
        Self {
            ring_bytes: 4 << 20,
            measure: false,
            diagnostics: false,
        }
    }
}

/// What a program has cost so far.
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
    lost: [u64; Counter::ALL.len()],
    /// Buffer for walks, kept for its size.
    rows: Vec<u8>,
    missing: Vec<(&'static table::Probe, String)>,
    /// The kernel measures as long as this is open.
    stats: Option<OwnedFd>,
}

impl Probes {
    /// Loads and attaches everything that this kernel can run.
    ///
    /// # Errors
    /// When a required program cannot be loaded; says which, and what to do.
    pub fn attach(databases: Databases, options: Options) -> Result<Self> {
        let object::Loaded {
            mut ebpf, refused, ..
        } = object::load(&databases, options)?;
        let mut missing: Vec<(&'static table::Probe, String)> = Vec::new();
        let mut refused: Vec<_> = refused;
        for probe in table::PROBES {
            if refused.iter().any(|(other, _)| std::ptr::eq(*other, probe)) {
                continue;
            }
            if let Err(error) = probe.attach(&mut ebpf) {
                refused.push((probe, error));
            }
        }
        for (probe, error) in &refused {
            if probe.required {
                bail!(
                    "can't attach {} to {}:{} ({}): {}; run 'connleak doctor'",
                    probe.program,
                    probe.hook_kind(),
                    probe.hook_name(),
                    probe.purpose,
                    refusal::reason(error)
                );
            }
            missing.push((probe, refusal::reason(error)));
        }
        let logger = options
            .diagnostics
            .then(|| EbpfLogger::init(&mut ebpf))
            .transpose()?;
        let ring = RingBuf::try_from(take(&mut ebpf, "EVENTS")?)?;
        let counters = PerCpuArray::try_from(take(&mut ebpf, "COUNTERS")?)?;
        let mut translator = Translator::new(databases);
        translator.follows_unix = !missing
            .iter()
            .any(|(probe, _)| probe.hook_name().starts_with("sock_"));
        // Without it the summary has no run times; nothing else changes.
        let stats = options
            .measure
            .then(|| enable_stats(Stats::RunTime).ok())
            .flatten();
        Ok(Self {
            ebpf,
            ring,
            counters,
            logger,
            translator,
            lost: [0; Counter::ALL.len()],
            rows: Vec::new(),
            missing,
            stats,
        })
    }

    /// Optional programs that this kernel refused, and why.
    #[must_use]
    pub fn missing(&self) -> &[(&'static table::Probe, String)] {
        &self.missing
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

    /// Hands on what is waiting, in the order in which it happened, and then what was lost.
    ///
    /// # Errors
    /// When the loss counters cannot be read.
    pub fn drain(&mut self, mut take: impl FnMut(Event)) -> Result<()> {
        while let Some(record) = self.ring.next() {
            if let Some(event) = self.translator.record(&record) {
                take(event);
            }
        }
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        for (counter, cause) in [
            (Counter::RingFull, Loss::RingFull),
            (Counter::ReadFault, Loss::ReadFault),
        ] {
            let slot = counter as u32;
            let total = self
                .counters
                .get(&slot, 0)
                .context("can't read the loss counters")?
                .iter()
                .sum();
            let known = &mut self.lost[slot as usize];
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
        let began = clock::monotonic();
        walk.read_to_end(&mut self.rows)
            .context("can't read the walk over all descriptors")?;
        let ended = clock::monotonic();
        let observations = self.translator.rows(&self.rows);
        Ok(Snapshot {
            began,
            ended,
            observations,
        })
    }

    /// Servers' ends of unix connections, as of the last walk.
    #[must_use]
    pub fn unix_servers(&self) -> &[peer::ServerEnd] {
        &self.translator.unix_servers
    }

    /// What each program has cost so far; empty where the kernel does not measure.
    #[must_use]
    pub fn costs(&self) -> Vec<Cost> {
        if self.stats.is_none() {
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
        table::PROBES.iter().filter_map(cost).collect()
    }

    /// The moment now, as events count it.
    #[must_use]
    pub fn now(&self) -> Nanos {
        clock::monotonic()
    }
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name)
        .with_context(|| format!("the kernel object has no map {name}: this build is damaged"))
}
