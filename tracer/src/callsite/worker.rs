//! The threads that turn copies of stacks into call sites, beside the agent, which never waits for the first of them.
//!
//! One reads the copies as they come ([`Reader`]), and tells the agent which site did what. The other looks up what a
//! site's frames are called, when it is asked. Everything they read belongs to other processes, and may be slow or
//! hostile: then copies are lost and counted, names come later, and connections have no call site. Nothing else suffers.

#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Site, SiteId, Source, native::Symbols, reader::Reader, store::Store};
use crate::{
    event::Stack,
    probes::{lull, stacks::Stacks},
};

/// Stacks that wait for the agent: those of a second in which nothing is refused.
const WAITING: usize = 16_384;
/// Questions that wait.
const QUESTIONS: usize = 64;
/// How long the agent waits for a site's names. The first one of a large file takes 0.2 s; what takes longer is there
/// when it asks again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a start waits at most for the first look at the host's processes, which is taken beside the first snapshot: the
/// bench's `start` row was 83 ms with and without it. Where it takes longer, it goes on beside the agent.
const FIRST_LOOK: Duration = Duration::from_millis(500);
/// The agent waits at most for this part of the time: files may be made to be slow.
const WAITING_SHARE: u32 = 5;

/// A question, and where the answer is awaited.
type Question = (SiteId, SyncSender<Option<Site>>);

/// The agent's end. The threads end after it, when they next look.
#[derive(Debug)]
pub struct Worker {
    stacks: Receiver<Stack>,
    questions: SyncSender<Question>,
    /// Ends when the thread has looked at the processes that run already.
    looked: Receiver<()>,
    shared: Arc<Shared>,
}

/// What both ends see.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Stacks that the agent was too busy for.
    dropped: AtomicU64,
}

impl Worker {
    /// Starts the threads. `thread_dumps`: whether Java machines may be asked for one.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(stacks: Stacks, thread_dumps: bool) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let store = Arc::new(Mutex::new(Store::default()));
        let (agent, waiting) = sync_channel(WAITING);
        let (questions, asked) = sync_channel(QUESTIONS);
        let (first_look, looked) = sync_channel(1);
        let (kept, reading) = (Arc::clone(&store), Arc::clone(&shared));
        thread::Builder::new()
            .name("connleak-stacks".to_owned())
            .spawn(move || read(stacks, thread_dumps, first_look, &kept, &agent, &reading))
            .context("can't start the thread that reads stacks")?;
        thread::Builder::new()
            .name("connleak-names".to_owned())
            .spawn(move || answer(&asked, &store))
            .context("can't start the thread that names functions")?;
        Ok(Self {
            stacks: waiting,
            questions,
            looked,
            shared,
        })
    }

    /// Waits until the processes that run already have been looked at, for a bounded time: the kernel side can walk an
    /// interpreter's frames only where it knows that there is one.
    pub fn await_first_look(&self) {
        // Its end is the news.
        let _ = self.looked.recv_timeout(FIRST_LOOK);
    }

    /// What has been read since the last call.
    pub fn take(&self) -> impl Iterator<Item = Stack> + '_ {
        // No more than fit at once: who fills it up while it is emptied keeps nobody here.
        self.stacks.try_iter().take(WAITING)
    }

    /// Stacks that were read, and lost because the agent was busy.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Where to ask for sites.
    #[must_use]
    pub fn desk(&self) -> Desk {
        Desk {
            questions: self.questions.clone(),
            late: HashMap::new(),
            patience: (PATIENCE, Instant::now()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// Where sites are asked for.
#[derive(Debug)]
pub struct Desk {
    questions: SyncSender<Question>,
    /// Answers that did not come in time.
    late: HashMap<SiteId, Receiver<Option<Site>>>,
    /// What is left of the agent's patience, as of then.
    patience: (Duration, Instant),
}

impl Desk {
    fn patience(&mut self, now: Instant) -> Duration {
        let (left, then) = self.patience;
        let more = now.saturating_duration_since(then) / WAITING_SHARE;
        self.patience = ((left + more).min(PATIENCE), now);
        self.patience.0
    }
}

impl Source for Desk {
    /// Waits once for each site, and not for long.
    fn describe(&mut self, id: SiteId) -> Option<Site> {
        if id == SiteId::UNKNOWN {
            return None;
        }
        if let Some(awaited) = self.late.get(&id) {
            let answer = awaited.try_recv();
            if answer != Err(TryRecvError::Empty) {
                self.late.remove(&id);
            }
            return answer.ok().flatten();
        }
        let (answer, awaited) = sync_channel(1);
        self.questions.try_send((id, answer)).ok()?;
        let began = Instant::now();
        let answered = awaited.recv_timeout(self.patience(began));
        let waited = began.elapsed();
        self.patience = (self.patience.0.saturating_sub(waited), began + waited);
        match answered {
            Ok(site) => site,
            Err(RecvTimeoutError::Timeout) => {
                // No more than can be under way.
                if self.late.len() < QUESTIONS {
                    self.late.insert(id, awaited);
                }
                None
            }
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }
}

/// The thread that reads stacks.
fn read(
    mut stacks: Stacks,
    thread_dumps: bool,
    first_look: SyncSender<()>,
    store: &Mutex<Store>,
    agent: &SyncSender<Stack>,
    shared: &Shared,
) {
    let mut reader = Reader::new(thread_dumps);
    reader.look_for_processes(&mut stacks);
    drop(first_look);
    let mut stirred = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let mut waited = [PollFd::new(stacks.as_fd(), PollFlags::POLLIN)];
        // The ring's writers wake nobody, unless much is waiting or somebody's stack can't. A signal ends it early, which does no harm.
        let tick = lull::between_reads(stirred.elapsed());
        let _ = poll(
            &mut waited,
            PollTimeout::try_from(tick).unwrap_or(PollTimeout::ZERO),
        );
        let told = reader.drain(&mut stacks, |id, stack| {
            store
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .keep(id, stack);
        });
        if !told.is_empty() {
            stirred = Instant::now();
        }
        for stack in told {
            if let Err(TrySendError::Full(_)) = agent.try_send(stack) {
                shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        reader.look_for_processes(&mut stacks);
    }
}

/// The thread that names functions.
fn answer(asked: &Receiver<Question>, store: &Mutex<Store>) {
    let mut symbols = Symbols::default();
    for (id, answer) in asked {
        let stack = store.lock().unwrap_or_else(PoisonError::into_inner).get(id);
        // Who asked may have left.
        let _ = answer.try_send(stack.map(|stack| stack.name(&mut symbols)));
    }
}
