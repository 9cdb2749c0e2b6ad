//! `cargo xtask dist`: the agent as one file that runs on any x86-64 Linux.
//!
//! An incident's host may have any C library, an old one or none; so the file brings its own. Static linking is
//! asked of the ordinary GNU target rather than of musl's, so that it needs no further toolchain; the C library
//! stays usable as long as nothing asks for its plug-ins (user and host names), which the agent does not.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::{
    process::{self, cargo, step},
    workspace::Workspace,
};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Above this somebody should look where it comes from.
const AIM: usize = 10 << 20;

/// Flags of `cargo xtask dist`
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb.
pub fn run(workspace: &Workspace, _args: &Args) -> Result<()> {
    let built = build_static(workspace, "connleak", "connleak")?;
    let image = fs::read(&built)?;
    ensure_static(&image)?;
    let folder = workspace.target_dir()?.join("dist");
    fs::create_dir_all(&folder)?;
    let path = folder.join("connleak");
    // A copy that is running cannot be written to, but it can be replaced.
    let fresh = folder.join("connleak.new");
    fs::copy(&built, &fresh).with_context(|| format!("cannot write {}", fresh.display()))?;
    strip(&fresh);
    let image = fs::read(&fresh)?;
    fs::rename(&fresh, &path)?;
    let version = process::output(Command::new(&path).arg("--version"))?;
    #[expect(clippy::cast_precision_loss, reason = "a size for people")]
    let megabytes = image.len() as f64 / f64::from(1 << 20);
    step(format!(
        "{version}, static: {} bytes ({megabytes:.1} MiB)",
        image.len()
    ));
    println!("{:x}  {}", Sha256::digest(&image), path.display());
    if image.len() > AIM {
        bail!("it is larger than {} MiB", AIM >> 20);
    }
    Ok(())
}

/// Builds a program of one of our packages so that it needs no shared library; says where it is.
pub fn build_static(workspace: &Workspace, package: &str, program: &str) -> Result<PathBuf> {
    step(format!("building {program} without shared libraries"));
    let mut build = cargo();
    build
        .args(["build", "--locked", "--release", "--target", TARGET])
        .args(["--package", package, "--bin", program])
        // With an explicit target these are not given to build scripts and macros, which must stay dynamic.
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .current_dir(&workspace.root);
    process::run(&mut build)?;
    Ok(workspace.target_dir()?.join(TARGET).join("release").join(program))
}

/// Fails when a program asks for an interpreter or a shared library.
fn ensure_static(image: &[u8]) -> Result<()> {
    let needs = needs(image).context("the build gave no 64-bit ELF file")?;
    ensure!(
        needs.is_empty(),
        "the build is not static: it has {}",
        needs.join(" and ")
    );
    Ok(())
}

/// What an ELF image wants from the host; `None` when it is none.
///
/// <https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html>
fn needs(image: &[u8]) -> Option<Vec<&'static str>> {
    const DYNAMIC: u32 = 2;
    const INTERPRETER: u32 = 3;
    const NEEDED: u64 = 1;
    let bytes = |place: usize, length: usize| image.get(place..place.checked_add(length)?);
    let word = |place| Some(u64::from_le_bytes(bytes(place, 8)?.try_into().ok()?));
    let place = |at| usize::try_from(word(at)?).ok();
    let half = |at| Some(usize::from(u16::from_le_bytes(bytes(at, 2)?.try_into().ok()?)));
    if bytes(0, 6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) = (place(32)?, half(54)?, half(56)?);
    let mut found = Vec::new();
    for index in 0..count {
        let header = table.checked_add(index * size)?;
        match u32::from_le_bytes(bytes(header, 4)?.try_into().ok()?) {
            INTERPRETER => found.push("an interpreter"),
            DYNAMIC => {
                // A position-independent program has this section even when it is static.
                let (start, length) = (place(header + 8)?, place(header + 32)?);
                let entries = bytes(start, length)?.chunks_exact(16);
                if entries
                    .into_iter()
                    .any(|entry| entry.starts_with(&NEEDED.to_le_bytes()))
                {
                    found.push("a shared library");
                }
            }
            _ => {}
        }
    }
    Some(found)
}

/// Removes symbols, which cargo's profile keeps. Without the tool the file is larger and just as good.
fn strip(path: &PathBuf) {
    if let Err(error) = process::run(Command::new("strip").arg(path)) {
        step(format!("not stripped: {error:#}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_needs_is_read_from_its_headers() -> Result<()> {
        // This test itself is built dynamically.
        let own = fs::read(std::env::current_exe()?)?;
        assert_eq!(needs(&own), Some(vec!["an interpreter", "a shared library"]));
        assert!(ensure_static(&own).is_err());
        assert_eq!(needs(b"#!/bin/sh\n"), None);
        for length in 0..64 {
            assert_eq!(needs(&own[..length]), None, "cut after {length} bytes");
        }
        Ok(())
    }
}
