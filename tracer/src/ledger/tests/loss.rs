//! After lost events a snapshot heals the books, and says what it could not see.

use super::*;

#[test]
fn a_lost_close_is_found_out_and_called_unseen() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    books.feed([lost(250, 4)]);
    assert!(books.ledger.unsettled());
    books.snapshot(300, 310, []);
    assert_eq!(books.closed, [(Cookie(1), Cause::Unseen)]);
    assert!(!books.ledger.unsettled());
    assert_eq!(books.ledger.totals().events_lost(), 4);
}

#[test]
fn without_loss_an_unheld_socket_is_in_flight_and_stays() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    books.snapshot(200, 210, [row(205, 1, 7, 3)]);
    books.snapshot(300, 310, []);
    assert_eq!(books.state(1), Some(State::Established));
    assert_eq!(books.holders(1), []);
    books.snapshot(400, 410, [row(405, 1, 8, 5)]);
    assert_eq!(books.groups(), [(8, 1)]);
    assert_eq!(books.totals(), (1, 0, 0, 0));
}

#[test]
fn a_lost_connect_is_found() {
    let mut books = Books::attached();
    books.feed([lost(150, 2)]);
    books.snapshot(200, 210, [row(205, 1, 7, 3)]);
    assert_eq!(books.totals(), (1, 0, 0, 0));
    assert_eq!(books.groups(), [(7, 1)]);
    books.feed(closed(300, 1));
    assert_eq!(books.totals(), (1, 1, 0, 0));
}

#[test]
fn a_lost_refusal_does_not_leave_a_connect_open() {
    let mut books = Books::attached();
    books.feed([connect(100, 1, 7), lost(150, 1)]);
    let refused = Observation {
        state: State::Closed,
        traffic: Traffic::default(),
        ..row(205, 1, 7, 3)
    };
    books.snapshot(200, 210, [refused]);
    assert_eq!(books.get(1), None);
    assert_eq!(books.totals(), (0, 0, 1, 0));
}

#[test]
fn a_socket_whose_next_connect_failed_unseen_is_not_its_former_connection() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    // Dissolved, connected anew, refused: all of it lost.
    books.feed([lost(150, 3)]);
    let refused = Observation {
        state: State::Closed,
        traffic: Traffic::default(),
        ..row(205, 1, 7, 3)
    };
    books.snapshot(200, 210, [refused]);
    assert_eq!(books.get(1), None);
    assert_eq!(books.totals(), (1, 1, 0, 0));
}

#[test]
fn a_lost_handshake_does_not_turn_a_close_into_a_failure() {
    let mut books = Books::attached();
    books.feed([connect(100, 1, 7), lost(150, 1)]);
    books.feed(closed(200, 1));
    assert_eq!(books.totals(), (1, 1, 0, 0));
    assert_eq!(books.closed, [(Cookie(1), Cause::Local)]);
}

#[test]
fn a_loss_noticed_after_the_walk_began_is_not_settled_by_it() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    // The row is read, the socket is closed, the event is lost; then the snapshot is merged.
    books.feed([lost(208, 1)]);
    books.snapshot(200, 207, [row(205, 1, 7, 3)]);
    assert!(books.ledger.unsettled());
    books.snapshot(300, 310, []);
    assert_eq!(books.get(1), None);
    assert!(!books.ledger.unsettled());
}

#[test]
fn a_close_that_cannot_reach_the_server_is_not_open_for_minutes() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    books.snapshot(200, 210, [row(205, 1, 7, 3)]);
    let [first, _, _, last] = closed(300, 1);
    books.feed([first]);
    for began in [400, 500, 600] {
        // A walk may miss a descriptor that changes hands, so one or two of them prove nothing.
        assert_eq!(books.closed, []);
        books.snapshot(began, began + 10, []);
    }
    assert_eq!(books.closed, [(Cookie(1), Cause::Local)]);
    books.feed([last]);
    assert_eq!(books.totals(), (1, 1, 0, 0));
}

#[test]
fn unix_sockets_come_and_go_by_snapshot() {
    let mut books = Books::default();
    books.snapshot(100, 110, [unix_row(105, 1, 7, 3)]);
    books.snapshot(200, 210, [unix_row(205, 1, 7, 3), unix_row(206, 2, 7, 4)]);
    assert_eq!(books.totals(), (1, 0, 0, 1));
    let ended = Observation {
        state: State::PeerClosed,
        ..unix_row(306, 2, 7, 4)
    };
    books.snapshot(300, 310, [ended]);
    books.snapshot(400, 410, []);
    assert_eq!(books.totals(), (1, 2, 0, 1));
    assert_eq!(
        books.closed,
        [(Cookie(1), Cause::Unseen), (Cookie(2), Cause::Peer)]
    );
}

#[test]
fn a_unix_socket_whose_first_data_is_told_again_is_not_opened_again() {
    let mut books = Books::attached();
    let told = |at| {
        let Event::Connect(connect) = connect(at, 1, 7) else {
            unreachable!("made so")
        };
        let server = unix_server();
        let first = Change {
            client: None,
            ..turn(at, 1, State::Connecting, State::Established)
        };
        [
            Event::Connect(Connect { server, ..connect }),
            Event::Change(first),
        ]
    };
    books.feed(told(100));
    books.snapshot(200, 210, [unix_row(205, 1, 7, 3)]);
    books.feed(told(300));
    assert_eq!(books.totals(), (1, 0, 0, 0));
    assert_eq!(books.get(1).and_then(Connection::opened_at), Some(100 * MS));
}

#[test]
fn a_million_short_connections_leave_nothing_behind() {
    let mut books = Books::attached();
    for index in 0..1_000_000u64 {
        let (at, pid) = (index, u32::try_from(index % 100).unwrap_or_default());
        for event in opened(at, index, pid).into_iter().chain(closed(at + 2, index)) {
            books.ledger.apply(&event, |_| {});
        }
        if index % 1000 == 0 {
            books.snapshot(at + 10, at + 11, []);
            assert!(books.ledger.early.len() <= 1);
        }
    }
    books.snapshot(2_000_000, 2_000_001, []);
    assert_eq!(books.ledger.connections().count(), 0);
    assert_eq!(books.ledger.early.len(), 0);
    assert_eq!(books.ledger.groups().count(), 0);
    assert_eq!(books.totals(), (1_000_000, 1_000_000, 0, 0));
}

#[test]
fn a_full_ledger_counts_what_it_leaves_out_and_takes_it_in_when_there_is_room() {
    let mut books = Books {
        ledger: crate::ledger::Ledger::bounded(2),
        ..Books::default()
    };
    books.snapshot(0, 1, []);
    for cookie in 1..=3 {
        books.feed(opened(10 * cookie, cookie, 7));
    }
    assert_eq!(books.ledger.connections().count(), 2);
    assert_eq!(books.ledger.totals().untracked, 1);
    assert_eq!(books.opened.len(), 2);
    assert!(books.ledger.lost_at().is_some(), "counts are no longer exact");

    // One ends; the next walk finds the one that was left out.
    books.feed(closed(100, 1));
    books.snapshot(2000, 2001, [row(2000, 2, 7, 5), row(2000, 3, 7, 6)]);
    assert_eq!(books.state(3), Some(State::Established));
    assert_eq!(books.opened.len(), 3);
}
