//! Which Python code: the function that leaks is named by the finding, with its file and line, whatever runs it.

use anyhow::{Context as _, Result, ensure};
use connleak_tests::{
    app::App,
    lines, require_root,
    server::{Server, mariadb, postgres},
    watch::Watch,
};
use serde_json::Value;

/// Connections that an application leaks before it is judged.
const LEAKED: u32 = 12;

/// The frames of a stack that are Python's, as (function, file, line).
fn python(stack: &Value) -> Vec<(&str, &str, u64)> {
    let frames = stack["frames"].as_array().map_or(&[][..], Vec::as_slice);
    frames
        .iter()
        .filter(|frame| frame["runtime"] == "python")
        .map(|frame| {
            (
                frame["function"].as_str().unwrap_or_default(),
                frame["file"].as_str().unwrap_or_default(),
                frame["line"].as_u64().unwrap_or(0),
            )
        })
        .collect()
}

/// The line of `tests/apps/SCRIPT` that has this text.
fn line_of(script: &str, text: &str) -> Result<u64> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("apps")
        .join(script);
    let source = std::fs::read_to_string(path)?;
    let line = source.lines().position(|line| line.contains(text));
    Ok(line.with_context(|| format!("{script} has no line with {text}"))? as u64 + 1)
}

/// Whether a stack has `find_order` of the script at the line with this text.
fn has(stack: &Value, script: &str, text: &str) -> Result<()> {
    let line = line_of(script, text)?;
    ensure!(
        python(stack).iter().any(|&(function, file, at)| {
            function == "find_order" && file.ends_with(&format!("/{script}")) && at == line
        }),
        "no find_order, {script}:{line} in {stack:#}"
    );
    Ok(())
}

/// Lets the application leak before the eyes of the agent; gives the finding that says so.
fn finding(script: &str, args: &[String], server: &Server, system: &str) -> Result<Value> {
    let mut app = App::start(script, args)?;
    let pid = app.pid();
    let only = server.only_this(system);
    let mut watch = Watch::attached(
        only.iter()
            .map(String::as_str)
            .chain(["--idle", "2s", "--for", "120s"]),
    )?;
    app.ask(&format!("leak {LEAKED}"), &format!("LEAKED {LEAKED}"))?;
    watch.wait_for("a finding with the code that opened the connections", |line| {
        lines::is(line, "finding")
            && lines::of_pid(line, pid)
            && !python(&line["site"]).is_empty()
            && !python(&line["last_use"]).is_empty()
    })
}

fn psycopg(script: &str) -> Result<Value> {
    let server = postgres::start()?;
    let dsn = format!(
        "host=127.0.0.1 port={} user=postgres dbname=postgres",
        server.port
    );
    finding(script, &[dsn], &server, "postgresql")
}

#[test]
fn root_psycopg_leak_names_the_function_that_connected_and_the_one_that_sent() -> Result<()> {
    require_root!();
    let line = psycopg("leak_psycopg.py")?;
    has(&line["site"], "leak_psycopg.py", "psycopg.connect(DSN)")?;
    has(&line["last_use"], "leak_psycopg.py", "connection.execute")?;
    ensure!(
        line["site"]["quality"] == "exact",
        "walked at the very moment: {:#}",
        line["site"]
    );
    let functions: Vec<&str> = python(&line["site"]).iter().map(|frame| frame.0).collect();
    let place = |name| functions.iter().position(|function| *function == name);
    let (connect, caller) = (place("Connection.connect"), place("Leaker.leak"));
    ensure!(
        connect < place("find_order") && place("find_order") < caller && connect.is_some(),
        "innermost first: {functions:?}"
    );
    Ok(())
}

#[test]
fn root_pymysql_leak_names_the_function_that_connected_and_the_one_that_sent() -> Result<()> {
    require_root!();
    let server = mariadb::start()?;
    let args = ["127.0.0.1".to_owned(), server.port.to_string()];
    let line = finding("leak_pymysql.py", &args, &server, "mysql")?;
    has(&line["site"], "leak_pymysql.py", "pymysql.connect(")?;
    has(&line["last_use"], "leak_pymysql.py", "cursor.execute")
}

#[test]
fn root_asyncio_leak_names_the_coroutine_and_who_awaits_it() -> Result<()> {
    require_root!();
    let line = psycopg("leak_asyncio.py")?;
    has(&line["site"], "leak_asyncio.py", "AsyncConnection.connect(DSN)")?;
    has(&line["last_use"], "leak_asyncio.py", "connection.execute")?;
    ensure!(
        python(&line["site"])
            .iter()
            .any(|frame| frame.0 == "handle_request"),
        "the coroutine that awaits: {:#}",
        line["site"]
    );
    Ok(())
}

#[test]
fn root_thread_pool_leak_names_the_function_that_its_threads_ran() -> Result<()> {
    require_root!();
    let line = psycopg("leak_thread_pool.py")?;
    has(&line["site"], "leak_thread_pool.py", "psycopg.connect(DSN)")?;
    has(&line["last_use"], "leak_thread_pool.py", "connection.execute")
}

#[test]
fn root_borrowed_connections_name_the_pool_as_opener_and_the_borrower_as_last_user() -> Result<()> {
    require_root!();
    let line = psycopg("leak_borrowed.py")?;
    ensure!(
        python(&line["site"])
            .iter()
            .any(|frame| frame.1.contains("psycopg_pool")),
        "the pool opened them: {:#}",
        line["site"]
    );
    has(&line["last_use"], "leak_borrowed.py", "connection.commit()")
}

#[test]
fn root_gevent_leak_names_the_function_that_its_greenlets_ran() -> Result<()> {
    require_root!();
    let server = mariadb::start()?;
    let args = ["127.0.0.1".to_owned(), server.port.to_string()];
    let line = finding("leak_gevent.py", &args, &server, "mysql")?;
    has(&line["site"], "leak_gevent.py", "pymysql.connect(")?;
    has(&line["last_use"], "leak_gevent.py", "cursor.execute")
}
