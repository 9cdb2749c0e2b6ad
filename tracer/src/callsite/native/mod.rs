//! Machine code: from registers and stack bytes to return addresses, and from those to functions.
//!
//! Two steps, since they have different costs and different deadlines. [`Unwinder`] walks a stack at once, while the
//! process is there: microseconds. [`Symbols`] looks up names when somebody reads them: a millisecond for a small program,
//! much more for one with much debug information, and the process may be gone by then.
//!
//! - [`maps`], [`modules`], [`module`] know which files a process has code of, and those files.
//! - [`elf`], [`cfi`], [`gopclntab`] read a file. All of it may be forged.
//! - [`registers`], [`unwind`] walk; `known` spares the walk.
//! - [`copy`], [`symbols`] look up names; `caught` is for what they may come upon.

#![forbid(unsafe_code)]

mod caught;
pub mod cfi;
pub mod copy;
pub mod elf;
mod go_module;
pub mod gopclntab;
mod known;
pub mod maps;
pub mod module;
pub mod modules;
pub mod registers;
pub mod symbols;
pub mod unwind;

pub use module::Module;
pub use symbols::Symbols;
pub use unwind::{End, Found, NativeFrame, NativeStack, Unwinder};

// They read the registers of x86-64.
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
