//! The loads, each a process of its own: `bench load NAME …`. What they measure they print as one JSON object; servers and
//! holders print `ready` and live until their input ends.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    socket::{Backlog, listen as listen_socket, setsockopt, sockopt::Linger},
};
use serde_json::json;

/// A reset on close gives the port back at once: there are fewer ephemeral ports than cycles in a round.
const RESET: nix::libc::linger = nix::libc::linger {
    l_onoff: 1,
    l_linger: 0,
};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Load {
    /// Accept connections, each until its client closes
    Accept {
        /// Where
        port: u16,
        /// Threads
        threads: usize,
    },
    /// Connect and close, over and over; keep some connections open meanwhile
    Cycle {
        /// Where to
        port: u16,
        /// For how long
        millis: u64,
        /// Threads
        threads: usize,
    },
    /// Send back what comes
    Echo {
        /// Where
        port: u16,
    },
    /// Send a query and wait for the answer, in turn on each connection
    Talk {
        /// Where to
        port: u16,
        /// For how long
        millis: u64,
        /// Bytes of a query and of its answer
        bytes: usize,
        /// How many connections
        connections: usize,
    },
    /// Hold connections and other descriptors
    Hold {
        /// Where to
        port: u16,
        /// Processes
        processes: usize,
        /// Connections of each
        connections: usize,
        /// Other descriptors of each
        others: usize,
    },
    /// Find the processes that hold connections to a port the way that scripts do: by /proc
    ScanProc {
        /// The port
        port: u16,
    },
}

/// Runs a load.
///
/// # Errors
/// When a connection fails: a measurement with holes is none.
pub fn run(load: &Load) -> Result<()> {
    match *load {
        Load::Accept { port, threads } => accept(port, threads),
        Load::Cycle {
            port,
            millis,
            threads,
        } => say(&cycle(port, Duration::from_millis(millis), threads)?),
        Load::Echo { port } => echo(port),
        Load::Talk {
            port,
            millis,
            bytes,
            connections,
        } => say(&talk(port, Duration::from_millis(millis), bytes, connections)?),
        Load::Hold {
            port,
            processes,
            connections,
            others,
        } => hold(port, processes, connections, others),
        Load::ScanProc { port } => say(&json!({ "holders": scan_proc(port)?.len() })),
    }
}

fn say(value: &serde_json::Value) -> Result<()> {
    Ok(writeln!(io::stdout(), "{value}")?)
}

/// Tells that all is in place, and waits for the end.
fn serve_until_told() -> Result<()> {
    say(&json!("ready")).and_then(|()| Ok(io::stdout().flush()?))?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn listen(port: u16) -> Result<TcpListener> {
    raise_descriptor_limit()?;
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| format!("listen on {port}"))?;
    // The standard library's queue of 128 overflows as soon as the server is not scheduled for a while; then a client
    // waits a second for its next SYN, and that is measured.
    listen_socket(&listener, Backlog::new(4096)?)?;
    Ok(listener)
}

fn raise_descriptor_limit() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

fn connect(port: u16) -> Result<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).with_context(|| format!("connect to {port}"))
}

fn accept(port: u16, threads: usize) -> Result<()> {
    let listener = listen(port)?;
    for _ in 0..threads {
        let listener = listener.try_clone()?;
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                // Until the client closes; its reset is an error, which is as good.
                drop(stream.read(&mut [0; 64]));
            }
        });
    }
    serve_until_told()
}

fn cycle(port: u16, time: Duration, threads: usize) -> Result<serde_json::Value> {
    let begin = Instant::now();
    let clients: Vec<_> = (0..threads)
        .map(|_| {
            thread::spawn(move || -> Result<u64> {
                let mut cycles = 0;
                while begin.elapsed() < time {
                    let stream = connect(port)?;
                    setsockopt(&stream, Linger, &RESET).map_err(io::Error::from)?;
                    drop(stream);
                    cycles += 1;
                }
                Ok(cycles)
            })
        })
        .collect();
    let cycles = total(clients)?;
    let nanos = u64::try_from(begin.elapsed().as_nanos())?;
    Ok(json!({ "cycles": cycles, "micros": nanos as f64 / 1000.0 * threads as f64 / cycles.max(1) as f64 }))
}

fn total(clients: Vec<thread::JoinHandle<Result<u64>>>) -> Result<u64> {
    let mut total = 0;
    for client in clients {
        match client.join() {
            Ok(count) => total += count?,
            Err(_) => bail!("a client thread panicked"),
        }
    }
    Ok(total)
}

fn echo(port: u16) -> Result<()> {
    let listener = listen(port)?;
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                drop(stream.set_nodelay(true));
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    serve_until_told()
}

fn talk(port: u16, time: Duration, bytes: usize, connections: usize) -> Result<serde_json::Value> {
    let threads = connections.min(thread::available_parallelism()?.get());
    let clients: Vec<_> = (0..threads)
        .map(|_| {
            thread::spawn(move || -> Result<u64> {
                let mut streams = (0..connections / threads)
                    .map(|_| {
                        connect(port).and_then(|stream| Ok(stream.set_nodelay(true).map(|()| stream)?))
                    })
                    .collect::<Result<Vec<_>>>()?;
                let (query, mut answer) = (vec![b'q'; bytes], vec![0; bytes]);
                let (begin, mut turns) = (Instant::now(), 0);
                while begin.elapsed() < time {
                    for stream in &mut streams {
                        stream.write_all(&query)?;
                        stream.read_exact(&mut answer)?;
                        turns += 1;
                    }
                }
                Ok(turns)
            })
        })
        .collect();
    let turns = total(clients)?;
    Ok(json!({ "turns_per_s": turns as f64 / time.as_secs_f64() }))
}

fn hold(port: u16, processes: usize, connections: usize, others: usize) -> Result<()> {
    raise_descriptor_limit()?;
    if processes > 1 {
        return hold_in_children(port, processes, connections, others);
    }
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(connect(port)?);
    }
    // As a pool that takes the connection which was given back last: used in another order than opened, and some often.
    for turn in 0..3 * connections {
        let stream = &mut streams[turn * turn % connections];
        stream.write_all(b"q")?;
        stream.read_exact(&mut [0])?;
    }
    for stream in streams.iter_mut().rev() {
        stream.write_all(b"q")?;
        stream.read_exact(&mut [0])?;
    }
    let files = (0..others)
        .map(|_| File::open("/dev/null"))
        .collect::<io::Result<Vec<_>>>()?;
    serve_until_told()?;
    drop((streams, files));
    Ok(())
}

fn hold_in_children(port: u16, processes: usize, connections: usize, others: usize) -> Result<()> {
    let mut children: Vec<Child> = Vec::new();
    for _ in 0..processes {
        let words = [usize::from(port), 1, connections, others].map(|number| number.to_string());
        let mut child = Command::new(std::env::current_exe()?)
            .args(["load", "hold"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut word = [0; 5];
        child.stdout.take().context("its output")?.read_exact(&mut word)?;
        ensure!(&word == b"\"read", "a holder said {word:?}");
        children.push(child);
    }
    serve_until_told()?;
    // Each ends with its input.
    for child in &mut children {
        drop(child.stdin.take());
    }
    for mut child in children {
        child.wait()?;
    }
    Ok(())
}

/// The pids that hold a connection to `port`: `/proc/PID/net/tcp` of each network namespace, then every descriptor.
fn scan_proc(port: u16) -> Result<BTreeSet<u32>> {
    let remote = format!(":{port:04X}");
    let (mut namespaces, mut inodes) = (BTreeSet::new(), BTreeSet::new());
    let pids: Vec<u32> = fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for pid in &pids {
        let Ok(namespace) = fs::metadata(format!("/proc/{pid}/ns/net")) else {
            continue;
        };
        if !namespaces.insert(namespace.ino()) {
            continue;
        }
        for table in ["tcp", "tcp6"] {
            let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
            let of_port = text.lines().skip(1).filter_map(|line| {
                let mut words = line.split_whitespace();
                words
                    .nth(2)?
                    .ends_with(&remote)
                    .then(|| words.nth(6)?.parse::<u64>().ok())?
            });
            inodes.extend(of_port);
        }
    }
    let holds = |pid: &u32| {
        let Ok(folder) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        folder
            .filter_map(Result::ok)
            .filter(|entry| {
                fs::read_link(entry.path())
                    .ok()
                    .and_then(|to| {
                        let to = to
                            .to_str()?
                            .strip_prefix("socket:[")?
                            .strip_suffix(']')?
                            .parse::<u64>()
                            .ok()?;
                        inodes.contains(&to).then_some(())
                    })
                    .is_some()
            })
            .count()
            > 0
    };
    Ok(pids.into_iter().filter(holds).collect())
}
