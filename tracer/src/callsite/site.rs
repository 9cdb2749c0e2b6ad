//! What a stack is in the end: named frames, and an identity that is the same in every process of a program.

#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

/// A call site: a hash over each frame's module (build id) and offset, or file and function where there is no module.
/// So it is the same in every process of a program, and after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SiteId(pub u64);

impl SiteId {
    /// Some code, of which no stack was taken.
    pub const UNKNOWN: Self = Self(0);
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a socket's stack tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Who opened the connection.
    Opened,
    /// Who sent on it last.
    Used,
}

/// How far a stack may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Quality {
    /// Taken at the very moment, down to the thread's start.
    Exact,
    /// Read a moment later: the thread may have moved on.
    Approximate,
    /// Frames are missing: the copy was cut, or a frame could not be unwound.
    Partial,
}

impl Quality {
    /// Word for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Approximate => "approximate",
            Self::Partial => "partial",
        }
    }
}

/// Who runs a frame's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Runtime {
    /// Machine code of an ELF file: C, C++, Rust.
    Native,
    /// Machine code that the Go tool chain made.
    Go,
    /// CPython.
    Python,
    /// A Java virtual machine.
    Java,
    /// V8.
    JavaScript,
    /// CRuby.
    Ruby,
    /// PHP.
    Php,
}

impl Runtime {
    /// Word for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Go => "go",
            Self::Python => "python",
            Self::Java => "java",
            Self::JavaScript => "javascript",
            Self::Ruby => "ruby",
            Self::Php => "php",
        }
    }
}

/// One function on a stack. What is not known is absent; nothing is made up.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Whose code.
    pub runtime: Runtime,
    /// Its name, demangled.
    pub function: Option<String>,
    /// Its source file, as the program's own information has it.
    pub file: Option<String>,
    /// The line that is running or waiting.
    pub line: Option<u32>,
    /// The ELF file, jar or the like that it comes from.
    pub module: Option<String>,
    /// The module's build id, in hexadecimal digits.
    pub build_id: Option<String>,
    /// The instruction's place in the module: an address as in its ELF program headers.
    pub offset: Option<u64>,
    /// The compiler had put it into the frame that follows.
    pub inlined: bool,
}

/// A stack, innermost frame first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Which.
    pub id: SiteId,
    /// How far it may be believed.
    pub quality: Quality,
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// What the reader has to know: why it is cut, how it was read.
    pub note: Option<String>,
}
