//! What the agent says, and where that is not the truth.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
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

    fn of(&self, socket: &Socket) -> &[String] {
        self.by_cookie.get(&socket.cookie).map_or(&[], Vec::as_slice)
    }
}

/// Something that the agent got wrong about a program's socket.
pub struct Mismatch {
    pub program: usize,
    pub text: String,
}

/// Compares the lines of a watch with the truth. `settled`: the unix sockets that were open long enough to be seen.
pub fn lines(worlds: &[World], said: &Said, settled: &BTreeSet<u64>) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    let mut known = BTreeSet::new();
    for world in worlds {
        for socket in &world.sockets {
            known.insert(socket.cookie);
            let got = said.of(socket);
            let wanted = if socket.is_unix() {
                unix_lines(socket, got, settled.contains(&socket.cookie))
            } else {
                socket.lines.clone()
            };
            if wanted == got {
                continue;
            }
            mismatches.push(Mismatch {
                program: world.index,
                text: format!(
                    "socket {}: watch should have said {wanted:#?} and said {got:#?}",
                    socket.cookie
                ),
            });
        }
    }
    for (cookie, got) in &said.by_cookie {
        if !known.contains(cookie) {
            mismatches.push(Mismatch {
                program: worlds.first().map_or(0, |world| world.index),
                text: format!("no program has the socket {cookie} of which watch says {got:#?}"),
            });
        }
    }
    mismatches
}

/// What a watch has to say about a unix socket, which no tracepoint tells of: snapshots find it, and what a snapshot
/// does not find is gone. One that lived for less than a second may never have been seen, and a descriptor that moved from
/// process to process during a walk may have been passed over; then the socket goes and comes back. What must be right is
/// the end: open or closed, and by whom, if there was a snapshot between the server's close and the client's.
fn unix_lines(socket: &Socket, got: &[String], settled: bool) -> Vec<String> {
    let open = truth::open_line(0, &socket.server, 0);
    let close = |cause: Cause| truth::close_line(cause.name(), 0, &socket.server);
    let opened = got.iter().filter(|line| **line == open).count();
    let is_open = !socket.released;
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
pub fn scan(worlds: &[World], lines: &[Value]) -> Vec<Mismatch> {
    let mut rows: BTreeMap<u64, String> = BTreeMap::new();
    for line in lines.iter().filter(|line| line["event"] == "socket") {
        rows.insert(line["socket"]["cookie"].as_u64().unwrap_or(0), row(line));
    }
    let mut mismatches = Vec::new();
    for world in worlds {
        let holders = world.holders();
        for (index, socket) in world.sockets.iter().enumerate() {
            let wanted = socket.scan_line(holders.get(&index).map_or(&[], Vec::as_slice));
            let got = rows.get(&socket.cookie);
            if wanted.as_ref() != got && !(socket.undecidable() && got.is_none()) {
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
    }
    mismatches
}

/// How many sockets a watch should count as open.
pub fn open_sockets(worlds: &[World]) -> usize {
    let sockets = worlds.iter().flat_map(|world| &world.sockets);
    sockets
        .filter(|socket| !socket.released && socket.wire != Wire::Unconnected)
        .count()
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
