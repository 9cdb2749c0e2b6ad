//! Whether a process runs CPython, which version, and where its structures are. Nothing is guessed: what is not sure is
//! refused, with a reason.

use std::{fs::File, io::Read as _, ops::Range, path::Path};

use super::{
    memory::AddressSpace,
    offsets::{self, Layout, Refusal, Version},
};
use crate::callsite::{mapped::Symbols, process_memory::Memory};

/// An interpreter within a living process.
#[derive(Debug)]
pub struct Interpreter<M = AddressSpace> {
    /// The process's memory.
    pub memory: M,
    /// Its version.
    pub version: Version,
    /// Its structures; `walk.runtime` is set.
    pub layout: Layout,
    /// `&PyCode_Type`: what every code object points to.
    pub code_type: u64,
    /// `&PyUnicode_Type`
    pub text_type: u64,
    /// `&PyBytes_Type`
    pub bytes_type: u64,
    /// The C function that evaluates Python code.
    pub evaluates: Range<u64>,
    /// The module that it is in.
    pub module: Range<u64>,
}

/// Why a process's Python frames can't be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is gone, or runs no CPython that shows its symbols.
    NotPython,
    /// It is just starting, or ending.
    NotYet,
    /// It runs one that connleak does not know. The reason, to follow "no Python frames: ".
    Refused(String),
}

/// Most bytes that are read of a process's list of mappings: 40,000 of them.
const MAX_MAPS: u64 = 4 << 20;

/// Looks for CPython in a process, below `root` (`/proc`).
///
/// # Errors
/// Says why there is none to be walked.
pub fn detect(root: &Path, pid: u32) -> Result<Interpreter, Unknown> {
    let directory = root.join(pid.to_string());
    let mut maps = String::new();
    File::open(directory.join("maps"))
        .and_then(|file| file.take(MAX_MAPS).read_to_string(&mut maps))
        .map_err(|_| Unknown::NotPython)?;
    let executable = std::fs::read_link(directory.join("exe")).map_err(|_| Unknown::NotPython)?;
    let executable = executable.to_string_lossy();
    let memory = AddressSpace::open(root, pid).ok_or(Unknown::NotPython)?;
    for module in modules(&maps) {
        let name = file_name(module.path);
        if module.path == executable || name.starts_with("libpython") || name.starts_with("python") {
            match inspect(&memory, &module) {
                Ok(found) => {
                    return Ok(Interpreter {
                        memory,
                        version: found.version,
                        layout: found.layout,
                        code_type: found.code_type,
                        text_type: found.text_type,
                        bytes_type: found.bytes_type,
                        evaluates: found.evaluates,
                        module: module.range,
                    });
                }
                Err(Unknown::NotPython) => {}
                Err(other) => return Err(other),
            }
        }
    }
    Err(Unknown::NotPython)
}

/// A file that is mapped from its beginning, and all of its mappings.
struct Module<'a> {
    range: Range<u64>,
    path: &'a str,
}

fn modules(maps: &str) -> Vec<Module<'_>> {
    let mut modules: Vec<Module<'_>> = Vec::new();
    for line in maps.lines() {
        // start-end permissions offset device inode path
        let mut fields = line.splitn(6, ' ');
        let (Some(range), Some(offset), Some(path)) = (fields.next(), fields.nth(1), fields.nth(2)) else {
            continue;
        };
        let path = path.trim_start();
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let Some((start, end)) = range
            .split_once('-')
            .and_then(|(start, end)| Some(hex(start)?..hex(end)?))
            .map(|range| (range.start, range.end))
        else {
            continue;
        };
        match modules.last_mut() {
            Some(last) if last.path == path => last.range.end = end,
            _ if hex(offset) == Some(0) && path.starts_with('/') => modules.push(Module {
                range: start..end,
                path,
            }),
            _ => {}
        }
    }
    modules
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

struct Found {
    version: Version,
    layout: Layout,
    code_type: u64,
    text_type: u64,
    bytes_type: u64,
    evaluates: Range<u64>,
}

fn inspect(memory: &impl Memory, module: &Module<'_>) -> Result<Found, Unknown> {
    let symbols = Symbols::of(memory, module.range.start).ok_or(Unknown::NotPython)?;
    let address = |name: &str| symbols.address(memory, name);
    let runtime = address("_PyRuntime").ok_or(Unknown::NotPython)?;
    let hex = match address("Py_Version") {
        Some(place) => Some(memory.u32(place).ok_or(Unknown::NotYet)?),
        None => None,
    };
    let version = match hex {
        Some(hex) => released(hex)?,
        None => symbols
            .own_name(memory)
            .and_then(|name| named(&name))
            .or_else(|| named(file_name(module.path)))
            .ok_or_else(|| Unknown::Refused("which version of CPython this is, is not told".into()))?,
    };
    let mut layout = layout(memory, runtime, version, hex)?;
    layout.walk.runtime = runtime;
    started(memory, &layout, version)?;
    let missing = || Unknown::Refused(format!("this CPython {version} does not show its symbols"));
    let evaluates = symbols
        .find(memory, "_PyEval_EvalFrameDefault")
        .map_or(0..0, |symbol| {
            symbol.address..symbol.address.saturating_add(symbol.size)
        });
    Ok(Found {
        version,
        layout,
        code_type: address("PyCode_Type").ok_or_else(missing)?,
        text_type: address("PyUnicode_Type").ok_or_else(missing)?,
        bytes_type: address("PyBytes_Type").ok_or_else(missing)?,
        evaluates,
    })
}

/// `PY_VERSION_HEX`: the layouts of alpha and beta versions are no release's.
fn released(hex: u32) -> Result<Version, Unknown> {
    let [major, minor, _, level] = hex.to_be_bytes();
    let version = Version { major, minor };
    // `PY_RELEASE_LEVEL_GAMMA` of `Include/patchlevel.h`: a release candidate.
    if level >> 4 < 0xc {
        return Err(Unknown::Refused(format!(
            "CPython {version} before its release is not known"
        )));
    }
    Ok(version)
}

/// The version in the name of a library or program of 3.8 to 3.10: `libpython3.9.so.1.0`, `python3.9`. Later ones
/// have a symbol for it.
fn named(name: &str) -> Option<Version> {
    let (_, rest) = name.split_once("python3.")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let minor: u8 = rest.get(..digits)?.parse().ok()?;
    (minor <= 10).then_some(Version { major: 3, minor })
}

fn layout(memory: &impl Memory, runtime: u64, version: Version, hex: Option<u32>) -> Result<Layout, Unknown> {
    if let Some(layout) = offsets::fixed(version) {
        return Ok(layout);
    }
    let hex = hex.filter(|_| matches!((version.major, version.minor), (3, 13 | 14)));
    let Some(hex) = hex else {
        return Err(Unknown::Refused(format!(
            "CPython {version} is not known (3.8 to 3.14 are)"
        )));
    };
    offsets::told(memory, runtime, version, hex).map_err(|refusal| {
        let reason = match refusal {
            Refusal::FreeThreaded => "is a free-threaded build, which is not known",
            Refusal::Unreadable => "has a table of offsets that can't be read",
            Refusal::Inconsistent => "has a table of offsets that is not its version's",
        };
        Unknown::Refused(format!("this CPython {version} {reason}"))
    })
}

/// Whether its structures are as the layout says: a wrong offset shows here, before anything is made of it.
fn started(memory: &impl Memory, layout: &Layout, version: Version) -> Result<(), Unknown> {
    let walk = &layout.walk;
    let follow = |base: u64, offset: u32| memory.u64(base.wrapping_add(u64::from(offset)));
    let interpreter = follow(walk.runtime, walk.interpreters_head).ok_or(Unknown::NotYet)?;
    if interpreter == 0 {
        return Err(Unknown::NotYet);
    }
    let thread = follow(interpreter, walk.interpreter_threads).ok_or(Unknown::NotYet)?;
    if thread == 0 {
        return Err(Unknown::NotYet);
    }
    if follow(thread, layout.thread_interpreter) == Some(interpreter) {
        Ok(())
    } else {
        Err(Unknown::Refused(format!(
            "this CPython {version} does not have the structures of its version"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_names_only_where_no_symbol_would_tell_them() {
        let version = |minor| Some(Version { major: 3, minor });
        assert_eq!(named("libpython3.8.so.1.0"), version(8));
        assert_eq!(named("python3.10"), version(10));
        assert_eq!(named("libpython3.7m.so.1.0"), version(7));
        assert_eq!(named("libpython3.12.so.1.0"), None);
        for name in [
            "python3",
            "python",
            "uwsgi",
            "python3.",
            "python3.x",
            "python3.999",
        ] {
            assert_eq!(named(name), None, "{name}");
        }
    }

    #[test]
    fn versions_before_a_release_are_refused() {
        assert_eq!(released(0x030b_02f0), Ok(Version { major: 3, minor: 11 }));
        assert!(released(0x030e_00c2).is_ok());
        assert!(released(0x030e_00b1).is_err());
    }

    #[test]
    fn a_module_is_all_mappings_of_its_file_from_the_first_on() {
        let maps = "\
55d0a000-55d0b000 r--p 00000000 fe:01 123                        /usr/bin/python3 x
55d0b000-55d0c000 r-xp 00001000 fe:01 123                        /usr/bin/python3 x
7f0000000000-7f0000001000 rw-p 00000000 00:00 0 
7f0000002000-7f0000003000 r--p 00005000 fe:01 9                  /lib/part.so
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                  [stack]
nonsense
";
        let modules = modules(maps);
        assert_eq!(modules.len(), 1);
        assert_eq!(modules[0].path, "/usr/bin/python3 x");
        assert_eq!(modules[0].range, 0x55d0_a000..0x55d0_c000);
    }

    #[test]
    fn a_process_that_runs_no_python_is_told_as_such() {
        assert_eq!(
            detect(Path::new("/proc"), std::process::id()).err(),
            Some(Unknown::NotPython)
        );
    }
}
