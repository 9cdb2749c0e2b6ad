//! Recognises a stack that was unwound before, without unwinding it again.
//!
//! A program opens its connections in few places, so nearly every stack has been there before: the same thread's, or
//! another thread's with the same path. Where a known path has its return addresses, this stack must have the same
//! words; they are compared one by one, so the answer is exact, and costs less than a microsecond.

#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};

use super::{Capture, PythonFrame, SiteId};
use crate::owner::ProcessId;

/// Paths that are kept, of all processes. With 20 frames each, some 4 MiB.
const MOST: usize = 8192;
/// Paths of one process that end at the same instruction: all that go through one library.
const MOST_ALIKE: usize = 64;

/// A stack that was unwound.
#[derive(Debug)]
struct Path {
    /// Return addresses: how far above the stack pointer, and what is there.
    words: Box<[(u32, u64)]>,
    python: Box<[PythonFrame]>,
    site: SiteId,
}

impl Path {
    fn is(&self, capture: &Capture<'_>) -> bool {
        *self.python == *capture.python
            && self
                .words
                .iter()
                .all(|&(place, word)| word_at(capture.stack, place) == Some(word))
    }
}

/// The paths, by the process and the instruction at which they end.
#[derive(Debug, Default)]
pub struct Seen {
    paths: HashMap<(ProcessId, u64), Vec<Path>>,
    /// One for each path, oldest first.
    order: VecDeque<(ProcessId, u64)>,
}

impl Seen {
    /// The site of a stack that was remembered.
    #[must_use]
    pub fn site(&self, capture: &Capture<'_>) -> Option<SiteId> {
        let alike = self.paths.get(&(capture.process, capture.registers.ip))?;
        alike.iter().find(|path| path.is(capture)).map(|path| path.site)
    }

    /// Remembers the site of a stack that was unwound to these return addresses, innermost first.
    pub fn remember(&mut self, capture: &Capture<'_>, returns: &[u64], site: SiteId) {
        let Some(words) = places(capture.stack, returns) else {
            return;
        };
        let key = (capture.process, capture.registers.ip);
        let alike = self.paths.entry(key).or_default();
        if alike.len() >= MOST_ALIKE {
            alike.remove(0);
        } else {
            self.order.push_back(key);
        }
        alike.push(Path {
            words,
            python: capture.python.into(),
            site,
        });
        while self.order.len() > MOST {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(key) = self.order.pop_front() else { return };
        if let Some(alike) = self.paths.get_mut(&key) {
            if !alike.is_empty() {
                alike.remove(0);
            }
            if alike.is_empty() {
                self.paths.remove(&key);
            }
        }
    }
}

/// Where a stack has these words, in this order. `None` when one is nowhere (it was in a register), or there are none:
/// then nothing on the stack tells this path from another.
fn places(stack: &[u8], returns: &[u64]) -> Option<Box<[(u32, u64)]>> {
    let mut place = 0u32;
    let mut words = Vec::with_capacity(returns.len());
    for &address in returns {
        while word_at(stack, place)? != address {
            place += 8;
        }
        words.push((place, address));
        place += 8;
    }
    (!words.is_empty()).then(|| words.into())
}

fn word_at(stack: &[u8], place: u32) -> Option<u64> {
    let place = place as usize;
    let bytes = stack.get(place..place.checked_add(8)?)?;
    bytes.first_chunk().map(|word| u64::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        callsite::{Registers, Role},
        event::Cookie,
    };

    fn capture<'a>(ip: u64, stack: &'a [u8], python: &'a [PythonFrame]) -> Capture<'a> {
        Capture {
            at: 0,
            cookie: Cookie(1),
            role: Role::Opened,
            process: ProcessId {
                pid: 7,
                start_ticks: 1,
            },
            tid: 7,
            registers: Registers {
                ip,
                ..Registers::default()
            },
            stack,
            cut: false,
            python,
            python_cut: false,
        }
    }

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_stack_with_the_same_return_addresses_is_recognised_whatever_else_is_on_it() {
        let mut seen = Seen::default();
        let first = bytes(&[1, 0xa, 2, 0xb, 0xc]);
        seen.remember(&capture(9, &first, &[]), &[0xa, 0xb, 0xc], SiteId(5));
        let again = bytes(&[77, 0xa, 88, 0xb, 0xc, 99]);
        assert_eq!(seen.site(&capture(9, &again, &[])), Some(SiteId(5)));
        assert_eq!(seen.site(&capture(8, &again, &[])), None, "another instruction");
        let other = bytes(&[77, 0xa, 88, 0xb, 0xd, 99]);
        assert_eq!(seen.site(&capture(9, &other, &[])), None, "another caller");
        assert_eq!(seen.site(&capture(9, &again[..32], &[])), None, "a part of it");
        let frame = PythonFrame {
            code: 1,
            instruction: 2,
        };
        assert_eq!(
            seen.site(&capture(9, &again, &[frame])),
            None,
            "other Python code"
        );
    }

    #[test]
    fn a_path_of_which_nothing_is_on_the_stack_is_not_remembered() {
        let mut seen = Seen::default();
        let stack = bytes(&[1, 2]);
        seen.remember(&capture(9, &stack, &[]), &[], SiteId(5));
        seen.remember(&capture(9, &stack, &[]), &[3], SiteId(5));
        assert_eq!(seen.site(&capture(9, &stack, &[])), None);
    }

    #[test]
    fn a_bounded_number_is_kept() {
        let mut seen = Seen::default();
        for ip in 0..2 * MOST as u64 {
            let stack = bytes(&[ip]);
            seen.remember(&capture(ip, &stack, &[]), &[ip], SiteId(ip));
        }
        assert_eq!((seen.order.len(), seen.paths.len()), (MOST, MOST));
        for word in 0..3 * MOST_ALIKE as u64 {
            let stack = bytes(&[word]);
            seen.remember(&capture(1, &stack, &[]), &[word], SiteId(word));
        }
        assert!(seen.paths.values().all(|alike| alike.len() <= MOST_ALIKE));
        assert!(seen.order.len() <= MOST);
        let newest = bytes(&[3 * MOST_ALIKE as u64 - 1]);
        assert!(seen.site(&capture(1, &newest, &[])).is_some());
    }

    proptest! {
        #[test]
        fn no_stack_panics(stack in proptest::collection::vec(any::<u8>(), 0..100), returns in proptest::collection::vec(0u64..4, 0..6)) {
            let mut seen = Seen::default();
            let capture = capture(1, &stack, &[]);
            seen.remember(&capture, &returns, SiteId(1));
            let _ = seen.site(&capture);
        }
    }
}
