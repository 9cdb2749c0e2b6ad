//! Between attach and the first snapshot's merge: nothing missed, nothing doubled, nothing brought back.

use super::*;

#[test]
fn opened_between_attach_and_snapshot_is_neither_missed_nor_doubled() {
    let mut books = Books::default();
    // The walk runs from 100 to 110; its row is read after the connect that is drained before it.
    books.feed(opened(90, 1, 7));
    books.snapshot(100, 110, [row(105, 1, 7, 3)]);
    assert_eq!(books.totals(), (1, 0, 0, 0));
    assert_eq!(books.opened.len(), 1);
    assert_eq!(
        books.get(1).and_then(|it| it.opener).map(|it| it.process),
        Some(process(7))
    );
    assert_eq!(books.holders(1), [holder(7, 3)]);
}

#[test]
fn opened_behind_the_walks_back_is_not_missed() {
    let mut books = Books::default();
    books.feed(opened(105, 1, 7));
    books.snapshot(100, 110, []);
    assert_eq!(books.state(1), Some(State::Established));
    books.snapshot(200, 210, [row(205, 1, 7, 3)]);
    assert_eq!(books.totals(), (1, 0, 0, 0));
}

#[test]
fn closed_between_attach_and_snapshot_does_not_come_back() {
    let mut books = Books::default();
    // Opened before attach; the row is read before the close, and merged after it.
    books.feed(closed(120, 1));
    books.snapshot(100, 130, [row(105, 1, 7, 3)]);
    assert_eq!(books.get(1), None);
    assert_eq!(books.totals(), (0, 0, 0, 0));
}

#[test]
fn opened_and_closed_before_the_merge_does_not_come_back() {
    let mut books = Books::default();
    books.feed(opened(90, 1, 7));
    books.feed(closed(120, 1));
    books.snapshot(100, 130, [row(105, 1, 7, 3)]);
    assert_eq!(books.get(1), None);
    assert_eq!(books.totals(), (1, 1, 0, 0));
}

#[test]
fn a_row_read_while_the_close_was_being_reported_does_not_come_back() {
    let mut books = Books::default();
    books.feed(opened(20, 1, 7));
    books.feed(closed(100, 1));
    // The kernel reports a change before it stores it: this row has the later time and the earlier state.
    books.snapshot(90, 130, [row(104, 1, 7, 3)]);
    assert_eq!(books.get(1), None);
    books.snapshot(200, 210, []);
    assert_eq!(books.totals(), (1, 1, 0, 0));
}

#[test]
fn the_server_closing_in_the_window_is_not_forgotten() {
    let mut books = Books::default();
    books.feed([change(108, 1, State::Established, State::PeerClosed)]);
    books.snapshot(100, 110, [row(105, 1, 7, 3)]);
    assert_eq!(books.state(1), Some(State::PeerClosed));
    assert_eq!(books.get(1).and_then(Connection::peer_closed_at), Some(108 * MS));
    books.feed(closed(300, 1));
    assert_eq!(books.closed, [(Cookie(1), Cause::Peer)]);
}

#[test]
fn a_handshake_that_ends_in_the_window_is_counted_once() {
    let mut books = Books::default();
    books.feed([change(108, 1, State::Connecting, State::Established)]);
    books.snapshot(
        100,
        110,
        [Observation {
            state: State::Connecting,
            ..row(105, 1, 7, 3)
        }],
    );
    assert_eq!(books.state(1), Some(State::Established));
    assert_eq!(books.totals(), (1, 0, 0, 0));
    books.snapshot(200, 210, [row(205, 1, 7, 3)]);
    assert_eq!(books.totals(), (1, 0, 0, 0));
}

#[test]
fn a_reset_in_the_window_leaves_the_descriptor_in_the_books() {
    let mut books = Books::default();
    books.feed([failing(108, 1, State::Established, libc::ECONNRESET)]);
    books.snapshot(100, 110, [row(105, 1, 7, 3)]);
    assert_eq!(books.state(1), Some(State::Closed));
    assert_eq!(books.holders(1), [holder(7, 3)]);
    books.feed([destroyed(300, 1)]);
    assert_eq!(books.closed, [(Cookie(1), Cause::Reset)]);
    assert_eq!(books.totals(), (0, 1, 0, 1));
}

#[test]
fn in_flight_at_attach_is_found_later_and_was_not_opened_in_view() {
    let mut books = Books::attached();
    books.snapshot(100, 110, [row(105, 1, 7, 3)]);
    assert_eq!(books.totals(), (0, 0, 0, 1));
    assert_eq!(books.get(1).and_then(Connection::opened_at), None);
}

#[test]
fn what_is_kept_for_the_snapshot_is_dropped_with_it() {
    let mut books = Books::default();
    for cookie in 0..100_000 {
        books.feed([destroyed(50 + cookie / 1000, cookie)]);
    }
    assert_eq!(books.ledger.early.len(), 100_000);
    books.snapshot(200, 210, []);
    assert_eq!(books.ledger.early.len(), 0);
}
