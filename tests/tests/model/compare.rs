//! What the agent says, and where that is not the truth.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use serde_json::Value;

use crate::{
    backend::Backend,
    truth::{self, Cause, Socket, Wire},
    world::World,
};

/// The lines of a watch about connections, by socket.
#[derive(Default)]
pub struct Said {
    by_cookie: BTreeMap<u64, Vec<String>>,
    pub opened: usize,
    pub closed: usize,
    pub failed: usize,
}

impl Said {
    pub fn take(&mut self, lines: &[Value]) {
        for line in lines {
            let socket = &line["socket"];
            let opener = u32::try_from(socket["opener"].as_u64().unwrap_or(0)).unwrap_or(0);
            // Of a unix socket, whoever sent first counts as its opener, if anybody did.
            let opener = if line["server"]["path"].is_null() {
                opener
            } else {
                0
            };
            let server = server(&line["server"]);
            let text = match line["event"].as_str() {
                Some("open") => {
                    self.opened += 1;
                    truth::open_line(opener, &server, client_port(socket))
                }
                Some("failed") => {
                    self.failed += 1;
                    truth::failed_line(opener, &server)
                }
                Some("close") => {
                    self.closed += 1;
                    let cause = socket["closed_by"].as_str().unwrap_or("?");
                    truth::close_line(cause, opener, &server)
                }
                _ => continue,
            };
            let cookie = socket["cookie"].as_u64().unwrap_or(0);
            self.by_cookie.entry(cookie).or_default().push(text);
        }
    }

    fn of(&self, number: u64) -> &[String] {
        self.by_cookie.get(&number).map_or(&[], Vec::as_slice)
    }
}

/// Something that the agent got wrong about a program's socket.
pub struct Mismatch {
    pub program: usize,
    pub text: String,
}

/// Compares the lines of a watch with the truth. `settled`: the unix sockets that were open long enough to be seen.
pub fn lines(worlds: &[World], said: &Said, settled: &BTreeSet<u64>, backend: Backend) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    let mut known = BTreeSet::new();
    // Where the agent has no cookies.
    let mut lives = Vec::new();
    for world in worlds {
        for socket in &world.sockets {
            if !backend.has_cookies() && !socket.is_unix() {
                let late = backend.may_tell_late() && backend.misses_the_end_of(socket);
                let told = split(tcp_lines(socket, backend)).zip(split(&socket.lines));
                lives.extend(told.map(|(life, whole)| (world.index, life, late.then_some(whole))));
                continue;
            }
            let number = if socket.is_unix() {
                backend.unix_number(socket)
            } else {
                socket.cookie
            };
            known.insert(number);
            let got = said.of(number);
            let wanted = if socket.is_unix() {
                unix_lines(socket, got, settled.contains(&socket.cookie), backend)
            } else {
                tcp_lines(socket, backend).to_vec()
            };
            let late = backend.may_tell_late() && backend.misses_the_end_of(socket) && socket.lines == got;
            if wanted != got && !late {
                mismatches.push(Mismatch {
                    program: world.index,
                    text: format!(
                        "socket {}: watch should have said {wanted:#?} and said {got:#?}",
                        socket.cookie
                    ),
                });
            }
        }
    }
    let others = said
        .by_cookie
        .iter()
        .filter(|(number, _)| !known.contains(number));
    if backend.has_cookies() {
        mismatches.extend(others.map(|(cookie, got)| Mismatch {
            program: worlds.first().map_or(0, |world| world.index),
            text: format!("no program has the socket {cookie} of which watch says {got:#?}"),
        }));
    } else {
        let got = others.flat_map(|(_, got)| split(got));
        mismatches.extend(histories(lives, got.collect()));
    }
    mismatches
}

/// What a watch has to say about a TCP socket.
fn tcp_lines(socket: &Socket, backend: Backend) -> &[String] {
    match socket.lines.split_last() {
        Some((_, told)) if backend.misses_the_end_of(socket) => told,
        _ => &socket.lines,
    }
}

/// The lives of a socket: each connect begins one.
fn split(lines: &[String]) -> impl Iterator<Item = &[String]> {
    lines.chunk_by(|_, next| next.starts_with("close"))
}

/// A life that a program's socket had, and what may be told of it instead.
type Wanted<'a> = (usize, &'a [String], Option<&'a [String]>);

/// Compares whole lives, each with whatever life is told of likewise. The first line says who connected from which port to
/// which server, so that two lives are hardly ever alike; of failed connects, which have no port, as many have to be
/// told of as there were.
fn histories<'a>(wanted: Vec<Wanted<'a>>, mut got: Vec<&'a [String]>) -> Vec<Mismatch> {
    let missing: Vec<(usize, &'a [String])> = wanted
        .into_iter()
        .filter(|(_, life, rest)| {
            let mut same = got.iter().position(|said| said == life);
            if let (None, Some(whole)) = (same, rest) {
                same = got.iter().position(|said| said == whole);
            }
            same.map(|index| got.swap_remove(index)).is_none()
        })
        .map(|(program, life, _)| (program, life))
        .collect();
    let program = missing.first().map_or(0, |(program, _)| *program);
    let mut mismatches = Vec::new();
    for (program, life) in missing {
        let similar = got.iter().position(|said| said.first() == life.first());
        let said = similar.map(|index| got.swap_remove(index)).unwrap_or_default();
        mismatches.push(Mismatch {
            program,
            text: format!("watch should have said {life:#?} and said {said:#?}"),
        });
    }
    mismatches.extend(got.into_iter().map(|said| Mismatch {
        program,
        text: format!("no program has a socket of which watch says {said:#?}"),
    }));
    mismatches
}

/// What a watch has to say about a unix socket, which no tracepoint tells of: snapshots find it, and what a snapshot
/// does not find is gone. One that lived for less than a second may never have been seen, and a descriptor that moved from
/// process to process during a walk may have been passed over; then the socket goes and comes back. What must be right is
/// the end: open or closed, and by whom, if there was a snapshot between the server's close and the client's.
fn unix_lines(socket: &Socket, got: &[String], settled: bool, backend: Backend) -> Vec<String> {
    let open = truth::open_line(0, &socket.server, 0);
    let close = |cause: Cause| truth::close_line(cause.name(), 0, &socket.server);
    let opened = got.iter().filter(|line| **line == open).count();
    // Unless its server was gone before a snapshot could know who that was.
    let missed = got.is_empty() && backend.is_blind_to(socket);
    let is_open = !socket.released && !missed;
    let settled = settled && !missed;
    let mut wanted = Vec::new();
    for _ in 0..opened.max(usize::from(is_open || settled)) {
        wanted.extend([open.clone(), close(Cause::Unseen)]);
    }
    if is_open {
        wanted.pop();
    } else if let Some(last) = wanted.last_mut() {
        let seen = settled || got.last().is_some_and(|said| *said == close(Cause::Peer));
        if socket.ended == Some(Cause::Peer) && seen {
            *last = close(Cause::Peer);
        }
    }
    wanted
}

/// Compares a scan with the truth.
pub fn scan(worlds: &[World], lines: &[Value], backend: Backend) -> Vec<Mismatch> {
    let mut rows: BTreeMap<String, String> = BTreeMap::new();
    for line in lines.iter().filter(|line| line["event"] == "socket") {
        let socket = &line["socket"];
        let name = if backend.has_cookies() {
            socket["cookie"].to_string()
        } else {
            let first = &socket["holders"][0];
            format!("{}/{}", first["pid"], first["fd"])
        };
        rows.insert(name, row(line));
    }
    let mut mismatches = Vec::new();
    for world in worlds {
        let all = world.holders();
        for (index, socket) in world.sockets.iter().enumerate() {
            let holders = all.get(&index).map_or(&[][..], Vec::as_slice);
            let name = match holders.first() {
                _ if backend.has_cookies() => socket.cookie.to_string(),
                Some((pid, fd)) => format!("{pid}/{fd}"),
                None => continue,
            };
            let wanted = socket.scan_line(holders).filter(|_| !backend.is_blind_to(socket));
            let got = rows.remove(&name);
            if wanted != got && !(socket.undecidable() && got.is_none()) {
                mismatches.push(Mismatch {
                    program: world.index,
                    text: format!(
                        "socket {}: scan should say {wanted:?} and says {got:?}; {} before",
                        socket.cookie,
                        socket.lines.join(", ")
                    ),
                });
            }
        }
        // The rest is held by others: by the test itself, or by programs still to come.
        for (name, row) in &rows {
            let mut pids = world.actors.iter().map(|actor| format!(" {}/", actor.pid));
            if pids.any(|pid| row.contains(&pid)) {
                mismatches.push(Mismatch {
                    program: world.index,
                    text: format!("program has no socket {name}, of which scan says {row}"),
                });
            }
        }
    }
    mismatches
}

/// How many sockets a watch should count as open.
pub fn open_sockets(worlds: &[World], said: &Said, backend: Backend) -> RangeInclusive<usize> {
    let sockets = worlds.iter().flat_map(|world| &world.sockets);
    let missed = |socket: &Socket| {
        socket.is_unix() && backend.is_blind_to(socket) && said.of(backend.unix_number(socket)).is_empty()
    };
    let open = sockets.clone().filter(|socket| {
        let open = !socket.released && socket.wire != Wire::Unconnected;
        open && !missed(socket)
    });
    let open = open.count();
    let late = sockets.filter(|socket| backend.misses_the_end_of(socket)).count();
    let least = if backend.may_tell_late() {
        open
    } else {
        open + late
    };
    least..=open + late
}

fn row(line: &Value) -> String {
    use std::fmt::Write as _;
    let socket = &line["socket"];
    let mut text = format!(
        "{} to {}",
        socket["state"].as_str().unwrap_or("?"),
        server(&line["server"])
    );
    if line["server"]["path"].is_null() {
        let _ = write!(
            text,
            " from {}, {} sent, {} received",
            client_port(socket),
            socket["bytes_sent"],
            socket["bytes_received"]
        );
    }
    for holder in socket["holders"].as_array().into_iter().flatten() {
        let _ = write!(text, ", {}/{}", holder["pid"], holder["fd"]);
    }
    text
}

fn client_port(socket: &Value) -> u16 {
    let port = socket["client"]["port"].as_u64().unwrap_or(0);
    u16::try_from(port).unwrap_or(0)
}

fn server(server: &Value) -> String {
    if let Some(path) = server["path"].as_str() {
        return path.to_owned();
    }
    let address = server["address"].as_str().unwrap_or("?");
    let port = &server["port"];
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}
