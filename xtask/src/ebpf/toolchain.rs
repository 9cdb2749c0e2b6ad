//! Which compiler, linker and strip build the kernel programs on this machine.
//!
//! Two compilers will do: Debian's `rustc-web`, which carries a prebuilt `core` for BPF, and rustup's nightly,
//! which builds one from rust-src. Whichever is there is taken, Debian's first: its version moves less.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{
    process::{self, cargo, find_program},
    workspace::KERNEL_TARGET,
};

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Debian's packages for the BPF toolchain.
pub const DEBIAN_PACKAGES: [&str; 7] = [
    "rustc-web",
    "libstd-rust-web-dev-bpf",
    "llvm-22-dev",
    "libpolly-22-dev",
    "zlib1g-dev",
    "libzstd-dev",
    "libxml2-dev",
];

/// The linker that fits the aya version in use: 0.10 breaks on a union's name in BTF.
pub const LINKER_VERSION: &str = "0.13.0";
/// Arguments for `cargo install` that link it with Debian's LLVM, which is `DEBIAN_LLVM`.
pub const LINKER_FEATURES: [&str; 3] = ["--no-default-features", "--features", "llvm-22"];
/// Where Debian's LLVM is; the linker's build script reads it from `LLVM_PREFIX`.
pub const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Compiler {
    Debian,
    Nightly { rust_source: PathBuf },
}

/// Everything that turns the sources into the object, with its versions.
#[derive(Debug)]
pub struct Toolchain {
    compiler: Compiler,
    strip: PathBuf,
    versions: Vec<(&'static str, String)>,
}

impl Toolchain {
    /// Looks for a usable toolchain; the error says how to install one.
    pub fn find() -> Result<Self> {
        let Some(compiler) = compiler() else {
            bail!(
                "no compiler for {KERNEL_TARGET}: neither Debian's rustc-web nor rustup's nightly with rust-src is \
                 here\n{}",
                how_to_install()
            );
        };
        if find_program("bpf-linker").is_none() {
            bail!("bpf-linker is not installed\n{}", how_to_install());
        }
        let Some(strip) = strip() else {
            bail!(
                "neither llvm-strip nor llvm-objcopy is installed\n{}",
                how_to_install()
            )
        };
        let found = Self {
            compiler,
            strip,
            versions: Vec::new(),
        };
        let rustc = match found.compiler {
            Compiler::Debian => process::output(Command::new(DEBIAN_RUSTC).arg("--version"))?,
            Compiler::Nightly { .. } => process::output(&mut nightly("rustc", &["--version"]))?,
        };
        // Cargo's version counts: it decides the hash in mangled names, which end up in the object.
        let cargo = process::output(found.cargo().arg("--version"))?;
        let linker = process::output(Command::new("bpf-linker").arg("--version"))?;
        let strip = process::output(Command::new(&found.strip).arg("--version"))?;
        let strip = strip
            .lines()
            .find(|line| line.contains("LLVM version"))
            .unwrap_or(&strip)
            .trim()
            .to_owned();
        let versions = vec![
            ("rustc", rustc),
            ("cargo", cargo),
            ("bpf-linker", linker),
            ("llvm-strip", strip),
        ];
        Ok(Self { versions, ..found })
    }

    /// Each tool's name and version, one line each.
    pub fn versions(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.versions
            .iter()
            .map(|(name, version)| (*name, version.as_str()))
    }

    /// The cargo of this toolchain, set up to use its compiler.
    pub fn cargo(&self) -> Command {
        let mut command = match self.compiler {
            Compiler::Debian => {
                let mut command = cargo();
                // aya-ebpf needs `asm_experimental_arch`, which a released compiler only allows when told so.
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Compiler::Nightly { .. } => nightly("cargo", &[]),
        };
        // A cache or a setting of the developer's must not change the bytes.
        command
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_WORKSPACE_WRAPPER", "")
            .env_remove("CARGO_INCREMENTAL");
        command
    }

    /// What `cargo build` needs besides the package and the target.
    pub fn build_arguments(&self) -> &'static [&'static str] {
        match self.compiler {
            Compiler::Debian => &[],
            Compiler::Nightly { .. } => &["-Z", "build-std=core"],
        }
    }

    /// The compiler's own sources, when it compiles them: one more path that must not end up in the object.
    pub fn rust_source(&self) -> Option<&Path> {
        match &self.compiler {
            Compiler::Debian => None,
            Compiler::Nightly { rust_source } => Some(rust_source),
        }
    }

    /// Copies `from` to `to` without debug information; BTF stays.
    pub fn strip(&self, from: &Path, to: &Path) -> Result<()> {
        // llvm-strip is llvm-objcopy under another name, and takes its output as an option.
        let objcopy = self.strip.to_string_lossy().contains("objcopy");
        let mut command = Command::new(&self.strip);
        command.arg("-g").arg(from);
        process::run(if objcopy {
            command.arg(to)
        } else {
            command.arg("-o").arg(to)
        })
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<_> = self
            .versions
            .iter()
            .map(|(_, version)| version.as_str())
            .collect();
        write!(f, "{}", versions.join(", "))
    }
}

fn compiler() -> Option<Compiler> {
    let libraries = process::output(Command::new(DEBIAN_RUSTC).args([
        "--print",
        "target-libdir",
        "--target",
        KERNEL_TARGET,
    ]));
    if libraries.is_ok_and(|folder| has_core(Path::new(&folder))) {
        return Some(Compiler::Debian);
    }
    let sysroot = process::output(&mut nightly("rustc", &["--print", "sysroot"])).ok()?;
    let rust_source = Path::new(&sysroot).join("lib/rustlib/src/rust");
    rust_source
        .join("library/core")
        .is_dir()
        .then_some(Compiler::Nightly { rust_source })
}

fn has_core(folder: &Path) -> bool {
    let is_core =
        |name: &str| name.starts_with("libcore-") && Path::new(name).extension().is_some_and(|e| e == "rlib");
    fs::read_dir(folder).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|e| is_core(&e.file_name().to_string_lossy())))
    })
}

fn nightly(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    // Cargo tells its children which compiler and toolchain to use; this asks for another.
    command
        .args(["run", "nightly", program])
        .args(arguments)
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn strip() -> Option<PathBuf> {
    let preferred = Path::new(DEBIAN_LLVM).join("bin/llvm-strip");
    if preferred.is_file() {
        return Some(preferred);
    }
    find_program("llvm-strip").or_else(|| find_program("llvm-objcopy"))
}

fn how_to_install() -> String {
    format!(
        "On Debian: `cargo xtask setup --ebpf`, which does\n    \
         apt-get install --no-install-recommends {packages}\n    \
         LLVM_PREFIX={DEBIAN_LLVM} cargo install --locked bpf-linker --version {LINKER_VERSION} {features}\n\
         Elsewhere: LLVM's llvm-strip from your distribution, and\n    \
         rustup toolchain install nightly --component rust-src\n    \
         cargo install --locked bpf-linker --version {LINKER_VERSION}",
        packages = DEBIAN_PACKAGES.join(" "),
        features = LINKER_FEATURES.join(" "),
    )
}
