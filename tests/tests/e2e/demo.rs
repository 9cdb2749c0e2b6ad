//! The README's first command.

use std::{fs, process};

use anyhow::{Result, ensure};
use connleak_tests::{agent, require_root, root};

#[test]
fn root_demo_shows_its_finding_and_leaves_no_child_behind() -> Result<()> {
    require_root!();
    // Children inherit the environment, also when their parent is gone.
    let mark = format!("CONNLEAK_TEST_MARK={}", process::id());
    let mut command = agent::command(["demo"])?;
    command.env("CONNLEAK_TEST_MARK", process::id().to_string());
    let outcome = agent::run_command(&mut command)?;
    root::say(&format!("demo took {:?}", outcome.elapsed));
    ensure!(outcome.code() == Some(0), "exit code 0: {}", outcome.describe());
    ensure!(
        outcome.stdout.contains("leak"),
        "the finding: {}",
        outcome.describe()
    );
    let left = processes_with(&mark)?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// The command lines of the processes whose environment has `entry`.
fn processes_with(entry: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc")?.flatten() {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|word| word == entry.as_bytes())
        {
            found.push(fs::read_to_string(process.path().join("cmdline")).unwrap_or_default());
        }
    }
    Ok(found)
}
