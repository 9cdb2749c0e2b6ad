//! A leak inside other network, mount and pid namespaces, as in a container, and found from the host.

use std::process::Command;

use anyhow::{Result, ensure};
use connleak_tests::{app, app::App, require_root};

use crate::leak::{LEAKED, Where, args, scan_names};

#[test]
fn root_scan_names_a_leak_in_other_namespaces_with_the_pid_of_the_host() -> Result<()> {
    require_root!();
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
    ]);
    command
        .arg(app::interpreter()?)
        .arg(app::script_path("leak_in_namespace.py"));
    let mut app = App::start_command(&mut command)?;
    app.ask(&format!("leak {LEAKED}"), &format!("LEAKED {LEAKED}"))?;
    let pid = app.first_child()?;
    ensure!(pid != 1, "the pid as the host sees it");
    scan_names(
        pid,
        &args(&["--server", "127.0.0.1:5432"]),
        &["postgresql"],
        &Where::Tcp("127.0.0.1", 5432),
    )
}
