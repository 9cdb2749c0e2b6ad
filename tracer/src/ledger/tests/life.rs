//! A connection's life as events tell it: what is a close, whose it was, and what is none.

use super::*;
use crate::ledger::WALKS_TO_BE_GONE;

#[test]
fn a_socket_that_connects_anew_begins_a_new_life() {
    let mut books = Books::attached();
    books.feed([
        connect(100, 1, 7),
        failing(150, 1, State::Connecting, libc::ECONNREFUSED),
    ]);
    assert_eq!(books.totals(), (0, 0, 1, 0));
    // The same socket, hence the same cookie; the row that was read in between is of its first life.
    books.feed(opened(200, 1, 7));
    books.snapshot(
        170,
        210,
        [Observation {
            state: State::Closed,
            ..row(180, 1, 7, 3)
        }],
    );
    assert_eq!(books.state(1), Some(State::Established));
    assert_eq!(books.get(1).and_then(Connection::opened_at), Some(200 * MS));
    assert_eq!(books.totals(), (1, 0, 1, 0));
}

#[test]
fn a_dissolved_connection_is_closed_before_its_socket_connects_anew() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    // connect(AF_UNSPEC): closed in one step, without an error and without a shutdown.
    books.feed([change(200, 1, State::Established, State::Closed)]);
    assert_eq!(books.closed, [(Cookie(1), Cause::Local)]);
    books.feed(opened(300, 1, 7));
    assert_eq!(books.totals(), (2, 1, 0, 0));
}

#[test]
fn a_new_life_ends_an_old_one_whose_end_was_lost() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    books.feed([lost(250, 1)]);
    books.feed(opened(300, 1, 7));
    assert_eq!(books.closed, [(Cookie(1), Cause::Unseen)]);
    assert_eq!(books.totals(), (2, 1, 0, 0));
    assert_eq!(books.groups(), [(7, 1)]);
}

#[test]
fn refused_and_timed_out_connects_are_failed_and_never_open() {
    let mut books = Books::attached();
    for (cookie, error) in [(1, libc::ECONNREFUSED), (2, libc::ETIMEDOUT), (3, 0)] {
        books.feed([
            connect(100, cookie, 7),
            failing(200, cookie, State::Connecting, error),
        ]);
        assert_eq!(books.get(cookie), None);
    }
    assert_eq!(books.totals(), (0, 0, 3, 0));
    assert!(books.opened.is_empty() && books.closed.is_empty());
    // The descriptor of a failed connect may be kept for long: still no connection.
    let kept = Observation {
        state: State::Closed,
        traffic: Traffic::default(),
        ..row(305, 1, 7, 3)
    };
    books.snapshot(300, 310, [kept]);
    assert_eq!(books.get(1), None);
}

#[test]
fn a_connect_given_up_by_closing_the_descriptor_is_failed() {
    let mut books = Books::attached();
    books.feed([connect(100, 1, 7)]);
    books.feed([Event::Change(Change {
        shut: true,
        ..turn(200, 1, State::Connecting, State::Closed)
    })]);
    books.feed([destroyed(201, 1)]);
    assert_eq!(books.totals(), (0, 0, 1, 0));
}

#[test]
fn a_connect_that_hangs_unheld_is_not_given_up() {
    let mut books = Books::attached();
    // A direct descriptor of io_uring is in no process's table.
    books.feed([connect(100, 1, 7)]);
    books.snapshot(200, 210, []);
    books.feed([change(300, 1, State::Connecting, State::Established)]);
    assert_eq!(books.totals(), (1, 0, 0, 0));
    assert_eq!(books.groups(), [(7, 1)]);
}

#[test]
fn one_of_several_descriptors_closed_is_not_the_sockets_close() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    books.snapshot(
        200,
        210,
        [row(205, 1, 7, 3), row(205, 1, 7, 4), row(206, 1, 8, 3)],
    );
    assert_eq!(books.holders(1), [holder(7, 3), holder(7, 4), holder(8, 3)]);
    // dup closed, then the child's copy: no event, fewer holders.
    books.snapshot(300, 310, [row(305, 1, 7, 4)]);
    assert_eq!(books.holders(1), [holder(7, 4)]);
    assert_eq!(books.totals(), (1, 0, 0, 0));
    books.feed(closed(400, 1));
    assert_eq!(books.closed, [(Cookie(1), Cause::Local)]);
}

#[test]
fn a_child_that_outlives_the_opener_keeps_the_connection_and_its_history() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    books.snapshot(200, 210, [row(205, 1, 7, 3), row(206, 1, 8, 3)]);
    assert_eq!(books.groups(), [(7, 1)]);
    books.snapshot(300, 310, [row(306, 1, 8, 3)]);
    assert_eq!(books.groups(), [(8, 1)]);
    let history = |pid| {
        books
            .ledger
            .groups()
            .find(|(key, ..)| key.process.pid == pid)
            .map(|(_, group, _)| (group.opened_total(), group.opens_after(0)))
    };
    assert_eq!(history(8), Some((1, 1)));
    assert!(matches!(history(7), None | Some((0, 0))));
    books.feed(closed(400, 1));
    assert_eq!(books.totals(), (1, 1, 0, 0));
}

#[test]
fn a_half_close_is_not_a_close() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    // shutdown(SHUT_WR), then the server's close: the connection is over, the descriptor is not.
    books.feed([
        change(200, 1, State::Established, State::Closing),
        change(201, 1, State::Closing, State::Closing),
    ]);
    let half = Observation {
        state: State::Closing,
        ..row(305, 1, 7, 3)
    };
    books.snapshot(300, 310, [half]);
    assert_eq!(books.state(1), Some(State::Closing));
    books.feed([Event::Change(Change {
        shut: true,
        ..turn(400, 1, State::Closing, State::Closed)
    })]);
    assert_eq!(books.state(1), Some(State::Closed));
    assert_eq!(books.holders(1), [holder(7, 3)]);
    assert_eq!(books.totals(), (1, 0, 0, 0));
    books.feed([destroyed(500, 1)]);
    assert_eq!(books.closed, [(Cookie(1), Cause::Local)]);
}

/// The client's FIN is not acknowledged yet, so the kernel does not tell the end; the descriptor is closed.
#[test]
fn a_close_whose_end_is_not_told_is_undecided_until_enough_walks_have_missed_it() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    books.snapshot(150, 160, [row(155, 1, 7, 3)]);
    books.feed([change(200, 1, State::Established, State::Closing)]);
    assert!(!books.ledger.undecided(), "no walk has missed it");
    for walk in 1..u64::from(WALKS_TO_BE_GONE) {
        books.snapshot(300 * walk, 300 * walk + 10, []);
        assert!(books.ledger.undecided(), "walk {walk}");
    }
    books.snapshot(2000, 2010, []);
    assert!(!books.ledger.undecided());
    assert_eq!(books.closed, [(Cookie(1), Cause::Local)]);
}

#[test]
fn a_full_shutdown_with_the_descriptor_kept_is_not_a_close() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    // shutdown(SHUT_RDWR) looks like a close, but the socket is never orphaned.
    let shut = |change| Event::Change(Change { shut: true, ..change });
    books.feed([
        shut(turn(200, 1, State::Established, State::Closing)),
        shut(turn(201, 1, State::Closing, State::Closing)),
        shut(turn(202, 1, State::Closing, State::Closed)),
    ]);
    let ended = Observation {
        state: State::Closed,
        ..row(305, 1, 7, 3)
    };
    books.snapshot(300, 310, [ended]);
    assert_eq!(books.state(1), Some(State::Closed));
    assert_eq!(books.totals(), (1, 0, 0, 0));
    books.feed([destroyed(500, 1)]);
    assert_eq!(books.totals(), (1, 1, 0, 0));
}

#[test]
fn the_side_that_ended_it_first_is_the_cause() {
    let mut books = Books::attached();
    for cookie in 1..=5 {
        books.feed(opened(100, cookie, 7));
    }
    // 1: this side. 2: the server, then this side. 3: a reset.
    books.feed(closed(200, 1));
    books.feed([change(200, 2, State::Established, State::PeerClosed)]);
    books.feed([
        Event::Change(Change {
            shut: true,
            ..turn(300, 2, State::PeerClosed, State::Closing)
        }),
        Event::Change(Change {
            shut: true,
            released: true,
            ..turn(301, 2, State::Closing, State::Closed)
        }),
    ]);
    books.feed([
        failing(200, 3, State::Established, libc::ECONNRESET),
        destroyed(300, 3),
    ]);
    // 4: this side closes, and the server, still sending, answers with a reset.
    books.feed([
        Event::Change(Change {
            shut: true,
            ..turn(200, 4, State::Established, State::Closing)
        }),
        Event::Change(Change {
            shut: true,
            released: true,
            error: libc::ECONNRESET,
            ..turn(201, 4, State::Closing, State::Closed)
        }),
    ]);
    // 5: the server closes, and answers a late request with a reset.
    books.feed([
        change(200, 5, State::Established, State::PeerClosed),
        failing(300, 5, State::PeerClosed, libc::EPIPE),
        destroyed(400, 5),
    ]);
    let mut causes = books.closed.clone();
    causes.sort_by_key(|(cookie, _)| *cookie);
    let causes: Vec<Cause> = causes.into_iter().map(|(_, cause)| cause).collect();
    assert_eq!(
        causes,
        [Cause::Local, Cause::Peer, Cause::Reset, Cause::Local, Cause::Peer]
    );
}

#[test]
fn a_close_with_data_unread_is_local_though_it_sends_a_reset() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    books.feed([Event::Change(Change {
        shut: true,
        ..turn(200, 1, State::Established, State::Closed)
    })]);
    books.feed([destroyed(201, 1)]);
    assert_eq!(books.closed, [(Cookie(1), Cause::Local)]);
    assert_eq!(books.totals(), (1, 1, 0, 0));
}

#[test]
fn a_stale_row_does_not_undo_what_events_have_told() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    books.feed([change(208, 1, State::Established, State::PeerClosed)]);
    books.snapshot(200, 210, [row(205, 1, 7, 3)]);
    assert_eq!(books.state(1), Some(State::PeerClosed));
}

#[test]
fn a_reused_pid_is_another_process() {
    let mut books = Books::attached();
    books.feed(opened(100, 1, 7));
    let Event::Connect(reused) = connect(200, 2, 7) else {
        unreachable!("made so")
    };
    books.feed([Event::Connect(Connect {
        process: ProcessId {
            pid: 7,
            start_ticks: 99,
        },
        ..reused
    })]);
    assert_eq!(books.groups(), [(7, 1), (7, 1)]);
}

#[test]
fn the_same_four_tuple_in_two_namespaces_is_two_connections() {
    let mut books = Books::attached();
    let inside = Observation {
        netns: 2,
        client: Some(client(1)),
        ..row(106, 2, 8, 3)
    };
    books.snapshot(100, 110, [row(105, 1, 7, 3), inside]);
    books.feed(closed(200, 1));
    assert_eq!((books.state(1), books.state(2)), (None, Some(State::Established)));
}
