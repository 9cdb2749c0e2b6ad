//! `connleak demo`: a real finding on a real leak, without a database.
//!
//! Two children of this process talk over loopback: a small server, and a client that opens a connection
//! five times a second, uses it once, and forgets to close it. The parent watches them with the same probes,
//! ledger and rules as everywhere else.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args as ClapArgs;
use nix::sys::{prctl, signal::Signal};

use super::{
    OK,
    args::Format,
    need_privileges,
    report::Report,
    watch::{Watch, runtime},
};
use crate::{
    agent::{Agent, ProcessFilter},
    event::SECOND,
    ledger::Ledger,
    probes::{Options, stacks},
    server::{Databases, Flags},
    verdict::{Confidence, Policy},
};

#[derive(ClapArgs, Debug)]
pub struct Args {
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Time between two leaks.
const PACE: Duration = Duration::from_millis(200);
/// The client stops leaking here: it is a demonstration.
const ENOUGH: usize = 200;
/// When nothing was found by now, something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn run(args: &Args) -> Result<u8> {
    need_privileges()?;
    let mut report = Report::new(args.output, None, false)?;
    let mut server = child(&["demo-server"], "demo-server")?;
    let port = port_of(&mut server)?;
    let flags = Flags {
        ports: vec![format!("{port}=postgresql").parse()?],
        ..Flags::default()
    };
    let policy = Policy {
        idle: 2 * SECOND,
        ..Policy::default()
    };
    // Attached first, so that the whole leak is seen.
    let databases = Databases::build(&flags)?;
    let agent = Agent::attach(
        &databases,
        ProcessFilter::default(),
        policy,
        Options {
            stacks: stacks::Options::USUAL,
            ..Options::default()
        },
        Ledger::LIMIT,
    )?;
    let mut client = child(&["demo-client", &port.to_string()], "demo-client")?;
    report.text(&format!(
        "A client (pid {}) opens a connection to 127.0.0.1:{port} five times a second, sends one query on it, \
         and never closes it.\nconnleak watches; a connection counts as idle after 2 s.\n\n",
        client.0.id()
    ))?;
    let mut watch = Watch::new(agent, false);
    let found = |finding: &crate::verdict::Finding| finding.confidence >= Confidence::Likely;
    runtime()?.block_on(watch.run(&mut report, Some(PATIENCE), found))?;
    let named = watch.found();
    watch.end(&mut report)?;
    client.stop();
    server.stop();
    if !named && !report.abandoned() {
        bail!(
            "the demonstration's leak was not found within {} s: run 'connleak doctor'",
            PATIENCE.as_secs()
        );
    }
    report.text(
        "That was the demonstration. On a host with a problem: 'connleak scan', then 'connleak watch'.\n",
    )?;
    Ok(OK)
}

/// A child that does not outlive us.
struct Guard(Child);

impl Guard {
    fn stop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop();
    }
}

fn child(arguments: &[&str], name: &str) -> Result<Guard> {
    let child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't start the {name}"))?;
    Ok(Guard(child))
}

fn port_of(server: &mut Guard) -> Result<u16> {
    let out = server.0.stdout.take().context("the demo server has no output")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    line.trim()
        .parse()
        .context("the demo server did not say its port")
}

/// Dies with the parent, and shows under a name of its own in `ps`.
fn settle(name: &std::ffi::CStr) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    prctl::set_name(name)?;
    Ok(())
}

/// The hidden command: answers every request with a word.
pub fn server() -> Result<u8> {
    settle(c"demo-server")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?.port())?;
    out.flush()?;
    let mut kept = Vec::new();
    for connection in listener.incoming() {
        let mut connection = connection?;
        let mut request = [0; 64];
        if connection.read(&mut request).is_ok() {
            // A client that has gone does not matter to a demonstration.
            let _ = connection.write_all(b"1 row\n");
        }
        kept.push(connection);
    }
    Ok(OK)
}

/// The hidden command: forgets to close.
pub fn client(port: u16) -> Result<u8> {
    settle(c"demo-client")?;
    let mut forgotten = Vec::new();
    for _ in 0..ENOUGH {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        connection.write_all(b"select 1;\n")?;
        let mut answer = [0; 64];
        let _ = connection.read(&mut answer)?;
        forgotten.push(connection);
        thread::sleep(PACE);
    }
    // Long enough for anybody to look at it.
    thread::sleep(PATIENCE);
    Ok(OK)
}
