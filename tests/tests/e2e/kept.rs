//! Connections of no use that are kept: the server has closed (`close_wait`), or nothing was ever sent (`never_used`).

use anyhow::{Result, ensure};
use connleak_tests::{
    agent,
    app::App,
    lines, require_root,
    server::{Server, postgres},
    wait,
    watch::Watch,
};

/// How many an application keeps.
const KEPT: u32 = 3;

/// What the two have in common.
struct Useless {
    kind: &'static str,
    state: &'static str,
    server: &'static Server,
    app: App,
    /// What the application says when it has them.
    answer: String,
}

fn closed_by_the_server() -> Result<Useless> {
    let server = postgres::shared()?;
    let dsn = format!(
        "host=127.0.0.1 port={} user=postgres dbname=postgres",
        server.port
    );
    Ok(Useless {
        kind: "close_wait",
        state: "CLOSE_WAIT",
        server,
        app: App::start("server_closes_first.py", [dsn])?,
        answer: format!("CLOSE_WAIT {KEPT}"),
    })
}

fn never_sent_on() -> Result<Useless> {
    let server = postgres::shared()?;
    Ok(Useless {
        kind: "never_used",
        state: "ESTABLISHED",
        server,
        app: App::start("never_sends.py", ["127.0.0.1", &server.port.to_string()])?,
        answer: format!("OPENED {KEPT}"),
    })
}

impl Useless {
    fn open(&mut self) -> Result<()> {
        self.app.ask(&format!("open {KEPT}"), &self.answer)
    }

    /// This server alone; idle after a second.
    fn args(&self) -> Vec<String> {
        let only = self.server.only_this("postgresql");
        only.into_iter().chain(["--idle".into(), "1s".into()]).collect()
    }

    fn scan_names_them(mut self) -> Result<()> {
        self.open()?;
        let pid = self.app.pid();
        // Until they have been idle for a second.
        let (outcome, finding) = wait::until(self.kind, || {
            let outcome = agent::scan(self.args())?;
            let found = outcome
                .lines()?
                .into_iter()
                .find(|line| lines::is_finding(line, self.kind, pid));
            Ok(found.map(|finding| (outcome, finding)))
        })?;
        ensure!(outcome.code() == Some(3), "exit code 3: {}", outcome.describe());
        ensure!(
            finding["finding"]["sockets"] == KEPT,
            "{KEPT} sockets: {finding:#}"
        );
        ensure!(
            finding["sockets"][0]["state"] == self.state,
            "their state: {finding:#}"
        );
        let all = outcome.lines()?;
        ensure!(
            lines::findings_of(&all, pid).len() == 1,
            "nothing else: {}",
            outcome.describe()
        );
        Ok(())
    }

    fn watch_names_them(mut self) -> Result<()> {
        let mut watch = Watch::attached(self.args())?;
        self.open()?;
        let pid = self.app.pid();
        watch.wait_for(self.kind, |line| {
            lines::is_finding(line, self.kind, pid) && line["finding"]["sockets"] == KEPT
        })?;
        Ok(())
    }
}

#[test]
fn root_scan_names_the_descriptors_kept_after_the_server_closed() -> Result<()> {
    require_root!();
    closed_by_the_server()?.scan_names_them()
}

#[test]
fn root_watch_names_the_descriptors_kept_after_the_server_closed() -> Result<()> {
    require_root!();
    closed_by_the_server()?.watch_names_them()
}

#[test]
fn root_scan_names_the_connections_that_never_sent_anything() -> Result<()> {
    require_root!();
    never_sent_on()?.scan_names_them()
}

#[test]
fn root_watch_names_the_connections_that_never_sent_anything() -> Result<()> {
    require_root!();
    never_sent_on()?.watch_names_them()
}
