//! Which code: from a copy of a thread's registers and stack to the functions that it was in.
//!
//! A finding that names a process still leaves a team saying "it isn't my code". The kernel programs copy the
//! caller's stack when a connection is opened, and when it is used; here the copies become [`Site`]s. Unwinding is
//! done at once, since the process may be gone in a moment; names are looked up when somebody reads them.
//!
//! Whatever is read here (stack bytes, ELF files, interpreters' memory, perf maps) belongs to other processes: it is
//! bounded, checked, and never trusted. Nothing of a stack's bytes is kept or written.

pub mod capture;
pub mod java;
pub mod library;
pub mod managed;
pub mod mapped;
pub mod moment;
pub mod native;
pub mod node;
pub mod perf_map;
pub mod php;
pub mod process_memory;
pub mod processes;
pub mod python;
pub mod reader;
pub mod ruby;
pub mod site;
pub mod sites;
pub mod store;
pub mod uses;
pub mod worker;

pub use capture::{Capture, PythonFrame, Registers};
pub use library::Origin;
pub use site::{Frame, Quality, Role, Runtime, Site, SiteId};
pub use sites::{Sites, Source};
