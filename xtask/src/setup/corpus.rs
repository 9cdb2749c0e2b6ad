//! The languages of the corpus (`tests/scenarios`), with their pools and drivers.
//!
//! Only `cargo xtask corpus` needs them, so a plain `setup` leaves them out. A language that is there from elsewhere
//! is left alone; libraries are Debian's, except Python's, which pip installs into the tests' environment, and
//! Node's, which npm installs beside it.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use super::{
    apt::{self, Package},
    environment,
};
use crate::{
    process::{self, find_program, step},
    workspace::Workspace,
};

/// Package and program, of which either will do.
const LANGUAGES: [(&str, &str); 7] = [
    ("default-jdk-headless", "javac"),
    ("golang-go", "go"),
    ("nodejs", "node"),
    ("npm", "npm"),
    ("ruby", "ruby"),
    ("php-cli", "php"),
    ("pgbouncer", "pgbouncer"),
];

/// Drivers and pools.
const LIBRARIES: [&str; 12] = [
    "libhikaricp-java",
    "libpostgresql-jdbc-java",
    "libslf4j-java",
    "libcommons-dbcp2-java",
    "libc3p0-java",
    "golang-github-gomodule-redigo-dev",
    "golang-github-lib-pq-dev",
    "ruby-connection-pool",
    "ruby-pg",
    "ruby-redis",
    "ruby-sequel",
    "php-pgsql",
];

/// Installs what is absent.
pub fn install(workspace: &Workspace) -> Result<()> {
    let absent = LANGUAGES
        .iter()
        .filter(|(_, program)| find_program(program).is_none());
    let languages = absent.map(|&(package, program)| Package::with_program(package, program));
    let libraries = LIBRARIES.map(Package::library);
    let all: Vec<Package> = languages.chain(libraries).collect();
    apt::install("the corpus's languages", &all)?;
    install_python(workspace)?;
    install_node(workspace)
}

/// Python packages that only the corpus needs, in the tests' environment; a copy of the list there says that it was done.
fn install_python(workspace: &Workspace) -> Result<()> {
    let requirements = workspace.root.join("tests/scenarios/python/requirements.txt");
    let wanted = fs::read_to_string(&requirements).context("tests/scenarios/python")?;
    let venv = environment()?.join("venv");
    let installed = venv.join("connleak-corpus-requirements.txt");
    if fs::read_to_string(&installed).is_ok_and(|there| there == wanted) {
        step("Python packages of the corpus: already there");
        return Ok(());
    }
    step("Python packages of the corpus: installing with pip");
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .arg("--requirement")
        .arg(&requirements);
    process::run(&mut pip)?;
    Ok(fs::write(&installed, wanted)?)
}

/// The packages of Node, exactly those of the committed lock file.
fn install_node(workspace: &Workspace) -> Result<()> {
    let source = workspace.root.join("tests/scenarios/node");
    let folder = environment()?.join("node");
    // npm writes it last.
    let done = folder.join("node_modules/.package-lock.json");
    let lock = fs::read_to_string(source.join("package-lock.json")).context("tests/scenarios/node")?;
    if done.is_file() && fs::read_to_string(folder.join("package-lock.json")).is_ok_and(|there| there == lock)
    {
        step(format!("Node clients: already there ({})", folder.display()));
        return Ok(());
    }
    step(format!(
        "Node clients: installing with npm into {}",
        folder.display()
    ));
    fs::create_dir_all(&folder)?;
    fs::copy(source.join("package.json"), folder.join("package.json"))?;
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])
        .current_dir(&folder);
    fs::write(folder.join("package-lock.json"), &lock)?;
    process::run(&mut npm)
}
