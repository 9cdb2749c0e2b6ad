//! Which files the processes have code of.
//!
//! Files are opened through `/proc/PID/map_files`, which works in containers and for files that are deleted or
//! replaced; where that is not allowed, through `/proc/PID/root`, if it is still the same file there. Files are shared
//! by the processes that have them mapped.

#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    elf::{self, Bytes},
    maps::{self, Mapping, Origin},
    module::{FileKey, Module},
};
use crate::{
    event::{Nanos, SECOND},
    owner::{self, ProcessId},
};

/// Files that are kept open. A process of a JVM or Python has 20 to 200 mapped, and a stack goes through some ten.
const MAX_FILES: usize = 256;
/// Memory for what was read of them, in bytes.
const MAX_MEMORY: usize = 256 * 1024 * 1024;
/// Processes whose mappings are kept.
const MAX_PROCESSES: usize = 1_024;
/// A list of mappings is believed for that long: libraries come and go. An address that is nowhere in it, or another
/// executable, has it read anew at once.
const MAX_AGE: Nanos = 10 * SECOND;
/// But not more often than this: jumps into nowhere must not make us read the list all the time.
const MIN_AGE: Nanos = SECOND / 10;
/// Largest vDSO that is copied. It has two pages.
const MAX_VDSO: u64 = 64 * 1024;

/// Where an address is.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a file, at this address in the file's own counting.
    Module(Arc<Module>, u64),
    /// In executable memory without a file, or with one that can't be read.
    Unnamed,
    /// In nothing that can be executed.
    Nowhere,
}

/// The files, and who has them mapped.
#[derive(Debug, Default)]
pub struct Modules {
    files: HashMap<FileKey, Arc<Module>>,
    processes: HashMap<ProcessId, Process>,
    /// How many lists of mappings have been read.
    readings: u64,
}

#[derive(Debug)]
struct Process {
    read_at: Nanos,
    reading: u64,
    /// Device and inode of the executable: `execve` keeps pid and start time.
    executable: Option<(u64, u64)>,
    /// It is a 32-bit program, or an emulator's for another processor: registers and stacks mean something else.
    foreign: bool,
    code: Vec<(Mapping, State)>,
}

#[derive(Clone, Debug)]
enum State {
    Unopened,
    Module(Arc<Module>),
    Unreadable,
}

impl Modules {
    /// Has the mappings of a process as they are now, or as they were a moment ago.
    ///
    /// # Errors
    ///
    /// The process is gone, or its `/proc/PID/maps` can't be read.
    pub fn look(&mut self, process: ProcessId, now: Nanos) -> io::Result<()> {
        let executable = executable(process);
        if let Some(known) = self.processes.get(&process) {
            // The process is gone: what is known of it is the best there is.
            let same = executable.is_none() || known.executable == executable;
            if same && now.saturating_sub(known.read_at) < MAX_AGE {
                return Ok(());
            }
        }
        match self.read(process, executable, now) {
            Err(error) if !self.processes.contains_key(&process) => Err(error),
            _ => Ok(()),
        }
    }

    /// Where an address of a process is. [`Modules::look`] comes first.
    pub fn find(&mut self, process: ProcessId, address: u64, now: Nanos) -> Place {
        let Some(known) = self.processes.get(&process) else {
            return Place::Nowhere;
        };
        let place = known.index(address);
        let place = match place {
            None if now.saturating_sub(known.read_at) >= MIN_AGE => {
                let executable = known.executable;
                if self.read(process, executable, now).is_err() {
                    return Place::Nowhere;
                }
                self.processes
                    .get(&process)
                    .and_then(|known| known.index(address))
            }
            place => place,
        };
        let Some(index) = place else { return Place::Nowhere };
        self.open(process, index);
        let Some((mapping, state)) = self
            .processes
            .get(&process)
            .and_then(|known| known.code.get(index))
        else {
            return Place::Nowhere;
        };
        let State::Module(module) = state else {
            return Place::Unnamed;
        };
        let offset = (address - mapping.start).checked_add(mapping.offset);
        match offset.and_then(|offset| module.elf().address_of(offset)) {
            Some(address) => Place::Module(Arc::clone(module), address),
            None => Place::Unnamed,
        }
    }

    /// Which reading of a process's mappings is in use. Another number: an address may be another file's now.
    #[must_use]
    pub fn reading(&self, process: ProcessId) -> Option<u64> {
        self.processes.get(&process).map(|known| known.reading)
    }

    /// Whether a process's program is not 64-bit code of this processor.
    #[must_use]
    pub fn is_foreign(&self, process: ProcessId) -> bool {
        self.processes.get(&process).is_some_and(|known| known.foreign)
    }

    /// Forgets everything if it has become too much. What is still needed is read again; that is rare, and simpler than
    /// to keep the books on who was used last.
    pub fn trim(&mut self) {
        let memory: usize = self.files.values().map(|module| module.size()).sum();
        if self.files.len() > MAX_FILES || memory > MAX_MEMORY || self.processes.len() > MAX_PROCESSES {
            self.files.clear();
            self.processes.clear();
        }
    }

    fn read(&mut self, process: ProcessId, executable: Option<(u64, u64)>, now: Nanos) -> io::Result<()> {
        let mut bytes = Vec::new();
        File::open(format!("/proc/{}/maps", process.pid))?
            .take(maps::MAX_MAPS)
            .read_to_end(&mut bytes)?;
        // The pid may be another process's by now.
        if owner::start_ticks(Path::new("/proc"), process.pid) != Some(process.start_ticks) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the process is gone"));
        }
        let mappings = maps::parse(&bytes);
        if let Some(known) = self.processes.get_mut(&process)
            && known.executable == executable
            && known.code.iter().map(|(mapping, _)| mapping).eq(&mappings)
        {
            known.read_at = now;
            return Ok(());
        }
        let code = mappings
            .into_iter()
            .map(|mapping| (mapping, State::Unopened))
            .collect();
        self.readings += 1;
        self.processes.insert(
            process,
            Process {
                read_at: now,
                reading: self.readings,
                executable,
                foreign: is_foreign(process),
                code,
            },
        );
        Ok(())
    }

    fn open(&mut self, process: ProcessId, index: usize) {
        let Some(known) = self.processes.get_mut(&process) else {
            return;
        };
        let Some((mapping, state @ State::Unopened)) = known.code.get_mut(index) else {
            return;
        };
        let module = match &mapping.origin {
            Origin::File { path, inode } => open_file(&mut self.files, process.pid, mapping, path, *inode),
            Origin::Vdso => vdso(process.pid, mapping),
            Origin::Anonymous => None,
        };
        *state = module.map_or(State::Unreadable, State::Module);
    }
}

impl Process {
    fn index(&self, address: u64) -> Option<usize> {
        let index = self
            .code
            .partition_point(|(mapping, _)| mapping.start <= address)
            .checked_sub(1)?;
        (address < self.code[index].0.end).then_some(index)
    }
}

fn executable(process: ProcessId) -> Option<(u64, u64)> {
    let metadata = fs::metadata(format!("/proc/{}/exe", process.pid)).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// What can't be read is taken for a program like any other.
fn is_foreign(process: ProcessId) -> bool {
    let mut head = [0; 20];
    let read =
        File::open(format!("/proc/{}/exe", process.pid)).and_then(|file| file.read_exact_at(&mut head, 0));
    read.is_ok() && !elf::is_native(&head)
}

fn open_file(
    files: &mut HashMap<FileKey, Arc<Module>>,
    pid: u32,
    mapping: &Mapping,
    path: &[u8],
    inode: u64,
) -> Option<Arc<Module>> {
    let mapped = PathBuf::from(format!(
        "/proc/{pid}/map_files/{:x}-{:x}",
        mapping.start, mapping.end
    ));
    let (file, key) = Module::open(&mapped).ok().or_else(|| {
        let mut named = PathBuf::from(format!("/proc/{pid}/root"));
        named.push(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)));
        Module::open(&named).ok().filter(|(_, key)| key.inode() == inode)
    })?;
    if let Some(known) = files.get(&key) {
        return Some(Arc::clone(known));
    }
    let module = Module::new(&String::from_utf8_lossy(path), Bytes::File(file), Some(key)).ok()?;
    let module = Arc::new(module);
    files.insert(key, Arc::clone(&module));
    Some(module)
}

fn vdso(pid: u32, mapping: &Mapping) -> Option<Arc<Module>> {
    let length = usize::try_from((mapping.end - mapping.start).min(MAX_VDSO)).ok()?;
    let mut bytes = vec![0; length];
    File::open(format!("/proc/{pid}/mem"))
        .ok()?
        .read_exact_at(&mut bytes, mapping.start)
        .ok()?;
    Module::new("[vdso]", Bytes::Memory(bytes), None)
        .ok()
        .map(Arc::new)
}
