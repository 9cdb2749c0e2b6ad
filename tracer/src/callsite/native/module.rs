//! One ELF file that processes have mapped, and what has been read of it.
//!
//! It keeps the file open: by the time somebody wants names the process, its container and the file's name may be gone.

#![forbid(unsafe_code)]

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    sync::OnceLock,
};

use super::{
    cfi::Tables,
    elf::{Bytes, Elf},
    gopclntab::GoTable,
};
use crate::fnv;

/// Which version of which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileKey {
    /// The inode number.
    #[must_use]
    pub fn inode(self) -> u64 {
        self.inode
    }
}

/// A file with code.
#[derive(Debug)]
pub struct Module {
    path: String,
    build_id: Option<String>,
    identity: u64,
    bytes: Bytes,
    elf: Elf,
    tables: OnceLock<Option<Tables>>,
    go: OnceLock<Option<GoTable>>,
}

impl Module {
    /// Opens a file that a process has mapped, and tells which version of which file it is.
    ///
    /// A mapped file may be a device or a pipe by now, and opening those can block or do things: so the file is only
    /// opened for reading once it has turned out to be a regular one.
    ///
    /// # Errors
    ///
    /// It can't be opened, or is no regular file.
    pub(super) fn open(path: &Path) -> io::Result<(File, FileKey)> {
        let handle = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_PATH)
            .open(path)?;
        let metadata = handle.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no regular file",
            ));
        }
        let file = File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))?;
        let key = FileKey {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        };
        Ok((file, key))
    }

    /// Reads the headers of a file. `path` is what the process calls it.
    ///
    /// # Errors
    ///
    /// It is no ELF file that can be read here.
    pub fn new(path: &str, bytes: Bytes, key: Option<FileKey>) -> io::Result<Self> {
        let elf = Elf::read(&bytes)?;
        let build_id = elf.build_id.as_ref().map(|id| {
            id.iter().fold(String::new(), |mut text, byte| {
                // Writing to a string doesn't fail.
                let _ = write!(text, "{byte:02x}");
                text
            })
        });
        // Without a build id the file itself is the best name: the same in each process, and after a restart.
        let identity = match (&build_id, key) {
            (Some(id), _) => fnv::hash(fnv::START, id.as_bytes()),
            (None, Some(key)) => {
                let hash = fnv::hash(fnv::START, path.as_bytes());
                let hash = fnv::hash(hash, &key.size.to_le_bytes());
                fnv::hash(hash, &key.modified.0.to_le_bytes())
            }
            (None, None) => fnv::hash(fnv::START, path.as_bytes()),
        };
        Ok(Self {
            path: path.to_owned(),
            build_id,
            identity,
            bytes,
            elf,
            tables: OnceLock::new(),
            go: OnceLock::new(),
        })
    }

    /// What the process calls the file. Not escaped.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its build id, in hexadecimal digits.
    #[must_use]
    pub fn build_id(&self) -> Option<&str> {
        self.build_id.as_deref()
    }

    /// The same for the same file in every process and after a restart: a hash over its build id; where it has none,
    /// over its path, size and time of change.
    #[must_use]
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// Its headers.
    #[must_use]
    pub fn elf(&self) -> &Elf {
        &self.elf
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its unwind information, read when first asked for.
    pub fn tables(&self) -> Option<&Tables> {
        self.tables
            .get_or_init(|| Tables::read(&self.bytes, &self.elf))
            .as_ref()
    }

    /// Go's table of functions, read when first asked for.
    pub fn go(&self) -> Option<&GoTable> {
        self.go
            .get_or_init(|| GoTable::read(&self.bytes, &self.elf))
            .as_ref()
    }

    /// How much memory it takes, roughly, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let tables = self.tables.get().and_then(Option::as_ref).map_or(0, Tables::size);
        let go = self.go.get().and_then(Option::as_ref).map_or(0, GoTable::size);
        4_096 + tables + go
    }
}
