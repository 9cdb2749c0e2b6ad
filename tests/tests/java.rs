//! Thread dumps of real Java machines: one that may be asked is, and one that must not be is left alone.
//!
//! The signal that asks for a dump kills or disturbs a machine that was started with certain flags, so this is tried on
//! machines with these flags.

#![forbid(unsafe_code)]

use std::{
    fs,
    path::Path,
    process::{Child, Command},
};

use anyhow::{Context as _, Result, ensure};
use connleak::{
    callsite::{Role, java::Machine, managed::Answer, mapped},
    owner::{ProcessId, start_ticks},
};
use connleak_tests::{require_root, root, wait};
use tempfile::TempDir;

/// Waits for an answer that never comes, from itself.
const PROGRAM: &str = r#"
import java.net.*;

class Waits {
    static void find(int port) throws Exception {
        new Socket("127.0.0.1", port).getInputStream().read();
    }

    public static void main(String[] arguments) throws Exception {
        ServerSocket server = new ServerSocket(0, 50, InetAddress.getByName("127.0.0.1"));
        System.out.println("READY");
        find(server.getLocalPort());
    }
}
"#;

/// A machine, ended when dropped.
struct Running {
    child: Child,
    folder: TempDir,
}

impl Running {
    fn output(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("output"))?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A machine with these flags, and what its reader says of its main thread. `None`: there is no Java here.
fn asked(flags: &[&str]) -> Result<Option<(Running, Answer)>> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("Waits.java"), PROGRAM)?;
    let compiled = Command::new("javac")
        .arg("Waits.java")
        .current_dir(folder.path())
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        root::say("SKIPPED: needs javac (cargo xtask setup --corpus)");
        return Ok(None);
    }
    let output = fs::File::create(folder.path().join("output"))?;
    let mut command = Command::new("java");
    command
        .args(flags)
        .args(["-cp", ".", "Waits"])
        .current_dir(folder.path())
        .stderr(output.try_clone()?)
        .stdout(output);
    let running = Running {
        child: command.spawn()?,
        folder,
    };
    wait::until("the program to run", || {
        Ok(running.output()?.contains("READY").then_some(()))
    })?;
    let pid = running.child.id();
    let start_ticks = start_ticks(Path::new("/proc"), pid).context("its start")?;
    let files = mapped::files(Path::new("/proc"), pid);
    let mut machine = Machine::detect(ProcessId { pid, start_ticks }, &files).context("a Java machine")?;
    // The launcher makes a thread of its own for `main`: the one that is not the process's first and waits in `read`.
    let answer = wait::until("an answer about the main thread", || {
        let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
        let mut threads: Vec<u32> = threads
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        threads.sort_unstable();
        let main = *threads.get(1).context("a second thread")?;
        let answer = machine.dump(main, Role::Used);
        let early = answer.note.as_deref().is_some_and(|note| {
            note.contains("moved on") || note.contains("too often") || note.contains("in time")
        });
        Ok((!early).then_some(answer))
    })?;
    Ok(Some((running, answer)))
}

#[test]
fn root_a_thread_that_waits_is_found_in_a_thread_dump() -> Result<()> {
    require_root!();
    let Some((_running, answer)) = asked(&[])? else {
        return Ok(());
    };
    let find = answer
        .frames
        .iter()
        .find(|frame| frame.function.as_deref() == Some("Waits.find"))
        .with_context(|| format!("no Waits.find: {answer:?}"))?;
    ensure!(
        find.file.as_deref() == Some("Waits.java") && find.line == Some(6),
        "{find:?}"
    );
    Ok(())
}

#[test]
fn root_a_machine_that_the_signal_would_disturb_is_not_asked() -> Result<()> {
    require_root!();
    for flags in [&["-XX:+DisableAttachMechanism"][..], &["-Xrs"]] {
        let Some((mut running, answer)) = asked(flags)? else {
            return Ok(());
        };
        ensure!(answer.frames.is_empty(), "{flags:?}: {answer:?}");
        let note = answer.note.unwrap_or_default();
        ensure!(note.starts_with("no thread dump: -X"), "{flags:?}: {note}");
        ensure!(
            running.child.try_wait()?.is_none(),
            "{flags:?}: the machine has ended"
        );
        let output = running.output()?;
        ensure!(!output.contains("Full thread dump"), "{flags:?}: {output}");
    }
    Ok(())
}
