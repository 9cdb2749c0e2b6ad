//! The thread that turns copies of stacks into call sites, beside the agent, which never waits for it.
//!
//! It reads the copies as they come, recognises those that it has seen, has the others unwound, and tells the agent
//! which site did what. What a site's frames are called it looks up when it is asked. Everything it reads belongs to
//! other processes, and may be slow or hostile: then this thread is late, copies are lost and counted, and connections
//! have no call site. Nothing else suffers.

#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};

use super::{Capture, Role, Site, SiteId, raw::Raw, seen::Seen};
use crate::{
    event::{Cookie, Stack},
    owner::ProcessId,
    probes::stacks::{Arrival, Bare, Stacks},
};

/// How often the ring is looked at, in milliseconds: its writers wake nobody, unless much is waiting.
const TICK_MILLIS: u16 = 50;
/// Stacks that are handled before questions are answered.
const BATCH: usize = 1024;
/// Stacks that wait for the agent: those of a second in which nothing is refused.
const WAITING: usize = 16_384;
/// Questions that wait.
const QUESTIONS: usize = 64;
/// How long the agent waits for an answer. What takes longer is there when it asks again.
const PATIENCE: Duration = Duration::from_millis(500);
/// Sockets whose last user is remembered, and fingerprints that are.
const REMEMBERED: usize = 65_536;

/// A question, and where the answer is awaited.
type Question = (SiteId, SyncSender<Option<Site>>);

/// The agent's end.
#[derive(Debug)]
pub struct Worker {
    stacks: Receiver<Stack>,
    desk: Desk,
    shared: Arc<Shared>,
}

/// What both ends see.
#[derive(Debug)]
struct Shared {
    bell: EventFd,
    stop: AtomicBool,
    /// Stacks that the agent was too busy for.
    dropped: AtomicU64,
}

/// Where questions are asked.
#[derive(Clone, Debug)]
pub struct Desk {
    questions: SyncSender<Question>,
    shared: Arc<Shared>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread or descriptor left.
    pub fn start(stacks: Stacks) -> Result<Self> {
        let shared = Arc::new(Shared {
            bell: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
                .context("can't make a descriptor to wake a thread by")?,
            stop: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        });
        let (agent, waiting) = sync_channel(WAITING);
        let (questions, asked) = sync_channel(QUESTIONS);
        let reader = Reader {
            agent,
            shared: Arc::clone(&shared),
            seen: Seen::default(),
            raw: Raw::default(),
            uses: Uses::default(),
        };
        thread::Builder::new()
            .name("connleak-sites".to_owned())
            .spawn(move || reader.run(stacks, &asked))
            .context("can't start the thread that reads stacks")?;
        Ok(Self {
            stacks: waiting,
            desk: Desk {
                questions,
                shared: Arc::clone(&shared),
            },
            shared,
        })
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
        self.desk.clone()
    }
}

impl Drop for Worker {
    /// Nobody waits for the thread: it may be in the middle of a large file.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.shared.bell.write(1);
    }
}

impl Desk {
    /// A site's frames; `None` when there is no such site, or no answer yet: a later question may get one.
    #[must_use]
    pub fn describe(&self, id: SiteId) -> Option<Site> {
        if id == SiteId::UNKNOWN {
            return None;
        }
        let (answer, awaited) = sync_channel(1);
        self.questions.try_send((id, answer)).ok()?;
        let _ = self.shared.bell.write(1);
        awaited.recv_timeout(PATIENCE).ok().flatten()
    }
}

/// The thread's end.
struct Reader {
    agent: SyncSender<Stack>,
    shared: Arc<Shared>,
    seen: Seen,
    raw: Raw,
    uses: Uses,
}

impl Reader {
    fn run(mut self, mut stacks: Stacks, asked: &Receiver<Question>) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let mut waited = [
                PollFd::new(stacks.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.shared.bell.as_fd(), PollFlags::POLLIN),
            ];
            // A signal ends it early, which does no harm.
            let _ = poll(&mut waited, PollTimeout::from(TICK_MILLIS));
            let _ = self.shared.bell.read();
            self.drain(&mut stacks);
            for (id, answer) in asked.try_iter() {
                // Who asked may have left.
                let _ = answer.try_send(self.raw.describe(id));
                self.drain(&mut stacks);
            }
        }
    }

    fn drain(&mut self, stacks: &mut Stacks) {
        let mut forgotten = Vec::new();
        for _ in 0..BATCH {
            if !stacks.next(|arrival| forgotten.extend(self.take(&arrival))) {
                break;
            }
        }
        for fingerprint in forgotten {
            stacks.forget(fingerprint);
        }
        let told: Vec<Stack> = self.uses.news().collect();
        for stack in told {
            self.tell(stack);
        }
    }

    /// Takes one copy. Returns a fingerprint that the kernel side takes for known, and this side does not know.
    fn take(&mut self, arrival: &Arrival<'_>) -> Option<u64> {
        let capture = &arrival.capture;
        let (site, unknown) = match arrival.bare {
            None | Some(Bare::NoUser) => (self.site(capture), false),
            Some(Bare::Refused) => (SiteId::UNKNOWN, false),
            Some(Bare::Known) => {
                let known = self.uses.known(capture.process, arrival.fingerprint);
                (known.unwrap_or(SiteId::UNKNOWN), known.is_none())
            }
        };
        let stack = Stack {
            at: capture.at,
            cookie: capture.cookie,
            role: capture.role,
            process: capture.process,
            site,
        };
        match capture.role {
            Role::Opened => self.tell(stack),
            Role::Used => {
                if arrival.bare.is_none() {
                    self.uses.remember(capture.process, arrival.fingerprint, site);
                }
                self.uses.note(stack);
            }
        }
        unknown.then_some(arrival.fingerprint)
    }

    fn site(&mut self, capture: &Capture<'_>) -> SiteId {
        if let Some(site) = self.seen.site(capture) {
            return site;
        }
        let (site, returns) = self.raw.unwind(capture);
        tracing::debug!(
            pid = capture.process.pid,
            bytes = capture.stack.len(),
            python = capture.python.len(),
            %site,
            "a stack that was not seen before"
        );
        self.seen.remember(capture, &returns, site);
        site
    }

    fn tell(&self, stack: Stack) {
        if let Err(TrySendError::Full(_)) = self.agent.try_send(stack) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Who uses which socket: of many uses in one tick the agent needs the last, and only if it is another's than before.
#[derive(Debug, Default)]
struct Uses {
    known: HashMap<(ProcessId, u64), SiteId>,
    told: HashMap<Cookie, (ProcessId, SiteId)>,
    /// In this tick.
    last: HashMap<Cookie, Stack>,
}

impl Uses {
    fn known(&self, process: ProcessId, fingerprint: u64) -> Option<SiteId> {
        self.known.get(&(process, fingerprint)).copied()
    }

    fn remember(&mut self, process: ProcessId, fingerprint: u64, site: SiteId) {
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert((process, fingerprint), site);
    }

    fn note(&mut self, stack: Stack) {
        self.last.insert(stack.cookie, stack);
    }

    /// What is new since the last call.
    fn news(&mut self) -> impl Iterator<Item = Stack> + '_ {
        if self.told.len() >= REMEMBERED {
            self.told.clear();
        }
        let Self { told, last, .. } = self;
        last.drain().filter_map(|(cookie, stack)| {
            let user = (stack.process, stack.site);
            (told.insert(cookie, user) != Some(user)).then_some(stack)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(at: u64, cookie: u64, site: u64) -> Stack {
        Stack {
            at,
            cookie: Cookie(cookie),
            role: Role::Used,
            process: ProcessId {
                pid: 7,
                start_ticks: 1,
            },
            site: SiteId(site),
        }
    }

    #[test]
    fn of_many_uses_the_last_is_told_and_only_when_it_is_anothers() {
        let mut uses = Uses::default();
        for (at, site) in [(1, 10), (2, 11), (3, 12)] {
            uses.note(used(at, 1, site));
        }
        assert_eq!(uses.news().collect::<Vec<_>>(), [used(3, 1, 12)]);
        uses.note(used(4, 1, 11));
        uses.note(used(5, 1, 12));
        assert_eq!(uses.news().count(), 0, "the same code as before");
        uses.note(used(6, 1, 0));
        assert_eq!(uses.news().count(), 1, "a use that was not captured is another's");
    }

    #[test]
    fn what_is_remembered_of_uses_is_bounded() {
        let mut uses = Uses::default();
        for number in 0..2 * REMEMBERED as u64 {
            let stack = used(number, number, 1);
            uses.remember(stack.process, number, stack.site);
            uses.note(stack);
            let _ = uses.news().count();
        }
        assert!(uses.known.len() <= REMEMBERED && uses.told.len() <= REMEMBERED);
    }
}
