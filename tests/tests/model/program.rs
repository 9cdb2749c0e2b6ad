//! Random programs. What comes next depends on the generator and on what is there, so the seed gives the whole program.

use anyhow::Result;

use crate::{
    truth::{Kind, Socket, Wire},
    world::{Handle, World},
};

/// Processes at most, at once.
const ACTORS: usize = 6;
/// Descriptors at most, in all processes of a program.
const HANDLES: usize = 60;

#[derive(Clone, Copy)]
enum Step {
    Start,
    Connect,
    Refused,
    Pending,
    Reconnect,
    Disconnect,
    Send,
    Receive,
    Dup,
    Dup2,
    Cloexec,
    Linger,
    Shutdown,
    Fork,
    Exec,
    LeaderExit,
    Pass,
    Give,
    Take,
    DropFlight,
    GetFd,
    Close,
    CloseRange,
    Exit,
    Kill,
    ServerSend,
    ServerClose,
    ServerShutdown,
    ServerReset,
}

const WEIGHTS: [(usize, Step); 29] = [
    (4, Step::Start),
    (40, Step::Connect),
    (6, Step::Refused),
    (3, Step::Pending),
    (5, Step::Reconnect),
    (2, Step::Disconnect),
    (18, Step::Send),
    (7, Step::Receive),
    (8, Step::Dup),
    (6, Step::Dup2),
    (4, Step::Cloexec),
    (4, Step::Linger),
    (9, Step::Shutdown),
    (5, Step::Fork),
    (3, Step::Exec),
    (1, Step::LeaderExit),
    (7, Step::Pass),
    (3, Step::Give),
    (4, Step::Take),
    (1, Step::DropFlight),
    (5, Step::GetFd),
    (30, Step::Close),
    (4, Step::CloseRange),
    (2, Step::Exit),
    (2, Step::Kill),
    (12, Step::ServerSend),
    (9, Step::ServerClose),
    (3, Step::ServerShutdown),
    (5, Step::ServerReset),
];

impl World {
    /// Runs the program until it has done `operations` steps on sockets.
    pub fn run(&mut self, operations: usize) -> Result<()> {
        self.start_actor()?;
        self.start_actor()?;
        while self.operations < operations {
            let step = self.random.weighted(&WEIGHTS);
            self.operations += self.step(step)?;
        }
        Ok(())
    }

    /// Does a step, if there is something to do it with. Returns how many operations on sockets that was.
    fn step(&mut self, step: Step) -> Result<usize> {
        if self.actors.is_empty() {
            self.start_actor()?;
        }
        let room = self.handles(|_| true).len() < HANDLES;
        match step {
            Step::Start | Step::LeaderExit | Step::Fork | Step::Exec | Step::Exit | Step::Kill => {
                self.step_of_a_process(step, room)
            }
            Step::Connect if room => {
                let kinds = [(5, Kind::V4), (3, Kind::V6), (2, Kind::Mapped), (2, Kind::Unix)];
                let kind = self.random.weighted(&kinds);
                let actor = self.actor();
                let mode = self.mode();
                self.connect((actor, None), mode, kind, self.servers.open)?;
                Ok(1)
            }
            Step::Refused if room => {
                let kind = self.random.pick(&[Kind::V4, Kind::V6, Kind::Mapped]);
                let actor = self.actor();
                let mode = self.mode();
                self.connect(
                    (actor, None),
                    mode,
                    kind.unwrap_or(Kind::V4),
                    self.servers.refusing,
                )?;
                Ok(1)
            }
            Step::Pending if room => {
                let kind = self.random.pick(&[Kind::V4, Kind::Mapped]);
                let actor = self.actor();
                self.connect(
                    (actor, None),
                    "start",
                    kind.unwrap_or(Kind::V4),
                    self.servers.silent,
                )?;
                Ok(1)
            }
            Step::Take => {
                if self.flights() == 0 {
                    return Ok(0);
                }
                let flight = self.random.below(self.flights());
                let actor = self.actor();
                self.take(flight, actor)?;
                Ok(1)
            }
            Step::DropFlight => {
                if self.flights() == 0 {
                    return Ok(0);
                }
                let flight = self.random.below(self.flights());
                self.drop_flight(flight)?;
                Ok(1)
            }
            Step::ServerSend | Step::ServerClose | Step::ServerShutdown | Step::ServerReset => {
                self.step_of_a_server(step)
            }
            _ => self.step_of_a_descriptor(step, room),
        }
    }

    fn step_of_a_process(&mut self, step: Step, room: bool) -> Result<usize> {
        let actor = self.actor();
        let held = self.actors[actor].fds.len();
        let mut touched = 1;
        match step {
            Step::Start if self.actors.len() < ACTORS => {
                self.start_actor()?;
                touched = 0;
            }
            Step::LeaderExit if !self.actors[actor].leaderless => {
                self.leader_exit(actor)?;
                touched = 0;
            }
            Step::Fork if room && self.actors.len() < ACTORS => self.fork(actor)?,
            Step::Exec => self.exec(actor)?,
            Step::Exit if self.actors.len() > 1 => self.exit(actor)?,
            Step::Kill if self.actors.len() > 1 => self.kill(actor)?,
            _ => touched = 0,
        }
        // Of a process without a socket, none of these is about sockets.
        Ok(if held == 0 { 0 } else { touched })
    }

    fn step_of_a_server(&mut self, step: Step) -> Result<usize> {
        let open = |socket: &Socket| socket.end.is_some() && !socket.released;
        let socket = match step {
            Step::ServerSend => self.socket(|socket| {
                open(socket)
                    && !socket.end_is_mute
                    && !socket.deaf
                    && matches!(socket.wire, Wire::Established | Wire::HalfClosed)
            }),
            Step::ServerShutdown => {
                self.socket(|socket| open(socket) && !socket.is_unix() && !socket.end_is_mute)
            }
            Step::ServerReset => self.socket(|socket| open(socket) && !socket.is_unix()),
            // Sometimes long after the client is gone.
            _ => self.socket(|socket| socket.end.is_some()),
        };
        let Some(socket) = socket else { return Ok(0) };
        match step {
            Step::ServerSend => {
                let bytes = 1 + self.random.below(200);
                self.server_sends(socket, bytes)?;
            }
            Step::ServerShutdown => self.server_shuts_down(socket)?,
            Step::ServerReset => self.server_resets(socket)?,
            _ => self.server_closes(socket)?,
        }
        Ok(1)
    }

    fn step_of_a_descriptor(&mut self, step: Step, room: bool) -> Result<usize> {
        let open = |socket: &Socket| matches!(socket.wire, Wire::Established | Wire::PeerClosed);
        let handle = match step {
            Step::Reconnect => self.handle(|socket| socket.wire == Wire::Unconnected),
            Step::Disconnect => self.handle(|socket| !socket.is_unix() && socket.wire.connected()),
            Step::Send => self.handle(|socket| {
                open(socket) && !(socket.is_unix() && (socket.end.is_none() || socket.deaf || socket.mute))
            }),
            Step::Receive => self.handle(|socket| {
                let data = matches!(
                    socket.wire,
                    Wire::Established | Wire::PeerClosed | Wire::HalfClosed
                );
                data && socket.unread > 0 && !socket.deaf
            }),
            Step::Shutdown => self.handle(open),
            Step::Give => self.handle(|socket| !socket.is_unix()),
            _ => self.handle(|_| true),
        };
        let Some(handle) = handle else { return Ok(0) };
        match step {
            Step::Reconnect => {
                let kind = self.socket_of(handle).kind;
                let mode = self.mode();
                let port = if self.random.chance(80) {
                    self.servers.open
                } else {
                    self.servers.refusing
                };
                self.connect((handle.0, Some(handle.1)), mode, kind, port)?;
            }
            Step::Disconnect => self.disconnect(handle)?,
            Step::Send => {
                let bytes = 1 + self.random.below(200);
                self.send(handle, bytes)?;
            }
            Step::Receive => self.receive(handle)?,
            Step::Shutdown => {
                let how = self.random.weighted(&[(5, "wr"), (4, "rdwr"), (1, "rd")]);
                self.shutdown(handle, how)?;
            }
            Step::Give if room => self.give(handle)?,
            Step::Dup if room => self.dup(handle)?,
            Step::Dup2 => {
                // Over another descriptor, or to a number of its own.
                let others: Vec<i32> = self.actors[handle.0].fds.keys().copied().collect();
                let fresh = 100 + i32::try_from(self.random.below(20))?;
                let to = if self.random.chance(70) {
                    self.random.pick(&others).unwrap_or(fresh)
                } else {
                    fresh
                };
                if to == handle.1 {
                    return Ok(0);
                }
                self.dup2(handle, to)?;
            }
            Step::Cloexec => {
                let on = self.random.chance(50);
                self.set_cloexec(handle, on)?;
            }
            Step::Linger => self.set_linger(handle)?,
            Step::Pass if room => self.pass(handle)?,
            Step::GetFd if room && !self.actors[handle.0].leaderless => {
                let to = self.actor();
                self.getfd(handle, to)?;
            }
            Step::Close => {
                let verb = self.random.weighted(&[(6, "close"), (1, "uring_close")]);
                self.close(handle, verb)?;
            }
            Step::CloseRange => {
                let last = handle.1 + i32::try_from(self.random.below(4))?;
                self.close_range(handle, last)?;
            }
            _ => return Ok(0),
        }
        Ok(1)
    }

    /// Hands a descriptor to another process, which may be the only one that has it then.
    fn pass(&mut self, handle: Handle) -> Result<()> {
        let to = self.actor();
        let moves = self.random.chance(50);
        self.give(handle)?;
        // What only a message refers to is in no process: of a unix socket nobody can say then whether it is open.
        let socket = self.socket_of(handle);
        let ended = matches!(socket.wire, Wire::HalfClosed | Wire::Over);
        let early = moves && !socket.is_unix() && !ended && self.random.chance(50);
        if early {
            self.close(handle, "close")?;
        }
        self.take(self.flights() - 1, to)?;
        if moves && !early && self.actors[handle.0].fds.contains_key(&handle.1) {
            self.close(handle, "close")?;
        }
        Ok(())
    }

    fn actor(&mut self) -> usize {
        self.random.below(self.actors.len())
    }

    fn mode(&mut self) -> &'static str {
        self.random
            .weighted(&[(6, "block"), (3, "poll"), (2, "uring"), (2, "thread")])
    }

    fn handle(&mut self, wanted: impl Fn(&Socket) -> bool) -> Option<Handle> {
        let handles = self.handles(wanted);
        self.random.pick(&handles)
    }

    fn socket(&mut self, wanted: impl Fn(&Socket) -> bool) -> Option<usize> {
        let all = self.sockets.iter().enumerate();
        let fitting: Vec<usize> = all
            .filter(|(_, socket)| wanted(socket))
            .map(|(index, _)| index)
            .collect();
        self.random.pick(&fitting)
    }
}
