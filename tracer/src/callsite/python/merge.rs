//! One stack from two: the machine's, in which an interpreter shows as its own C functions, and Python's.
//!
//! Pure. Each call of the C function that evaluates Python code is replaced by the Python frames that it ran: one up to
//! 3.10, any number since 3.11, where the outermost is marked.

/// What a native frame is, seen from Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
    /// The function that evaluates Python code.
    Evaluates,
    /// Another function of the interpreter's module.
    Interpreter,
    /// Anything else.
    Other,
}

/// A frame of the merged stack, by its index in the list that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A native frame.
    Native(usize),
    /// A Python frame.
    Python(usize),
}

/// Merges both, innermost first. `entries` has, for each Python frame, whether it is the outermost of its call of the
/// evaluating function. The second value says whether each Python frame is where it was called: where calls and marks
/// don't fit (a compiler has split the function; a stack is cut), all are put at the innermost place where one can be.
#[must_use]
pub fn merge(native: &[Native], entries: &[bool]) -> (Vec<Place>, bool) {
    let evaluations = native.iter().filter(|frame| **frame == Native::Evaluates).count();
    let calls = entries.iter().filter(|entry| **entry).count();
    // The outermost call may have lost its mark where the walk was cut; then native frames are left over at the end.
    let fits = evaluations > 0 && evaluations >= calls && (calls > 0 || entries.is_empty());
    if entries.is_empty() {
        return ((0..native.len()).map(Place::Native).collect(), true);
    }
    if fits && (evaluations == calls || !entries.last().copied().unwrap_or(false)) {
        (in_place(native, entries), true)
    } else {
        (together(native, entries.len()), false)
    }
}

fn in_place(native: &[Native], entries: &[bool]) -> Vec<Place> {
    let mut merged = Vec::with_capacity(native.len() + entries.len());
    let mut next = 0;
    for (index, frame) in native.iter().enumerate() {
        if *frame != Native::Evaluates {
            merged.push(Place::Native(index));
            continue;
        }
        while next < entries.len() {
            merged.push(Place::Python(next));
            next += 1;
            if entries[next - 1] {
                break;
            }
        }
    }
    merged.extend((next..entries.len()).map(Place::Python));
    merged
}

/// All Python frames at the first evaluating function, or, without one, at the first of the interpreter's module that
/// has no other module's further in; evaluating functions go, since what they ran is shown.
fn together(native: &[Native], count: usize) -> Vec<Place> {
    let at = native
        .iter()
        .position(|frame| *frame == Native::Evaluates)
        .or_else(|| native.iter().position(|frame| *frame == Native::Interpreter))
        .unwrap_or(native.len());
    let kept = |range: std::ops::Range<usize>| {
        range
            .filter(|index| native[*index] != Native::Evaluates)
            .map(Place::Native)
    };
    let mut merged: Vec<Place> = kept(0..at).collect();
    merged.extend((0..count).map(Place::Python));
    merged.extend(kept(at..native.len()));
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        Native::{Evaluates as E, Interpreter as I, Other as O},
        Place::{Native as N, Python as P},
        *,
    };

    #[test]
    fn each_evaluation_is_replaced_by_the_frames_that_it_ran() {
        let (merged, placed) = merge(&[O, O, E, I, E, O], &[false, true, true]);
        assert!(placed);
        assert_eq!(merged, [N(0), N(1), P(0), P(1), N(3), P(2), N(5)]);
    }

    #[test]
    fn python_frames_that_were_cut_leave_evaluations_over() {
        let (merged, placed) = merge(&[O, E, I, E, I, E, O], &[true, false]);
        assert!(placed);
        assert_eq!(merged, [N(0), P(0), N(2), P(1), N(4), N(6)]);
    }

    #[test]
    fn without_an_evaluation_python_frames_come_where_the_interpreter_begins() {
        let (merged, placed) = merge(&[O, I, I, O], &[true, true]);
        assert!(!placed);
        assert_eq!(merged, [N(0), P(0), P(1), N(1), N(2), N(3)]);
    }

    #[test]
    fn a_native_stack_that_was_cut_still_shows_all_python_frames() {
        let (merged, placed) = merge(&[O, E, I], &[true, true, true]);
        assert!(!placed);
        assert_eq!(merged, [N(0), P(0), P(1), P(2), N(2)]);
        let (merged, _) = merge(&[], &[true]);
        assert_eq!(merged, [P(0)]);
    }

    #[test]
    fn a_thread_without_python_frames_stays_as_it_is() {
        assert_eq!(merge(&[O, E], &[]), (vec![N(0), N(1)], true));
    }

    proptest! {
        #[test]
        fn every_python_frame_is_there_once_and_in_order(
            native in proptest::collection::vec(prop_oneof![Just(E), Just(I), Just(O)], 0..40),
            entries in proptest::collection::vec(any::<bool>(), 0..40),
        ) {
            let (merged, _) = merge(&native, &entries);
            let python: Vec<usize> = merged.iter().filter_map(|place| match place {
                P(index) => Some(*index),
                N(_) => None,
            }).collect();
            prop_assert_eq!(python, (0..entries.len()).collect::<Vec<_>>());
            let others: Vec<usize> = merged.iter().filter_map(|place| match place {
                N(index) if native[*index] != E => Some(*index),
                _ => None,
            }).collect();
            let expected: Vec<usize> = (0..native.len()).filter(|index| native[*index] != E).collect();
            prop_assert_eq!(others, expected);
        }
    }
}
