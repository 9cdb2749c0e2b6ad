//! Stacks that were walked before. A leaking program comes from the same place again and again.
//!
//! A walk rests on its first instruction, on the code, and on the words that it looked at: its witnesses. Where all of
//! them are the same, walking again gives the same frames. So recognising is no guess, and costs one comparison for each
//! frame.

#![forbid(unsafe_code)]

use std::{collections::HashMap, sync::Arc};

use super::{registers::Witnesses, unwind::NativeStack};
use crate::{callsite::Capture, owner::ProcessId};

/// Stacks that are remembered; then all are forgotten.
const MAX_KNOWN: usize = 8_192;
/// Of those, stacks that begin at the same instruction of the same process.
const MAX_ALIKE: usize = 64;

/// Where a stack begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    process: ProcessId,
    /// Which reading of its memory map.
    reading: u64,
    ip: u64,
}

impl Key {
    pub(super) fn new(capture: &Capture<'_>, reading: u64) -> Self {
        Self {
            process: capture.process,
            reading,
            ip: capture.registers.ip,
        }
    }
}

#[derive(Debug)]
struct Walked {
    witnesses: Witnesses,
    stack: Arc<NativeStack>,
}

/// The stacks, by where they begin.
#[derive(Debug, Default)]
pub(super) struct KnownStacks {
    stacks: HashMap<Key, Vec<Walked>>,
    count: usize,
}

impl KnownStacks {
    pub(super) fn find(&self, key: Key, capture: &Capture<'_>) -> Option<Arc<NativeStack>> {
        let walked = self
            .stacks
            .get(&key)?
            .iter()
            .find(|walked| walked.witnesses.hold(capture))?;
        Some(Arc::clone(&walked.stack))
    }

    pub(super) fn add(&mut self, key: Key, witnesses: Witnesses, stack: Arc<NativeStack>) {
        if self.count >= MAX_KNOWN {
            *self = Self::default();
        }
        let alike = self.stacks.entry(key).or_default();
        if alike.len() >= MAX_ALIKE {
            self.count -= alike.len();
            alike.clear();
        }
        alike.push(Walked { witnesses, stack });
        self.count += 1;
    }
}
