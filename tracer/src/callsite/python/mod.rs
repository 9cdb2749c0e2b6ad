//! Python's own frames: file, function and line, in CPython 3.8 to 3.14.
//!
//! The kernel program walks them at the event itself (`kernel/python.rs`), by a layout that is found here
//! ([`detect`], [`offsets`]); it hands up addresses, which [`names`] reads. Where it did not know the process yet, they
//! are read from outside, a moment later ([`walk`]), and are marked as such. [`merge`](mod@merge) puts them among the native
//! frames.

#![forbid(unsafe_code)]

pub mod detect;
pub mod lines;
pub mod memory;
pub mod merge;
pub mod names;
pub mod offsets;
mod stack;
pub mod walk;

pub use merge::{Native, Place, merge};
pub use stack::{PythonStack, Pythons};

#[cfg(test)]
mod tests;
