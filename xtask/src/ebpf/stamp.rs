//! The stamp beside the committed object: a hash of everything the object was made from, one line each.
//!
//! One line per file and package, rather than one hash over all, so that `--check` can name what changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use super::{build, toolchain::Toolchain};
use crate::workspace::KernelInputs;

const HEADER: &str =
    "# Written by `cargo xtask ebpf`, compared by `cargo xtask ebpf --check`. Not for editing.";
const TOOL: &str = "tool ";

/// What an object was made from and with: `kind name` → hash or version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(BTreeMap<String, String>);

impl Stamp {
    /// Hashes the inputs as they are in the folder now.
    pub fn of_inputs(root: &Path, inputs: &KernelInputs) -> Result<Self> {
        let mut entries = BTreeMap::new();
        let package = root.join("tracer-ebpf");
        let mut files = vec![package.join("Cargo.toml")];
        rust_files(&package.join("src"), &mut files)?;
        for file in files {
            let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let name = file.strip_prefix(root).unwrap_or(&file);
            entries.insert(format!("source {}", name.display()), hash(&content));
        }
        let manifest = fs::read_to_string(root.join("Cargo.toml")).context("cannot read Cargo.toml")?;
        for profile in profile_chain(&manifest, "ebpf")? {
            entries.insert(
                format!("source Cargo.toml [profile.{}]", profile.0),
                hash(profile.1.as_bytes()),
            );
        }
        entries.insert(
            "source Cargo.toml [workspace]".into(),
            hash(inputs.declaration.as_bytes()),
        );
        let recipe = format!("{} {}", build::MACHINE, build::RUSTFLAGS.join(" "));
        entries.insert("source compiler flags".into(), hash(recipe.as_bytes()));
        for (package, checksum) in &inputs.packages {
            entries.insert(format!("package {package}"), checksum.clone());
        }
        Ok(Self(entries))
    }

    /// Adds the object's own hash.
    pub fn with_object(mut self, object: &[u8]) -> Self {
        self.0.insert("object connleak.bpf.o".into(), hash(object));
        self
    }

    /// Adds the versions of the tools.
    pub fn with_tools(mut self, toolchain: &Toolchain) -> Self {
        self.0.extend(
            toolchain
                .versions()
                .map(|(name, version)| (format!("{TOOL}{name}"), version.to_owned())),
        );
        self
    }

    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let (key, value) = line
                .split_once(" = ")
                .with_context(|| format!("no ` = ` in `{line}`"))?;
            entries.insert(key.to_owned(), value.to_owned());
        }
        Ok(Self(entries))
    }

    /// How many things were hashed.
    pub fn inputs(&self) -> usize {
        self.0.keys().filter(|key| !key.starts_with(TOOL)).count()
    }

    /// What differs in `present` from this, in words. The tools are not compared: any may be absent here.
    pub fn differences(&self, present: &Self) -> Vec<String> {
        let keys: BTreeSet<_> = self
            .0
            .keys()
            .chain(present.0.keys())
            .filter(|key| !key.starts_with(TOOL))
            .collect();
        keys.into_iter()
            .filter_map(|key| match (self.0.get(key), present.0.get(key)) {
                (Some(then), Some(now)) => (then != now).then(|| format!("{key}: changed")),
                (Some(_), None) => Some(format!("{key}: no longer there")),
                _ => Some(format!("{key}: new")),
            })
            .collect()
    }

    /// Which tools have another version than those of this stamp, in words.
    pub fn other_tools(&self, toolchain: &Toolchain) -> Vec<String> {
        let recorded = |name: &str| {
            self.0
                .get(&format!("{TOOL}{name}"))
                .map_or("unknown", String::as_str)
        };
        toolchain
            .versions()
            .filter(|(name, here)| recorded(name) != *here)
            .map(|(name, here)| format!("{name}: {} in the stamp, {here} here", recorded(name)))
            .collect()
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        self.0
            .iter()
            .try_for_each(|(key, value)| writeln!(f, "{key} = {value}"))
    }
}

fn hash(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// The settings of a profile and of those it inherits from, with their names; comments do not count.
fn profile_chain(manifest: &str, first: &str) -> Result<Vec<(String, String)>> {
    let mut chain: Vec<(String, String)> = Vec::new();
    let mut next = Some(first.to_owned());
    while let Some(name) = next {
        if chain.iter().any(|(seen, _)| *seen == name) {
            bail!("[profile.{name}] inherits from itself");
        }
        let header = format!("[profile.{name}]");
        let lines: Vec<_> = manifest
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default().trim())
            .skip_while(|line| *line != header)
            .skip(1)
            .take_while(|line| !line.starts_with('['))
            .filter(|line| !line.is_empty())
            .collect();
        next = lines.iter().find_map(|line| {
            let value = line.strip_prefix("inherits")?.trim_start().strip_prefix('=')?;
            Some(value.trim().trim_matches('"').to_owned())
        });
        chain.push((name, lines.join("\n")));
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(entries: &[(&str, &str)]) -> Stamp {
        Stamp(
            entries
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn a_stamp_survives_its_text() -> Result<()> {
        let written = stamp(&[
            ("source src/main.rs", "ab"),
            ("tool rustc", "rustc 1.96.0 (x = y)"),
        ]);
        assert_eq!(Stamp::parse(&written.to_string())?, written);
        assert!(Stamp::parse("<<<<<<< HEAD").is_err());
        Ok(())
    }

    #[test]
    fn differences_are_named_and_tools_do_not_count() {
        let then = stamp(&[
            ("source a.rs", "1"),
            ("source b.rs", "1"),
            ("source c.rs", "1"),
            ("tool rustc", "1"),
        ]);
        let now = stamp(&[
            ("source a.rs", "1"),
            ("source b.rs", "2"),
            ("package d 1.0.0", "1"),
        ]);
        assert_eq!(
            then.differences(&now),
            [
                "package d 1.0.0: new",
                "source b.rs: changed",
                "source c.rs: no longer there"
            ]
        );
    }

    #[test]
    fn a_profile_counts_with_what_it_inherits_and_without_comments() -> Result<()> {
        let manifest = "[profile.release]\nlto = true # why\n\n# The kernel.\n[profile.ebpf]\n\
                        inherits = \"release\"\ndebug = 2\n\n[other]\nx = 1\n";
        assert_eq!(
            profile_chain(manifest, "ebpf")?,
            [
                ("ebpf".to_owned(), "inherits = \"release\"\ndebug = 2".to_owned()),
                ("release".to_owned(), "lto = true".to_owned())
            ]
        );
        assert!(profile_chain("[profile.ebpf]\ninherits = \"ebpf\"\n", "ebpf").is_err());
        Ok(())
    }
}
