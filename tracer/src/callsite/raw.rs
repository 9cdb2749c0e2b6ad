//! The place at which a stack ends, by the process's own list of mappings: module and offset, no more.

#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::Read as _,
};

use super::{Capture, Frame, Quality, Runtime, Site, SiteId};

/// Sites that are kept.
const MOST: usize = 4096;
/// Bytes that are read of a list of mappings.
const LIST: u64 = 1 << 20;

/// Sites by what they are.
#[derive(Debug, Default)]
pub struct Raw {
    sites: HashMap<SiteId, Site>,
}

impl Raw {
    /// The site of a capture, and the return addresses on its stack.
    pub fn unwind(&mut self, capture: &Capture<'_>) -> (SiteId, Vec<u64>) {
        let frame = place(capture.process.pid, capture.registers.ip);
        let mut hasher = DefaultHasher::new();
        (&frame.module, frame.offset).hash(&mut hasher);
        let id = SiteId(hasher.finish() | 1);
        if self.sites.len() >= MOST {
            self.sites.clear();
        }
        self.sites.entry(id).or_insert(Site {
            id,
            quality: Quality::Partial,
            frames: vec![frame],
            note: None,
        });
        (id, Vec::new())
    }

    /// What is known of a site.
    #[must_use]
    pub fn describe(&self, id: SiteId) -> Option<Site> {
        self.sites.get(&id).cloned()
    }
}

fn place(pid: u32, address: u64) -> Frame {
    let mut list = String::new();
    if let Ok(file) = File::open(format!("/proc/{pid}/maps")) {
        // What is no text, or too long, ends the list.
        let _ = file.take(LIST).read_to_string(&mut list);
    }
    let found = list.lines().find_map(|line| mapped(line, address));
    Frame {
        runtime: Runtime::Native,
        function: None,
        file: None,
        line: None,
        module: found.as_ref().map(|(path, _)| path.clone()),
        build_id: None,
        offset: Some(found.map_or(address, |(_, offset)| offset)),
        inlined: false,
    }
}

/// The path and the offset in it, if this line of `/proc/PID/maps` has the address.
fn mapped(line: &str, address: u64) -> Option<(String, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let hex = |word: &str| u64::from_str_radix(word, 16).ok();
    let (start, end) = (hex(start)?, hex(end)?);
    let offset = hex(words.nth(1)?)?;
    let path = words.nth(2)?;
    (start <= address && address < end).then(|| (path.to_owned(), offset.wrapping_add(address - start)))
}
