//! Leaked sockets as a flame graph's input: a line for each stack, outermost function first, and how many
//! sockets came from there.
//!
//! The format is Brendan Gregg's (<https://github.com/brendangregg/FlameGraph>): names joined by semicolons, a
//! space, a count. `flamegraph.pl` and `inferno-flamegraph` draw it.

use std::collections::BTreeMap;

use super::{code, escape::escape};
use crate::{
    callsite::{SiteId, Sites},
    owner::Process,
    verdict::{Finding, Kind},
};

/// The lines of one finding: for each socket the stack that opened it, or that used it last where that was not
/// seen (or, of what is missing from a pool, the other way round).
#[must_use]
pub fn lines(finding: &Finding, process: &Process, sites: &mut Sites) -> Vec<String> {
    let mut counts: BTreeMap<Option<SiteId>, usize> = BTreeMap::new();
    for evidence in &finding.sockets {
        let opening = evidence.connection.opened_by().map(|opening| opening.site);
        let last_use = evidence.connection.used_by().map(|last| last.site);
        let site = if finding.kind == Kind::Unreturned {
            last_use.or(opening)
        } else {
            opening.or(last_use)
        };
        *counts.entry(site).or_default() += 1;
    }
    let root = safe(&process.name);
    let lines = counts.into_iter().map(|(site, count)| {
        let stack = match site.and_then(|site| sites.describe(site)) {
            Some(site) => {
                let names = site.frames.iter().rev().map(|frame| safe(&code::function(frame)));
                names.collect::<Vec<_>>().join(";")
            }
            None => "[unknown]".to_owned(),
        };
        format!("{root};{stack} {count}")
    });
    lines.collect()
}

/// A name without what the format gives a meaning to.
fn safe(name: &str) -> String {
    let replaced = |c: char| match c {
        ';' => ':',
        c if c.is_whitespace() => '_',
        c => c,
    };
    escape(name).chars().map(replaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_not_break_the_format() {
        assert_eq!(safe("a;b c\td\x1b\n"), "a:b_c\\td\\x1b\\n");
    }
}
