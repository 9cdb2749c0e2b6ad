//! Tools that come from crates.io: the licence and dependency checks of `.ci/run`, and the BPF linker.

use anyhow::Result;

use crate::{
    ebpf,
    process::{self, cargo, find_program, step},
};

// Versions known to build with the workspace's `rust-version`. Another one that is there already will do.
const DENY: (&str, &str) = ("cargo-deny", "0.20.2");
const MACHETE: (&str, &str) = ("cargo-machete", "0.9.2");

/// Installs the checks that `.ci/run` makes.
pub fn install() -> Result<()> {
    install_tool(DENY, &[])?;
    install_tool(MACHETE, &[])
}

/// Installs the linker of the kernel programs, against Debian's LLVM.
pub fn install_linker() -> Result<()> {
    install_tool(("bpf-linker", ebpf::LINKER_VERSION), &ebpf::LINKER_FEATURES)
}

fn install_tool((name, version): (&str, &str), features: &[&str]) -> Result<()> {
    if let Some(path) = find_program(name) {
        step(format!("{name}: already there ({})", path.display()));
        return Ok(());
    }
    step(format!(
        "{name}: building version {version} with `cargo install`, which takes some minutes"
    ));
    let mut install = cargo();
    install
        .args(["install", "--quiet", "--locked", name, "--version", version])
        .args(features);
    // Only the linker's build script reads it. The target folder is the workspace's, not that of a foreign tool.
    install
        .env("LLVM_PREFIX", ebpf::DEBIAN_LLVM)
        .env_remove("CARGO_TARGET_DIR");
    process::run(&mut install)
}
