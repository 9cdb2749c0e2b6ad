//! QEMU, installed when it is absent, without disturbing what is installed already.
//!
//! A machine may have parts of QEMU from Debian's backports; the stable suite's would throw those out. So an
//! installation is simulated first, and refused when it would remove a package or touch the C library. Then the
//! backports of the machine's own release are asked, with lists of their own; its sources stay as they are.

use std::{env, fs, path::Path, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::process::{self, find_program, is_root, step};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

/// Where QEMU is.
pub fn find_or_install() -> Result<PathBuf> {
    if let Some(path) = find_program(PROGRAM) {
        return Ok(path);
    }
    if find_program("apt-get").is_none() || !is_root() {
        bail!("{PROGRAM} is not here (Debian, as root: apt-get install --no-install-recommends {PACKAGE})");
    }
    step(format!("{PACKAGE}: installing with apt"));
    let own = Vec::new();
    if !attempt(&own)? {
        step("this machine's own sources would change what is installed: asking its release's backports");
        let folder = env::temp_dir().join(format!("connleak-qemu-{}", std::process::id()));
        let backports = backports(&folder)?;
        let done = attempt(&backports);
        fs::remove_dir_all(&folder)?;
        if !done? {
            bail!(
                "installing {PACKAGE} would remove or replace packages of this machine: install it by hand"
            );
        }
    }
    find_program(PROGRAM).with_context(|| format!("{PACKAGE} brought no {PROGRAM}"))
}

/// Installs with these options of apt's, if that only adds.
fn attempt(options: &[String]) -> Result<bool> {
    let apt_get = || {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .args(["--quiet", "-o", "Dpkg::Use-Pty=0"])
            .args(options);
        command
    };
    let install = ["install", "--yes", "--no-install-recommends", PACKAGE];
    process::run(apt_get().arg("update"))?;
    let plan = process::output(apt_get().arg("--simulate").args(install))?;
    if !only_adds(&plan) {
        return Ok(false);
    }
    process::run(apt_get().args(install))?;
    Ok(true)
}

/// Whether apt's plan neither removes a package nor touches the C library.
fn only_adds(plan: &str) -> bool {
    !plan
        .lines()
        .any(|line| line.starts_with("Remv ") || line.starts_with("Inst libc6 "))
}

/// Options by which apt also sees the backports of this release.
fn backports(folder: &Path) -> Result<Vec<String>> {
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release names no release")?;
    fs::create_dir_all(folder.join("lists/partial"))?;
    let sources = folder.join("sources.list");
    let own = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    fs::write(
        &sources,
        format!("{own}\ndeb http://deb.debian.org/debian {codename}-backports main\n"),
    )?;
    let settings = [
        format!("Dir::Etc::SourceList={}", sources.display()),
        format!("Dir::State::Lists={}", folder.join("lists").display()),
        "Dir::Cache::PkgCache=".to_owned(),
        "Dir::Cache::SrcPkgCache=".to_owned(),
        format!("APT::Default-Release={codename}-backports"),
    ];
    Ok(settings
        .into_iter()
        .flat_map(|setting| ["-o".to_owned(), setting])
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_takes_something_away_is_refused() {
        assert!(only_adds(
            "Inst seabios (1.16.2-1)\nInst libc6-dev-x (1)\nConf seabios\n"
        ));
        assert!(!only_adds(
            "Remv qemu-utils [1:10.0.2]\nInst qemu-system-x86 (1:7.2)\n"
        ));
        assert!(!only_adds("Inst libc6 [2.36] (2.41 Debian:13 [amd64])\n"));
    }
}
