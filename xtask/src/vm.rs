//! `cargo xtask vm`: connleak on other kernels than this machine's.
//!
//! For each kernel a virtual machine is booted that holds nothing but Debian's kernel, the static agent, and a
//! static init (`tests/src/bin/vm_guest`) that lets applications leak and behave and asks the agent about them. What
//! the init says on the console becomes a row of the table. The machines are emulated (`-accel tcg`), so that
//! this runs wherever QEMU does, inside other virtual machines too.

mod initramfs;
mod kernels;
mod machine;
mod outcome;
mod qemu;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};

use self::{
    initramfs::Archive,
    kernels::{Kernel, Unpacked},
    outcome::Outcome,
};
use crate::{dist, process::step, workspace::Workspace};

/// An emulated machine takes a minute for everything, when it has a processor for itself.
const PATIENCE: Duration = Duration::from_mins(10);

/// Flags of `cargo xtask vm`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kernels: 5.10, 6.1, 6.12, 6.18 [default: 6.1]
    #[arg(value_name = "KERNEL")]
    kernels: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "kernels")]
    all: bool,
    /// Look whether Debian has newer packages of these kernels
    #[arg(long)]
    update: bool,
}

/// Runs the verb.
pub fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let kernels = if args.all {
        kernels::ALL.to_vec()
    } else if args.kernels.is_empty() {
        vec![kernels::DEFAULT]
    } else {
        let named = args.kernels.iter().map(|version| Kernel::named(version));
        named.collect::<Result<_>>()?
    };
    let qemu = qemu::find_or_install()?;
    let logs = workspace.target_dir()?.join("vm");
    fs::create_dir_all(&logs)?;
    let initramfs = logs.join("initramfs.cpio");
    let connleak = read(&dist::build_static(workspace, "connleak", "connleak")?)?;
    let init = read(&dist::build_static(workspace, "connleak-tests", "vm_guest")?)?;

    let mut outcomes = Vec::new();
    for kernel in kernels {
        let Unpacked { image, modules } = kernel.get(args.update)?;
        let release = kernels::release(&image);
        fs::write(&initramfs, archive(&init, &connleak, &modules)?)?;
        step(format!("kernel {}: booting {release}", kernel.version));
        let log = logs.join(format!("{}.log", kernel.version));
        let ran = machine::run(&qemu, &image, &initramfs, &log, PATIENCE)
            .with_context(|| format!("cannot run a machine with kernel {}", kernel.version))?;
        let outcome = Outcome::of(release, kernel.backends, kernel.call_sites, ran);
        for line in outcome.details() {
            step(format!("kernel {}: {line}", kernel.version));
        }
        if !outcome.is_good() {
            step(format!(
                "kernel {}: its console is in {}",
                kernel.version,
                log.display()
            ));
        }
        outcomes.push(outcome);
    }
    print!("{}", outcome::table(&outcomes));
    Ok(if outcomes.iter().all(Outcome::is_good) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn archive(init: &[u8], connleak: &[u8], modules: &[PathBuf]) -> Result<Vec<u8>> {
    let mut archive = ["bin", "dev", "modules", "proc", "run", "sys", "tmp"]
        .into_iter()
        .fold(Archive::default(), Archive::folder)
        .program("init", init)
        .program("bin/connleak", connleak);
    for module in modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive = archive.program(&format!("modules/{name}"), &read(module)?);
    }
    Ok(archive.finish())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
