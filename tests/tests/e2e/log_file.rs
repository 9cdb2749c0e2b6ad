//! `--log-file`: appended to, and opened again after it was rotated away.

use std::fs;

use anyhow::{Result, ensure};
use connleak_tests::{lines, require_root, wait, watch::Watch};
use nix::sys::signal::Signal;

#[test]
fn root_the_log_file_is_appended_to_and_reopened_on_sighup() -> Result<()> {
    require_root!();
    let folder = tempfile::tempdir()?;
    let (log, rotated) = (
        folder.path().join("connleak.log"),
        folder.path().join("connleak.log.1"),
    );
    fs::write(&log, "{\"event\":\"earlier\"}\n")?;
    let log_text = log.display().to_string();
    let watch = Watch::attached(["--db", "memcached", "--log-file", &log_text])?;

    fs::rename(&log, &rotated)?;
    watch.signal(Signal::SIGHUP)?;
    wait::until("the log file to be opened again", || {
        Ok(log.exists().then_some(()))
    })?;
    watch.signal(Signal::SIGINT)?;
    let end = watch.finish()?;

    ensure!(
        end.code == Some(0),
        "exit code 0, not {:?}: {}",
        end.code,
        end.stderr
    );
    ensure!(
        fs::read_to_string(&rotated)?.starts_with("{\"event\":\"earlier\"}\n"),
        "what was there is kept"
    );
    let last = fs::read_to_string(&log)?
        .lines()
        .last()
        .map(lines::parse)
        .transpose()?;
    ensure!(
        last.as_ref().is_some_and(|line| lines::is(line, "summary")),
        "the summary is in the new file: {last:?}"
    );
    Ok(())
}
