//! Which code: the finding names the function that leaks, live, in its replay, and as a flame graph's input.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use connleak_tests::{
    agent,
    app::{App, script_path},
    lines, require_root,
    server::postgres,
    sink,
    watch::Watch,
};
use serde_json::Value;
use tempfile::TempDir;

/// Functions of the application's own on a finding's stack, innermost first.
fn own<'a>(line: &'a Value, stack: &str) -> Vec<&'a str> {
    let frames = line[stack]["frames"].as_array().into_iter().flatten();
    frames
        .filter(|frame| frame["origin"] == "application")
        .filter_map(|frame| frame["function"].as_str())
        .collect()
}

#[test]
fn root_a_finding_names_the_function_that_opened_live_in_its_replay_and_in_a_flame_graph() -> Result<()> {
    require_root!();
    let server = postgres::start()?;
    let dsn = format!(
        "host=127.0.0.1 port={} user=postgres dbname=postgres",
        server.port
    );
    let place = tempfile::tempdir()?;
    let journal = place.path().join("journal").to_string_lossy().into_owned();
    let mut app = App::start("leak_psycopg.py", [&dsn])?;
    let pid = app.pid();
    let only = server.only_this("postgresql");
    let mut watch =
        Watch::attached(
            only.iter()
                .map(String::as_str)
                .chain(["--idle", "1s", "--journal", &journal]),
        )?;
    app.tell("leak 100")?;
    let first = watch.wait_for("the leak", |line| lines::is_finding(line, "leak", pid))?;
    ensure!(
        first["code"]["function"] == "find_order" && first["code"]["role"] == "opened",
        "the message names the function: {first:#}"
    );
    ensure!(
        own(&first, "site").first() == Some(&"find_order"),
        "it is the application's innermost: {first:#}"
    );
    ensure!(
        own(&first, "last_use").contains(&"find_order"),
        "and the last to use them: {first:#}"
    );
    let live = watch.interrupt()?;

    let replay = agent::run(["replay", &journal, "-o", "json"])?;
    let again = replay.lines()?;
    let told = |all: &[Value]| -> Vec<Value> {
        all.iter()
            .filter(|line| lines::is_finding(line, "leak", pid))
            .cloned()
            .collect()
    };
    ensure!(
        told(&again) == told(&live.lines),
        "the same names without the process: {}",
        replay.describe()
    );

    let folded = agent::run(["replay", &journal, "-o", "folded"])?;
    let stack = folded
        .stdout
        .lines()
        .find(|line| line.contains(";find_order;"))
        .with_context(|| format!("a stack: {}", folded.describe()))?;
    let (names, count) = stack.rsplit_once(' ').context("a count")?;
    ensure!(
        count.parse::<usize>().is_ok() && !names.contains(' '),
        "what flamegraph.pl takes: {stack}"
    );
    Ok(())
}

/// The application's functions, from the innermost to `main`.
fn to_main(line: &Value, stack: &str) -> Vec<String> {
    let mut names: Vec<String> = own(line, stack).into_iter().map(ToOwned::to_owned).collect();
    if let Some(main) = names.iter().position(|name| name == "main") {
        names.truncate(main + 1);
    }
    names
}

/// Builds one of the tests' C programs, `NAME.c`, in a folder.
fn compile(folder: &TempDir, name: &str, flags: &[&str]) -> Result<PathBuf> {
    let program = folder.path().join(name);
    let built = Command::new("gcc")
        .args(flags)
        .arg("-o")
        .arg(&program)
        .arg(script_path(&format!("{name}.c")))
        .status()
        .context("gcc: cargo xtask setup installs it")?;
    ensure!(built.success(), "gcc: {built}");
    Ok(program)
}

/// A program that has leaked forty connections to a server of its own, watched from before the first.
fn leaking(program: &Path) -> Result<(App, Watch)> {
    let port = sink::start()?.to_string();
    let mut app = App::start_command(Command::new(program).arg(&port))?;
    let rule = format!("{port}=postgresql");
    let watch = Watch::attached(["--port", &rule, "--pid", &app.pid().to_string(), "--idle", "1s"])?;
    app.ask("leak 40", "LEAKED")?;
    Ok((app, watch))
}

#[test]
fn root_a_stack_without_frame_pointers_is_followed_to_main_and_the_last_use_is_the_last() -> Result<()> {
    require_root!();
    let place = tempfile::tempdir()?;
    let program = compile(&place, "leak_native", &["-O2", "-fomit-frame-pointer"])?;
    let (app, mut watch) = leaking(&program)?;
    let pid = app.pid();
    let told = watch.wait_for("the leak, with names", |line| {
        line["process"]["pid"] == pid
            && line["site"]["frames"].is_array()
            && line["last_use"]["frames"].is_array()
    })?;
    ensure!(
        to_main(&told, "site")
            == [
                "open_socket",
                "driver_connect",
                "order_find",
                "handle_request",
                "worker_run",
                "main"
            ],
        "every function that opened: {told:#}"
    );
    ensure!(
        to_main(&told, "last_use") == ["say", "forget_rows", "main"],
        "who used it last, not who used it first: {told:#}"
    );
    for stack in ["site", "last_use"] {
        ensure!(told[stack]["quality"] == "exact", "nothing is missing: {told:#}");
    }
    let end = watch.interrupt()?;
    let completeness = &lines::summary(&end.lines)?["completeness"];
    ensure!(
        completeness["stacks_lost"] == 0 && completeness["events_lost"] == 0,
        "{completeness:#}"
    );
    Ok(())
}

#[test]
fn root_code_that_a_program_compiles_has_the_names_that_it_writes_into_its_perf_map() -> Result<()> {
    require_root!();
    let place = tempfile::tempdir()?;
    let program = compile(&place, "leak_compiled", &["-O0"])?;
    let (app, mut watch) = leaking(&program)?;
    let pid = app.pid();
    let told = watch.wait_for("the leak, with names", |line| {
        line["process"]["pid"] == pid && line["last_use"]["frames"].is_array()
    })?;
    let opened = own(&told, "site");
    ensure!(
        opened.starts_with(&["open_socket", "Shop.OrderDao::Find", "main"]),
        "the compiled function stands where it ran: {told:#}"
    );
    let used = own(&told, "last_use");
    ensure!(
        used.starts_with(&["say", "Shop.OrderDao::Count", "main"]),
        "two functions with the same machine code around them are told apart: {told:#}"
    );
    Ok(())
}
