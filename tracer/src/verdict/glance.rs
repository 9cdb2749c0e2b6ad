//! Claims, from sockets that were opened before we looked: these look like a leak.
//!
//! Evidence: many sockets, each silent since a moment of its own (*staggered*), the moments in the order of
//! opening (descriptors, inode numbers, ports), each having carried little. Opened one after another, used once,
//! never again. If all the silent ones show no such order, the most that have sent about as much are looked at by
//! themselves: what leaks has been used by the same code, and a pool beside it has carried more, or nothing. Or they fell
//! silent in generations, each opened after all of the one before: a pool that is made anew while the old one is kept. Then
//! it does not matter how much each has carried, as soon as a generation that was opened in view is left alone as well.
//!
//! A pool looks different: silent since the same moment (a burst that ended), or in another order than they
//! were opened in, or with much traffic on each, or one of them is used again. That is no proof: single connections, or
//! workers', that came up one by one and rest look the same. So what counts is whether it goes on: another one is opened
//! while these rest, and left alone as well. Without that it takes more of them than a pool has, and slower than a pool
//! is filled.
//!
//! In a watch, sockets that have been used more or less often each, by a process that has opened nothing since
//! attach for `--idle`, are claimed as `unreturned`: connections that were lent out before and did not come
//! back the last time. A leak that has stopped and whose requests differ much looks the same.
//!
//! Blind: a dozen workers or tenants that come up one by one as we look; sixteen that have done so before, slowly. So
//! this rule never says more than `likely`.

mod opened;
mod order;
mod signs;

use std::time::Duration;

use order::{Pattern, pattern};
use signs::Signs;

use super::{Confidence, Kind, Policy, finding::Claim, view::View};
use crate::event::Nanos;

pub(super) fn claim<'a>(view: &View<'a>, policy: &Policy) -> Option<Claim<'a>> {
    let attached_at = view.ledger.attached_at()?;
    if !policy.single_look
        && view.now.saturating_sub(attached_at) < (policy.rules.patience / 2).min(policy.soon())
    {
        return None;
    }
    judge(view, policy, attached_at, pattern(view, policy, attached_at)?)
}

/// What is said of them.
fn judge<'a>(
    view: &View<'a>,
    policy: &Policy,
    attached_at: Nanos,
    pattern: Pattern<'a>,
) -> Option<Claim<'a>> {
    let rules = &policy.rules;
    let signs = Signs::of(view, policy, attached_at, &pattern)?;
    let sockets = pattern.sockets;
    let count = sockets.len();
    let (distinct, waiting) = (signs.distinct, signs.waiting);
    let mut but = vec!["they were opened before connleak looked".to_owned()];
    if signs.are_used(policy) {
        but.push("others of this process's connections are being used again, as a pool does".to_owned());
    }
    if !signs.used_once && !signs.are_abandoned(policy) {
        but.push("each has carried much, as pooled connections do".to_owned());
    }
    if signs.outlasted {
        but.push(
            "those that fell silent later have carried more, as connections do that were opened together"
                .to_owned(),
        );
    }
    if signs.next_in_line {
        but.push("others were closed after they had been silent for about as long".to_owned());
    }
    if signs.has_stopped(policy) {
        but.push("none was added while connleak looked".to_owned());
    } else if !signs.recent && signs.added == 0 {
        but.push("none was added lately".to_owned());
    }
    if waiting > 0 {
        but.push(format!("{waiting} of them may wait for an answer"));
    }
    let enough = signs.are_enough(policy, count);
    if !enough {
        but.push("they are few, or came up as fast as a pool is filled".to_owned());
    }
    let kind = if policy.single_look || !signs.differ || view.group.opens_after(attached_at) > 0 {
        Kind::Leak
    } else if signs.looked >= policy.idle {
        but.push("whether anybody waits for them cannot be seen at the socket".to_owned());
        Kind::Unreturned
    } else {
        return None;
    };
    let patient = policy.single_look || signs.looked >= rules.patience.min(policy.soon().saturating_mul(2));
    if !patient {
        but.push("connleak has only just begun to look".to_owned());
    }
    let mut because = vec![if signs.in_generations {
        format!("they fell silent in {distinct} generations, each opened after the one before")
    } else {
        format!("silent since {distinct} different moments, in the order in which they were opened")
    }];
    if signs.added > 0 {
        because.push(format!(
            "{} more opened and left alone while connleak looked",
            signs.added
        ));
    }
    if let (Some(rest), true) = (signs.came_back, signs.added > 0 && !signs.are_used(policy)) {
        because.push(format!(
            "{} of them have been silent for longer than any that was used again had rested: {:.1} s",
            signs.outlast,
            Duration::from_nanos(rest).as_secs_f64()
        ));
    }
    let likely = patient && enough && signs.are_clean(policy) && waiting * 2 < count;
    Some(Claim {
        kind,
        confidence: if likely {
            Confidence::Likely
        } else {
            Confidence::Suspect
        },
        sockets,
        because,
        but,
        kept_alive: None,
    })
}

/// How long after attach a single look knows more about what it suspects: by then the next one should have been
/// opened, if they go on coming up. `None` when there is no such question.
pub(super) fn decided_after(view: &View, policy: &Policy) -> Option<Nanos> {
    let attached_at = view.ledger.attached_at()?;
    let pattern = pattern(view, policy, attached_at)?;
    let signs = Signs::of(view, policy, attached_at, &pattern)?;
    let next = Signs { added: 1, ..signs };
    let open = signs.added == 0 && !signs.has_stopped(policy);
    let count = pattern.sockets.len();
    let would_tell =
        !signs.are_enough(policy, count) && next.are_enough(policy, count) && next.are_clean(policy);
    (open && would_tell).then(|| signs.due())
}
