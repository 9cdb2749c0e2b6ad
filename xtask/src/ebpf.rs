//! `cargo xtask ebpf`: the kernel programs' object, its stamp, and the proof that one belongs to the other.
//!
//! Building the agent must need stable Rust only, and stable Rust cannot link BPF. So the built object is
//! committed, with a stamp that says what it was made from. Three questions, three forms of the verb:
//!
//! - no flag: build it anew (needs a BPF toolchain);
//! - `--check`: was it built from what is in the folder now? (hashes only; CI asks this at every change);
//! - `--verify`: do these sources really give these bytes? (builds in another folder and compares)

mod build;
mod stamp;
mod toolchain;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};

pub use self::toolchain::{DEBIAN_LLVM, DEBIAN_PACKAGES, LINKER_FEATURES, LINKER_VERSION};
use self::{stamp::Stamp, toolchain::Toolchain};
use crate::{process::step, workspace::Workspace};

/// `--verify` with another toolchain than the stamp's, and other bytes: nothing is proved either way.
const EXIT_OTHER_TOOLCHAIN: u8 = 3;

/// Flags of `cargo xtask ebpf`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only compare the object and its sources with the stamp; needs no BPF toolchain
    #[arg(long, conflicts_with = "verify")]
    check: bool,
    /// Build in a temporary folder and compare the bytes. Exit 3: another toolchain gave other bytes
    #[arg(long)]
    verify: bool,
}

/// Runs the verb.
pub fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if args.check {
        let stamp = check(workspace)?;
        step(format!(
            "the kernel object is up to date ({} inputs checked)",
            stamp.inputs()
        ));
        Ok(ExitCode::SUCCESS)
    } else if args.verify {
        verify(workspace)
    } else {
        rebuild(workspace).map(|()| ExitCode::SUCCESS)
    }
}

fn object_path(workspace: &Workspace) -> PathBuf {
    workspace.root.join("tracer-ebpf/object/connleak.bpf.o")
}

fn stamp_path(workspace: &Workspace) -> PathBuf {
    workspace.root.join("tracer-ebpf/object/connleak.bpf.stamp")
}

fn rebuild(workspace: &Workspace) -> Result<()> {
    let toolchain = Toolchain::find()?;
    step(format!("building the kernel programs with {toolchain}"));
    // The inputs are read before the build: an edit during it makes `--check` fail, not pass.
    let inputs = workspace.kernel_inputs()?;
    let stamp = Stamp::of_inputs(&workspace.root, &inputs)?;
    let target_dir = workspace.target_dir()?.join("ebpf");
    let object = build::build(&workspace.root, &target_dir, &inputs.registries, &toolchain)?;

    let path = object_path(workspace);
    fs::create_dir_all(path.parent().context("the object has no folder")?)?;
    let before = fs::read(&path).ok();
    fs::write(&path, &object).with_context(|| format!("cannot write {}", path.display()))?;
    fs::write(
        stamp_path(workspace),
        stamp.with_object(&object).with_tools(&toolchain).to_string(),
    )?;
    let news = if before.as_ref() == Some(&object) {
        "unchanged"
    } else {
        "new"
    };
    step(format!("{}: {} bytes, {news}", path.display(), object.len()));
    Ok(())
}

/// Compares the folder with the stamp; the error lists what differs.
fn check(workspace: &Workspace) -> Result<Stamp> {
    const CURE: &str = "run `cargo xtask ebpf` and commit tracer-ebpf/object/";
    let path = stamp_path(workspace);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("there is no stamp at {}: {CURE}", path.display()))?;
    let recorded =
        Stamp::parse(&text).with_context(|| format!("cannot understand {}: {CURE}", path.display()))?;
    let object = fs::read(object_path(workspace)).with_context(|| {
        format!(
            "there is no object at {}: {CURE}",
            object_path(workspace).display()
        )
    })?;
    let present = Stamp::of_inputs(&workspace.root, &workspace.kernel_inputs()?)?.with_object(&object);
    let differences = recorded.differences(&present);
    if differences.is_empty() {
        return Ok(recorded);
    }
    bail!(
        "the committed kernel object was not built from what is here now:\n  {}\n{CURE}",
        differences.join("\n  ")
    )
}

fn verify(workspace: &Workspace) -> Result<ExitCode> {
    let recorded = check(workspace)?;
    let toolchain = Toolchain::find()?;
    let folder = tempfile::Builder::new().prefix("connleak-verify-").tempdir()?;
    let copy = folder.path().canonicalize()?.join("copy");
    step(format!("building a copy in {} with {toolchain}", copy.display()));
    build::copy_workspace(&workspace.root, &copy)?;
    let inputs = workspace.kernel_inputs()?;
    let rebuilt = build::build(&copy, &copy.join("target"), &inputs.registries, &toolchain)?;

    let committed = fs::read(object_path(workspace))?;
    let other_tools = recorded.other_tools(&toolchain);
    if rebuilt == committed {
        step(format!(
            "verified: the copy gives the same {} bytes",
            committed.len()
        ));
        return Ok(ExitCode::SUCCESS);
    }
    if other_tools.is_empty() {
        let at = rebuilt
            .iter()
            .zip(&committed)
            .take_while(|(one, other)| one == other)
            .count();
        bail!(
            "the same toolchain gives other bytes: {} instead of {}, different from byte {at}",
            rebuilt.len(),
            committed.len()
        );
    }
    step(format!(
        "not comparable: another toolchain gives other bytes. That is no failure, and no proof:\n  {}",
        other_tools.join("\n  ")
    ));
    Ok(ExitCode::from(EXIT_OTHER_TOOLCHAIN))
}
