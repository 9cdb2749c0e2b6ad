//! Applications under test: small Python programs of `tests/apps`, driven line by line.
//!
//! The test writes a command, the application does it and answers with a line: `READY`, `LEAKED 30`, `CLOSED 30`. So
//! a test knows what the application has done, instead of sleeping and hoping.

use std::{
    collections::VecDeque,
    env,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};

use crate::wait;

/// A running application. Dropping it ends it.
pub struct App {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
    said: VecDeque<String>,
}

impl App {
    /// Starts `tests/apps/SCRIPT` and waits until it says `READY`.
    pub fn start<S: AsRef<OsStr>>(script: &str, args: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut command = Command::new(interpreter()?);
        command.arg(script_path(script)).args(args);
        Self::start_command(&mut command)
    }

    /// Starts `tests/apps/SCRIPT` in network, mount and pid namespaces of its own, as in a container.
    pub fn start_contained(script: &str, args: &[&str]) -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
        ]);
        command.arg(interpreter()?).arg(script_path(script)).args(args);
        Self::start_command(&mut command)
    }

    /// Starts any command that follows the same protocol, and waits until it says `READY`.
    pub fn start_command(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let input = child.stdin.take();
        let stdout = child.stdout.take().context("the application's output")?;
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut app = Self {
            child,
            input,
            output,
            said: VecDeque::new(),
        };
        app.hear("READY")?;
        Ok(app)
    }

    /// The process that was started. It is the application itself, unless a wrapper was started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first child process, for an application that runs in a wrapper such as `unshare`.
    pub fn first_child(&self) -> Result<u32> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let first = children.split_whitespace().next().context("no child process")?;
        Ok(first.parse()?)
    }

    /// Gives the application a command.
    pub fn tell(&mut self, command: &str) -> Result<()> {
        let input = self.input.as_mut().context("the application's input")?;
        writeln!(input, "{command}").with_context(|| format!("tell the application `{command}`"))?;
        Ok(input.flush()?)
    }

    /// Waits until the application says `line`; what it says before that is passed over.
    pub fn hear(&mut self, line: &str) -> Result<()> {
        loop {
            match self.output.recv_timeout(wait::PATIENCE) {
                Ok(said) if said == line => return Ok(()),
                Ok(said) => self.remember(said),
                Err(error) => {
                    let status = self.child.try_wait()?;
                    bail!(
                        "never said `{line}` ({error}; status {status:?}); it said {:?}",
                        self.said
                    );
                }
            }
        }
    }

    /// Gives a command and waits for its answer.
    pub fn ask(&mut self, command: &str, answer: &str) -> Result<()> {
        self.tell(command)?;
        self.hear(answer)
    }

    fn remember(&mut self, said: String) {
        self.said.push_back(said);
        if self.said.len() > 5 {
            self.said.pop_front();
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        drop(self.input.take());
        // Both fail when it has ended already, which is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where `cargo xtask setup` puts what tests need.
pub fn interpreter() -> Result<PathBuf> {
    let folder = match env::var_os("CONNLEAK_TEST_ENV") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&env::var_os("HOME").context("HOME")?).join(".cache/connleak/test-env"),
    };
    let python = folder.join("venv/bin/python");
    if python.exists() {
        Ok(python)
    } else {
        Err(anyhow!("{} is missing: cargo xtask setup", python.display()))
    }
}

/// The full path of a program in `tests/apps`.
#[must_use]
pub fn script_path(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("apps").join(script)
}
