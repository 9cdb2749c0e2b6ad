//! Programs that come from the distribution: database servers, namespaces' tools, a compiler for test clients.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use super::policy::NoServices;
use crate::{
    ebpf,
    process::{self, find_program, is_root, step},
};

/// A Debian package and, for machines without apt, a program that shows that its like is there.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    name: &'static str,
    program: Option<&'static str>,
}

impl Package {
    /// One whose like is known by a program.
    pub const fn with_program(name: &'static str, program: &'static str) -> Self {
        package(name, program)
    }

    /// One that only apt can find.
    pub const fn library(name: &'static str) -> Self {
        Self { name, program: None }
    }
}

const fn package(name: &'static str, program: &'static str) -> Package {
    Package {
        name,
        program: Some(program),
    }
}

/// What the tests need.
pub const FOR_TESTS: [Package; 10] = [
    package("postgresql", "postgres"),
    package("mariadb-server", "mariadbd"),
    package("redis-server", "redis-server"),
    package("iproute2", "ip"),
    package("util-linux", "unshare"),
    package("procps", "ps"),
    package("python3-venv", "python3"),
    package("gcc", "gcc"),
    package("g++", "g++"),
    Package {
        name: "libc6-dev",
        program: None,
    },
];

/// What `cargo xtask bench` compares with, beyond what the tests need: `ss` is in iproute2, pgbench in postgresql.
pub const FOR_BENCH: [Package; 4] = [
    package("libbpf-tools", "tcplife"),
    package("bpftrace", "bpftrace"),
    package("lsof", "lsof"),
    package("redis-tools", "redis-benchmark"),
];

/// What rebuilding the kernel programs needs.
pub fn for_ebpf() -> Vec<Package> {
    ebpf::DEBIAN_PACKAGES
        .map(|name| Package { name, program: None })
        .to_vec()
}

/// Installs those of `packages` that are absent. `what` is for the messages.
pub fn install(what: &str, packages: &[Package]) -> Result<()> {
    if find_program("apt-get").is_none() {
        return without_apt(what, packages);
    }
    let absent: Vec<_> = packages
        .iter()
        .map(|package| package.name)
        .filter(|name| !is_installed(name))
        .collect();
    if absent.is_empty() {
        step(format!("{what}: already there ({} packages)", packages.len()));
        return Ok(());
    }
    let absent_list = absent.join(" ");
    if !is_root() {
        bail!("{what}: as root, do: apt-get update && apt-get install --no-install-recommends {absent_list}");
    }
    step(format!("{what}: installing with apt: {absent_list}"));
    // Test servers are started by the tests, in folders of their own. The packages would start theirs too.
    let _no_services = NoServices::begin(Path::new("/usr/sbin/policy-rc.d"))?;
    process::run(apt_get().arg("update"))?;
    process::run(
        apt_get()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(&absent),
    )
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["--quiet", "-o", "Dpkg::Use-Pty=0"]);
    command
}

fn is_installed(package: &str) -> bool {
    process::output(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

fn without_apt(what: &str, packages: &[Package]) -> Result<()> {
    let absent: Vec<_> = packages
        .iter()
        .filter(|package| {
            package
                .program
                .is_some_and(|program| find_program(program).is_none())
        })
        .map(|package| {
            format!(
                "{} (Debian: {})",
                package.program.unwrap_or_default(),
                package.name
            )
        })
        .collect();
    if absent.is_empty() {
        step(format!("{what}: no apt here; the programs are all there"));
        return Ok(());
    }
    bail!(
        "{what}: there is no apt here; install by hand: {}",
        absent.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_program_is_named_with_its_package() {
        let wanted = [
            package("hypothetical", "no-such-program-anywhere"),
            package("dash", "sh"),
        ];
        let message = format!(
            "{:#}",
            without_apt("tests", &wanted).expect_err("no such program")
        );
        assert!(
            message.contains("no-such-program-anywhere (Debian: hypothetical)"),
            "{message}"
        );
        assert!(!message.contains("dash"), "{message}");
    }
}
