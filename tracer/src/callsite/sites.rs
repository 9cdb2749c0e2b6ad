//! Remembers which site is which, and asks for its names only when somebody is about to read them.
//!
//! Names cost a thousand times what unwinding does, and most sites are never read: a healthy application opens
//! connections, too. So an event carries the identity alone, and whoever writes a finding asks here. Live, the
//! answer comes from a [`Source`]; what it said goes into the journal, so that a replay, which has no source,
//! writes the same lines. What nobody can tell is told as unknown.

#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::Arc,
};

use super::{Frame, Quality, Site, SiteId};

/// Sites kept: those of all findings that a host has at once. With the bounds below 25 MiB if a process makes
/// all its names as long as it can; a few hundred KiB usually.
const CAPACITY: usize = 128;
/// Questions without an answer, each of which may take a while, after which no more are asked for one telling: the
/// source is behind.
const PATIENCE: usize = 2;
/// Frames kept of a site. Deeper stacks are recursions, or frameworks that nobody reads to the end.
pub const FRAMES: usize = 256;
/// Characters kept of a name or path. A C++ or Rust name with its type parameters can be longer than anybody
/// reads.
const CHARACTERS: usize = 256;

/// Who can tell what a site is: live, the thread that unwinds.
pub trait Source {
    /// The site's frames, with whatever names can be had; `None` when it knows nothing of such a site.
    ///
    /// May take a tenth of a second: it is called when a finding is written, never for an event.
    fn describe(&mut self, id: SiteId) -> Option<Site>;
}

/// The sites described so far. When full, the one that was described first is forgotten, and described again
/// when asked for.
#[derive(Default)]
pub struct Sites {
    source: Option<Box<dyn Source>>,
    known: HashMap<SiteId, Arc<Site>>,
    order: VecDeque<SiteId>,
    /// What could not be told since readings were taken last. Whatever is told between two takings is the same to
    /// all, or a replay, which learns it all at once, would say more.
    untold: HashSet<SiteId>,
    /// What was described since it was taken last, for a journal; `None` when nobody keeps one.
    readings: Option<Vec<Arc<Site>>>,
}

impl Sites {
    /// Asks this source for what it does not know.
    #[must_use]
    pub fn with_source(source: Box<dyn Source>) -> Self {
        Self {
            source: Some(source),
            ..Self::default()
        }
    }

    /// The site's frames; `None` when nobody can tell. Asks again then after [`take_readings`](Self::take_readings):
    /// names of large files take their time.
    pub fn describe(&mut self, id: SiteId) -> Option<Arc<Site>> {
        if let Some(site) = self.known.get(&id) {
            return Some(Arc::clone(site));
        }
        if self.untold.contains(&id) || self.untold.len() >= PATIENCE {
            return None;
        }
        let Some(mut site) = self.source.as_mut()?.describe(id) else {
            self.untold.insert(id);
            return None;
        };
        // Whatever the source calls it: it is the answer to this question.
        site.id = id;
        let site = self.insert(site);
        if let Some(readings) = &mut self.readings {
            readings.push(Arc::clone(&site));
        }
        Some(site)
    }

    /// From now on, what is described is kept for [`take_readings`](Self::take_readings).
    pub fn note_readings(&mut self) {
        self.readings = Some(Vec::new());
    }

    /// What was described since the last call; from now on, what could not be is asked for again.
    pub fn take_readings(&mut self) -> Vec<Site> {
        self.untold.clear();
        let readings = self.readings.as_mut().map(std::mem::take).unwrap_or_default();
        readings.iter().map(|site| Site::clone(site)).collect()
    }

    /// Takes over what was known of a site elsewhere: from a journal.
    pub fn remember(&mut self, site: Site) {
        self.insert(site);
    }

    fn insert(&mut self, site: Site) -> Arc<Site> {
        let id = site.id;
        let site = Arc::new(bounded(site));
        if self.known.insert(id, Arc::clone(&site)).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        site
    }
}

impl fmt::Debug for Sites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sites")
            .field("known", &self.known.len())
            .field("source", &self.source.is_some())
            .finish_non_exhaustive()
    }
}

/// Names belong to other processes: no longer than anybody reads.
fn bounded(mut site: Site) -> Site {
    if site.frames.len() > FRAMES {
        site.note = Some(format!("the innermost {FRAMES} of {} frames", site.frames.len()));
        site.quality = Quality::Partial;
        site.frames.truncate(FRAMES);
    }
    for Frame {
        function,
        file,
        module,
        build_id,
        ..
    } in &mut site.frames
    {
        for text in [function, file, module, build_id].into_iter().flatten() {
            shorten(text);
        }
    }
    if let Some(note) = &mut site.note {
        shorten(note);
    }
    site
}

/// A path keeps its end, in which the file's name is; any other name its beginning.
fn shorten(text: &mut String) {
    // Cheap for the usual case: there are at most as many characters as bytes.
    if text.len() <= CHARACTERS || text.chars().count() <= CHARACTERS {
        return;
    }
    *text = if text.starts_with('/') {
        let skip = text.chars().count() - (CHARACTERS - 1);
        std::iter::once('…').chain(text.chars().skip(skip)).collect()
    } else {
        text.chars().take(CHARACTERS - 1).chain(['…']).collect()
    };
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use super::*;
    use crate::callsite::Runtime;

    fn site(id: u64) -> Site {
        Site {
            id: SiteId(id),
            quality: Quality::Exact,
            frames: vec![Frame {
                runtime: Runtime::Native,
                function: Some(format!("function_{id}")),
                file: None,
                line: None,
                module: Some("/srv/app".to_owned()),
                build_id: None,
                offset: Some(id),
                inlined: false,
            }],
            note: None,
        }
    }

    /// Knows every site but number 0, and counts how often it is asked.
    struct Counting(Rc<Cell<usize>>);

    impl Source for Counting {
        fn describe(&mut self, id: SiteId) -> Option<Site> {
            self.0.set(self.0.get() + 1);
            (id.0 != 0).then(|| site(id.0))
        }
    }

    fn counting() -> (Sites, Rc<Cell<usize>>) {
        let asked = Rc::new(Cell::new(0));
        (Sites::with_source(Box::new(Counting(Rc::clone(&asked)))), asked)
    }

    #[test]
    fn a_site_is_described_once_and_what_is_unknown_is_asked_again_the_next_time() {
        let (mut sites, asked) = counting();
        assert_eq!(sites.describe(SiteId(7)).as_deref(), Some(&site(7)));
        assert_eq!(sites.describe(SiteId(7)).as_deref(), Some(&site(7)));
        assert_eq!(asked.get(), 1);
        assert!(sites.describe(SiteId(0)).is_none() && sites.describe(SiteId(0)).is_none());
        assert_eq!(asked.get(), 2, "not twice for one telling");
        sites.take_readings();
        assert!(sites.describe(SiteId(0)).is_none());
        assert_eq!(asked.get(), 3);
    }

    #[test]
    fn a_source_that_is_behind_is_not_asked_on_and_on() {
        struct Behind(Rc<Cell<usize>>);
        impl Source for Behind {
            fn describe(&mut self, _: SiteId) -> Option<Site> {
                self.0.set(self.0.get() + 1);
                None
            }
        }
        let asked = Rc::new(Cell::new(0));
        let mut sites = Sites::with_source(Box::new(Behind(Rc::clone(&asked))));
        for id in 1..100 {
            assert!(sites.describe(SiteId(id)).is_none());
        }
        assert_eq!(asked.get(), PATIENCE);
    }

    #[test]
    fn a_replay_knows_what_the_journal_says_and_nothing_else() {
        let (mut live, _) = counting();
        live.note_readings();
        live.describe(SiteId(7));
        live.describe(SiteId(0));
        let mut replay = Sites::default();
        for site in live.take_readings() {
            replay.remember(site);
        }
        assert!(live.take_readings().is_empty(), "each is taken once");
        assert_eq!(replay.describe(SiteId(7)).as_deref(), Some(&site(7)));
        assert!(replay.describe(SiteId(8)).is_none());
    }

    #[test]
    fn the_oldest_is_forgotten_and_described_anew() {
        let (mut sites, asked) = counting();
        for id in 1..=CAPACITY as u64 + 1 {
            sites.describe(SiteId(id));
        }
        assert_eq!((sites.known.len(), sites.order.len()), (CAPACITY, CAPACITY));
        assert!(sites.describe(SiteId(1)).is_some());
        assert_eq!(asked.get(), CAPACITY + 2);
    }

    #[test]
    fn names_and_stacks_without_end_are_cut() {
        let mut endless = site(1);
        endless.frames[0].function = Some("é".repeat(5000));
        endless.frames[0].file = Some(format!("/{}/dao.py", "d".repeat(5000)));
        endless.frames = vec![endless.frames[0].clone(); 5000];
        let mut sites = Sites::default();
        sites.remember(endless);
        let kept = sites.describe(SiteId(1)).expect("kept");
        assert_eq!((kept.frames.len(), kept.quality), (FRAMES, Quality::Partial));
        let frame = &kept.frames[0];
        let length = |text: &Option<String>| text.as_ref().map(|text| text.chars().count());
        assert_eq!(
            (length(&frame.function), length(&frame.file)),
            (Some(CHARACTERS), Some(CHARACTERS))
        );
        assert!(frame.file.as_ref().is_some_and(|file| file.ends_with("/dao.py")));
    }
}
