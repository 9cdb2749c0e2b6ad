//! The workspace as cargo sees it: where it is, where it builds, and which locked packages the kernel
//! programs are made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process;

/// The package of the kernel programs.
pub const KERNEL_PACKAGE: &str = "connleak-ebpf";
/// The target they are built for: BPF of little-endian machines.
pub const KERNEL_TARGET: &str = "bpfel-unknown-none";

/// Where the repository is.
#[derive(Debug)]
pub struct Workspace {
    /// The folder with the workspace's `Cargo.toml`.
    pub root: PathBuf,
}

/// What the kernel programs are built from, besides their own files.
#[derive(Debug)]
pub struct KernelInputs {
    /// `name version` → checksum of `Cargo.lock`, for each package whose code can end up in the object.
    pub packages: BTreeMap<String, String>,
    /// Edition, version and dependencies with their features, as inherited from the workspace.
    pub declaration: String,
    /// The folders that hold those packages' sources; their paths must not end up in the object.
    pub registries: BTreeSet<PathBuf>,
}

impl Workspace {
    /// Finds the workspace this xtask belongs to.
    pub fn locate() -> Result<Self> {
        // Cargo sets the variable at run time too, so a moved checkout is found; the other is for a binary
        // that was started by hand.
        let package = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = package.parent().context("xtask has no parent folder")?.to_owned();
        Ok(Self { root })
    }

    /// Cargo's target folder (`CARGO_TARGET_DIR` and cargo's configuration are respected).
    pub fn target_dir(&self) -> Result<PathBuf> {
        let metadata = self.metadata(&["--no-deps"])?;
        Ok(text(&metadata["target_directory"])?.into())
    }

    /// What the kernel programs depend on, for the BPF target.
    pub fn kernel_inputs(&self) -> Result<KernelInputs> {
        let metadata = self.metadata(&["--filter-platform", KERNEL_TARGET])?;
        let lock = fs::read_to_string(self.root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
        kernel_inputs(&metadata, &checksums(&lock))
    }

    fn metadata(&self, arguments: &[&str]) -> Result<Value> {
        let printed = process::output(
            process::cargo()
                .args(["metadata", "--locked", "--format-version", "1"])
                .args(arguments)
                .current_dir(&self.root),
        )?;
        serde_json::from_str(&printed).context("cannot understand `cargo metadata`")
    }
}

/// `name version` → checksum, from the text of a `Cargo.lock`. The file is written by cargo alone, one key a
/// line, so this needs no TOML parser. Workspace members have no checksum and are left out.
fn checksums(lock: &str) -> BTreeMap<String, String> {
    let value = |block: &str, key: &str| {
        let line = block
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""))?;
        line.strip_suffix('"').map(ToOwned::to_owned)
    };
    lock.split("[[package]]\n")
        .skip(1)
        .filter_map(|block| {
            let (name, version) = (value(block, "name")?, value(block, "version")?);
            Some((format!("{name} {version}"), value(block, "checksum")?))
        })
        .collect()
}

fn kernel_inputs(metadata: &Value, checksums: &BTreeMap<String, String>) -> Result<KernelInputs> {
    let mut packages_by_id = BTreeMap::new();
    for package in list(&metadata["packages"])? {
        packages_by_id.insert(text(&package["id"])?, package);
    }
    let mut nodes_by_id = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"])? {
        nodes_by_id.insert(text(&node["id"])?, node);
    }
    let (&root_id, root) = packages_by_id
        .iter()
        .find(|(_, package)| package["name"] == KERNEL_PACKAGE)
        .with_context(|| format!("the workspace has no package {KERNEL_PACKAGE}"))?;

    let mut inputs = KernelInputs {
        packages: BTreeMap::new(),
        declaration: declaration(root)?,
        registries: BTreeSet::new(),
    };
    let mut pending = vec![root_id];
    let mut seen = BTreeSet::new();
    while let Some(id) = pending.pop() {
        if !seen.insert(id) {
            continue;
        }
        let package = packages_by_id
            .get(id)
            .with_context(|| format!("no package {id}"))?;
        let key = format!("{} {}", text(&package["name"])?, text(&package["version"])?);
        if id != root_id {
            // A member of the workspace has no checksum: its name and version stand for it.
            inputs.packages.insert(
                key.clone(),
                checksums.get(&key).cloned().unwrap_or_else(|| "path".into()),
            );
        }
        if !package["source"].is_null() {
            let folder = Path::new(text(&package["manifest_path"])?).ancestors().nth(2);
            inputs.registries.extend(folder.map(Path::to_owned));
        }
        for dependency in list(&nodes_by_id.get(id).with_context(|| format!("no node {id}"))?["deps"])? {
            // A build dependency's code stays in the build script, which belongs to a package that is
            // counted. Counting it would ask for a new object at each update of serde.
            if list(&dependency["dep_kinds"])?
                .iter()
                .any(|kind| kind["kind"].is_null())
            {
                pending.push(text(&dependency["pkg"])?);
            }
        }
    }
    Ok(inputs)
}

/// What the manifest inherits from the workspace, where a look at the manifest alone would not see a change.
fn declaration(package: &Value) -> Result<String> {
    let mut lines = vec![format!(
        "edition {} version {}",
        package["edition"], package["version"]
    )];
    for dependency in list(&package["dependencies"])? {
        if dependency["kind"].is_null() {
            let (name, features) = (&dependency["name"], &dependency["features"]);
            lines.push(format!(
                "{name} {features} {}",
                dependency["uses_default_features"]
            ));
        }
    }
    lines.sort();
    Ok(lines.join("\n"))
}

fn text(value: &Value) -> Result<&str> {
    value
        .as_str()
        .with_context(|| format!("`cargo metadata`: expected a string, found {value}"))
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    value
        .as_array()
        .with_context(|| format!("`cargo metadata`: expected a list, found {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_read_from_a_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry\"\n\
                    checksum = \"cafe\"\ndependencies = [\n \"b\",\n]\n\n[[package]]\nname = \"member\"\n\
                    version = \"0.1.0\"\n";
        assert_eq!(
            checksums(lock),
            BTreeMap::from([("a 1.0.0".into(), "cafe".into())])
        );
    }

    #[test]
    fn the_kernel_programs_are_made_of_bpf_crates_and_not_of_the_agents() -> Result<()> {
        let inputs = Workspace::locate()?.kernel_inputs()?;
        let has = |name: &str| {
            inputs
                .packages
                .keys()
                .any(|key| key.starts_with(&format!("{name} ")))
        };
        assert!(
            has("aya-ebpf") && has("aya-log-ebpf") && has("aya-ebpf-macros"),
            "{inputs:?}"
        );
        assert!(!has("tokio") && !has("aya") && !has("serde_json"), "{inputs:?}");
        assert!(
            inputs.packages.values().all(|checksum| checksum.len() == 64),
            "{inputs:?}"
        );
        Ok(())
    }
}
