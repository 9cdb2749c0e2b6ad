//! A finding's code with names: which function opened its sockets, which used them last.
//!
//! The verdict knows sites by number. Here they get their frames, sites that share the application's innermost
//! function are taken together (one leak is reached by many paths), and it is decided which function the first
//! sentence names.

use std::{fmt::Write as _, sync::Arc};

use super::{escape::escape, text::plural};
use crate::{
    callsite::{
        Frame, Origin, Quality, Site, Sites,
        library::{runs_a_loop, through_a_pool},
    },
    verdict::{Code, Finding, Kind, Share},
};

/// Sites of a finding that are described, per role; the rest is counted.
const DESCRIBED: usize = 16;
/// A function of the application's that this part of the sockets have in common is named, though more of them have none.
const WEIGHS: usize = 4;
/// Frames of the application that text shows.
const SHOWN: usize = 8;
/// Frames of libraries that text shows where the application has none.
const OUTERMOST: usize = 2;
/// Libraries that text names where it leaves out their frames.
const LIBRARIES: usize = 4;
/// Characters of a function's name in text.
const NAME: usize = 72;
/// Characters of a path in text.
const PATH: usize = 64;

/// What code did with a finding's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It opened them.
    Opened,
    /// It used them last.
    LastUsed,
    /// It opens such sockets now; who opened these was not seen.
    OpensNow,
}

impl Part {
    /// Word for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::LastUsed => "last_used",
            Self::OpensNow => "opens_now",
        }
    }
}

/// A share of a finding's sockets, and its site's frames as far as anybody can tell.
#[derive(Clone, Debug)]
pub struct Named {
    /// How many.
    pub share: Share,
    /// Which code; `None` when nobody can tell any more.
    pub site: Option<Arc<Site>>,
}

/// See the module's head. Largest shares first.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// By opening.
    pub opened: Vec<Named>,
    /// By last use.
    pub used: Vec<Named>,
    /// See [`Part::OpensNow`].
    pub opens_now: Vec<Named>,
}

/// The function that the first sentence names.
#[derive(Clone, Debug)]
pub struct Culprit {
    /// What it did.
    pub part: Part,
    /// The application's innermost frame.
    pub frame: Frame,
    /// With how many of the sockets …
    pub sockets: usize,
    /// … of those of which it is known.
    pub of: usize,
}

/// Shares whose application's innermost function is the same.
struct Spot<'a> {
    share: Share,
    sites: usize,
    example: &'a Named,
}

impl Told {
    /// Asks for the names of a finding's sites.
    pub fn of(code: &Code, sites: &mut Sites) -> Self {
        let mut name = |shares: &[Share]| {
            let named = shares.iter().enumerate().map(|(place, &share)| Named {
                share,
                site: (place < DESCRIBED).then(|| sites.describe(share.site)).flatten(),
            });
            named.collect()
        };
        Self {
            opened: name(&code.opened),
            used: name(&code.used),
            opens_now: name(&code.opens_now),
        }
    }

    /// Every share with what it did.
    pub fn all(&self) -> impl Iterator<Item = (Part, &Named)> {
        let parts = [
            (Part::Opened, &self.opened),
            (Part::LastUsed, &self.used),
            (Part::OpensNow, &self.opens_now),
        ];
        parts
            .into_iter()
            .flat_map(|(part, shares)| shares.iter().map(move |named| (part, named)))
    }

    /// The stack that tells most of where they were opened.
    #[must_use]
    pub fn opening(&self) -> Option<&Named> {
        spots(&self.opened).first().map(|spot| spot.example)
    }

    /// Likewise of their last use.
    #[must_use]
    pub fn last_use(&self) -> Option<&Named> {
        spots(&self.used).first().map(|spot| spot.example)
    }

    /// Whether a stack that most of the sockets have in common can't be told, now or ever.
    #[must_use]
    pub fn lacks_names(&self) -> bool {
        let lacks = |shares: &[Named]| shares.first().is_some_and(|named| named.site.is_none());
        lacks(&self.opened) || lacks(&self.used)
    }

    /// Which function to name, if one can be.
    ///
    /// Who opened them, unless a pool did that (in its own thread, or in the function that happened to need one), or
    /// the last use is what more of them have in common: then who had them last did not give them back. Of what is
    /// missing from a pool, the last use comes first.
    #[must_use]
    pub fn culprit(&self, kind: Kind) -> Option<Culprit> {
        let opened = culprit(Part::Opened, &self.opened);
        let used = culprit(Part::LastUsed, &self.used);
        match (opened, used) {
            (Some(opened), Some(used)) => {
                let last = kind == Kind::Unreturned
                    || used.sockets > opened.sockets
                    || lent(&self.opened) && used.sockets * 2 > opened.sockets;
                Some(if last { used } else { opened })
            }
            (opened, used) => opened.or(used),
        }
    }

    /// What the sites' counts say for the claim.
    #[must_use]
    pub fn because(&self) -> Vec<String> {
        spots(&self.opened)
            .into_iter()
            .take(1)
            .filter(|spot| spot.share.tally.opened > 0)
            .filter_map(|spot| {
                let frame = application(spot.example.site.as_deref()?).next()?;
                Some(format!(
                    "{} opened {}, of which {} {} closed since",
                    label(frame),
                    spot.share.tally.opened,
                    spot.share.tally.closed,
                    if spot.share.tally.closed == 1 {
                        "was"
                    } else {
                        "were"
                    }
                ))
            })
            .collect()
    }

    /// The stacks as text: each line without indentation, whatever it shows made harmless.
    #[must_use]
    pub fn lines(&self, finding: &Finding) -> Vec<String> {
        let total = finding.sockets.len();
        let mut lines = Vec::new();
        block(&mut lines, "opened by", &self.opened, total);
        match (spots(&self.opened).first(), spots(&self.used).first()) {
            (Some(opened), Some(used)) if same_functions(opened.example, used.example) => {
                lines.push(last_used_there(used, total));
            }
            _ => block(&mut lines, "last used by", &self.used, total),
        }
        let known: usize = self.opened.iter().map(|named| named.share.sockets).sum();
        let unknown = total.saturating_sub(known);
        if unknown == 0 {
            return lines;
        }
        let before = finding.opened_before_attach;
        let mut word = match (before, self.opened.is_empty()) {
            (0, true) => "no stack was read of where they were opened".to_owned(),
            (0, false) => format!("no stack was read of where {unknown} of them were opened"),
            (_, true) if before == total => "opened before connleak looked".to_owned(),
            (1, _) => "1 of them was opened before connleak looked".to_owned(),
            _ => format!("{before} of them were opened before connleak looked"),
        };
        if self.used.is_empty() && before > 0 {
            word.push_str(", and not used since: which code is not known");
        } else if !self.used.is_empty() && self.opened.is_empty() {
            word.push_str(": the last use is shown");
        }
        lines.push(word);
        if let Some(spot) = spots(&self.opens_now).first().filter(|_| self.opened.is_empty()) {
            lines.push(format!(
                "this process has since opened {} to the same server by",
                plural(
                    usize::try_from(spot.share.tally.opened).unwrap_or(usize::MAX),
                    "connection"
                )
            ));
            stack(&mut lines, spot.example);
        }
        lines
    }
}

/// Whether the sockets that have most in common were opened by a pool, to be lent.
fn lent(opened: &[Named]) -> bool {
    let example = spots(opened).first().and_then(|spot| spot.example.site.clone());
    example.is_some_and(|site| through_a_pool(&site.frames))
}

fn culprit(part: Part, shares: &[Named]) -> Option<Culprit> {
    let spots = spots(shares);
    let spot = spots.first()?;
    let frame = application(spot.example.site.as_deref()?).next()?;
    Some(Culprit {
        part,
        frame: frame.clone(),
        sockets: spot.share.sockets,
        of: spots.iter().map(|spot| spot.share.sockets).sum(),
    })
}

impl Culprit {
    /// Whether it is not the code of most: then the sentence has to say of how many.
    #[must_use]
    pub fn is_of_few(&self) -> bool {
        self.sockets * 2 <= self.of && self.of > 0
    }

    /// `OrderDao.find (OrderDao.java:88)`, made harmless.
    #[must_use]
    pub fn label(&self) -> String {
        label(&self.frame)
    }
}

/// Taken together by the application's innermost function; the largest first. A pool logs in to connections that it then
/// never lends, and who made the pool shows in those that it lent: so one with a function of the application's comes
/// before larger ones without, unless it is small.
fn spots(shares: &[Named]) -> Vec<Spot<'_>> {
    let mut spots: Vec<(Option<&Frame>, Spot<'_>)> = Vec::new();
    for named in shares {
        let frame = named.site.as_deref().and_then(|site| application(site).next());
        let fellow = spots.iter_mut().find(
            |(known, _)| matches!((known, frame), (Some(known), Some(frame)) if same_function(known, frame)),
        );
        if let Some((_, spot)) = fellow {
            spot.share.sockets += named.share.sockets;
            spot.share.stale += named.share.stale;
            spot.share.tally.opened += named.share.tally.opened;
            spot.share.tally.closed += named.share.tally.closed;
            spot.sites += 1;
        } else {
            spots.push((
                frame,
                Spot {
                    share: named.share,
                    sites: 1,
                    example: named,
                },
            ));
        }
    }
    let all: usize = spots.iter().map(|(_, spot)| spot.share.sockets).sum();
    // Stable: of equals, the one whose single site has most.
    spots.sort_by_key(|(frame, spot)| {
        let weighs = frame.is_some() && spot.share.sockets * WEIGHS >= all;
        std::cmp::Reverse((weighs, spot.share.sockets, spot.share.tally.opened))
    });
    spots.into_iter().map(|(_, spot)| spot).collect()
}

fn same_function(a: &Frame, b: &Frame) -> bool {
    a.function.is_some() && (&a.function, &a.file, &a.module) == (&b.function, &b.file, &b.module)
}

/// The application's own frames, innermost first. Who has started an event loop has not done what the loop does.
pub fn application(site: &Site) -> impl Iterator<Item = &Frame> {
    own(site).filter(|frame| frame.function.is_some())
}

/// The application's own frames, with a name or a place in a file.
fn own(site: &Site) -> impl Iterator<Item = &Frame> {
    let inside = site.frames.iter().take_while(|frame| !runs_a_loop(frame));
    inside.filter(|frame| is_own(frame))
}

const LIBRARIES_ALONE: &str = " libraries alone";

/// What stands behind `opened by` when the application has no function to show.
fn whose(site: &Site) -> &'static str {
    let library = |frame| matches!(Origin::of(frame), Origin::Library(_));
    if own(site).next().is_some() {
        ""
    } else if site.frames.iter().any(is_nameless) {
        " functions that can't be told"
    } else if site.frames.iter().any(library) {
        LIBRARIES_ALONE
    } else {
        " the run-time system alone"
    }
}

/// The application's; without a name it still has a place in a file.
fn is_own(frame: &Frame) -> bool {
    Origin::of(frame) == Origin::Application && !is_nameless(frame)
}

/// Machine code that no file holds and nobody names: a just-in-time compiler's.
fn is_nameless(frame: &Frame) -> bool {
    frame.function.is_none() && frame.module.is_none()
}

/// Frames that text shows of a stack: the application's, or, where it has none, the outermost of the libraries':
/// a pool's own thread gives itself away there.
fn shown(named: &Named) -> Vec<&Frame> {
    let Some(site) = named.site.as_deref() else {
        return Vec::new();
    };
    let own: Vec<&Frame> = own(site).collect();
    if !own.is_empty() {
        return own;
    }
    let library = |frame: &&Frame| frame.function.is_some() && Origin::of(frame) != Origin::Machinery;
    let libraries: Vec<&Frame> = site.frames.iter().filter(library).collect();
    libraries[libraries.len().saturating_sub(OUTERMOST)..].to_vec()
}

fn block(lines: &mut Vec<String>, what: &str, shares: &[Named], total: usize) {
    let spots = spots(shares);
    let Some(spot) = spots.first() else { return };
    let by = spot.example.site.as_deref().map_or("", whose);
    lines.push(format!("{}{by}{}", share(spot, what, total), stale(spot)));
    stack(lines, spot.example);
    let others = || spots.iter().skip(1);
    let count: usize = others().map(|spot| spot.share.sockets).sum();
    if count > 0 {
        let libraries = |spot: &Spot<'_>| {
            let site = spot.example.site.as_deref();
            site.is_some_and(|site| whose(site) == LIBRARIES_ALONE)
        };
        let code = if others().all(libraries) {
            LIBRARIES_ALONE
        } else {
            " other code"
        };
        lines.push(format!("{count} {what}{code} (-o json has all)"));
    }
}

/// `76 of 80 opened by`
fn share(spot: &Spot<'_>, what: &str, total: usize) -> String {
    match spot.share.sockets {
        1 if total == 1 => what.to_owned(),
        all if all == total => format!("all {all} {what}"),
        some => format!("{some} of {total} {what}"),
    }
}

fn stale(spot: &Spot<'_>) -> String {
    match spot.share.stale {
        0 => String::new(),
        some => format!(" ({some} of them since by code that was not seen)"),
    }
}

/// Whether text would show the same functions of both, at whatever lines.
fn same_functions(a: &Named, b: &Named) -> bool {
    let (a, b) = (shown(a), shown(b));
    !a.is_empty() && a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same_function(a, b))
}

/// Of the functions that were shown already: `all 5 last used there, too, in line 89`.
fn last_used_there(spot: &Spot<'_>, total: usize) -> String {
    let line = shown(spot.example).first().and_then(|frame| frame.line);
    let line = line.map_or_else(String::new, |line| format!(", in line {line}"));
    format!(
        "{}{line}{}",
        share(spot, "last used there, too", total),
        stale(spot)
    )
}

/// A stack, indented by two: shown frames, what was left out, and how far it may be believed.
fn stack(lines: &mut Vec<String>, named: &Named) {
    let Some(site) = named.site.as_deref() else {
        lines.push(format!(
            "  site {}: its functions can't be told any more",
            named.share.site
        ));
        return;
    };
    let frames = shown(named);
    let rows: Vec<(String, String)> = frames
        .iter()
        .take(SHOWN)
        .map(|frame| (function(frame), place(frame, PATH)))
        .collect();
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0)
        .min(40);
    for (name, place) in rows {
        lines.push(format!("  {name:<width$}  {place}").trim_end().to_owned());
    }
    let more = frames.len().saturating_sub(SHOWN);
    if more > 0 {
        lines.push(format!("  … {} more of the same kind", plural(more, "frame")));
    }
    if let Some(left_out) = left_out(site, &frames) {
        lines.push(format!("  {left_out}"));
    }
    let note = site.note.as_deref().map(escape);
    match (site.quality, note) {
        // Nothing is shown that it could be said of.
        (Quality::Approximate, _) if frames.is_empty() => {}
        (Quality::Exact, None) => {}
        (Quality::Exact, Some(note)) => lines.push(format!("  ({note})")),
        (quality, None) => lines.push(format!("  ({})", quality.name())),
        (quality, Some(note)) => lines.push(format!("  ({}: {note})", quality.name())),
    }
}

/// `… 9 frames in psycopg, libpq`; of machinery nobody wants to know.
fn left_out(site: &Site, shown: &[&Frame]) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    let mut count = 0;
    for frame in &site.frames {
        if shown.iter().any(|known| std::ptr::eq(*known, frame)) {
            continue;
        }
        if let Origin::Library(name) = Origin::of(frame) {
            count += 1;
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let nameless = site.frames.iter().filter(|frame| is_nameless(frame)).count();
    if count == 0 {
        // Nothing but machinery: say so, rather than show an empty stack.
        return match (shown.is_empty(), nameless) {
            (_, 1..) => Some(format!("… {} without a name", plural(nameless, "frame"))),
            (true, 0) => Some(format!(
                "{}, none of the application's own",
                plural(site.frames.len(), "frame")
            )),
            (false, 0) => None,
        };
    }
    let others = names.len().saturating_sub(LIBRARIES);
    let mut text = names
        .iter()
        .take(LIBRARIES)
        .map(|name| clip(&escape(name), NAME))
        .collect::<Vec<_>>()
        .join(", ");
    if others > 0 {
        let _ = write!(text, " and {others} more");
    }
    if nameless > 0 {
        let _ = write!(text, ", and {nameless} without a name");
    }
    Some(format!("… {} in {text}", plural(count, "frame")))
}

/// A function as text names it, made harmless: `OrderDao.find`, or, without a name, `payments+0x1a2b`.
#[must_use]
pub fn function(frame: &Frame) -> String {
    if let Some(name) = &frame.function {
        return clip(&escape(name), NAME);
    }
    let module = frame
        .module
        .as_deref()
        .map_or("?", |module| module.rsplit('/').next().unwrap_or(module));
    let module = clip(&escape(module), NAME);
    frame
        .offset
        .map_or_else(|| module.clone(), |offset| format!("{module}+{offset:#x}"))
}

/// `/srv/payments/dao.py:88`, or the module where no source is known; the end of it when it is long.
fn place(frame: &Frame, longest: usize) -> String {
    let Some(path) = frame.file.as_deref().or(frame.module.as_deref()) else {
        return String::new();
    };
    let path = escape(path);
    let length = path.chars().count();
    let path = if length > longest {
        let end: String = path.chars().skip(length - longest + 1).collect();
        // From a folder's name on, if there is one in what is left.
        let end = end.find('/').map_or(end.as_str(), |slash| &end[slash..]);
        format!("…{end}")
    } else {
        path.into_owned()
    };
    match frame.line {
        Some(line) if frame.file.is_some() => format!("{path}:{line}"),
        _ => path,
    }
}

/// `OrderDao.find (OrderDao.java:88)`
fn label(frame: &Frame) -> String {
    let short = Frame {
        file: frame
            .file
            .as_deref()
            .map(|file| file.rsplit('/').next().unwrap_or(file).to_owned()),
        module: None,
        ..frame.clone()
    };
    let place = place(&short, PATH);
    if place.is_empty() {
        function(frame)
    } else {
        format!("{} ({place})", function(frame))
    }
}

fn clip(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest - 1).chain(['…']).collect()
}
