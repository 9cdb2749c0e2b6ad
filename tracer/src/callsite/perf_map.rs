//! Names that a program writes down for the code that it makes itself: `/tmp/perf-PID.map`.
//!
//! .NET (`DOTNET_PerfMapEnabled=1`), Erlang (`+JPperf true`), `LuaJIT` and others write it if they are asked to. It is read for
//! processes of which no reader here knows the runtime. It is a file in the process's own `/tmp`, named by the pid that the
//! process has in its own namespace. Code is moved and thrown away, and later lines then speak of the same addresses: the last
//! one counts.
//!
//! Format: <https://github.com/torvalds/linux/blob/v6.12/tools/perf/Documentation/jit-interface.txt>; JDK 17 puts `0x` in
//! front of its numbers.

#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::{Frame, Runtime};
use crate::owner::ProcessId;

/// Bytes of one file that are read. Node writes some 10 MiB in a day.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// Bytes that are read at one time: some 10 ms. What is behind them is read the next time.
const MAX_READ: u64 = 2 * 1024 * 1024;
/// Functions of one process that are kept.
const MAX_FUNCTIONS: usize = 100_000;
/// Functions of all processes beyond which all are forgotten: with names as long as they may be, 70 MiB.
const MAX_ALL_FUNCTIONS: usize = 200_000;
/// Processes that are known, likewise.
const MAX_PROCESSES: usize = 256;
/// Longest name that is kept, in bytes.
const MAX_NAME: usize = 256;
/// Longest line that is waited for, in bytes.
const MAX_LINE: usize = 64 * 1024;
/// Largest function: none has a gigabyte.
const MAX_SIZE: u64 = 1 << 30;

/// The functions of one file.
#[derive(Debug, Default)]
pub struct PerfMap {
    /// By first address: end, and name.
    functions: BTreeMap<u64, (u64, Box<str>)>,
}

impl PerfMap {
    /// Adds lines: `start size name`, numbers in hexadecimal digits. What is written otherwise is skipped. Functions that
    /// a new one lies on are gone.
    pub fn add(&mut self, lines: &[u8]) {
        for line in lines.split(|&byte| byte == b'\n') {
            if let Some((start, size, name)) = entry(line) {
                self.insert(start, size, name);
            }
        }
    }

    fn insert(&mut self, start: u64, size: u64, name: &[u8]) {
        let Some(end) = start.checked_add(size) else {
            return;
        };
        // Few lie under one: they were apart from each other until now.
        while let Some((&below, &(until, _))) = self.functions.range(..end).next_back() {
            if until <= start {
                break;
            }
            self.functions.remove(&below);
        }
        if self.functions.len() < MAX_FUNCTIONS {
            self.functions
                .insert(start, (end, String::from_utf8_lossy(name).into()));
        }
    }

    /// The name of the function that an address is in.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<&str> {
        let (_, (end, name)) = self.functions.range(..=address).next_back()?;
        (address < *end).then_some(name)
    }

    /// How many functions it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }
}

fn entry(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let mut fields = line.splitn(3, |&byte| byte == b' ');
    let (start, size) = (hex(fields.next()?)?, hex(fields.next()?)?);
    let name = fields.next()?.trim_ascii();
    let name = name.get(..name.len().min(MAX_NAME))?;
    (size > 0 && size <= MAX_SIZE && !name.is_empty()).then_some((start, size, name))
}

fn hex(digits: &[u8]) -> Option<u64> {
    let digits = digits.strip_prefix(b"0x").unwrap_or(digits);
    // `from_str_radix` takes a sign.
    let plain = digits.first().is_some_and(u8::is_ascii_hexdigit);
    u64::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| plain)?, 16).ok()
}

/// A function of V8, as its perf map names it: `LazyCompile:*leak /srv/app.js:12:34`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JavaScript<'a> {
    /// Empty for one without a name.
    pub function: &'a str,
    /// Its file: a path, or a URL.
    pub file: Option<&'a str>,
    /// The line that it begins at.
    pub line: Option<u32>,
}

/// Takes apart the name that V8 gives to a JavaScript function. `None` for code that is none: V8's own.
///
/// Kinds and marks: `LogEventListener::CodeTag` and `ComputeMarker` in V8's `src/logging/`.
#[must_use]
pub fn javascript(name: &str) -> Option<JavaScript<'_>> {
    const KINDS: &[&str] = &["LazyCompile", "Function", "JS", "Script", "Eval"];
    let (kind, rest) = name.split_once(':')?;
    if !KINDS.contains(&kind) {
        return None;
    }
    // Which compiler made it.
    let rest = rest.trim_start_matches(['~', '*', '^', '+', '\'']);
    let (function, place) = rest.split_once(' ').unwrap_or((rest, ""));
    let mut parts = place.rsplitn(3, ':');
    let (column, line, file) = (parts.next(), parts.next(), parts.next());
    let numbers = (
        line.and_then(|line| line.parse().ok()),
        column.and_then(|column| column.parse::<u32>().ok()),
    );
    Some(match (file, numbers) {
        (Some(file), (Some(line), Some(_))) => JavaScript {
            function,
            file: Some(file),
            line: Some(line),
        },
        _ => JavaScript {
            function,
            file: (!place.is_empty()).then_some(place),
            line: None,
        },
    })
}

/// A function as its process's perf map names it.
#[must_use]
pub fn frame(name: &str) -> Frame {
    let plain = Frame {
        runtime: Runtime::Native,
        function: Some(name.to_owned()),
        file: None,
        line: None,
        module: None,
        build_id: None,
        offset: None,
        inlined: false,
    };
    match javascript(name) {
        None => plain,
        Some(known) => Frame {
            runtime: Runtime::JavaScript,
            function: Some(known.function.to_owned()).filter(|name| !name.is_empty()),
            file: known.file.map(str::to_owned),
            // Where it begins; which line of it runs is not known.
            ..plain
        },
    }
}

/// The maps of processes, read as far as they have been written.
#[derive(Debug)]
pub struct PerfMaps {
    root: PathBuf,
    files: HashMap<ProcessId, Known>,
}

#[derive(Debug, Default)]
struct Known {
    map: PerfMap,
    inode: u64,
    read: u64,
}

impl PerfMaps {
    /// Over a `/proc` at `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            files: HashMap::new(),
        }
    }

    /// Whether a process has written one.
    #[must_use]
    pub fn exists(&self, process: ProcessId) -> bool {
        open(&self.root, process.pid).is_ok()
    }

    /// What the process itself calls its code. `None` if it has written no map. Ask soon: code moves.
    ///
    /// It reads what has been written since it was asked last.
    pub fn of(&mut self, process: ProcessId) -> Option<&PerfMap> {
        if let Err(error) = self.update(process) {
            log::trace!("no perf map of process {}: {error}", process.pid);
        }
        self.files.get(&process).map(|known| &known.map)
    }

    fn update(&mut self, process: ProcessId) -> io::Result<()> {
        let mut file = open(&self.root, process.pid)?;
        let (inode, size) = file
            .metadata()
            .map(|metadata| (metadata.ino(), metadata.len().min(MAX_FILE)))?;
        let known = self.files.get(&process);
        if known.is_some_and(|known| known.inode == inode && known.read == size) {
            return Ok(());
        }
        let all: usize = self.files.values().map(|known| known.map.len()).sum();
        let one_more = known.is_none() && self.files.len() >= MAX_PROCESSES;
        if all > MAX_ALL_FUNCTIONS || one_more {
            self.files.clear();
        }
        let known = self.files.entry(process).or_default();
        if known.inode != inode || size < known.read {
            // Another file, or written anew.
            *known = Known {
                inode,
                ..Known::default()
            };
        }
        file.seek(SeekFrom::Start(known.read))?;
        let mut lines = Vec::new();
        file.take((size - known.read).min(MAX_READ))
            .read_to_end(&mut lines)?;
        // The last line may not be whole yet; what is longer than any line is none.
        let whole = lines
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let whole = if lines.len() - whole > MAX_LINE {
            lines.len()
        } else {
            whole
        };
        known.map.add(&lines[..whole]);
        known.read += whole as u64;
        Ok(())
    }
}

/// Opens the file that a process may have written. Anybody can write into `/tmp`: it must be a file and no link, in the
/// process's root, and belong to the process's user, or root.
fn open(root: &Path, pid: u32) -> io::Result<File> {
    let directory = root.join(pid.to_string());
    let owner = fs::metadata(&directory)?.uid();
    let status = File::open(directory.join("status"))?;
    let mut text = String::new();
    status.take(64 * 1024).read_to_string(&mut text)?;
    // NSpid: in the host's namespace, …, in its own.
    let own = text.lines().find_map(|line| {
        line.strip_prefix("NSpid:")?
            .split_ascii_whitespace()
            .next_back()?
            .parse()
            .ok()
    });
    let own: u32 = own.unwrap_or(pid);

    let process_root = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_PATH)
        .open(directory.join("root"))?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = PathBuf::from(format!("/tmp/perf-{own}.map"));
    let file = File::from(openat2(&process_root, &path, how).map_err(io::Error::from)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || ![owner, 0].contains(&metadata.uid()) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the file is somebody else's",
        ));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::owner;

    fn map(lines: &str) -> PerfMap {
        let mut map = PerfMap::default();
        map.add(lines.as_bytes());
        map
    }

    #[test]
    fn an_address_has_the_name_of_the_function_that_it_is_in() {
        let map = map("1000 20 first\n0x2000 0x10 Lorg/shop/OrderDao;::find\nffff 8 name with spaces\n");
        assert_eq!(map.find(0x0fff), None);
        assert_eq!(map.find(0x1000), Some("first"));
        assert_eq!(map.find(0x101f), Some("first"));
        assert_eq!(map.find(0x1020), None);
        assert_eq!(map.find(0x2001), Some("Lorg/shop/OrderDao;::find"));
        assert_eq!(map.find(0x1_0000), Some("name with spaces"));
    }

    #[test]
    fn where_code_was_replaced_the_last_line_counts() {
        let map = map("1000 100 old\n1200 100 other\n1080 200 new\n");
        assert_eq!(
            map.find(0x1010),
            None,
            "what is left of the old function is no function"
        );
        assert_eq!(map.find(0x1100), Some("new"));
        assert_eq!(map.find(0x1290), None);
        assert_eq!(map.len(), 1);
    }

    #[test]
    fn lines_that_are_none_are_skipped() {
        let lines = "\n 1000 20 a\n1000\n1000 20\n1000 20 \n+1000 20 b\n1000 0 c\nffffffffffffffff 20 d\n1000 zz e\n1 1 f";
        assert_eq!(map(lines).len(), 1);
    }

    #[test]
    fn names_of_v8_are_taken_apart() {
        let told = |function, file, line| Some(JavaScript { function, file, line });
        assert_eq!(
            javascript("LazyCompile:*leak /srv/app.js:12:34"),
            told("leak", Some("/srv/app.js"), Some(12))
        );
        assert_eq!(
            javascript("JS:^Pool.query file:///a b.mjs:7:1"),
            told("Pool.query", Some("file:///a b.mjs"), Some(7))
        );
        assert_eq!(
            javascript("Function:~ node:internal/net:1:2"),
            told("", Some("node:internal/net"), Some(1))
        );
        assert_eq!(
            javascript("Script:~ evalmachine"),
            told("", Some("evalmachine"), None)
        );
        assert_eq!(javascript("Builtin:ArgumentsAdaptorTrampoline"), None);
    }

    #[test]
    fn a_map_is_read_on_while_it_is_written() {
        let pid = std::process::id();
        let id = ProcessId {
            pid,
            start_ticks: owner::start_ticks(Path::new("/proc"), pid).expect("this process"),
        };
        let path = format!("/tmp/perf-{pid}.map");
        let mut file = File::create(&path).expect("a file in /tmp");
        let mut maps = PerfMaps::new("/proc");
        file.write_all(b"1000 20 first\n2000 20 sec").expect("written");
        let mut find = |address| maps.of(id).and_then(|map| map.find(address)).map(str::to_owned);
        assert_eq!(find(0x1000).as_deref(), Some("first"));
        assert_eq!(find(0x2000), None, "the line is not whole");
        file.write_all(b"ond\n").expect("written");
        assert_eq!(find(0x2000).as_deref(), Some("second"));
        assert_eq!(find(0x1000).as_deref(), Some("first"));
        // Another file by a link is not his.
        let elsewhere = format!("{path}.elsewhere");
        fs::rename(&path, &elsewhere).expect("renamed");
        std::os::unix::fs::symlink(&elsewhere, &path).expect("a link");
        assert!(!maps.exists(id));
        fs::remove_file(&path).expect("removed");
        fs::remove_file(&elsewhere).expect("removed");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let mut map = PerfMap::default();
            map.add(&bytes);
            let _ = javascript(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn functions_never_lie_on_each_other(lines in proptest::collection::vec((0u64..500, 1u64..60), 0..60)) {
            let mut map = PerfMap::default();
            for (number, (start, size)) in lines.iter().enumerate() {
                map.add(format!("{start:x} {size:x} f{number}\n").as_bytes());
            }
            let ends: Vec<_> = map.functions.iter().map(|(start, (end, _))| (*start, *end)).collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{:?}", ends);
            let (start, size) = lines.last().copied().unwrap_or((0, 1));
            if !lines.is_empty() {
                let last = format!("f{}", lines.len() - 1);
                prop_assert_eq!(map.find(start + size - 1), Some(last.as_str()));
            }
        }
    }
}
