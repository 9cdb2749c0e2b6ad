//! From the kernel's records to events: addresses get names, ticks become times, ports become databases.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::Path,
    sync::Arc,
};

use connleak_ebpf::{
    self as abi, Connect as ConnectRecord, Flow, Hello as HelloRecord, KIND_CONNECT, KIND_DESTROY,
    KIND_HELLO, KIND_STATE, KIND_UNIX, ROW_LISTENER, ROW_TCP, ROW_UNIX, Record as _, Row, SEND_SHUTDOWN,
    Transition, UnixRow, tcp,
};

use super::{
    Backend, clock, diag,
    identity::{Ends, Identity},
    peer::ServerEnd,
    stacks::UnixSites,
};
use crate::{
    event::{
        Change, Connect, Cookie, Event, Hello, Holder, Nanos, Observation, Place, Server, State, Traffic,
        canonical,
    },
    owner::{ProcessId, start_ticks},
    server::{Databases, wire},
};

/// Both directions shut, as `sk_shutdown` has it.
const BOTH: u8 = abi::RCV_SHUTDOWN | SEND_SHUTDOWN;

/// See the module's head.
pub(super) struct Translator {
    databases: Databases,
    /// Each server once: its name is in every connection.
    servers: HashMap<Place, Option<Arc<Server>>>,
    tick_rate: Option<u64>,
    /// Whether the programs that note what unix sockets carry are attached.
    pub(super) follows_unix: bool,
    /// A database was met that is connected to by a unix socket.
    pub(super) met_unix: bool,
    /// Since when it is noted what unix sockets receive; 0 for as long as anything is noted.
    pub(super) receives_since: Nanos,
    /// Whether walks are by an iterator.
    iterates: bool,
    /// Clients of unix sockets as the last `sock_diag` had them, or an event since, by cookie: see [`Self::name_unix_servers`].
    unix_names: HashMap<u64, UnixRow>,
    /// Which socket is which, where events have no cookies.
    identity: Option<Identity>,
    /// Has to hear of unix sockets, where their users' stacks are taken.
    pub(super) unix_sites: Option<UnixSites>,
    /// When the first walk was over: what is new from then on is really new.
    pub(super) walked: Option<Nanos>,
    /// Servers' ends of unix connections, as of the last walk.
    pub(super) unix_servers: Vec<ServerEnd>,
}

impl Translator {
    pub(super) fn new(databases: Databases, backend: Backend) -> Self {
        Self {
            databases,
            servers: HashMap::new(),
            tick_rate: None,
            follows_unix: false,
            met_unix: false,
            receives_since: 0,
            iterates: backend.iterates(),
            unix_names: HashMap::new(),
            unix_sites: None,
            walked: None,
            identity: (backend == Backend::Tracepoint).then(Identity::default),
            unix_servers: Vec::new(),
        }
    }

    /// Translates a record of the ring buffer, if it is about a database.
    pub(super) fn record(&mut self, bytes: &[u8], mut take: impl FnMut(Event)) {
        let Some(kind) = bytes.first_chunk().map(|word| u32::from_ne_bytes(*word)) else {
            return;
        };
        match kind {
            KIND_CONNECT => {
                if let Some(connect) =
                    ConnectRecord::read_from(bytes).and_then(|record| self.connect(&record))
                {
                    take(Event::Connect(connect));
                }
            }
            KIND_STATE | KIND_DESTROY => {
                if let Some(transition) = Transition::read_from(bytes) {
                    take(Event::Change(self.change(&transition)));
                }
            }
            KIND_UNIX => {
                if let Some(connect) = UnixRow::read_from(bytes).and_then(|row| self.unix_connect(&row)) {
                    let opened = unix_opened(&connect);
                    take(Event::Connect(connect));
                    take(Event::Change(opened));
                }
            }
            KIND_HELLO => {
                if let Some(hello) = HelloRecord::read_from(bytes).and_then(|record| self.hello(&record)) {
                    take(Event::Hello(hello));
                }
            }
            _ => {}
        }
    }

    fn connect(&mut self, record: &ConnectRecord) -> Option<Connect> {
        let transition = &record.transition;
        let cookie = match &mut self.identity {
            Some(identity) => identity.connect(transition.cookie, remote(&transition.flow)),
            None => Cookie(transition.cookie),
        };
        Some(Connect {
            at: transition.at,
            cookie,
            process: opener(record),
            tid: record.tid,
            name: comm(&record.comm),
            uid: record.uid,
            server: self.tcp_server(&transition.flow)?,
            netns: transition.flow.netns,
        })
    }

    fn change(&mut self, transition: &Transition) -> Change {
        let destroyed = transition.kind == KIND_DESTROY;
        let cookie = match &mut self.identity {
            Some(identity) if destroyed => {
                identity.destroyed(transition.at, transition.cookie, ends(&transition.flow))
            }
            Some(identity) => identity.event(
                transition.cookie,
                remote(&transition.flow),
                ends(&transition.flow),
            ),
            None => Cookie(transition.cookie),
        };
        Change {
            at: transition.at,
            cookie,
            state: state(transition.new_state),
            from: state(transition.old_state),
            client: client(&transition.flow),
            error: transition.error,
            shut: transition.shutdown & BOTH == BOTH,
            released: transition.orphan == 1 || destroyed,
            bytes_sent: transition.bytes_sent,
            bytes_received: transition.bytes_received,
        }
    }

    /// What a client says of itself. The bytes end here: only names go on.
    fn hello(&mut self, record: &HelloRecord) -> Option<Hello> {
        let server = if record.path_len > 0 {
            self.server(Place::Unix(socket_name(&record.path, record.path_len)))
        } else {
            self.tcp_server(&record.flow)
        }?;
        let sent = &record.data[..usize::from(record.length).min(record.data.len())];
        Some(Hello {
            at: record.at,
            cookie: Cookie(record.cookie),
            identity: wire::read(server.system, sent)?,
        })
    }

    /// A unix socket that carries data for the first time. Before the first walk is over, that may be one
    /// that was there already: the walk tells those.
    fn unix_connect(&mut self, row: &UnixRow) -> Option<Connect> {
        if self.walked.is_none_or(|walked| row.at < walked) {
            return None;
        }
        let server = self.server(Place::Unix(unix_name(row)))?;
        self.met_unix = true;
        if !self.iterates {
            self.unix_names.insert(row.cookie, *row);
        }
        if let Some(sites) = &mut self.unix_sites {
            sites.follow(row);
        }
        Some(Connect {
            at: row.at,
            cookie: Cookie(row.cookie),
            process: ProcessId::from_kernel(row.pid, row.process_start),
            tid: row.pid,
            name: comm(&row.comm),
            uid: row.fd,
            server,
            netns: 0,
        })
    }

    /// Translates the rows of a walk.
    pub(super) fn rows(&mut self, bytes: &[u8]) -> Vec<Observation> {
        let (mut tcp_rows, mut unix_rows) = (Vec::new(), Vec::new());
        let mut rest = bytes;
        while let Some(kind) = rest.first_chunk().map(|word| u32::from_ne_bytes(*word)) {
            let length = match kind {
                ROW_TCP | ROW_LISTENER => size_of::<Row>(),
                ROW_UNIX => size_of::<UnixRow>(),
                _ => break,
            };
            if kind == ROW_UNIX {
                unix_rows.extend(UnixRow::read_from(rest));
            } else {
                tcp_rows.extend(Row::read_from(rest));
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        self.observations(tcp_rows, &unix_rows)
    }

    /// Translates rows that `sock_diag` gave.
    pub(super) fn diag_rows(&mut self, mut rows: diag::Rows) -> Vec<Observation> {
        self.tick_rate = Some(diag::TICK_RATE);
        self.name_unix_servers(&mut rows.unix);
        let observations = self.observations(rows.tcp, &rows.unix);
        if let Some(identity) = &mut self.identity {
            identity.walked();
        }
        observations
    }

    /// Gives clients whose server is gone the name that it had when an earlier walk saw them; drops the others.
    fn name_unix_servers(&mut self, rows: &mut Vec<UnixRow>) {
        rows.retain_mut(|row| {
            if row.client == 0 || row.path_len > 0 {
                return true;
            }
            let known = self.unix_names.get(&row.cookie);
            if let Some(known) = known {
                (row.path, row.path_len) = (known.path, known.path_len);
            }
            known.is_some()
        });
        let mut names = HashMap::new();
        for row in rows.iter().filter(|row| row.client == 1) {
            if self.server(Place::Unix(unix_name(row))).is_some() {
                names.insert(row.cookie, *row);
            }
        }
        // What an event told of since is not in this walk.
        let began = rows.iter().map(|row| row.at).min().unwrap_or(0);
        self.unix_names.retain(|_, known| known.at >= began);
        self.unix_names.extend(names);
    }

    fn observations(&mut self, mut rows: Vec<Row>, unix_rows: &[UnixRow]) -> Vec<Observation> {
        let listening: HashSet<(u32, u16)> = rows
            .iter()
            .filter(|row| row.kind == ROW_LISTENER)
            .map(|row| (row.flow.netns, row.flow.local_port))
            .collect();
        // A connection from a port that somebody listens on was accepted, not opened: its client happens
        // to have a database's port number.
        rows.retain(|row| row.kind == ROW_TCP && !listening.contains(&(row.flow.netns, row.flow.local_port)));
        let mut observations: Vec<Observation> = rows.iter().filter_map(|row| self.tcp_row(row)).collect();
        self.note_unix_servers(unix_rows);
        observations.extend(
            unix_rows
                .iter()
                .filter(|row| row.client == 1)
                .filter_map(|row| self.unix_row(row)),
        );
        observations
    }

    fn note_unix_servers(&mut self, rows: &[UnixRow]) {
        let clients: HashMap<u64, Cookie> = rows
            .iter()
            .filter(|row| row.client == 1)
            .map(|row| (row.peer_inode, Cookie(row.cookie)))
            .collect();
        self.unix_servers = rows
            .iter()
            .filter(|row| row.client == 0)
            .filter_map(|row| {
                Some(ServerEnd {
                    client: *clients.get(&row.inode)?,
                    pid: row.pid,
                    fd: row.fd,
                })
            })
            .collect();
    }

    fn tcp_row(&mut self, row: &Row) -> Option<Observation> {
        let server = self.tcp_server(&row.flow)?;
        let connecting = row.state == tcp::SYN_SENT;
        if connecting
            && let Some(identity) = &self.identity
            && identity.is_connecting(ends(&row.flow)?)
        {
            return None;
        }
        let rate = *self
            .tick_rate
            .get_or_insert_with(|| clock::tick_rate(row.jiffies, row.at));
        let time = |stamp| Some(clock::tick_time(stamp, row.jiffies, row.at, rate));
        Some(Observation {
            at: row.at,
            cookie: match &mut self.identity {
                Some(identity) => identity.observed(row.at, Cookie(row.cookie), ends(&row.flow)),
                None => Cookie(row.cookie),
            },
            holder: Holder {
                process: ProcessId::from_kernel(row.pid, row.process_start),
                fd: row.fd,
            },
            server,
            client: client(&row.flow),
            netns: row.flow.netns,
            inode: row.inode,
            state: state(row.state),
            traffic: Traffic {
                last_sent: time(row.last_sent).map(|sent| sent + u64::from(unanswered(row, rate))),
                last_received: time(row.last_received),
                bytes_sent: Some(row.bytes_sent),
                bytes_received: Some(row.bytes_received),
                sends: Some(row.segments_sent),
                receives: Some(row.segments_received),
                unacknowledged: row.unacknowledged,
                unread: row.unread,
                followed: false,
            },
            accepted_at: None,
        })
    }

    fn unix_row(&mut self, row: &UnixRow) -> Option<Observation> {
        let server = self.server(Place::Unix(unix_name(row)))?;
        self.met_unix = true;
        if let Some(sites) = &mut self.unix_sites {
            sites.follow(row);
        }
        let seen = |at: u64| (at > 0).then_some(at);
        // The answer to what was sent before answers were noted: taken for given, since nobody has seen it.
        let unseen = row.activity.last_sent < self.receives_since;
        let answered = if unseen { row.activity.last_sent } else { 0 };
        Some(Observation {
            at: row.at,
            cookie: Cookie(row.cookie),
            holder: Holder {
                process: ProcessId::from_kernel(row.pid, row.process_start),
                fd: row.fd,
            },
            server,
            client: None,
            netns: 0,
            inode: row.inode,
            // The server's close shuts down both directions of the client's end (`unix_release_sock`), as the
            // client itself may; but only then its peer has no inode any more.
            state: if row.shutdown & BOTH == BOTH && row.peer_inode == 0 {
                State::PeerClosed
            } else {
                State::Established
            },
            traffic: Traffic {
                last_sent: seen(row.activity.last_sent),
                last_received: seen(row.activity.last_received.max(answered)),
                bytes_sent: self.follows_unix.then_some(row.activity.bytes_sent),
                bytes_received: self.follows_unix.then_some(row.activity.bytes_received),
                sends: self
                    .follows_unix
                    .then(|| u32::try_from(row.activity.sends).unwrap_or(u32::MAX)),
                receives: None,
                unacknowledged: 0,
                unread: 0,
                followed: self.follows_unix,
            },
            accepted_at: None,
        })
    }

    fn tcp_server(&mut self, flow: &Flow) -> Option<Arc<Server>> {
        self.server(Place::Tcp(SocketAddr::new(
            canonical(flow.remote),
            flow.remote_port,
        )))
    }

    fn server(&mut self, place: Place) -> Option<Arc<Server>> {
        /// Servers are few; under `--all-ports` they need not be. Then names are made anew.
        const KEEP: usize = 65_536;
        if let Some(known) = self.servers.get(&place) {
            return known.clone();
        }
        let system = match &place {
            Place::Tcp(address) => self.databases.system_of_tcp(address.ip(), address.port()),
            Place::Unix(path) => self.databases.system_of_unix(path),
        };
        let server = system.map(|system| {
            Arc::new(Server {
                system,
                place: place.clone(),
            })
        });
        if self.servers.len() >= KEEP {
            self.servers.clear();
        }
        self.servers.insert(place, server.clone());
        server
    }
}

/// A unix connection has no handshake.
fn unix_opened(connect: &Connect) -> Change {
    Change {
        at: connect.at,
        cookie: connect.cookie,
        state: State::Established,
        from: State::Connecting,
        client: None,
        error: 0,
        shut: false,
        released: false,
        bytes_sent: 0,
        bytes_received: 0,
    }
}

/// Until when an acknowledgement without data belongs to the last request: the longest that a host delays one
/// (`TCP_DELACK_MAX` of `include/net/tcp.h` is 200 ms), and a long way to the server.
const ACKNOWLEDGED_WITHIN_MILLIS: u64 = 500;

/// Whether a request is under way though the ticks of sending and receiving are the same.
///
/// A tick is 4 ms or 10 ms: a client that has logged in, and asks at once, does both in one. But an answer carries its
/// own acknowledgement. If the server has acknowledged something later than it last answered, it has not answered that.
/// (Much later, it was a keepalive probe.) The one nanosecond that this adds is enough for the ledger: it takes sent
/// after received for a request under way, until something is received.
fn unanswered(row: &Row, rate: u64) -> bool {
    let later = row.last_acknowledged.wrapping_sub(row.last_received);
    let within = u64::from(later) * 1000 / rate;
    row.last_sent == row.last_received && later > 0 && within <= ACKNOWLEDGED_WITHIN_MILLIS
}

/// The process that called connect. The classic tracepoints do not know when it started: `/proc` does, if
/// it is still there.
fn opener(record: &ConnectRecord) -> ProcessId {
    let start_ticks =
        (record.process_start == 0).then(|| start_ticks(Path::new("/proc"), record.pid).unwrap_or(0));
    match start_ticks {
        Some(start_ticks) => ProcessId {
            pid: record.pid,
            start_ticks,
        },
        None => ProcessId::from_kernel(record.pid, record.process_start),
    }
}

/// Both ends, once this side has a port.
fn ends(flow: &Flow) -> Option<Ends> {
    Some((client(flow)?, remote(flow)))
}

fn remote(flow: &Flow) -> SocketAddr {
    SocketAddr::new(canonical(flow.remote), flow.remote_port)
}

/// This end; unknown before the kernel has chosen a port, and after it was given back.
fn client(flow: &Flow) -> Option<SocketAddr> {
    (flow.local_port != 0).then(|| SocketAddr::new(canonical(flow.local), flow.local_port))
}

fn state(number: u8) -> State {
    match number {
        tcp::ESTABLISHED => State::Established,
        tcp::SYN_SENT | tcp::SYN_RECV => State::Connecting,
        tcp::CLOSE_WAIT => State::PeerClosed,
        tcp::FIN_WAIT1 | tcp::FIN_WAIT2 | tcp::TIME_WAIT | tcp::LAST_ACK | tcp::CLOSING => State::Closing,
        _ => State::Closed,
    }
}

/// A process's name: up to 15 bytes of anything.
fn comm(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The server's name; an abstract one, which begins with NUL, is written with `@` as `ss` does.
fn unix_name(row: &UnixRow) -> String {
    socket_name(&row.path, row.path_len)
}

fn socket_name(path: &[u8], length: u16) -> String {
    let name = &path[..usize::from(length).min(path.len())];
    if let Some((0, rest)) = name.split_first() {
        format!("@{}", String::from_utf8_lossy(rest))
    } else {
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        String::from_utf8_lossy(&name[..end]).into_owned()
    }
}
