//! What happens to a socket, and what the kernel tells of it.

use super::*;

impl World {
    pub(super) fn connect(&mut self, slot: u8, unix: bool) {
        let Some(process) = self.process(slot) else { return };
        self.serial += 1;
        let cookie = u64::from(self.serial);
        self.sockets.insert(
            cookie,
            Socket {
                unix,
                phase: if unix { Phase::Established } else { Phase::Idle },
                in_flight: 0,
                both_shut: false,
                lives: Vec::new(),
                lingering: VecDeque::new(),
            },
        );
        self.open(process, cookie);
        if !unix {
            self.begin_life(process, cookie);
        } else if slot > 127 && self.walked() {
            // It carries data at once. Before the first walk that tells nothing: it may have been there.
            let at = self.tick();
            let Event::Connect(blank) = super::connect(0, cookie, 0) else {
                unreachable!("made so")
            };
            let server = unix_server();
            self.emit(Event::Connect(Connect {
                at,
                process,
                server,
                ..blank
            }));
            let mut opened = turn(0, cookie, State::Connecting, State::Established);
            (opened.at, opened.client) = (at, None);
            self.emit(Event::Change(opened));
        }
    }

    fn begin_life(&mut self, process: ProcessId, cookie: u64) {
        let seen = self.attached;
        let socket = self.socket(cookie);
        socket.phase = Phase::Connecting;
        socket.both_shut = false;
        socket.lives.push(Life {
            seen,
            established: false,
            over: false,
            cause: None,
        });
        let at = self.tick();
        let Event::Connect(blank) = super::connect(0, cookie, 0) else {
            unreachable!("made so")
        };
        self.emit(Event::Connect(Connect { at, process, ..blank }));
    }

    pub(super) fn reconnect(&mut self, socket: u8) {
        if let Some(cookie) = self.held(socket, &[Phase::Idle, Phase::Refused]) {
            let process = self.holders(cookie)[0].process;
            self.begin_life(process, cookie);
        }
    }

    pub(super) fn establish(&mut self, socket: u8) {
        if let Some(cookie) = self.held(socket, &[Phase::Connecting]) {
            self.turn(cookie, State::Connecting, State::Established, |_| {});
            self.socket(cookie).phase = Phase::Established;
            self.life(cookie).established = true;
        }
    }

    pub(super) fn refuse(&mut self, socket: u8, collected: bool) {
        if let Some(cookie) = self.held(socket, &[Phase::Connecting]) {
            self.turn(cookie, State::Connecting, State::Closed, |change| {
                change.error = libc::ECONNREFUSED;
            });
            self.socket(cookie).phase = if collected { Phase::Idle } else { Phase::Refused };
            self.life(cookie).over = true;
        }
    }

    fn blame(&mut self, cookie: u64, cause: Cause) {
        let life = self.life(cookie);
        life.cause = life.cause.or(Some(cause));
    }

    pub(super) fn shutdown(&mut self, socket: u8, both: bool) {
        let Some(cookie) = self.tcp(socket, &[Phase::Established, Phase::ServerClosed]) else {
            return;
        };
        if self.sockets[&cookie].in_flight > 0 {
            return;
        }
        let from = self.state(cookie);
        self.turn(cookie, from, State::Closing, |change| {
            change.shut = both;
        });
        if from == State::Established {
            self.blame(cookie, Cause::Local);
            self.turn(cookie, State::Closing, State::Closing, |change| {
                change.shut = both;
            });
        }
        let socket = self.socket(cookie);
        socket.phase = Phase::Shut;
        socket.both_shut = both;
    }

    pub(super) fn server_closes(&mut self, socket: u8) {
        let open = [Phase::Established, Phase::Shut];
        let Some(cookie) = self.held(socket, &open) else {
            return;
        };
        if self.sockets[&cookie].unix {
            self.socket(cookie).phase = Phase::ServerClosed;
        } else if self.sockets[&cookie].phase == Phase::Established {
            self.turn(cookie, State::Established, State::PeerClosed, |_| {});
            self.blame(cookie, Cause::Peer);
            self.socket(cookie).phase = Phase::ServerClosed;
        } else {
            self.turn(cookie, State::Closing, State::Closed, |change| change.shut = true);
            self.socket(cookie).phase = Phase::Ended;
        }
    }

    pub(super) fn reset(&mut self, socket: u8) {
        let open = [Phase::Established, Phase::ServerClosed, Phase::Shut];
        if let Some(cookie) = self.tcp(socket, &open)
            && self.sockets[&cookie].in_flight == 0
        {
            let (from, shut) = (self.state(cookie), self.sockets[&cookie].both_shut);
            self.turn(cookie, from, State::Closed, |change| {
                change.error = libc::ECONNRESET;
                change.shut = shut;
            });
            self.blame(cookie, Cause::Reset);
            self.socket(cookie).phase = Phase::Ended;
        }
    }

    /// `connect(AF_UNSPEC)`: the descriptor stays, the connection does not.
    pub(super) fn disconnect(&mut self, socket: u8) {
        let open = [Phase::Established, Phase::ServerClosed, Phase::Shut, Phase::Ended];
        let Some(cookie) = self.tcp(socket, &open) else {
            return;
        };
        let from = self.state(cookie);
        if from != State::Closed {
            self.turn(cookie, from, State::Closed, |_| {});
        }
        self.blame(cookie, Cause::Local);
        self.life(cookie).over = true;
        self.socket(cookie).phase = Phase::Idle;
    }

    pub(super) fn close(&mut self, holder: Holder, unread: bool) {
        let Some(cookie) = self.descriptors.remove(&holder) else {
            return;
        };
        if self.sockets[&cookie].in_flight > 0 || !self.holders(cookie).is_empty() {
            return;
        }
        if self.sockets[&cookie].unix {
            self.sockets.remove(&cookie);
            return;
        }
        let phase = self.sockets[&cookie].phase;
        match phase {
            Phase::Idle => {}
            Phase::Refused | Phase::Ended => self.destroy(cookie),
            Phase::Connecting => self.close_at_once(cookie),
            Phase::Established | Phase::ServerClosed if unread => self.close_at_once(cookie),
            Phase::Established | Phase::ServerClosed | Phase::Shut => {
                let from = self.state(cookie);
                self.turn(cookie, from, State::Closing, |change| change.shut = true);
                let mut steps = VecDeque::new();
                if phase == Phase::Established {
                    steps.push_back(turn(0, cookie, State::Closing, State::Closing));
                }
                steps.push_back(turn(0, cookie, State::Closing, State::Closed));
                steps.push_back(turn(0, cookie, State::Closed, State::Closed));
                self.socket(cookie).lingering = steps;
            }
        }
        if phase != Phase::Idle && phase != Phase::Refused {
            self.blame(cookie, Cause::Local);
            self.life(cookie).over = true;
        }
        self.socket(cookie).phase = Phase::Idle;
    }

    /// With data unread, or before the handshake.
    fn close_at_once(&mut self, cookie: u64) {
        let from = self.state(cookie);
        self.turn(cookie, from, State::Closed, |change| change.shut = true);
        self.destroy(cookie);
    }

    fn destroy(&mut self, cookie: u64) {
        self.turn(cookie, State::Closed, State::Closed, |change| {
            change.shut = true;
            change.released = true;
        });
    }

    pub(super) fn linger(&mut self) {
        let waiting = self
            .sockets
            .values_mut()
            .find(|socket| !socket.lingering.is_empty());
        if let Some(mut change) = waiting.and_then(|socket| socket.lingering.pop_front()) {
            change.at = self.tick();
            change.shut = true;
            change.released = true;
            self.emit(Event::Change(change));
        }
    }

    fn state(&self, cookie: u64) -> State {
        self.sockets[&cookie].phase.state().unwrap_or(State::Closed)
    }

    fn tcp(&self, index: u8, phases: &[Phase]) -> Option<u64> {
        self.held(index, phases)
            .filter(|cookie| !self.sockets[cookie].unix)
    }
}
