//! Which code: a C program built as people build them, whose finding names all the functions down to `main`.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use connleak_tests::{app::App, lines, require_root, server::postgres, watch::Watch};
use serde_json::Value;
use tempfile::TempDir;

/// `tests/apps/leak_libpq.c`, from the innermost function outwards.
const CHAIN: [&str; 6] = [
    "open_connection",
    "find_order",
    "list_orders",
    "checkout",
    "handle_request",
    "main",
];

/// Builds the C program. It is linked with libpq itself: what one would link with otherwise comes with its headers.
fn build(folder: &TempDir, strip: &str) -> Result<PathBuf> {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("apps/leak_libpq.c");
    let program = folder.path().join("leak_libpq");
    let status = Command::new("cc")
        .args([
            "-O2",
            "-fomit-frame-pointer",
            "-fno-optimize-sibling-calls",
            "-Wall",
            strip,
            "-o",
        ])
        .args([&program, &source])
        .arg("-l:libpq.so.5")
        .status()
        .context("run cc")?;
    ensure!(status.success(), "cc: {status}");
    Ok(program)
}

/// The finding about a leak that `watch` sees from its beginning.
fn finding(strip: &str) -> Result<Value> {
    let server = postgres::start()?;
    let folder = TempDir::new()?;
    let program = build(&folder, strip)?;
    let conninfo = format!(
        "host=127.0.0.1 port={} user=postgres dbname=postgres sslmode=disable",
        server.port
    );
    let mut app = App::start_command(Command::new(program).arg(conninfo))?;
    let pid = app.pid();
    let mut watch = Watch::attached(
        server
            .only_this("postgresql")
            .iter()
            .map(String::as_str)
            .chain(["--idle", "2s"]),
    )?;
    app.tell("leak 100")?;
    watch.wait_for("the leak", |line| lines::is_finding(line, "leak", pid))
}

fn names<'a>(line: &'a Value, site: &str) -> Vec<&'a str> {
    let frames = line[site]["frames"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    frames
        .iter()
        .map(|frame| frame["function"].as_str().unwrap_or("?"))
        .collect()
}

#[test]
fn root_a_leak_of_a_c_program_without_debug_information_names_each_function_down_to_main() -> Result<()> {
    require_root!();
    let line = finding("-Wl,--strip-debug")?;
    let opened = names(&line, "site");
    ensure!(
        opened.windows(6).any(|six| six == CHAIN),
        "the chain: {opened:?} {line:#}"
    );
    ensure!(opened.contains(&"PQconnectdb"), "libpq: {opened:?}");
    ensure!(
        line["site"]["quality"] == "exact",
        "nothing is missing: {:#}",
        line["site"]
    );
    let used = names(&line, "last_use");
    ensure!(
        used.windows(5).any(|five| five == &CHAIN[1..]),
        "the chain: {used:?} {line:#}"
    );
    ensure!(used.contains(&"PQexec"), "libpq: {used:?}");
    Ok(())
}

#[test]
fn root_a_program_without_any_symbols_is_told_by_offsets_and_not_by_wrong_names() -> Result<()> {
    require_root!();
    let line = finding("-s")?;
    let frames = line["site"]["frames"].as_array().context("frames")?;
    let own: Vec<_> = frames
        .iter()
        .filter(|frame| {
            frame["module"]
                .as_str()
                .is_some_and(|module| module.ends_with("/leak_libpq"))
        })
        .collect();
    // The six, and the program's entry.
    ensure!(own.len() == 7, "seven frames: {:#}", line["site"]);
    ensure!(
        own.iter().all(|frame| frame["function"].is_null()),
        "no names: {:#}",
        line["site"]
    );
    ensure!(
        own.iter()
            .all(|frame| frame["offset"].is_u64() || frame["offset"].is_string()),
        "offsets: {:#}",
        line["site"]
    );
    Ok(())
}
