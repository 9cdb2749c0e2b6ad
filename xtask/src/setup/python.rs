//! The Python client libraries of the tests, in a virtual environment of their own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{self, find_program, step},
    workspace::Workspace,
};

/// A copy of the requirements inside the environment says what was installed.
const INSTALLED: &str = "connleak-requirements.txt";

/// The tests' folder outside the repository: `$CONNLEAK_TEST_ENV`, or one in the user's cache.
pub fn environment() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("CONNLEAK_TEST_ENV").filter(|folder| !folder.is_empty()) {
        return std::path::absolute(folder).context("CONNLEAK_TEST_ENV");
    }
    let home = env::var_os("HOME").context("neither CONNLEAK_TEST_ENV nor HOME is set")?;
    Ok(Path::new(&home).join(".cache/connleak/test-env"))
}

/// Makes the virtual environment, or brings it up to date with `tests/requirements.txt`.
pub fn install(workspace: &Workspace) -> Result<()> {
    let requirements = workspace.root.join("tests/requirements.txt");
    let wanted = fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let venv = environment()?.join("venv");
    let python = venv.join("bin/python");
    let installed = venv.join(INSTALLED);
    let runs = process::succeeds(Command::new(&python).args(["-c", "import psycopg, pymysql"]));
    if runs && fs::read_to_string(&installed).is_ok_and(|there| there == wanted) {
        step(format!("Python clients: already there ({})", venv.display()));
        return Ok(());
    }
    let base = interpreter()?;
    step(format!(
        "Python clients: installing with {} into {}",
        base.display(),
        venv.display()
    ));
    process::run(Command::new(&base).args(["-m", "venv", "--clear"]).arg(&venv))?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ];
    process::run(Command::new(&python).args(pip).arg(&requirements))?;
    fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))
}

/// The system's Python first: version managers put shims in `PATH` whose meaning changes from folder to folder.
fn interpreter() -> Result<PathBuf> {
    let candidates = [Some(PathBuf::from("/usr/bin/python3")), find_program("python3")];
    let makes_environments =
        |python: &PathBuf| process::succeeds(Command::new(python).args(["-c", "import venv, ensurepip"]));
    match candidates.into_iter().flatten().find(makes_environments) {
        Some(python) => Ok(python),
        None => bail!("no python3 with the `venv` module here (Debian: apt-get install python3-venv)"),
    }
}
