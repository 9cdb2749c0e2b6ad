//! The harness itself: servers start and go away, applications leak what they say, so that a failure of the other
//! tests is the agent's.

#![forbid(unsafe_code)]

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use connleak_tests::{
    app::App,
    port, programs, require_root,
    server::{Server, mariadb, postgres, redis},
    wait,
};

/// How many sockets of `pid` have `text` in their line of `ss`.
fn sockets(pid: u32, text: &str) -> Result<usize> {
    let output = Command::new("ss")
        .args(["-H", "-t", "-x", "-a", "-n", "-p"])
        .output()
        .context("run ss")?;
    let of_pid = format!("pid={pid},");
    let all = String::from_utf8(output.stdout)?;
    Ok(all
        .lines()
        .filter(|line| line.contains(&of_pid) && line.contains(text))
        .count())
}

fn leaks(script: &str, args: &[&str], text: &str) -> Result<()> {
    let mut app = App::start(script, args)?;
    app.ask("leak 5", "LEAKED 5")?;
    let found = sockets(app.pid(), text)?;
    ensure!(
        found == 5,
        "{script} {args:?}: 5 sockets with {text}, not {found}"
    );
    app.ask("close", "CLOSED 5")?;
    ensure!(sockets(app.pid(), text)? == 0, "{script} {args:?}: closed");
    Ok(())
}

fn goes_away(server: Server) -> Result<()> {
    let (port, socket) = (server.port, server.socket.clone());
    let folder = socket.parent().map(Path::to_path_buf).context("the folder")?;
    ensure!(!port::is_free(port) && socket.exists(), "it is there");
    drop(server);
    ensure!(!folder.exists(), "{} is left", folder.display());
    wait::until("the port to be free", || Ok(port::is_free(port).then_some(())))
}

#[test]
fn root_postgres_runs_and_psycopg_leaks() -> Result<()> {
    require_root!();
    let server = postgres::start()?;
    let port = server.port;
    let folder = server.socket.parent().unwrap_or(&server.socket).display();
    for (host, text) in [
        ("127.0.0.1", format!("127.0.0.1:{port}")),
        ("::1", format!("[::1]:{port}")),
    ] {
        leaks(
            "leak_psycopg.py",
            &[&format!("host={host} port={port} user=postgres dbname=postgres")],
            &text,
        )?;
    }
    let dsn = format!("host={folder} port={port} user=postgres dbname=postgres");
    leaks("leak_psycopg.py", &[&dsn], "u_str")?;

    let tcp = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    let mut forgetful = App::start("server_closes_first.py", [&tcp])?;
    forgetful.ask("open 3", "CLOSE_WAIT 3")?;
    ensure!(
        sockets(forgetful.pid(), "CLOSE-WAIT")? == 3,
        "three sockets in CLOSE-WAIT"
    );

    let mut silent = App::start("never_sends.py", ["127.0.0.1", &port.to_string()])?;
    silent.ask("open 3", "OPENED 3")?;
    ensure!(
        sockets(silent.pid(), &format!("127.0.0.1:{port}"))? == 3,
        "three silent sockets"
    );

    let url = format!("postgresql+psycopg://postgres@127.0.0.1:{port}/postgres");
    let mut pool = App::start("pool_sqlalchemy.py", [url])?;
    pool.ask("bursts 2", "BURST 2")?;
    ensure!(
        sockets(pool.pid(), &format!("127.0.0.1:{port}"))? == 20,
        "a pool of twenty"
    );
    goes_away(server)
}

#[test]
fn root_the_standard_postgres_is_where_clients_look() -> Result<()> {
    require_root!();
    let Some(server) = postgres::standard()? else {
        return Ok(());
    };
    ensure!(
        server.port == 5432 && server.socket.exists(),
        "{}",
        server.socket_text()
    );
    leaks("leak_psycopg.py", &["user=postgres dbname=postgres"], "u_str")
}

#[test]
fn root_mariadb_runs_and_pymysql_leaks() -> Result<()> {
    require_root!();
    let server = mariadb::start()?;
    leaks(
        "leak_pymysql.py",
        &["127.0.0.1", &server.port.to_string()],
        &format!("127.0.0.1:{}", server.port),
    )?;
    leaks("leak_pymysql.py", &[&server.socket_text()], "u_str")?;
    goes_away(server)
}

#[test]
fn root_redis_runs_and_redis_py_leaks() -> Result<()> {
    require_root!();
    let server = redis::start()?;
    leaks(
        "leak_redis.py",
        &["127.0.0.1", &server.port.to_string()],
        &format!("127.0.0.1:{}", server.port),
    )?;
    leaks("leak_redis.py", &[&server.socket_text()], "u_str")?;
    goes_away(server)
}

#[test]
fn root_an_application_runs_in_other_namespaces() -> Result<()> {
    require_root!();
    let mut app = App::start_contained("leak_in_namespace.py", &[])?;
    app.ask("leak 3", "LEAKED 3")?;
    let pid = app.first_child()?;
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net"));
    ensure!(
        namespace(&pid.to_string())? != namespace("self")?,
        "another network namespace"
    );
    let inside = Command::new("nsenter")
        .args(["-t", &pid.to_string(), "-n", "ss", "-Htn"])
        .output()?;
    let inside = String::from_utf8(inside.stdout)?;
    ensure!(
        inside
            .lines()
            .filter(|line| line.ends_with("127.0.0.1:5432 "))
            .count()
            == 3,
        "three: {inside}"
    );
    Ok(())
}

#[test]
fn root_the_loaded_programs_can_be_listed() -> Result<()> {
    require_root!();
    programs::loaded()?;
    Ok(())
}
