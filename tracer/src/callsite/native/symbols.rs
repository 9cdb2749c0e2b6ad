//! Names for return addresses: functions, what was inlined into them, files and lines.
//!
//! Go's own table first, since a stripped Go program with some C in it has symbols enough to be misled by. Then debug
//! information and symbols, through `blazesym`: of the file, or of the distribution's debug file with the same build
//! id. A symbol counts only if it says that it reaches as far as the address: the nearest symbol below is, in a stripped
//! program, as a rule another function's. Where no name is sure there is none; file and offset are always there.

#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolizer, source};

use super::{
    caught::caught,
    copy::{self, Copy},
    elf::{Bytes, Elf},
    module::Module,
    unwind::{NativeFrame, NativeStack},
};
use crate::callsite::{Frame, Runtime};

/// Files whose symbols are kept at hand, and the memory that their copies may take. Beyond that all are forgotten, and
/// read again when needed.
const MAX_FILES: usize = 128;
const MAX_MEMORY: u64 = 512 * 1024 * 1024;
/// Addresses whose names are kept.
const MAX_KNOWN: usize = 65_536;
/// Longest name that is kept, in bytes. Templates make names of many kilobytes.
const MAX_NAME: usize = 1_024;
/// Where distributions install debug information by build id.
const DEBUG_FILES: &str = "/usr/lib/debug/.build-id";

/// Looks up names, and remembers them. For one thread.
#[derive(Debug, Default)]
pub struct Symbols {
    files: HashMap<usize, Names>,
    memory: u64,
    known: usize,
}

/// What is known of one file.
#[derive(Debug)]
struct Names {
    /// Keeps the file at its address, which is the key it is found by.
    module: Arc<Module>,
    source: Option<Source>,
    /// Reading its symbols went wrong, and is not tried again.
    damaged: bool,
    known: HashMap<u64, Vec<Frame>>,
}

/// A copy of symbols, and who reads them.
#[derive(Debug)]
struct Source {
    symbolizer: Symbolizer,
    copy: Copy,
}

impl Symbols {
    /// The named frames of a stack, innermost first: functions that were inlined have frames of their own.
    pub fn frames(&mut self, stack: &NativeStack) -> Vec<Frame> {
        stack.frames.iter().flat_map(|frame| self.frame(frame)).collect()
    }

    /// The frames at one return address: at least one, without a name if none is sure.
    pub fn frame(&mut self, frame: &NativeFrame) -> Vec<Frame> {
        let Some(module) = &frame.module else {
            return vec![nameless(None, 0)];
        };
        if self.files.len() >= MAX_FILES || self.memory > MAX_MEMORY || self.known >= MAX_KNOWN {
            *self = Self::default();
        }
        let names = self.files.entry(Arc::as_ptr(module) as usize).or_insert_with(|| {
            let source = if module.go().is_some() {
                None
            } else {
                Source::open(module)
            };
            self.memory += source.as_ref().map_or(0, |source| source.copy.size);
            Names {
                module: Arc::clone(module),
                source,
                damaged: false,
                known: HashMap::new(),
            }
        });
        if let Some(known) = names.known.get(&frame.offset) {
            return known.clone();
        }
        let found = names.look_up(frame.offset);
        self.known += 1;
        names.known.insert(frame.offset, found.clone());
        found
    }
}

impl Names {
    fn look_up(&mut self, offset: u64) -> Vec<Frame> {
        let module = &self.module;
        if let Some(table) = module.go() {
            let frames = table.frames(offset);
            if !frames.is_empty() {
                let frames = frames.into_iter().map(|frame| Frame {
                    runtime: Runtime::Go,
                    function: Some(shorten(frame.function)),
                    file: frame.file,
                    line: frame.line,
                    inlined: frame.inlined,
                    ..nameless(Some(module), offset)
                });
                return frames.collect();
            }
            // C in a Go program: its symbols are read only now.
            if self.source.is_none() && !self.damaged {
                self.source = Source::open(module);
            }
        }
        let Some(source) = &self.source else {
            return vec![nameless(Some(module), offset)];
        };
        let frames = caught(|| {
            source
                .symbol(offset)
                .map(|symbol| frames_of(&symbol, module, offset))
        });
        match frames {
            Ok(Some(frames)) => frames,
            Ok(None) => vec![nameless(Some(module), offset)],
            Err(place) => {
                log::warn!(
                    "the symbols of {} are damaged: its frames have no names (panicked at {place})",
                    module.path().escape_debug()
                );
                self.damaged = true;
                if let Some(source) = self.source.take() {
                    // What a panic left may not even be dropped.
                    std::mem::forget(source.symbolizer);
                }
                vec![nameless(Some(module), offset)]
            }
        }
    }
}

impl Source {
    fn open(module: &Module) -> Option<Self> {
        let copy = debug_file(module).or_else(|| match copy::copy(module.bytes()) {
            Ok(copy) => Some(copy),
            Err(error) => {
                log::debug!("no symbols of {}: {error}", module.path().escape_debug());
                None
            }
        })?;
        let no_folders: Option<[&Path; 0]> = Some([]);
        let symbolizer = Symbolizer::builder()
            .enable_auto_reload(false)
            .set_debug_dirs(no_folders)
            .build();
        Some(Self { symbolizer, copy })
    }

    fn symbol(&self, offset: u64) -> Option<Sym<'_>> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.copy.file.as_raw_fd()));
        let look_up = |debug| {
            let mut elf = source::Elf::new(&path);
            elf.debug_syms = debug;
            self.symbolizer
                .symbolize_single(&source::Source::Elf(elf), Input::VirtOffset(offset))
        };
        // Damaged debug information is no reason to do without symbols.
        let symbol = match look_up(self.copy.debug) {
            Err(_) if self.copy.debug => look_up(false),
            symbol => symbol,
        };
        symbol.ok()?.into_sym()
    }
}

/// The debug file that the distribution has installed for a file, if it is the one for this very build.
fn debug_file(module: &Module) -> Option<Copy> {
    let id = module.build_id()?;
    let (folder, name) = id.split_at_checked(2).filter(|(_, name)| !name.is_empty())?;
    let (file, _) = Module::open(&Path::new(DEBUG_FILES).join(folder).join(format!("{name}.debug"))).ok()?;
    let bytes = Bytes::File(file);
    let same = Elf::read(&bytes).ok()?.build_id == module.elf().build_id;
    if same { copy::copy(&bytes).ok() } else { None }
}

fn nameless(module: Option<&Module>, offset: u64) -> Frame {
    Frame {
        runtime: Runtime::Native,
        function: None,
        file: None,
        line: None,
        module: module.map(|module| module.path().to_owned()),
        build_id: module.and_then(|module| module.build_id().map(str::to_owned)),
        offset: module.map(|_| offset),
        inlined: false,
    }
}

fn frames_of(symbol: &Sym<'_>, module: &Module, offset: u64) -> Vec<Frame> {
    // A symbol without a size may end anywhere.
    let covers = symbol.size.is_some_and(|size| symbol.offset < size);
    let outer = Frame {
        function: (covers && !symbol.name.is_empty()).then(|| shorten(symbol.name.to_string())),
        ..at(symbol.code_info.as_deref(), nameless(Some(module), offset))
    };
    let inlined = symbol.inlined.iter().rev().map(|function| Frame {
        function: Some(shorten(function.name.to_string())),
        inlined: true,
        ..at(function.code_info.as_ref(), nameless(Some(module), offset))
    });
    inlined.chain([outer.clone()]).collect()
}

fn at(place: Option<&CodeInfo<'_>>, frame: Frame) -> Frame {
    Frame {
        file: place.map(|place| shorten(place.to_path().to_string_lossy().into_owned())),
        line: place.and_then(|place| place.line).filter(|line| *line > 0),
        ..frame
    }
}

fn shorten(mut name: String) -> String {
    if name.len() > MAX_NAME {
        name.truncate(name.floor_char_boundary(MAX_NAME));
        name.push('…');
    }
    name
}
