//! `sock_diag` (<https://man7.org/linux/man-pages/man7/sock_diag.7.html>): every TCP and unix socket of a
//! network namespace.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    net::IpAddr,
    os::unix::ffi::OsStrExt as _,
    thread,
};

use anyhow::{Context as _, Result, bail};
use connleak_ebpf::{
    AF_INET, AF_INET6, Flow, ROW_LISTENER, ROW_TCP, ROW_UNIX, Row, UNIX_PATH_LEN, UnixRow, tcp,
};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET as INET, AF_INET6 as INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
    unix::{ShowFlags, StateFlags as UnixStateFlags, UnixRequest, UnixResponse, nlas::UnixDiagName},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use nix::sched::{CloneFlags, setns};

use super::{Rows, holders::NetworkNamespace};
use crate::{event::SECOND, probes::clock};

/// A datagram of a dump is at most this long (`NLMSG_GOODSIZE` is a page, large dumps use 32 KiB).
const DATAGRAM: usize = 64 * 1024;

/// Dumps one namespace: in a thread of its own, which is the only one that enters it.
pub(super) fn namespace(
    namespace: &NetworkNamespace,
    wanted: &impl Fn(u16) -> bool,
    rows: &mut Rows,
) -> Result<()> {
    let messages = thread::scope(|scope| {
        scope
            .spawn(|| {
                // Its last process may have exited: then there is nothing to dump.
                let Ok(file) = File::open(&namespace.path) else {
                    return anyhow::Ok(Vec::new());
                };
                setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| {
                    format!("can't enter the network namespace {}", namespace.path.display())
                })?;
                let requests = [
                    inet(INET, SocketId::new_v4()),
                    inet(INET6, SocketId::new_v6()),
                    unix(),
                ];
                // A row's time is before its reading: then no event that a row has not seen is older than it.
                let dumps = requests.map(|request| (clock::monotonic(), dump(request)));
                dumps
                    .into_iter()
                    .map(|(at, answers)| Ok((at, answers?)))
                    .collect()
            })
            .join()
    });
    let Ok(messages) = messages else {
        bail!("the dump of a network namespace failed")
    };
    for (at, answers) in messages? {
        let mut unix_ends = Vec::new();
        for answer in answers {
            match answer {
                SockDiagMessage::InetResponse(response) => {
                    rows.tcp.extend(tcp_row(&response, namespace.inode, at, wanted));
                }
                SockDiagMessage::UnixResponse(response) => unix_ends.push(*response),
                _ => {}
            }
        }
        rows.unix.extend(unix_rows(&unix_ends, at));
    }
    Ok(())
}

fn inet(family: u8, socket_id: SocketId) -> SockDiagMessage {
    SockDiagMessage::InetRequest(InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO | ExtensionFlags::SHUTDOWN,
        states: StateFlags::all(),
        socket_id,
    })
}

fn unix() -> SockDiagMessage {
    SockDiagMessage::UnixRequest(UnixRequest {
        state_flags: UnixStateFlags::all(),
        inode: 0,
        show_flags: ShowFlags::NAME | ShowFlags::PEER,
        cookie: [0xff; 8],
    })
}

fn dump(request: SockDiagMessage) -> Result<Vec<SockDiagMessage>> {
    let refused = "the kernel refused sock_diag (its modules: inet_diag, tcp_diag, unix_diag)";
    let mut socket = Socket::new(NETLINK_SOCK_DIAG).context(refused)?;
    socket.bind_auto().context(refused)?;
    socket.connect(&SocketAddr::new(0, 0)).context(refused)?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).context(refused)?;

    let mut answers = Vec::new();
    let mut buffer = Vec::with_capacity(DATAGRAM);
    loop {
        buffer.clear();
        let length = socket
            .recv(&mut buffer, 0)
            .context("can't read the sock_diag dump")?;
        let mut rest = buffer.get(..length).unwrap_or(&buffer);
        while !rest.is_empty() {
            let answer = NetlinkMessage::<SockDiagMessage>::deserialize(rest).context("sock_diag")?;
            let taken = usize::try_from(answer.header.length)?.next_multiple_of(4);
            match answer.payload {
                NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) => bail!("{refused}: {error}"),
                _ => {}
            }
            rest = rest.get(taken.max(1)..).unwrap_or_default();
        }
    }
}

fn tcp_row(response: &InetResponse, netns: u32, now: u64, wanted: &impl Fn(u16) -> bool) -> Option<Row> {
    let (header, id) = (&response.header, &response.header.socket_id);
    let family = if header.family == INET { AF_INET } else { AF_INET6 };
    let listening = header.state == tcp::LISTEN;
    if header.inode == 0 || !listening && !wanted(id.destination_port) {
        return None;
    }
    let mut row = Row {
        kind: if listening { ROW_LISTENER } else { ROW_TCP },
        at: now,
        jiffies: now / (SECOND / super::TICK_RATE),
        cookie: u64::from_ne_bytes(id.cookie),
        inode: u64::from(header.inode),
        flow: Flow {
            local: octets(id.source_address),
            remote: octets(id.destination_address),
            local_port: id.source_port,
            remote_port: id.destination_port,
            family,
            pad: 0,
            netns,
        },
        state: header.state,
        unread: header.recv_queue,
        unacknowledged: header.send_queue,
        ..Row::default()
    };
    let ago = |millis: u32| {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "stamps are the low word of the tick counter"
        )]
        let now = row.jiffies as u32;
        now.wrapping_sub(millis)
    };
    for attribute in &response.nlas {
        match attribute {
            Nla::TcpInfo(info) => {
                (row.last_sent, row.last_received) = (ago(info.last_data_sent), ago(info.last_data_recv));
                row.last_acknowledged = ago(info.last_ack_recv);
                row.bytes_sent = info.bytes_sent.saturating_sub(info.bytes_retrans);
                // The kernel counts the server's FIN, which has arrived in these states.
                let fin = matches!(header.state, tcp::CLOSE_WAIT | tcp::LAST_ACK | tcp::CLOSING);
                row.bytes_received = info.bytes_received.saturating_sub(u64::from(fin));
                (row.segments_sent, row.segments_received) = (info.data_segs_out, info.data_segs_in);
            }
            Nla::Shutdown(directions) => row.shutdown = *directions,
            _ => {}
        }
    }
    Some(row)
}

/// Both ends of unix connections whose server has a name. A client whose server is gone comes without: the kernel
/// tells a server's name only as long as there is one.
fn unix_rows(ends: &[UnixResponse], now: u64) -> Vec<UnixRow> {
    let names: HashMap<u32, &UnixDiagName> = ends
        .iter()
        .filter_map(|end| Some((end.header.inode, end.name()?)))
        .collect();
    let alive: HashSet<u32> = ends.iter().map(|end| end.header.inode).collect();
    ends.iter()
        .filter(
            |end| end.header.state == tcp::ESTABLISHED && end.header.kind == 1, /* SOCK_STREAM */
        )
        .filter_map(|end| {
            let peer = end.peer()?;
            let (name, client) = match names.get(&end.header.inode) {
                Some(own) => (Some(own), 0),
                // Before 6.17 it is 0 by then.
                None if !alive.contains(&peer) => (None, 1),
                None => (Some(names.get(&peer)?), 1),
            };
            let mut row = UnixRow {
                kind: ROW_UNIX,
                at: now,
                cookie: u64::from_ne_bytes(end.header.cookie),
                inode: u64::from(end.header.inode),
                peer_inode: u64::from(if name.is_some() { peer } else { 0 }),
                client,
                shutdown: end.shutdown_state().unwrap_or(0),
                ..UnixRow::default()
            };
            let Some(name) = name else { return Some(row) };
            let (start, bytes) = match name {
                UnixDiagName::Pathname(path) => (0, path.as_bytes()),
                UnixDiagName::Abstract(name) => (1, name.as_slice()),
            };
            let length = bytes.len().min(UNIX_PATH_LEN - start);
            row.path
                .get_mut(start..start + length)?
                .copy_from_slice(bytes.get(..length)?);
            row.path_len = u16::try_from(start + length).ok()?;
            Some(row)
        })
        .collect()
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
