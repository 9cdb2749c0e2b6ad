//! What all scans for a leak have in common: thirty connections, leaked before the agent starts.

use anyhow::{Result, ensure};
use connleak_tests::{agent, app::App, lines, root};
use serde_json::Value;

/// How many connections the applications leak: one each 200 ms.
pub const LEAKED: u32 = 30;

/// Starts an application of `tests/apps`, and returns once it has leaked [`LEAKED`] connections and rests.
pub fn leaking(script: &str, args: &[&str]) -> Result<App> {
    let mut app = App::start(script, args)?;
    app.ask(&format!("leak {LEAKED}"), &format!("LEAKED {LEAKED}"))?;
    Ok(app)
}

/// What the finding must say about the server.
pub enum Where<'a> {
    /// An address and a port.
    Tcp(&'a str, u16),
    /// A unix-domain socket.
    Unix(&'a str),
}

/// Scans with `args`; the scan must exit with 3 and report one finding about `pid` that names all its sockets.
pub fn scan_names(pid: u32, args: &[String], system: &[&str], place: &Where) -> Result<()> {
    let outcome = agent::scan(args)?;
    root::say(&format!("scan {} took {:?}", args.join(" "), outcome.elapsed));
    let all = outcome.lines()?;
    let found = lines::findings_of(&all, pid);
    ensure!(
        found.len() == 1,
        "one finding about {pid}, not {}: {}",
        found.len(),
        outcome.describe()
    );
    ensure!(outcome.code() == Some(3), "exit code 3: {}", outcome.describe());
    let line = found[0];
    ensure!(line["finding"]["kind"] == "leak", "kind leak: {line:#}");
    ensure!(line["finding"]["sockets"] == LEAKED, "{LEAKED} sockets: {line:#}");
    ensure!(
        line["sockets"].as_array().is_some_and(|list| !list.is_empty()),
        "the sockets themselves: {line:#}"
    );
    ensure!(
        system.iter().any(|name| line["db"]["system"] == *name),
        "db.system one of {system:?}: {line:#}"
    );
    match place {
        Where::Tcp(address, port) => {
            ensure!(
                line["server"]["address"] == *address && line["server"]["port"] == *port,
                "server: {line:#}"
            );
        }
        Where::Unix(path) => ensure!(line["server"]["path"] == *path, "server.path {path}: {line:#}"),
    }
    ensure!(
        only_about(&all, pid, place),
        "the server's own ends are not clients: {}",
        outcome.describe()
    );
    let sockets = all
        .iter()
        .filter(|line| lines::is(line, "socket") && lines::of_pid(line, pid))
        .count();
    ensure!(
        sockets == LEAKED as usize,
        "{LEAKED} socket lines, not {sockets}: {}",
        outcome.describe()
    );
    lines::summary(&all)?;
    Ok(())
}

/// Whether no finding about this server names another process, unless other applications leak into it as well.
///
/// Those are Python programs too; the server's processes are not.
fn only_about(all: &[Value], pid: u32, place: &Where) -> bool {
    let same = |line: &&Value| match place {
        Where::Tcp(_, port) => line["server"]["port"] == *port,
        Where::Unix(path) => line["server"]["path"] == *path,
    };
    // One that has just ended has no executable any more.
    let python = |line: &Value| {
        line["process"]["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("python"))
    };
    lines::findings(all)
        .into_iter()
        .filter(same)
        .all(|line| lines::of_pid(line, pid) || python(line))
}

/// Owned copies, to be put together with [`connleak_tests::server::only`].
pub fn args(args: &[&str]) -> Vec<String> {
    args.iter().map(ToString::to_string).collect()
}
