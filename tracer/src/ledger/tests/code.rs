//! Which code opened, used and closed what, in whatever order that is told.

use super::*;
use crate::{
    callsite::{Role, SiteId},
    event::Stack,
    ledger::{GroupKey, Tally},
};

fn stack(at: u64, cookie: u64, role: Role, site: u64) -> Event {
    Event::Stack(Stack {
        at: at * MS,
        cookie: Cookie(cookie),
        role,
        process: process(7),
        site: SiteId(site),
    })
}

fn opening(books: &Books, cookie: u64) -> Option<u64> {
    Some(books.get(cookie)?.opened_by()?.site.0)
}

fn last_use(books: &Books, cookie: u64) -> Option<u64> {
    Some(books.get(cookie)?.used_by()?.site.0)
}

/// Opened and closed by site, in the group of process 7.
fn tally(books: &Books, site: u64) -> (u64, u64) {
    let key = GroupKey {
        process: process(7),
        server: tcp_server(),
    };
    let group = books.ledger.group(&key).expect("a group");
    let tally = group.tallies().get(&SiteId(site));
    tally.map_or((0, 0), |&Tally { opened, closed }| (opened, closed))
}

#[test]
fn a_connection_keeps_the_site_of_its_opening_and_of_its_last_use() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    books.feed([
        stack(100, 1, Role::Opened, 10),
        stack(150, 1, Role::Used, 20),
        stack(170, 1, Role::Used, 21),
        stack(160, 1, Role::Used, 22),
    ]);
    assert_eq!((opening(&books, 1), last_use(&books, 1)), (Some(10), Some(21)));
    assert_eq!(
        books.get(1).and_then(Connection::used_by).map(|it| it.at),
        Some(170 * MS)
    );
}

#[test]
fn a_better_reading_of_the_same_moment_takes_the_place_of_the_first() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    books.feed([stack(100, 1, Role::Opened, 10), stack(100, 1, Role::Opened, 11)]);
    assert_eq!(opening(&books, 1), Some(11));
    assert_eq!((tally(&books, 10), tally(&books, 11)), ((0, 0), (1, 0)));
}

#[test]
fn a_use_of_which_no_stack_was_taken_makes_the_one_before_the_last_that_was_seen() {
    let unknown = SiteId::UNKNOWN.0;
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    books.feed([
        stack(100, 1, Role::Opened, unknown),
        stack(150, 1, Role::Used, 20),
        stack(160, 1, Role::Used, unknown),
    ]);
    assert_eq!((opening(&books, 1), last_use(&books, 1)), (None, Some(20)));
    assert!(books.get(1).is_some_and(Connection::used_unseen));
    books.feed([stack(170, 1, Role::Used, 21)]);
    assert!(!books.get(1).is_some_and(Connection::used_unseen));
    assert_eq!(tally(&books, unknown), (0, 0));
}

#[test]
fn a_use_that_is_told_before_the_first_snapshot_is_not_lost() {
    let mut books = Books::default();
    books.feed([stack(100, 1, Role::Used, 20)]);
    books.snapshot(90, 110, [row(95, 1, 7, 3)]);
    assert_eq!((opening(&books, 1), last_use(&books, 1)), (None, Some(20)));
}

#[test]
fn a_stack_of_a_socket_that_nobody_has_is_forgotten() {
    let mut books = Books::attached();
    books.feed([stack(100, 1, Role::Opened, 10)]);
    books.snapshot(101, 102, []);
    assert_eq!(books.ledger.waiting.len(), 0);
}

#[test]
fn a_site_that_closes_at_once_is_not_taken_for_one_that_never_closes() {
    let mut books = Books::attached();
    for cookie in 1..=10 {
        let at = cookie * 100;
        books.feed(opened(at, cookie, 7));
        if cookie > 2 {
            books.feed(closed(at + 5, cookie));
        }
        // The thread that unwinds is slower than the application.
        books.snapshot(at + 20, at + 30, [row(at + 25, 1, 7, 3), row(at + 25, 2, 7, 4)]);
        books.feed([stack(at, cookie, Role::Opened, 10)]);
    }
    assert_eq!(tally(&books, 10), (10, 8));
}

#[test]
fn a_late_stack_is_not_taken_for_that_of_the_sockets_next_life() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    books.feed(closed(200, 1));
    books.feed(opened(300, 1, 7));
    books.feed([stack(100, 1, Role::Opened, 10)]);
    assert_eq!(opening(&books, 1), None);
    books.feed([stack(300, 1, Role::Opened, 11)]);
    assert_eq!(opening(&books, 1), Some(11));
}

#[test]
fn a_connection_takes_its_site_along_to_the_process_that_holds_it_now() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 6));
    books.feed([stack(100, 1, Role::Opened, 10)]);
    books.snapshot(200, 210, [row(205, 1, 7, 3)]);
    assert_eq!(tally(&books, 10), (1, 0));
    books.feed(closed(300, 1));
    assert_eq!(tally(&books, 10), (1, 1));
}
