//! From a copy of a stack to its site: unwound, and put together with what the runtime says.

#![forbid(unsafe_code)]

use std::sync::Arc;

use connleak_ebpf::PythonLayout;

use super::{
    Capture, Role, SiteId,
    managed::{self, Managed},
    native::{End, Found, NativeFrame, NativeStack, Unwinder},
    processes::Processes,
    python::{self, PythonStack, Pythons},
    store::{Place, Unnamed},
    uses::Uses,
};
use crate::{
    event::Stack,
    probes::{
        clock,
        stacks::{Arrival, Bare, Stacks},
    },
};

/// Stacks that are read before the agent is told.
const BATCH: usize = 1024;

/// What the kernel side has to be told.
enum Order {
    /// This fingerprint is not known here.
    Forget(u64),
    /// This process runs Python.
    Python(u32, PythonLayout),
    /// This process runs another runtime, whose frames the kernel side can't tell.
    Managed {
        pid: u32,
        /// What is read of it doesn't stay: its stacks are to be read at once.
        urgent: bool,
    },
}

/// See the module's head.
#[derive(Debug)]
pub struct Reader {
    unwinder: Unwinder,
    pythons: Pythons,
    managed: Managed,
    processes: Processes,
    uses: Uses,
}

impl Reader {
    /// Nothing read yet. `thread_dumps`: whether Java machines may be asked for one.
    #[must_use]
    pub fn new(thread_dumps: bool) -> Self {
        Self {
            unwinder: Unwinder::default(),
            pythons: Pythons::default(),
            managed: Managed::new(thread_dumps),
            processes: Processes::default(),
            uses: Uses::default(),
        }
    }

    /// Looks for processes that have begun or ended, if it is time: a runtime's frames can be walked at the event only
    /// once it is known where they are. Whether any has begun.
    pub fn look_for_processes(&mut self, stacks: &mut Stacks) {
        let Some(news) = self.processes.look() else {
            return;
        };
        let now = clock::monotonic();
        for process in news.young {
            if let Some(layout) = self.pythons.prepare(process, now) {
                stacks.python(process.pid, Some(layout));
            }
            if managed::looks_urgent(process) {
                stacks.prompt(process.pid, true);
            }
        }
        for process in news.ended {
            self.pythons.forget(process);
            stacks.python(process.pid, None);
        }
    }

    /// Reads what is waiting; returns what the agent has to be told. `keep` is given each stack that was read.
    pub fn drain(&mut self, stacks: &mut Stacks, mut keep: impl FnMut(SiteId, Unnamed)) -> Vec<Stack> {
        let mut orders = Vec::new();
        let mut told = Vec::new();
        for _ in 0..BATCH {
            if !stacks.next(|arrival| told.extend(self.take(&arrival, &mut orders, &mut keep))) {
                break;
            }
        }
        for order in orders {
            match order {
                Order::Forget(fingerprint) => stacks.forget(fingerprint),
                Order::Python(pid, layout) => stacks.python(pid, Some(layout)),
                Order::Managed { pid, urgent } => {
                    stacks.managed(pid);
                    stacks.prompt(pid, urgent);
                }
            }
        }
        told.extend(self.uses.news());
        told
    }

    /// Takes one record. Returns what is to be told at once: openings; uses wait for the end of the batch.
    fn take(
        &mut self,
        arrival: &Arrival<'_>,
        orders: &mut Vec<Order>,
        keep: &mut impl FnMut(SiteId, Unnamed),
    ) -> Option<Stack> {
        let capture = &arrival.capture;
        let site = match arrival.bare {
            None => self.read(capture, orders, keep),
            Some(Bare::NoUser) => {
                let stack = of_the_kernel();
                let site = stack.id();
                keep(site, stack);
                site
            }
            Some(Bare::Refused) => SiteId::UNKNOWN,
            Some(Bare::Known) => {
                let known = self.uses.known(capture.process, arrival.fingerprint);
                if known.is_none() {
                    orders.push(Order::Forget(arrival.fingerprint));
                }
                known.unwrap_or(SiteId::UNKNOWN)
            }
        };
        let stack = Stack {
            at: capture.at,
            cookie: capture.cookie,
            role: capture.role,
            process: capture.process,
            site,
        };
        if capture.role == Role::Opened {
            return Some(stack);
        }
        // Of a runtime's process each use has a fingerprint of its own.
        if arrival.bare.is_none() && !self.managed.is_managed(capture.process) {
            self.uses.remember(capture.process, arrival.fingerprint, site);
        }
        self.uses.note(stack);
        None
    }

    fn read(
        &mut self,
        capture: &Capture<'_>,
        orders: &mut Vec<Order>,
        keep: &mut impl FnMut(SiteId, Unnamed),
    ) -> SiteId {
        if let Some(layout) = self.pythons.prepare(capture.process, capture.at) {
            orders.push(Order::Python(capture.process.pid, layout));
        }
        // First what may have to be read from the thread itself, which goes on meanwhile.
        let python = self.pythons.frames(capture);
        let mut stack = Unnamed::of(self.unwinder.unwind(capture));
        if let Some(python) = python {
            with_python(&mut stack, python);
        } else if let Some(reason) = self.pythons.refused(capture.process) {
            add_note(&mut stack, reason);
        } else if let Some(answer) = self.managed.frames(capture, &stack.native) {
            with_runtime(&mut stack, answer);
        }
        if self.managed.is_managed(capture.process) {
            orders.push(Order::Managed {
                pid: capture.process.pid,
                urgent: self.managed.is_urgent(capture.process),
            });
        }
        let site = stack.id();
        tracing::trace!(
            pid = capture.process.pid,
            bytes = capture.stack.len(),
            frames = stack.order.len(),
            %site,
            "stack"
        );
        keep(site, stack);
        site
    }
}

/// Puts Python's frames to where they ran.
fn with_python(stack: &mut Unnamed, python: PythonStack) {
    let kinds: Vec<python::Native> = stack
        .native
        .frames
        .iter()
        .map(|frame| python.kind(instruction(frame)))
        .collect();
    let (places, fits) = python::merge(&kinds, &python.entries);
    stack.order = places
        .into_iter()
        .map(|place| match place {
            python::Place::Native(index) => Place::Native(index),
            python::Place::Python(index) => Place::Named(index),
        })
        .collect();
    stack.interpreter = kinds.iter().map(|kind| *kind != python::Native::Other).collect();
    stack.quality = stack.quality.max(python.quality);
    stack.named = python.frames;
    if let Some(note) = python.note {
        add_note(stack, &note);
    }
    if !fits {
        add_note(
            stack,
            "between which native frames the Python frames ran is not known",
        );
    }
}

/// Puts another runtime's frames in place of the native ones that ran them.
fn with_runtime(stack: &mut Unnamed, answer: managed::Answer) {
    if answer.frames.is_empty() {
        stack.quality = stack.quality.max(answer.quality);
    } else {
        stack.order.truncate(answer.before);
        stack.order.extend((0..answer.frames.len()).map(Place::Named));
        stack.named = answer.frames;
        // What the machine's stack lacks further out is the runtime's own.
        stack.quality = answer.quality;
        stack.note = None;
    }
    for (number, frame) in answer.instead {
        if let Some(place) = stack.order.get_mut(number) {
            *place = Place::Named(stack.named.len());
            stack.named.push(frame);
        }
    }
    if let Some(note) = answer.note {
        add_note(stack, &note);
    }
}

/// An address in the instruction that waits: a return address is behind its call, which may be a function's last
/// instruction.
fn instruction(frame: &NativeFrame) -> u64 {
    match frame.found {
        Found::Registers => frame.address,
        _ => frame.address.wrapping_sub(1),
    }
}

/// No code of an application's.
fn of_the_kernel() -> Unnamed {
    let mut stack = Unnamed::of(Arc::new(NativeStack {
        frames: Vec::new(),
        end: End::Root,
    }));
    add_note(
        &mut stack,
        "a thread of the kernel did it for the process (io_uring): the application's code was elsewhere by then",
    );
    stack.quality = super::Quality::Partial;
    stack
}

fn add_note(stack: &mut Unnamed, note: &str) {
    match &mut stack.note {
        Some(known) => {
            known.push_str("; ");
            known.push_str(note);
        }
        None => stack.note = Some(note.to_owned()),
    }
}
