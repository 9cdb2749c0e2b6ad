//! Stacks of managed runtimes: what a program written in Java, JavaScript, Ruby or PHP was doing.
//!
//! Their frames are not on the native stack, or have no names there. Each runtime has a reader of its own, which is
//! asked right after the event, while the process is there. None of them makes a frame up: what can't be verified is
//! left out, and a note says why.

#![forbid(unsafe_code)]

use super::{Frame, Quality};

/// What a runtime's reader says of one capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The runtime's frames, innermost first; empty when there is only a note.
    pub frames: Vec<Frame>,
    /// How far they may be believed.
    pub quality: Quality,
    /// What the reader has to know.
    pub note: Option<String>,
}

impl Answer {
    /// No frames, and why.
    #[must_use]
    pub fn nothing(note: impl Into<String>) -> Self {
        Self {
            frames: Vec::new(),
            quality: Quality::Partial,
            note: Some(note.into()),
        }
    }
}
