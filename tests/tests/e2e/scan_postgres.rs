//! `scan` and a Python application that leaks psycopg connections to PostgreSQL.

use anyhow::{Result, ensure};
use connleak_tests::{
    agent,
    app::App,
    lines, require_root, root,
    server::{self, postgres},
};

use crate::leak::{LEAKED, Where, args, leaking, scan_names};

const APP: &str = "leak_psycopg.py";
const SYSTEM: &[&str] = &["postgresql"];

fn dsn(host: &str, port: u16) -> String {
    format!("host={host} port={port} user=postgres dbname=postgres")
}

#[test]
fn root_scan_names_the_python_process_that_leaks_30_psycopg_connections() -> Result<()> {
    require_root!();
    let server = postgres::shared()?;
    let app = leaking(APP, &[&dsn("127.0.0.1", server.port)])?;
    scan_names(
        app.pid(),
        &server.only_this("postgresql"),
        SYSTEM,
        &Where::Tcp("127.0.0.1", server.port),
    )
}

#[test]
fn root_scan_names_the_process_that_goes_on_leaking() -> Result<()> {
    require_root!();
    let server = postgres::shared()?;
    let mut app = App::start(APP, [dsn("127.0.0.1", server.port)])?;
    app.ask("leak 60", &format!("LEAKED {LEAKED}"))?;
    let outcome = agent::scan(server.only_this("postgresql"))?;
    app.tell("rest")?;
    let all = outcome.lines()?;
    let found = lines::findings_of(&all, app.pid());
    ensure!(
        outcome.code() == Some(3) && found.len() == 1,
        "exit 3, one finding: {}",
        outcome.describe()
    );
    ensure!(found[0]["finding"]["kind"] == "leak", "kind leak: {:#}", found[0]);
    let sockets = found[0]["finding"]["sockets"].as_u64().unwrap_or(0);
    ensure!(
        sockets >= u64::from(LEAKED),
        "at least {LEAKED} sockets, not {sockets}"
    );
    Ok(())
}

#[test]
fn root_scan_names_the_leak_over_the_unix_socket() -> Result<()> {
    require_root!();
    let server = postgres::shared()?;
    let folder = server
        .socket
        .parent()
        .unwrap_or(&server.socket)
        .display()
        .to_string();
    let app = leaking(APP, &[&dsn(&folder, server.port)])?;
    let path = server.socket_text();
    scan_names(
        app.pid(),
        &args(&["--db", "postgresql"]),
        SYSTEM,
        &Where::Unix(&path),
    )
}

#[test]
fn root_scan_names_the_leak_over_ipv6() -> Result<()> {
    require_root!();
    let server = postgres::shared()?;
    let app = leaking(APP, &[&dsn("::1", server.port)])?;
    let only = server::only("::1", server.port, "postgresql");
    scan_names(app.pid(), &only, SYSTEM, &Where::Tcp("::1", server.port))
}

#[test]
fn root_scan_needs_no_flag_for_the_standard_port() -> Result<()> {
    require_root!();
    let Some(server) = postgres::standard()? else {
        return standard_is_taken();
    };
    let app = leaking(APP, &[&dsn("127.0.0.1", server.port)])?;
    scan_names(
        app.pid(),
        &[],
        SYSTEM,
        &Where::Tcp("127.0.0.1", postgres::STANDARD_PORT),
    )
}

#[test]
fn root_scan_needs_no_flag_for_the_standard_unix_socket() -> Result<()> {
    require_root!();
    let Some(server) = postgres::standard()? else {
        return standard_is_taken();
    };
    let app = leaking(APP, &[&dsn(postgres::STANDARD_SOCKETS, server.port)])?;
    let path = server.socket_text();
    scan_names(app.pid(), &[], SYSTEM, &Where::Unix(&path))
}

#[expect(clippy::unnecessary_wraps, reason = "it is the result of the test")]
fn standard_is_taken() -> Result<()> {
    root::say("SKIPPED: another server has port 5432 or its unix socket");
    Ok(())
}
