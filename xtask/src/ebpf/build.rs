//! Compiles the kernel programs so that the same sources give the same bytes in any folder.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::toolchain::Toolchain;
use crate::{
    process,
    workspace::{KERNEL_PACKAGE, KERNEL_TARGET},
};

/// The flags that shape the object. They are part of the stamp; the remapped paths are not, since they differ
/// from folder to folder and, being remapped, change nothing.
pub const RUSTFLAGS: [&str; 2] = ["-Clinker=bpf-linker", "-Clink-arg=--btf"];

/// The machine whose registers the programs read. aya's build scripts would take the one they run on, so that
/// an object built on an ARM host would differ, and read the wrong registers on x86-64.
pub const MACHINE: &str = "x86_64";

/// Builds the workspace at `root` in `target_dir` and returns the object, stripped of its debug information.
pub fn build(
    root: &Path,
    target_dir: &Path,
    registries: &BTreeSet<PathBuf>,
    toolchain: &Toolchain,
) -> Result<Vec<u8>> {
    let mut flags: Vec<String> = RUSTFLAGS.map(Into::into).to_vec();
    // BTF's line information holds file names. Of the prefixes that fit, rustc takes the last: a cargo home
    // inside the repository must come after it.
    let mut remap =
        |from: &Path, to: &str| flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    remap(root, "connleak");
    for registry in registries {
        remap(registry, "crates");
    }
    if let Some(source) = toolchain.rust_source() {
        remap(source, "rust");
    }
    process::run(
        toolchain
            .cargo()
            .args([
                "build",
                "--locked",
                "--profile",
                "ebpf",
                "--target",
                KERNEL_TARGET,
                "-p",
                KERNEL_PACKAGE,
            ])
            .args(toolchain.build_arguments())
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("CARGO_TARGET_DIR", target_dir)
            .env("AYA_BPF_TARGET_ARCH", MACHINE)
            .current_dir(root),
    )?;
    let linked = target_dir.join(KERNEL_TARGET).join("ebpf").join(KERNEL_PACKAGE);
    let stripped = linked.with_extension("stripped");
    toolchain.strip(&linked, &stripped)?;
    fs::read(&stripped).with_context(|| format!("cannot read {}", stripped.display()))
}

/// Copies the workspace without what was built and what git keeps.
pub fn copy_workspace(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if ["target", ".git", "node_modules"]
            .iter()
            .any(|skipped| name == *skipped)
        {
            continue;
        }
        let (source, copy) = (entry.path(), to.join(&name));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_workspace(&source, &copy)?;
        } else if kind.is_file() {
            fs::copy(&source, &copy).with_context(|| format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}
