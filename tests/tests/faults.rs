//! What goes wrong around the agent: it is killed, stopped, flooded, or not alone. Each test is named by the failure.
//!
//! `CONNLEAK_LONG=1` runs the long forms: a minute of standstill, a million connections.

#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    env, fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use connleak_tests::{
    agent, lines, port, programs, raw, require_root, root, server::only, sink, wait, watch::Watch,
};
use nix::sys::signal::Signal;
use serde_json::Value;

fn long() -> bool {
    env::var_os("CONNLEAK_LONG").is_some_and(|value| value == "1")
}

/// Two servers: one for short connections, one after another, and one that holds on to what it never accepts.
struct Servers {
    short: u16,
    long: u16,
    _listener: TcpListener,
}

impl Servers {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port::free()?))?;
        Ok(Self {
            short: sink::start()?,
            long: listener.local_addr()?.port(),
            _listener: listener,
        })
    }

    fn flags(&self) -> Vec<String> {
        [self.short, self.long]
            .iter()
            .flat_map(|port| only("127.0.0.1", *port, "postgresql"))
            .collect()
    }
}

/// `count` short connections to `port`, by a process of its own.
fn churn(port: u16, count: u32) -> Result<Child> {
    let args = [port.to_string(), count.to_string()];
    Command::new(env!("CARGO_BIN_EXE_churn"))
        .args(args)
        .spawn()
        .context("churn")
}

fn done(mut churn: Child) -> Result<()> {
    let status = churn.wait()?;
    ensure!(status.success(), "churn: {status}");
    Ok(())
}

/// Connections that stay open, and their cookies.
fn hold(port: u16, count: usize) -> Result<(Vec<TcpStream>, BTreeSet<u64>)> {
    let mut streams = Vec::new();
    let mut cookies = BTreeSet::new();
    for _ in 0..count {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        cookies.insert(raw::cookie(&stream)?);
        streams.push(stream);
    }
    Ok((streams, cookies))
}

/// The cookies of the sockets that are open, going by `open` and `close` lines.
fn open_by(lines: &[Value]) -> BTreeSet<u64> {
    let mut open = BTreeSet::new();
    for line in lines {
        let cookie = line["socket"]["cookie"].as_u64().unwrap_or(0);
        if lines::is(line, "open") {
            open.insert(cookie);
        } else if lines::is(line, "close") {
            open.remove(&cookie);
        }
    }
    open
}

/// The cookies of the sockets that a scan sees.
fn open_by_scan(flags: &[String]) -> Result<BTreeSet<u64>> {
    let look = agent::scan(flags)?.lines()?;
    let sockets = look.iter().filter(|line| lines::is(line, "socket"));
    Ok(sockets
        .filter_map(|line| line["socket"]["cookie"].as_u64())
        .collect())
}

fn events_lost(lines: &[Value]) -> u64 {
    let lost = lines.iter().filter(|line| lines::is(line, "lost"));
    lost.filter_map(|line| line["lost"]["events"].as_u64()).sum()
}

fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kilobytes.context("VmRSS")?.parse::<u64>()? * 1024)
}

#[test]
fn root_an_agent_killed_with_9_under_load_leaves_nothing_loaded_and_the_application_goes_on() -> Result<()> {
    require_root!();
    let servers = Servers::start()?;
    let watch = Watch::attached(servers.flags())?;
    let held = programs::held_by(watch.pid());
    ensure!(
        !held.is_empty() && held.is_subset(&programs::loaded()?),
        "it holds programs"
    );
    let (mut streams, _) = hold(servers.long, 20)?;
    let load = churn(servers.short, 20_000)?;
    thread::sleep(Duration::from_millis(100));
    watch.signal(Signal::SIGKILL)?;
    watch.finish()?;
    wait::until("its programs to be unloaded", || {
        Ok(held.is_disjoint(&programs::loaded()?).then_some(()))
    })?;
    done(load)?;
    for stream in &mut streams {
        std::io::Write::write_all(stream, b"still there")?;
    }
    Ok(())
}

#[test]
fn root_two_agents_at_once_are_both_exact_and_the_end_of_one_does_not_disturb_the_other() -> Result<()> {
    require_root!();
    let servers = Servers::start()?;
    let mut flags = servers.flags();
    flags.push("--events".to_owned());
    let first = Watch::attached(&flags)?;
    let second = Watch::attached(&flags)?;
    let (streams, cookies) = hold(servers.long, 25)?;
    done(churn(servers.short, 2_000)?)?;
    let first = first.interrupt()?;
    done(churn(servers.short, 1_000)?)?;
    drop(streams);
    let end = Instant::now() + wait::PATIENCE;
    while !open_by(&second.lines_from(0)?).is_empty() && Instant::now() < end {
        thread::sleep(Duration::from_millis(50));
    }
    let second = second.interrupt()?;
    for (name, lines, opened, closed, open) in [
        ("the first", &first.lines, 2_025, 2_000, cookies),
        ("the second", &second.lines, 3_025, 3_025, BTreeSet::new()),
    ] {
        let summary = lines::summary(lines)?;
        ensure!(
            summary["opened"] == opened
                && summary["closed"] == closed
                && summary["completeness"]["events_lost"] == 0,
            "{name} should count {opened} opened, {closed} closed, none lost: {summary:#}"
        );
        ensure!(open_by(lines) == open, "{name}: the open ones");
    }
    Ok(())
}

#[test]
fn root_a_stopped_agent_blocks_no_client_and_heals_when_it_goes_on() -> Result<()> {
    require_root!();
    let servers = Servers::start()?;
    let mut flags = servers.flags();
    let scan_flags = flags.clone();
    flags.push("--events".to_owned());
    let watch = Watch::attached(&flags)?;
    let (before, _) = hold(servers.long, 10)?;
    watch.signal(Signal::SIGSTOP)?;

    let standstill = Duration::from_secs(if long() { 60 } else { 10 });
    let start = Instant::now();
    let (mut connects, mut slowest) = (0_u64, Duration::ZERO);
    while start.elapsed() < standstill {
        let one = Instant::now();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, servers.short))?;
        slowest = slowest.max(one.elapsed());
        nix::sys::socket::setsockopt(
            &stream,
            nix::sys::socket::sockopt::Linger,
            &nix::libc::linger {
                l_onoff: 1,
                l_linger: 0,
            },
        )?;
        drop(stream);
        connects += 1;
    }
    // Opened and closed in the dark.
    let (after, mut cookies) = hold(servers.long, 15)?;
    drop(before);
    root::say(&format!(
        "{connects} connects in {} s beside a stopped agent, the slowest {slowest:?}",
        standstill.as_secs()
    ));
    // A client that waits for the agent would hang until SIGCONT, which comes only now.
    ensure!(slowest < standstill / 2, "a connect took {slowest:?}");

    watch.signal(Signal::SIGCONT)?;
    let (more, later) = hold(servers.long, 5)?;
    cookies.extend(later);
    let end = Instant::now() + wait::PATIENCE;
    while open_by(&watch.lines_from(0)?) != cookies && Instant::now() < end {
        thread::sleep(Duration::from_millis(100));
    }
    ensure!(open_by_scan(&scan_flags)? == cookies, "a scan sees the truth");
    let end = watch.interrupt()?;
    let summary = lines::summary(&end.lines)?;
    let lost = events_lost(&end.lines);
    ensure!(
        open_by(&end.lines) == cookies,
        "the open ones, after {lost} lost events"
    );
    ensure!(
        summary["sockets"] == cookies.len() && summary["completeness"]["events_lost"] == lost,
        "the summary has the truth and the losses ({lost}): {summary:#}"
    );
    if lost == 0 {
        let opened = connects + 10 + 15 + 5;
        ensure!(
            summary["opened"] == opened && summary["closed"] == opened - 20,
            "nothing lost, so {opened} were opened: {summary:#}"
        );
    }
    drop((after, more));
    Ok(())
}

/// Connections of a storm that is more than a page of stacks.
const COUNT: u32 = 2_000;

#[test]
fn root_stacks_that_do_not_fit_are_counted_and_the_books_stay_exact() -> Result<()> {
    require_root!();
    let servers = Servers::start()?;
    let mut flags = servers.flags();
    flags.extend(["--stacks-kib", "4"].map(ToOwned::to_owned));
    let watch = Watch::attached(&flags)?;
    done(churn(servers.short, COUNT)?)?;
    let end = watch.interrupt()?;
    let summary = lines::summary(&end.lines)?;
    let completeness = &summary["completeness"];
    ensure!(
        completeness["stacks_lost"].as_u64().is_some_and(|lost| lost > 0),
        "a ring of one page holds no storm of stacks: {summary:#}"
    );
    ensure!(
        completeness["events_lost"] == 0 && summary["opened"] == COUNT,
        "no event was lost for it: {summary:#}"
    );
    Ok(())
}

#[test]
fn root_a_full_ring_loses_events_says_so_and_the_open_ones_are_right_again() -> Result<()> {
    require_root!();
    let servers = Servers::start()?;
    let mut flags = servers.flags();
    flags.extend(["--events", "--ring-kib", "4"].map(ToOwned::to_owned));
    let watch = Watch::attached(&flags)?;
    let (early, _) = hold(servers.long, 20)?;
    let storm = [churn(servers.short, 10_000)?, churn(servers.short, 10_000)?];
    // Some are opened and some closed in the middle of it.
    let (mut late, _) = hold(servers.long, 40)?;
    drop(early);
    late.drain(..10);
    for one in storm {
        done(one)?;
    }
    let cookies = late
        .iter()
        .map(raw::cookie)
        .collect::<std::io::Result<BTreeSet<u64>>>()?;
    let end = Instant::now() + wait::PATIENCE;
    while open_by(&watch.lines_from(0)?) != cookies && Instant::now() < end {
        thread::sleep(Duration::from_millis(100));
    }
    let end = watch.interrupt()?;
    let lost = events_lost(&end.lines);
    let summary = lines::summary(&end.lines)?;
    root::say(&format!(
        "a storm of 20,000 connections on a ring of 4 KiB: {lost} events lost"
    ));
    ensure!(lost > 0, "the storm did not fill the ring: {summary:#}");
    ensure!(
        summary["completeness"]["events_lost"] == lost,
        "what the lines say is what the summary says ({lost}): {summary:#}"
    );
    ensure!(open_by(&end.lines) == cookies, "the open ones after the storm");
    ensure!(
        summary["sockets"] == cookies.len(),
        "the summary's sockets: {summary:#}"
    );
    let findings = lines::findings(&end.lines);
    ensure!(
        findings
            .iter()
            .all(|finding| finding["finding"]["confidence"] != "certain"),
        "after losses nothing is certain: {findings:#?}"
    );
    Ok(())
}

#[test]
fn root_a_closed_connection_is_forgotten_so_that_many_short_ones_cost_no_memory() -> Result<()> {
    /// What an allocator keeps or gives back from one moment to the next.
    const SLACK: u64 = 4 << 20;
    require_root!();
    let port = sink::start()?;
    let watch = Watch::attached(only("127.0.0.1", port, "postgresql"))?;
    let rest = if long() { 950_000 } else { 150_000 };
    done(churn(port, 50_000)?)?;
    let before = resident(watch.pid())?;
    done(churn(port, rest)?)?;
    let after = resident(watch.pid())?;
    root::say(&format!(
        "resident after 50,000 connections: {before} bytes, after {rest} more: {after}"
    ));
    let end = watch.interrupt()?;
    let summary = lines::summary(&end.lines)?;
    let all = 50_000 + rest;
    ensure!(
        summary["opened"] == all && summary["closed"] == all,
        "all {all} were counted: {summary:#}"
    );
    ensure!(after < before + SLACK, "from {before} to {after} bytes");
    Ok(())
}
