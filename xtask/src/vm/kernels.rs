//! Debian's kernels: which there are, and how one gets here.
//!
//! apt downloads and verifies them (its lists are signed, its packages hashed in the lists) with lists and
//! archives of its own in the cache, so that this machine's sources do not change. Nothing is ever installed:
//! the package is only unpacked.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::process::{self, find_program, step};

/// Debian's keys, which the suites' lists are checked with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MIRROR: &str = "http://deb.debian.org";

/// A line of Debian's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// As users name it.
    pub version: &'static str,
    /// Below the mirror.
    archive: &'static str,
    suite: &'static str,
    /// The back-ends that have to work, the one that is taken first.
    pub backends: &'static str,
    /// How it has to be told which code uses a connection.
    pub call_sites: &'static str,
}

/// Every kernel that connleak is tried on: each long-term one that Debian still ships.
pub const ALL: [Kernel; 4] = [
    kernel(
        "5.10",
        "debian-security",
        "bullseye-security",
        BEFORE_COOKIES,
        "none",
    ),
    kernel(
        "6.1",
        "debian-security",
        "bookworm-security",
        ALL_BACKENDS,
        BY_ENTRY,
    ),
    kernel("6.12", "debian", "bookworm-backports", ALL_BACKENDS, BY_LENGTH),
    kernel("6.18", "debian", "trixie-backports", ALL_BACKENDS, BY_LENGTH),
];
/// What CI runs.
pub const DEFAULT: Kernel = ALL[1];

const ALL_BACKENDS: &str = "btf, memory, diag, tracepoint";
/// Without helpers for cookies, two of them cannot tell sockets apart.
const BEFORE_COOKIES: &str = "memory, tracepoint";

/// At the entry of the kernel's function, where there is no tracepoint …
const BY_ENTRY: &str = "fentry:tcp_sendmsg";
/// … and by that from 6.3 on.
const BY_LENGTH: &str = "tp_btf:sock_send_length";

const fn kernel(
    version: &'static str,
    archive: &'static str,
    suite: &'static str,
    backends: &'static str,
    call_sites: &'static str,
) -> Kernel {
    Kernel {
        version,
        archive,
        suite,
        backends,
        call_sites,
    }
}

impl Kernel {
    /// By the version that a user wrote.
    pub fn named(version: &str) -> Result<Self> {
        match ALL.iter().find(|kernel| kernel.version == version) {
            Some(kernel) => Ok(*kernel),
            None => bail!(
                "no kernel {version}: there are {}",
                ALL.map(|kernel| kernel.version).join(", ")
            ),
        }
    }

    /// The folder of the kernel's image and modules, from the cache or downloaded. `fresh`: look for a newer
    /// package of this line.
    pub fn get(self, fresh: bool) -> Result<Unpacked> {
        let folder = cache()?.join(self.version);
        if !fresh && let Some(unpacked) = unpacked_in(&folder) {
            return Ok(unpacked);
        }
        let apt = Apt::prepare(&folder.join("apt"), self)?;
        let package = apt.newest(self)?;
        step(format!("kernel {}: {package} from {}", self.version, self.suite));
        let unpacked = folder.join("unpacked");
        let archive = apt.download(&package)?;
        // A package that was cut off while it was unpacked must not look like one that is there.
        let partial = folder.join("unpacked.partial");
        for old in [&unpacked, &partial] {
            if old.exists() {
                fs::remove_dir_all(old)?;
            }
        }
        process::run(Command::new("dpkg").arg("-x").args([&archive, &partial]))?;
        // Other modules make up most of it.
        keep_modules(&partial)?;
        for unused in ["lib", "usr"] {
            let unused = partial.join(unused);
            if unused.exists() {
                fs::remove_dir_all(unused)?;
            }
        }
        fs::remove_file(&archive)?;
        fs::rename(&partial, &unpacked)?;
        unpacked_in(&folder).with_context(|| format!("{package} has no kernel image"))
    }
}

/// A kernel in the cache.
#[derive(Debug)]
pub struct Unpacked {
    /// The image.
    pub image: PathBuf,
    /// The modules that a machine loads, in this order.
    pub modules: Vec<PathBuf>,
}

/// `sock_diag` for TCP and unix sockets, which hosts load when a program asks for it. Debian's others, such as
/// those for disks, are of no use in a machine without any.
const MODULES: [&str; 3] = ["ipv4/inet_diag", "ipv4/tcp_diag", "unix/unix_diag"];

/// Puts the modules that are wanted aside, decompressed.
fn keep_modules(package: &Path) -> Result<()> {
    let kept = package.join("modules");
    fs::create_dir_all(&kept)?;
    for (position, module) in MODULES.iter().enumerate() {
        let name = module.rsplit('/').next().unwrap_or(module);
        let found = ["lib/modules", "usr/lib/modules"]
            .into_iter()
            .filter_map(|folder| fs::read_dir(package.join(folder)).ok())
            .flat_map(Iterator::flatten)
            .flat_map(|release| {
                let plain = release.path().join(format!("kernel/net/{module}.ko"));
                [plain.with_extension("ko.xz"), plain]
            })
            .find(|path| path.is_file())
            .with_context(|| format!("{} has no module {name}", package.display()))?;
        let copy = kept.join(format!("{position}-{name}.ko"));
        if found.extension().is_some_and(|extension| extension == "xz") {
            let mut command = Command::new("xz");
            command.args(["--decompress", "--stdout"]).arg(&found);
            process::run(command.stdout(fs::File::create(&copy)?))?;
        } else {
            fs::copy(&found, &copy)?;
        }
    }
    Ok(())
}

fn unpacked_in(folder: &Path) -> Option<Unpacked> {
    let image = image_in(folder)?;
    let modules = fs::read_dir(folder.join("unpacked/modules")).ok()?;
    let mut modules: Vec<_> = modules.flatten().map(|entry| entry.path()).collect();
    modules.sort();
    Some(Unpacked { image, modules })
}

/// `$XDG_CACHE_HOME/connleak/kernels`.
fn cache() -> Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|folder| !folder.is_empty());
    let base = match set("XDG_CACHE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&set("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache"),
    };
    Ok(base.join("connleak/kernels"))
}

/// The release that an image is of, by its name.
pub fn release(image: &Path) -> String {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("vmlinuz-").unwrap_or(&name).to_owned()
}

fn image_in(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder.join("unpacked/boot"))
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
        })
}

/// apt with one source, and lists and archives of its own.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn prepare(folder: &Path, kernel: Kernel) -> Result<Self> {
        if find_program("apt-get").is_none() || find_program("dpkg").is_none() {
            bail!("Debian's kernels are downloaded and unpacked with apt and dpkg, which are not here");
        }
        if !Path::new(KEYRING).exists() {
            bail!("{KEYRING} is not here (Debian: apt-get install debian-archive-keyring)");
        }
        for folder in ["lists/partial", "archives/partial", "preferences"].map(|name| folder.join(name)) {
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(
            folder.join("sources.list"),
            format!(
                "deb [arch=amd64 signed-by={KEYRING}] {MIRROR}/{} {} main\n",
                kernel.archive, kernel.suite
            ),
        )?;
        let apt = Self {
            folder: folder.to_owned(),
        };
        process::run(apt.command("apt-get").arg("update"))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let own = |name: &str| self.folder.join(name).display().to_string();
        for (setting, value) in [
            ("Dir::Etc::SourceList", own("sources.list")),
            ("Dir::Etc::SourceParts", "-".to_owned()),
            // What this machine prefers does not matter here, nor what it has.
            ("Dir::Etc::Preferences", "/dev/null".to_owned()),
            ("Dir::Etc::PreferencesParts", own("preferences")),
            ("Dir::State::Lists", own("lists")),
            ("Dir::State::Status", "/dev/null".to_owned()),
            ("Dir::Cache::Archives", own("archives")),
            ("Dir::Cache::PkgCache", String::new()),
            ("Dir::Cache::SrcPkgCache", String::new()),
            ("APT::Architecture", "amd64".to_owned()),
            // apt would give up root for `_apt`, who may not write in a user's cache; what it downloads is
            // verified either way.
            ("APT::Sandbox::User", "root".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
        ] {
            command.arg("-o").arg(format!("{setting}={value}"));
        }
        command.arg("--quiet=2");
        command
    }

    /// The newest signed cloud kernel of a line.
    fn newest(&self, kernel: Kernel) -> Result<String> {
        let names = process::output(self.command("apt-cache").args(["pkgnames", "linux-image-"]))?;
        newest_of(&names, kernel.version)
            .with_context(|| format!("{} has no cloud kernel {}", kernel.suite, kernel.version))
    }

    fn download(&self, package: &str) -> Result<PathBuf> {
        let archives = self.folder.join("archives");
        process::run(
            self.command("apt-get")
                .args(["download", package])
                .current_dir(&archives),
        )?;
        fs::read_dir(&archives)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                name.starts_with(&format!("{package}_"))
            })
            .with_context(|| format!("apt did not leave {package} in {}", archives.display()))
    }
}

/// Among package names, the newest `linux-image-VERSION…-cloud-amd64` of this line; the newest of all later ones
/// when backports have moved on.
fn newest_of(names: &str, version: &str) -> Option<String> {
    let wanted = numbers(version);
    let releases: Vec<(Vec<u64>, &str)> = names
        .lines()
        // Another suite's kernel, built anew for this one.
        .filter(|name| !name.contains("deb11"))
        .filter_map(|name| {
            let release = name.strip_prefix("linux-image-")?.strip_suffix("-cloud-amd64")?;
            Some((numbers(release), name))
        })
        // With two numbers it is a package that only depends on another.
        .filter(|(release, _)| release.len() > 2 && *release > wanted)
        .collect();
    let newest = |of_line: bool| {
        let fitting = releases
            .iter()
            .filter(|(release, _)| !of_line || release.starts_with(&wanted));
        fitting.max().map(|(_, name)| (*name).to_owned())
    };
    newest(true).or_else(|| newest(false))
}

/// The numbers in a name, which order it as `sort -V` would.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_signed_cloud_kernel_of_a_line_is_taken() {
        let names = "linux-image-6.1-cloud-amd64\nlinux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-56-cloud-amd64\n\
                     linux-image-6.1.0-57-cloud-amd64-unsigned\nlinux-image-6.1.0-58-amd64\n\
                     linux-image-7.1-cloud-amd64\nlinux-image-6.12.9+deb12-cloud-amd64\nlinux-image-6.12.95+deb12-cloud-amd64\n\
                     linux-image-6.1.0-0.deb11.50-cloud-amd64\n";
        let newest = |version| newest_of(names, version);
        assert_eq!(newest("6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(
            newest("6.12").as_deref(),
            Some("linux-image-6.12.95+deb12-cloud-amd64")
        );
        assert_eq!(newest("6.6").as_deref(), newest("6.12").as_deref(), "moved on");
        assert_eq!(newest("6.18"), None);
    }

    #[test]
    fn an_unknown_kernel_is_refused_with_those_there_are() {
        assert_eq!(Kernel::named("6.12").ok(), Some(ALL[2]));
        let message = Kernel::named("4.19").expect_err("not ours").to_string();
        assert!(message.contains("5.10, 6.1, 6.12, 6.18"), "{message}");
    }
}
