//! A capture's whole stack where Python runs: native frames and Python's, and the identity of the two.

use super::{Native, Place, PythonStack, merge};
use crate::callsite::{
    Frame, Quality, SiteId,
    native::{HASH_START, NativeFrame, NativeStack, hash},
};

impl PythonStack {
    /// Identity of the call site that both stacks make.
    ///
    /// The interpreter's own frames don't count: it learns as it runs, and calls the same Python function by another
    /// way once it is warm, so that one line of code would be several sites.
    #[must_use]
    pub fn id(&self, native: &NativeStack) -> SiteId {
        let (order, _) = self.order(native);
        SiteId(order.into_iter().fold(HASH_START, |so_far, place| match place {
            Place::Native(index) => match native.frames.get(index) {
                Some(frame) if self.native_kind(frame) == Native::Other => {
                    let module = frame.module.as_ref().map_or(0, |module| module.identity());
                    hash(hash(so_far, &module.to_le_bytes()), &frame.offset.to_le_bytes())
                }
                _ => so_far,
            },
            Place::Python(index) => self.frames.get(index).map_or(so_far, |frame| {
                let name = |text: &Option<String>| text.clone().unwrap_or_default();
                let so_far = hash(so_far, name(&frame.file).as_bytes());
                let so_far = hash(so_far, name(&frame.function).as_bytes());
                hash(so_far, &frame.line.unwrap_or(0).to_le_bytes())
            }),
        }))
    }

    /// The frames of both, innermost first, how far they may be believed, and why no further. `names` looks up a
    /// native frame: inlined functions are frames of their own.
    #[must_use]
    pub fn join(
        &self,
        native: &NativeStack,
        mut names: impl FnMut(&NativeFrame) -> Vec<Frame>,
    ) -> (Vec<Frame>, Quality, Option<String>) {
        let (order, placed) = self.order(native);
        let mut frames = Vec::with_capacity(order.len());
        for place in order {
            match place {
                Place::Native(index) => {
                    frames.extend(native.frames.get(index).into_iter().flat_map(&mut names))
                }
                Place::Python(index) => frames.extend(self.frames.get(index).cloned()),
            }
        }
        let quality = match (native.quality(), self.quality) {
            (Quality::Partial, _) | (_, Quality::Partial) => Quality::Partial,
            (Quality::Approximate, _) | (_, Quality::Approximate) => Quality::Approximate,
            (Quality::Exact, Quality::Exact) => Quality::Exact,
        };
        let together =
            (!placed).then(|| "Python frames are together: where C called them is not known".to_owned());
        let notes: Vec<String> = [native.note(), self.note.clone(), together]
            .into_iter()
            .flatten()
            .collect();
        (frames, quality, (!notes.is_empty()).then(|| notes.join("; ")))
    }

    fn order(&self, native: &NativeStack) -> (Vec<Place>, bool) {
        let kinds: Vec<Native> = native
            .frames
            .iter()
            .map(|frame| self.native_kind(frame))
            .collect();
        merge(&kinds, &self.entries)
    }

    /// By the call, which lies before the address at which the code goes on.
    fn native_kind(&self, frame: &NativeFrame) -> Native {
        self.kind(frame.address.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callsite::{
        Runtime,
        native::{End, Found},
    };

    fn frame(runtime: Runtime, function: &str) -> Frame {
        Frame {
            runtime,
            function: Some(function.to_owned()),
            file: None,
            line: Some(7),
            module: None,
            build_id: None,
            offset: None,
            inlined: false,
        }
    }

    /// The interpreter is at 0x1000, its evaluating function at 0x1100; everything else is a library.
    fn python(functions: &[(&str, bool)]) -> PythonStack {
        PythonStack {
            frames: functions
                .iter()
                .map(|(name, _)| frame(Runtime::Python, name))
                .collect(),
            entries: functions.iter().map(|(_, entry)| *entry).collect(),
            quality: Quality::Exact,
            note: None,
            evaluates: 0x1100..0x1200,
            module: 0x1000..0x2000,
        }
    }

    fn native(addresses: &[u64], end: End) -> NativeStack {
        NativeStack {
            frames: addresses
                .iter()
                .map(|&address| NativeFrame {
                    address,
                    module: None,
                    offset: address,
                    sp: 0,
                    fp: None,
                    found: Found::Tables,
                })
                .collect(),
            end,
        }
    }

    fn names(native: &NativeFrame) -> Vec<Frame> {
        vec![frame(Runtime::Native, &format!("{:x}", native.address))]
    }

    fn functions(frames: &[Frame]) -> Vec<&str> {
        frames
            .iter()
            .filter_map(|frame| frame.function.as_deref())
            .collect()
    }

    #[test]
    fn python_frames_stand_where_the_interpreter_ran_them() {
        let python = python(&[("query", false), ("handle", true), ("main", true)]);
        let native = native(&[0x9000, 0x1180, 0x1300, 0x1190, 0x8000], End::Root);
        let (frames, quality, note) = python.join(&native, names);
        assert_eq!(
            functions(&frames),
            ["9000", "query", "handle", "1300", "main", "8000"]
        );
        assert_eq!((quality, note), (Quality::Exact, None));
    }

    #[test]
    fn a_site_is_the_same_before_and_after_the_interpreter_has_warmed_up() {
        let cold = python(&[("query", true), ("main", true)]);
        let warm = python(&[("query", false), ("main", true)]);
        let cold_native = native(&[0x9000, 0x1180, 0x1300, 0x1190, 0x8000], End::Root);
        let warm_native = native(&[0x9000, 0x1170, 0x8000], End::Root);
        assert_eq!(cold.id(&cold_native), warm.id(&warm_native));
        let other = python(&[("update", false), ("main", true)]);
        assert_ne!(warm.id(&warm_native), other.id(&warm_native));
    }

    #[test]
    fn what_is_missing_on_either_side_is_told() {
        let python = python(&[("query", true), ("main", true)]);
        let native = native(&[0x9000, 0x1180], End::CopyEnded);
        let (frames, quality, note) = python.join(&native, names);
        assert_eq!(functions(&frames), ["9000", "query", "main"]);
        assert_eq!(quality, Quality::Partial);
        let note = note.expect("a note");
        assert!(note.contains("Python frames are together"), "{note}");
    }
}
