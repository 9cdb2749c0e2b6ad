//! One program's processes and sockets: each step is done for real, and noted in the truth.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use connleak_tests::control::{self, Control};
use nix::{
    libc,
    sys::{
        signal::{Signal, kill},
        socket::{setsockopt, sockopt},
    },
    unistd::Pid,
};

use crate::{
    random::Random,
    servers::Servers,
    truth::{End, Kind, Socket, Wire},
};

const RESET: libc::linger = libc::linger {
    l_onoff: 1,
    l_linger: 0,
};

/// How long the kernel may take to carry out a step before the test (not the agent) is at fault.
const KERNEL: Duration = Duration::from_secs(20);

/// A process of the program.
pub struct Actor {
    pub pid: u32,
    line: Control,
    /// Only of those that the test started; the others are children of actors.
    child: Option<Child>,
    /// What each descriptor refers to (an index of [`World::sockets`]), and whether exec closes it.
    pub fds: BTreeMap<i32, (usize, bool)>,
    /// Its first thread has ended, others go on.
    pub leaderless: bool,
}

impl Actor {
    fn start() -> Result<Self> {
        let (line, theirs) = Control::pair()?;
        let child = Command::new(env!("CARGO_BIN_EXE_actor"))
            .stdin(Stdio::from(theirs))
            .spawn()
            .context("start an actor")?;
        Ok(Self {
            pid: child.id(),
            line,
            child: Some(child),
            fds: BTreeMap::new(),
            leaderless: false,
        })
    }

    /// Gives a command and returns the words of its answer.
    fn ask(&self, command: &str, fd: Option<&OwnedFd>) -> Result<Vec<String>> {
        self.line.send(command, fd.map(|fd| fd as _))?;
        let answer = self.line.receive()?;
        let (answer, _) = answer.with_context(|| format!("pid {} is gone after `{command}`", self.pid))?;
        ensure!(
            !answer.starts_with("error"),
            "pid {}: `{command}` gave `{answer}`",
            self.pid
        );
        Ok(answer.split(' ').map(ToOwned::to_owned).collect())
    }

    fn ask_number(&self, command: &str, fd: Option<&OwnedFd>) -> Result<i32> {
        let answer = self.ask(command, fd)?;
        Ok(answer.get(1).context("a number")?.parse()?)
    }

    /// Waits until the process has ended.
    fn bury(mut self) -> Result<()> {
        while self.line.receive()?.is_some() {}
        if let Some(child) = &mut self.child {
            child.wait()?;
        }
        Ok(())
    }
}

/// The inode's number of a socket. Asked of any thread: a first thread that has exited has no descriptors.
fn inode(pid: u32, fd: i32) -> Result<u64> {
    let links = fs::read_dir(format!("/proc/{pid}/task"))?
        .filter_map(|task| fs::read_link(task.ok()?.path().join(format!("fd/{fd}"))).ok());
    let numbers = links.filter_map(|link| {
        let link = link.to_str()?.strip_prefix("socket:[")?;
        link.strip_suffix(']')?.parse().ok()
    });
    let mut numbers = numbers;
    numbers
        .next()
        .with_context(|| format!("pid {pid} has no socket {fd}"))
}

/// A descriptor in a message that nobody has received yet.
struct Flight {
    channel: OwnedFd,
    socket: usize,
}

/// See the module's head.
pub struct World {
    /// Which program of the run this is.
    pub index: usize,
    pub random: Random,
    pub servers: Arc<Servers>,
    pub actors: Vec<Actor>,
    pub sockets: Vec<Socket>,
    flights: Vec<Flight>,
    /// What has been done so far.
    pub listing: Vec<String>,
    /// How many of these steps were about a socket.
    pub operations: usize,
}

/// A descriptor of an actor: the actor's index and the number.
pub type Handle = (usize, i32);

impl World {
    pub fn new(index: usize, seed: u64, servers: &Arc<Servers>) -> Self {
        Self {
            index,
            random: Random::new(seed),
            servers: Arc::clone(servers),
            actors: Vec::new(),
            sockets: Vec::new(),
            flights: Vec::new(),
            listing: Vec::new(),
            operations: 0,
        }
    }

    fn note(&mut self, step: String) {
        self.listing.push(step);
    }

    pub fn socket_of(&self, (actor, fd): Handle) -> &Socket {
        &self.sockets[self.actors[actor].fds[&fd].0]
    }

    fn socket_mut(&mut self, (actor, fd): Handle) -> &mut Socket {
        let index = self.actors[actor].fds[&fd].0;
        &mut self.sockets[index]
    }

    /// Every descriptor whose socket `wanted` accepts.
    pub fn handles(&self, wanted: impl Fn(&Socket) -> bool) -> Vec<Handle> {
        let all = self.actors.iter().enumerate();
        let all = all.flat_map(|(index, actor)| actor.fds.keys().map(move |fd| (index, *fd)));
        all.filter(|handle| wanted(self.socket_of(*handle))).collect()
    }

    pub fn flights(&self) -> usize {
        self.flights.len()
    }

    /// `(pid, fd)` of every descriptor of every socket.
    pub fn holders(&self) -> BTreeMap<usize, Vec<(u32, i32)>> {
        let mut holders: BTreeMap<usize, Vec<(u32, i32)>> = BTreeMap::new();
        for actor in &self.actors {
            for (fd, (socket, _)) in &actor.fds {
                holders.entry(*socket).or_default().push((actor.pid, *fd));
            }
        }
        for held in holders.values_mut() {
            held.sort_unstable();
        }
        holders
    }

    pub fn start_actor(&mut self) -> Result<()> {
        let actor = Actor::start()?;
        self.note(format!("start {}", actor.pid));
        self.actors.push(actor);
        Ok(())
    }

    /// Connects a new socket, or one that has none.
    pub fn connect(
        &mut self,
        (actor, fd): (usize, Option<i32>),
        mode: &str,
        kind: Kind,
        port: u16,
    ) -> Result<()> {
        let (address, name) = self.servers.address(kind, port);
        let cloexec = self.random.chance(50);
        let command = match fd {
            None => format!("connect {mode} {} {address}", u8::from(cloexec)),
            Some(fd) => format!("reconnect {mode} {fd} {address}"),
        };
        let answer = self.actors[actor].ask(&command, None)?;
        let pid = self.actors[actor].pid;
        self.note(format!("{pid}: {command} -> {}", answer.join(" ")));
        let [word, new_fd, cookie, local] = answer.as_slice() else {
            bail!("`{command}` gave {answer:?}")
        };
        let (new_fd, cookie, local): (i32, u64, u16) = (new_fd.parse()?, cookie.parse()?, local.parse()?);
        if fd.is_none() {
            let inode = if kind == Kind::Unix {
                inode(pid, new_fd)?
            } else {
                0
            };
            self.sockets.push(Socket::new(cookie, inode, kind));
            self.actors[actor]
                .fds
                .insert(new_fd, (self.sockets.len() - 1, cloexec));
        }
        let servers = Arc::clone(&self.servers);
        let socket = self.socket_mut((actor, new_fd));
        ensure!(socket.cookie == cookie, "the cookie of a socket has changed");
        socket.connects(pid, name, local);
        match word.as_str() {
            "ok" => {
                ensure!(port == servers.open, "only one port is open");
                socket.established(servers.accept(kind)?);
            }
            "refused" => {
                ensure!(port == servers.refusing, "only one port refuses");
                socket.failed();
            }
            "pending" => {
                ensure!(port == servers.silent, "only one port is silent");
                socket.wire = Wire::Pending;
            }
            _ => bail!("`{command}` gave {answer:?}"),
        }
        self.agrees((actor, new_fd))
    }

    /// Dissolves the connection and keeps the descriptor.
    pub fn disconnect(&mut self, handle: Handle) -> Result<()> {
        self.ask(handle, "disconnect", "")?;
        let waits = self.must_hear(self.index_of(handle));
        let socket = self.socket_mut(handle);
        socket.let_go();
        socket.dissolved = matches!(socket.wire, Wire::HalfClosed | Wire::Over);
        socket.wire = Wire::Unconnected;
        self.wait_heard(&waits)?;
        let socket = self.socket_mut(handle);
        socket.end = None;
        self.agrees(handle)
    }

    fn index_of(&self, (actor, fd): Handle) -> usize {
        self.actors[actor].fds[&fd].0
    }

    fn ask(&mut self, (actor, fd): Handle, verb: &str, rest: &str) -> Result<Vec<String>> {
        let command = format!("{verb} {fd} {rest}");
        let command = command.trim_end();
        let answer = self.actors[actor].ask(command, None)?;
        let pid = self.actors[actor].pid;
        self.note(format!("{pid}: {command} -> {}", answer.join(" ")));
        Ok(answer)
    }

    /// Waits until the kernel agrees with the truth about a TCP socket's state: order matters to what comes next.
    fn agrees(&self, handle: Handle) -> Result<()> {
        let socket = self.socket_of(handle);
        if socket.is_unix() {
            return Ok(());
        }
        let (actor, fd) = handle;
        let wanted = i32::from(socket.wire.number());
        let start = Instant::now();
        loop {
            let state = self.actors[actor].ask_number(&format!("state {fd}"), None)?;
            if state == wanted {
                return Ok(());
            }
            ensure!(
                start.elapsed() < KERNEL,
                "the model is wrong: the kernel says {state} where it expects {:?}",
                socket.wire
            );
            thread::sleep(Duration::from_micros(100));
        }
    }

    /// The same, through whatever descriptor there is.
    fn agrees_somewhere(&self, socket: usize) -> Result<()> {
        let cookie = self.sockets[socket].cookie;
        let handle = self.handles(|other| other.cookie == cookie).first().copied();
        handle.map_or(Ok(()), |handle| self.agrees(handle))
    }

    /// The socket's server, if its end is going to notice what this side does now.
    fn must_hear(&self, socket: usize) -> Vec<usize> {
        let Socket { wire, end, .. } = &self.sockets[socket];
        let speaks = matches!(wire, Wire::Established | Wire::PeerClosed);
        (speaks && end.is_some()).then_some(socket).into_iter().collect()
    }

    fn wait_heard(&self, sockets: &[usize]) -> Result<()> {
        let start = Instant::now();
        for &socket in sockets {
            while !self.sockets[socket].end.as_ref().is_none_or(End::has_heard) {
                ensure!(start.elapsed() < KERNEL, "the server never heard of the end");
                thread::sleep(Duration::from_micros(100));
            }
        }
        Ok(())
    }

    /// After descriptors have gone, or connections have ended: who holds what now.
    ///
    /// A connection that has ended and that no process holds is over, says the agent; only a message that nobody has
    /// received yet could still hold it. Nothing in the kernel tells these two apart, and no application leaves the
    /// descriptor of a dead connection in a message for seconds. So such a message is dropped here.
    fn settle(&mut self) -> Result<()> {
        let actors = self.actors.iter();
        let mut held: BTreeSet<usize> = actors
            .flat_map(|actor| actor.fds.values().map(|(socket, _)| *socket))
            .collect();
        let sockets = &self.sockets;
        self.flights.retain(|flight| {
            let ended = matches!(sockets[flight.socket].wire, Wire::HalfClosed | Wire::Over);
            held.contains(&flight.socket) || !ended
        });
        held.extend(self.flights.iter().map(|flight| flight.socket));
        let mut waits = Vec::new();
        for index in 0..self.sockets.len() {
            if !held.contains(&index) && !self.sockets[index].released {
                waits.extend(self.must_hear(index));
                let socket = &mut self.sockets[index];
                socket.let_go();
                // With `SO_LINGER` 0 the kernel dissolves before it closes.
                socket.dissolved |= socket.linger && socket.wire == Wire::HalfClosed;
                socket.released = true;
            }
        }
        self.wait_heard(&waits)
    }

    pub fn close(&mut self, handle: Handle, verb: &str) -> Result<()> {
        self.ask(handle, verb, "")?;
        self.actors[handle.0].fds.remove(&handle.1);
        self.settle()
    }

    pub fn close_range(&mut self, (actor, first): Handle, last: i32) -> Result<()> {
        self.ask((actor, first), "close_range", &last.to_string())?;
        self.actors[actor]
            .fds
            .retain(|fd, _| !(first..=last).contains(fd));
        self.settle()
    }

    pub fn dup(&mut self, (actor, fd): Handle) -> Result<()> {
        let answer = self.ask((actor, fd), "dup", "")?;
        let new = answer.get(1).context("a number")?.parse()?;
        let (socket, _) = self.actors[actor].fds[&fd];
        self.actors[actor].fds.insert(new, (socket, false));
        Ok(())
    }

    pub fn dup2(&mut self, (actor, from): Handle, to: i32) -> Result<()> {
        self.ask((actor, from), "dup2", &to.to_string())?;
        let (socket, _) = self.actors[actor].fds[&from];
        self.actors[actor].fds.insert(to, (socket, false));
        self.settle()
    }

    pub fn set_cloexec(&mut self, (actor, fd): Handle, on: bool) -> Result<()> {
        self.ask((actor, fd), "cloexec", &u8::from(on).to_string())?;
        let (socket, _) = self.actors[actor].fds[&fd];
        self.actors[actor].fds.insert(fd, (socket, on));
        Ok(())
    }

    pub fn set_linger(&mut self, handle: Handle) -> Result<()> {
        self.ask(handle, "linger", "")?;
        self.socket_mut(handle).linger = true;
        Ok(())
    }

    pub fn shutdown(&mut self, handle: Handle, how: &str) -> Result<()> {
        self.ask(handle, "shutdown", how)?;
        let waits = if how == "rd" {
            Vec::new()
        } else {
            self.must_hear(self.index_of(handle))
        };
        let socket = self.socket_mut(handle);
        if how != "wr" {
            socket.deaf = true;
        }
        if how != "rd" {
            socket.mute = true;
        }
        if how != "rd" && !socket.is_unix() {
            socket.client_finishes();
        }
        self.wait_heard(&waits)?;
        self.agrees(handle)
    }

    pub fn send(&mut self, handle: Handle, bytes: usize) -> Result<()> {
        self.ask(handle, "send", &bytes.to_string())?;
        let socket = self.socket_mut(handle);
        socket.sent += bytes;
        let mut read = vec![0; bytes];
        match &mut socket.end {
            Some(End::Tcp(stream)) => stream.read_exact(&mut read).context("the server reads")?,
            Some(End::Unix(stream)) => stream.read_exact(&mut read).context("the server reads")?,
            // Nobody is there any more: the answer is a reset.
            None => socket.server_resets(),
        }
        self.agrees(handle)
    }

    pub fn receive(&mut self, handle: Handle) -> Result<()> {
        let unread = self.socket_of(handle).unread;
        self.ask(handle, "receive", &unread.to_string())?;
        self.socket_mut(handle).unread = 0;
        Ok(())
    }

    pub fn fork(&mut self, actor: usize) -> Result<()> {
        let (line, theirs) = Control::pair()?;
        let child = self.actors[actor].ask_number("fork", Some(&theirs))?;
        let parent = self.actors[actor].pid;
        self.note(format!("{parent}: fork -> {child}"));
        let fds = self.actors[actor].fds.clone();
        self.actors.push(Actor {
            pid: child.cast_unsigned(),
            line,
            child: None,
            fds,
            leaderless: false,
        });
        Ok(())
    }

    pub fn exec(&mut self, actor: usize) -> Result<()> {
        self.actors[actor].ask("exec", None)?;
        let pid = self.actors[actor].pid;
        self.note(format!("{pid}: exec"));
        self.actors[actor].fds.retain(|_, (_, cloexec)| !*cloexec);
        self.actors[actor].leaderless = false;
        self.settle()
    }

    /// The first thread ends; the process does not.
    pub fn leader_exit(&mut self, actor: usize) -> Result<()> {
        self.actors[actor].ask("leader_exit", None)?;
        let pid = self.actors[actor].pid;
        self.note(format!("{pid}: the first thread exits"));
        self.actors[actor].leaderless = true;
        Ok(())
    }

    /// Puts a copy of a descriptor on its way to nobody in particular.
    pub fn give(&mut self, (actor, fd): Handle) -> Result<()> {
        let (near, far) = control::channel()?;
        self.actors[actor].ask(&format!("give {fd}"), Some(&near))?;
        let pid = self.actors[actor].pid;
        self.note(format!("{pid}: give {fd}"));
        let (socket, _) = self.actors[actor].fds[&fd];
        self.flights.push(Flight { channel: far, socket });
        Ok(())
    }

    pub fn take(&mut self, flight: usize, actor: usize) -> Result<()> {
        let Flight { channel, socket } = self.flights.swap_remove(flight);
        let new = self.actors[actor].ask_number("take", Some(&channel))?;
        let pid = self.actors[actor].pid;
        self.note(format!("{pid}: take {} -> {new}", self.sockets[socket].cookie));
        self.actors[actor].fds.insert(new, (socket, true));
        self.agrees((actor, new))
    }

    /// The message is never received.
    pub fn drop_flight(&mut self, flight: usize) -> Result<()> {
        let flight = self.flights.swap_remove(flight);
        self.note(format!(
            "drop what was given of {}",
            self.sockets[flight.socket].cookie
        ));
        drop(flight.channel);
        self.settle()
    }

    pub fn getfd(&mut self, (from, fd): Handle, to: usize) -> Result<()> {
        let command = format!("getfd {} {fd}", self.actors[from].pid);
        let new = self.actors[to].ask_number(&command, None)?;
        let pid = self.actors[to].pid;
        self.note(format!("{pid}: {command} -> {new}"));
        let (socket, _) = self.actors[from].fds[&fd];
        self.actors[to].fds.insert(new, (socket, true));
        Ok(())
    }

    pub fn exit(&mut self, actor: usize) -> Result<()> {
        let actor = self.actors.swap_remove(actor);
        self.note(format!("{}: exit", actor.pid));
        actor.line.send("exit", None)?;
        actor.bury()?;
        self.settle()
    }

    pub fn kill(&mut self, actor: usize) -> Result<()> {
        let actor = self.actors.swap_remove(actor);
        self.note(format!("kill -9 {}", actor.pid));
        kill(Pid::from_raw(actor.pid.cast_signed()), Signal::SIGKILL)?;
        actor.bury()?;
        self.settle()
    }

    pub fn server_sends(&mut self, socket: usize, bytes: usize) -> Result<()> {
        let it = &mut self.sockets[socket];
        let data = vec![b'r'; bytes];
        match &mut it.end {
            Some(End::Tcp(stream)) => stream.write_all(&data)?,
            Some(End::Unix(stream)) => stream.write_all(&data)?,
            None => {}
        }
        it.unread += bytes;
        it.received += bytes;
        let step = format!("server of {}: send {bytes}", it.cookie);
        self.note(step);
        Ok(())
    }

    pub fn server_closes(&mut self, socket: usize) -> Result<()> {
        let it = &mut self.sockets[socket];
        it.end = None;
        // It had read everything, so the kernel sends FIN.
        it.server_finishes();
        let step = format!("server of {}: close", it.cookie);
        self.note(step);
        self.settle()?;
        self.agrees_somewhere(socket)
    }

    pub fn server_shuts_down(&mut self, socket: usize) -> Result<()> {
        let it = &mut self.sockets[socket];
        if let Some(End::Tcp(stream)) = &it.end {
            stream.shutdown(std::net::Shutdown::Write)?;
        }
        it.end_is_mute = true;
        it.server_finishes();
        let step = format!("server of {}: shutdown wr", it.cookie);
        self.note(step);
        self.settle()?;
        self.agrees_somewhere(socket)
    }

    pub fn server_resets(&mut self, socket: usize) -> Result<()> {
        let it = &mut self.sockets[socket];
        if let Some(End::Tcp(stream)) = &it.end {
            setsockopt(stream, sockopt::Linger, &RESET)?;
        }
        it.end = None;
        it.server_resets();
        let step = format!("server of {}: reset", it.cookie);
        self.note(step);
        self.settle()?;
        self.agrees_somewhere(socket)
    }

    /// Everything ends; what was in flight too.
    pub fn end(&mut self) -> Result<()> {
        while !self.flights.is_empty() {
            self.drop_flight(0)?;
        }
        while !self.actors.is_empty() {
            if self.random.chance(50) {
                self.kill(0)?;
            } else {
                self.exit(0)?;
            }
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for actor in self.actors.drain(..) {
            // Only what this world started, by pid; the end of their line ends the others.
            if let Some(mut child) = actor.child {
                drop(child.kill());
                drop(child.wait());
            }
        }
    }
}
