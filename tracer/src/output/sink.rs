//! Where lines go: standard output, and a log file that may be rotated under us.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// What became of a write to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Somebody may still be reading.
    Present,
    /// The reader has gone (`| head`): no failure, but no use in going on.
    Gone,
}

/// Writes text to standard output.
///
/// # Errors
/// Any failure but a reader that has gone.
pub fn print(text: &str) -> Result<Reader> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::Present),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).context("can't write to standard output"),
    }
}

/// A file that lines are appended to.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    /// Opens it for appending; makes it if there is none (mode 0640: it names processes and their arguments).
    ///
    /// # Errors
    /// When it can't be opened; names it.
    pub fn open(path: &Path) -> Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)
            .with_context(|| format!("can't open the log file {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Opens the same path anew, after somebody has moved the file away.
    ///
    /// # Errors
    /// As [`open`](Self::open); then the old file stays in use.
    pub fn reopen(&mut self) -> Result<()> {
        *self = Self::open(&self.path)?;
        Ok(())
    }

    /// Appends a line, as one write.
    ///
    /// # Errors
    /// When it can't be written in full (a full disk, say); names the file.
    pub fn append(&mut self, line: &str) -> Result<()> {
        let whole = format!("{line}\n");
        self.file
            .write_all(whole.as_bytes())
            .with_context(|| format!("can't write to the log file {}", self.path.display()))
    }
}
