//! Stacks as they were read, by their sites: frames of machine code that have no names yet, and frames of runtimes that
//! were named while the process was there.

#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{
    Frame, Quality, Site, SiteId,
    native::{NativeStack, Symbols},
};
use crate::fnv;

/// Sites that are kept: some 20 frames of 50 bytes each, so 4 MiB usually. The oldest goes.
const MOST: usize = 4096;

/// A frame of a stack, by its index in the list that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of the machine's stack.
    Native(usize),
    /// Of a runtime's.
    Named(usize),
}

/// A stack that was read.
#[derive(Clone, Debug)]
pub struct Unnamed {
    /// The machine's stack.
    pub native: Arc<NativeStack>,
    /// A runtime's frames.
    pub named: Vec<Frame>,
    /// Both, innermost first.
    pub order: Vec<Place>,
    /// For each frame of the machine's stack: it is an interpreter's own, and does not tell one site from another. An
    /// interpreter learns as it runs, and calls the same function by another way once it is warm. Empty: none is.
    pub interpreter: Vec<bool>,
    /// How far it may be believed.
    pub quality: Quality,
    /// What the reader has to know.
    pub note: Option<String>,
}

impl Unnamed {
    /// Machine code alone.
    #[must_use]
    pub fn of(native: Arc<NativeStack>) -> Self {
        Self {
            named: Vec::new(),
            order: (0..native.frames.len()).map(Place::Native).collect(),
            interpreter: Vec::new(),
            quality: native.quality(),
            note: native.note(),
            native,
        }
    }

    /// Which site it is: see [`SiteId`].
    #[must_use]
    pub fn id(&self) -> SiteId {
        let id = self.order.iter().fold(fnv::START, |id, place| match *place {
            Place::Native(index) if self.interpreter.get(index) == Some(&true) => id,
            Place::Native(index) => {
                let frame = self.native.frames.get(index);
                frame.map_or(id, |frame| frame.identify(id))
            }
            Place::Named(index) => self.named.get(index).map_or(id, |frame| {
                let texts = [&frame.function, &frame.file];
                let id = texts.into_iter().flatten().fold(id, |id, text| {
                    // The end counts, too, or two texts could be taken for one.
                    fnv::hash(fnv::hash(id, text.as_bytes()), &[0])
                });
                fnv::hash(id, &frame.line.unwrap_or(0).to_le_bytes())
            }),
        });
        SiteId(id.max(1))
    }

    /// With names. Slow: see [`Symbols`].
    pub fn name(&self, symbols: &mut Symbols) -> Site {
        let mut frames = Vec::with_capacity(self.order.len());
        for place in &self.order {
            match *place {
                Place::Native(index) => {
                    if let Some(frame) = self.native.frames.get(index) {
                        frames.extend(symbols.frame(frame));
                    }
                }
                Place::Named(index) => frames.extend(self.named.get(index).cloned()),
            }
        }
        Site {
            id: self.id(),
            quality: self.quality,
            frames,
            note: self.note.clone(),
        }
    }
}

/// The stacks, by site.
#[derive(Debug, Default)]
pub struct Store {
    stacks: HashMap<SiteId, Arc<Unnamed>>,
    order: VecDeque<SiteId>,
}

impl Store {
    /// Keeps a stack. Of one site, the one that may be believed most.
    pub fn keep(&mut self, id: SiteId, stack: Unnamed) {
        match self.stacks.get_mut(&id) {
            Some(known) if known.quality <= stack.quality => {}
            Some(known) => *known = Arc::new(stack),
            None => {
                self.stacks.insert(id, Arc::new(stack));
                self.order.push_back(id);
                if self.order.len() > MOST
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.stacks.remove(&oldest);
                }
            }
        }
    }

    /// The stack of a site, if it is still known.
    #[must_use]
    pub fn get(&self, id: SiteId) -> Option<Arc<Unnamed>> {
        self.stacks.get(&id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callsite::{
        Runtime,
        native::{End, Found, NativeFrame},
    };

    fn stack(functions: &[(&str, u32)], quality: Quality) -> Unnamed {
        let named: Vec<Frame> = functions
            .iter()
            .map(|(function, line)| Frame {
                runtime: Runtime::Python,
                function: Some((*function).to_owned()),
                file: Some("app.py".to_owned()),
                line: Some(*line),
                module: None,
                build_id: None,
                offset: None,
                inlined: false,
            })
            .collect();
        Unnamed {
            native: Arc::new(NativeStack {
                frames: Vec::new(),
                end: End::Root,
            }),
            order: (0..named.len()).map(Place::Named).collect(),
            interpreter: Vec::new(),
            named,
            quality,
            note: None,
        }
    }

    #[test]
    fn a_site_is_another_when_a_function_a_line_or_the_order_is() {
        let id = |functions: &[_]| stack(functions, Quality::Exact).id();
        let site = id(&[("find", 3), ("main", 9)]);
        assert_eq!(site, id(&[("find", 3), ("main", 9)]));
        for other in [
            &[("find", 4), ("main", 9)][..],
            &[("main", 9), ("find", 3)],
            &[("find", 3)],
            &[],
        ] {
            assert_ne!(site, id(other), "{other:?}");
        }
    }

    #[test]
    fn a_site_is_the_same_before_and_after_its_interpreter_has_warmed_up() {
        let stack = |offsets: &[u64], interpreter: &[bool]| {
            let mut stack = stack(&[("find", 3)], Quality::Exact);
            let frames = offsets.iter().map(|&offset| NativeFrame {
                address: offset,
                module: None,
                offset,
                sp: 0,
                fp: None,
                found: Found::Tables,
            });
            stack.native = Arc::new(NativeStack {
                frames: frames.collect(),
                end: End::Root,
            });
            stack.order.extend((0..offsets.len()).map(Place::Native));
            stack.interpreter = interpreter.to_vec();
            stack.id()
        };
        let cold = stack(&[1, 2, 3, 9], &[false, true, true, false]);
        let warm = stack(&[1, 4, 9], &[false, true, false]);
        assert_eq!(cold, warm);
        assert_ne!(warm, stack(&[1, 4, 9], &[false, false, false]));
    }

    #[test]
    fn of_one_site_the_stack_that_is_to_be_believed_most_is_kept() {
        let mut store = Store::default();
        for (quality, kept) in [
            (Quality::Approximate, Quality::Approximate),
            (Quality::Partial, Quality::Approximate),
            (Quality::Exact, Quality::Exact),
        ] {
            store.keep(SiteId(1), stack(&[("find", 3)], quality));
            assert_eq!(store.get(SiteId(1)).map(|stack| stack.quality), Some(kept));
        }
    }

    #[test]
    fn a_bounded_number_of_sites_is_kept() {
        let mut store = Store::default();
        for id in 0..2 * MOST as u64 {
            store.keep(SiteId(id), stack(&[], Quality::Exact));
        }
        assert_eq!((store.stacks.len(), store.order.len()), (MOST, MOST));
        assert!(store.get(SiteId(0)).is_none());
    }
}
