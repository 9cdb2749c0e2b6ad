//! The journal: what the pure core was fed, in order, so that it can be judged again: elsewhere, later,
//! without root, by other rules.
//!
//! A file of records behind eight bytes that name the format and its version. A record is its length and a
//! checksum (CRC-32), four bytes each, little endian, and then an [`Entry`] in postcard's encoding
//! (<https://postcard.jamesmunns.com/wire-format>). Records are only ever appended, each with one write, so a
//! crash can cut the last one short and do no other harm. What was written before is still read.

#![forbid(unsafe_code)]

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    callsite::Site,
    event::{Event, Nanos},
    owner::Process,
};

/// Names the format; the digits are its version.
const MAGIC: &[u8; 8] = b"connlk03";
/// Length and checksum.
const HEAD: usize = 8;
/// No record is longer: a snapshot of a million descriptors has about 150 MB. A longer one is damage.
const LONGEST: usize = 1 << 30;

/// One thing that the core was fed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// How the run was started.
    Start {
        /// What the rules were told, as far as it differs from the defaults: a policy file's text, so that a
        /// constant more or less does not make old journals unreadable.
        policy: String,
        /// See [`Policy`](crate::verdict::Policy).
        single_look: bool,
        /// The ledger's bound.
        max_connections: u64,
        /// Nanoseconds of the Unix epoch at monotonic zero, as of then.
        epoch: i128,
    },
    /// Something happened.
    Event(Event),
    /// The rules were asked.
    Judged {
        /// When.
        at: Nanos,
        /// Nanoseconds of the Unix epoch at monotonic zero, as of then.
        epoch: i128,
    },
    /// What was known of a process when it was first named.
    Process(Box<Process>),
    /// What was known of a call site when it was first named.
    Site(Box<Site>),
}

/// Writes a journal.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
}

impl Writer {
    /// Begins a new file (mode 0600: it names processes, users and servers).
    ///
    /// # Errors
    /// When it exists already, or can't be made; names it.
    pub fn create(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("can't make the journal {}", path.display()))?;
        file.write_all(MAGIC)
            .with_context(|| format!("can't write to the journal {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            buffer: Vec::new(),
        })
    }

    /// Appends an entry, as one write.
    ///
    /// # Errors
    /// When it can't be written in full; names the file.
    pub fn append(&mut self, entry: &Entry) -> Result<()> {
        self.buffer.clear();
        self.buffer.resize(HEAD, 0);
        self.buffer = postcard::to_extend(entry, std::mem::take(&mut self.buffer))?;
        let length = u32::try_from(self.buffer.len() - HEAD).context("a journal entry is too long")?;
        let checksum = crc32fast::hash(&self.buffer[HEAD..]);
        self.buffer[..4].copy_from_slice(&length.to_le_bytes());
        self.buffer[4..HEAD].copy_from_slice(&checksum.to_le_bytes());
        self.file
            .write_all(&self.buffer)
            .with_context(|| format!("can't write to the journal {}", self.path.display()))
    }
}

/// What was read of a journal.
#[derive(Debug, Default, PartialEq)]
pub struct Journal {
    /// The entries, in order.
    pub entries: Vec<Entry>,
    /// What could not be read, in words; `None` when all could.
    pub damage: Option<String>,
}

/// Reads a journal file.
///
/// # Errors
/// When it can't be read, or is no journal of this version. A damaged one is no error: what is before the
/// damage is there.
pub fn read(path: &Path) -> Result<Journal> {
    let data = std::fs::read(path).with_context(|| format!("can't read the journal {}", path.display()))?;
    parse(&data).with_context(|| path.display().to_string())
}

/// Reads a journal's bytes.
///
/// # Errors
/// When they are no journal of this version.
pub fn parse(data: &[u8]) -> Result<Journal> {
    let (magic, mut rest) = data
        .split_at_checked(MAGIC.len())
        .context("this is no connleak journal")?;
    ensure!(magic[..6] == MAGIC[..6], "this is no connleak journal");
    if magic != MAGIC {
        bail!(
            "this journal has format version {}, and this connleak reads {} only: replay it with the connleak that \
             wrote it",
            String::from_utf8_lossy(&magic[6..]).escape_debug(),
            String::from_utf8_lossy(&MAGIC[6..])
        );
    }
    let mut journal = Journal::default();
    while !rest.is_empty() {
        match record(rest) {
            Ok((entry, after)) => {
                journal.entries.push(entry);
                rest = after;
            }
            Err(reason) => {
                let at = data.len() - rest.len();
                journal.damage = Some(format!(
                    "{reason} at byte {at} of {}; the {} entries before it were read",
                    data.len(),
                    journal.entries.len()
                ));
                break;
            }
        }
    }
    Ok(journal)
}

fn record(data: &[u8]) -> Result<(Entry, &[u8]), &'static str> {
    let word = |place: usize| {
        let bytes = data.get(place..place + 4).ok_or("a record is cut short")?;
        Ok::<_, &str>(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let (length, checksum) = (word(0)? as usize, word(4)?);
    if length > LONGEST {
        return Err("a record is damaged");
    }
    let body = data.get(HEAD..HEAD + length).ok_or("a record is cut short")?;
    if crc32fast::hash(body) != checksum {
        return Err("a record is damaged");
    }
    let entry =
        postcard::from_bytes(body).map_err(|_| "a record is of a kind that this version does not know")?;
    Ok((entry, &data[HEAD + length..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Loss;

    fn entries() -> Vec<Entry> {
        vec![
            Entry::Start {
                policy: "idle = \"1s\"\n".to_owned(),
                single_look: false,
                max_connections: 7,
                epoch: -1,
            },
            Entry::Event(Event::Lost {
                at: 5,
                cause: Loss::RingFull,
                count: 3,
            }),
            Entry::Judged { at: 9, epoch: -1 },
        ]
    }

    fn written() -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("j");
        let mut writer = Writer::create(&path).expect("a file");
        for entry in entries() {
            writer.append(&entry).expect("room");
        }
        assert!(Writer::create(&path).is_err(), "nothing is written over");
        std::fs::read(&path).expect("readable")
    }

    #[test]
    fn what_was_written_is_read() {
        let journal = parse(&written()).expect("a journal");
        assert_eq!((journal.entries, journal.damage), (entries(), None));
    }

    #[test]
    fn a_crash_in_the_middle_of_a_write_costs_that_record_alone() {
        let data = written();
        for length in MAGIC.len()..data.len() {
            let journal = parse(&data[..length]).expect("a journal");
            assert!(entries().starts_with(&journal.entries));
            let whole = parse(&data[..length]).expect("a journal").damage.is_none();
            assert!(whole || journal.damage.is_some_and(|damage| damage.contains("cut short")));
        }
    }

    #[test]
    fn a_foreign_file_is_refused() {
        for foreign in [
            &b""[..],
            b"conn",
            b"\x7fELF\x02\x01\x01\x00 and more",
            b"connlk99",
        ] {
            assert!(parse(foreign).is_err());
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics_and_never_invents(place in 8usize..200, value in any::<u8>()) {
            let mut data = written();
            let length = data.len();
            let place = 8 + place % (length - 8);
            data[place] ^= value;
            let journal = parse(&data).expect("a journal");
            prop_assert!(entries().starts_with(&journal.entries));
        }
    }
}
