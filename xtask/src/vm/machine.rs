//! One virtual machine: started, watched by its console, and never left running.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// What a machine left behind.
#[derive(Debug)]
pub struct Ran {
    /// Its console, line by line.
    pub console: Vec<String>,
    /// Why it was killed, if it was.
    pub killed: Option<String>,
    /// How long it ran.
    pub took: Duration,
}

/// What a kernel says when nothing that follows can be trusted.
const FATAL: [&str; 4] = ["Kernel panic", "soft lockup", "BUG: ", "Oops: "];

/// Boots `image` and waits until it turns itself off, or kills it. The console is also written to `log`.
pub fn run(qemu: &Path, image: &Path, initramfs: &Path, log: &Path, patience: Duration) -> Result<Ran> {
    let began = Instant::now();
    let mut command = Command::new(qemu);
    command
        // Two processors, so that events really come from two.
        .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "768"])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-serial",
            "stdio",
        ])
        // A panic would reboot at once; this makes it the end instead.
        .arg("-no-reboot")
        .args(["-append", "console=ttyS0 quiet panic=-1 oops=panic"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {}", qemu.display()))?;
    let mut machine = Machine(child);
    let output = machine.0.stdout.take().context("the machine has no console")?;
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut console = BufReader::new(output);
        let mut line = Vec::new();
        while console
            .read_until(b'\n', &mut line)
            .is_ok_and(|length| length > 0)
        {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(text).is_err() {
                break;
            }
            line.clear();
        }
    });

    let mut file = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut console = Vec::new();
    let killed = loop {
        let left = patience.saturating_sub(began.elapsed());
        match lines.recv_timeout(left) {
            Ok(line) => {
                writeln!(file, "{line}")?;
                let fatal = FATAL.iter().any(|words| line.contains(words));
                console.push(line);
                if fatal {
                    break console.last().cloned();
                }
            }
            Err(RecvTimeoutError::Disconnected) => break None,
            Err(RecvTimeoutError::Timeout) => {
                break Some(format!("not done after {} s", patience.as_secs()));
            }
        }
    };
    if killed.is_none() {
        // The console is closed: it is turning off.
        machine.0.wait()?;
    }
    drop(machine);
    drop(lines);
    let _ = reader.join();
    Ok(Ran {
        console,
        killed,
        took: began.elapsed(),
    })
}

/// Killed when dropped.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // One that is gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};

    use super::*;

    /// A program that takes QEMU's place.
    fn stand_in(folder: &Path, script: &str) -> Result<PathBuf> {
        let path = folder.join("qemu");
        fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    fn run_script(script: &str, patience: Duration) -> Result<Ran> {
        let folder = tempfile::tempdir()?;
        let qemu = stand_in(folder.path(), script)?;
        let nothing = Path::new("/nonexistent");
        run(&qemu, nothing, nothing, &folder.path().join("log"), patience)
    }

    #[test]
    fn a_machine_that_turns_off_is_not_killed() -> Result<()> {
        let ran = run_script("echo one; echo two", Duration::from_mins(1))?;
        assert_eq!(ran.console, ["one", "two"]);
        assert_eq!(ran.killed, None);
        Ok(())
    }

    #[test]
    fn a_panic_and_silence_end_it() -> Result<()> {
        let panic = "echo 'Kernel panic - not syncing'; exec sleep 600";
        let ran = run_script(panic, Duration::from_mins(1))?;
        assert_eq!(ran.killed.as_deref(), Some("Kernel panic - not syncing"));
        let ran = run_script("exec sleep 600", Duration::from_millis(200))?;
        assert_eq!(ran.killed.as_deref(), Some("not done after 0 s"));
        assert!(ran.took < Duration::from_mins(1));
        Ok(())
    }
}
