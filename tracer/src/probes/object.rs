//! The kernel object: embedded in the agent, given this kernel's offsets and the user's filter, and loaded.

use std::fs;

use anyhow::{Context as _, Result};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::lpm_trie::{Key, LpmTrie},
    programs::ProgramError,
};
use connleak_ebpf::Offsets;

use super::{Options, btf, offsets, table};
use crate::server::Databases;

/// Built by `cargo xtask ebpf` from `tracer-ebpf`, and committed, so that this crate needs stable Rust alone.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../tracer-ebpf/object/connleak.bpf.o");

/// The kernel's own type information.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// How the programs get at sockets (`tracer-ebpf/src/kernel/access.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// By the kernel's helpers (5.12): a socket is known by its cookie.
    Helpers,
    /// By reading the kernel's memory: a socket is known by a number of our own.
    Memory,
}

impl Access {
    /// In order of preference.
    pub const ALL: [Self; 2] = [Self::Helpers, Self::Memory];

    /// For people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Helpers => "by the kernel's cookie",
            Self::Memory => "by numbers of our own: this kernel has no helper for cookies (needs 5.12)",
        }
    }
}

/// An object whose maps are made, and whose programs are loaded as far as this kernel takes them.
pub struct Loaded {
    /// The object.
    pub ebpf: Ebpf,
    /// Which of its variants this is.
    pub access: Access,
    /// The programs that the kernel refused, and why.
    pub refused: Vec<(&'static table::Probe, ProgramError)>,
}

impl Loaded {
    /// A program that connleak cannot do without, and that was refused.
    fn lacks_required(&self) -> bool {
        self.refused.iter().any(|(probe, _)| probe.required)
    }
}

/// Makes the maps, sets the globals, and loads the programs: in the first variant of which this kernel takes
/// every required one, or else in the last.
///
/// Variants are tried, not chosen by the kernel's version: distributions bring helpers to older kernels.
///
/// # Errors
/// When the kernel has no BTF, lacks a structure member, or refuses a map.
pub fn load(databases: &Databases, options: Options) -> Result<Loaded> {
    let data = fs::read(KERNEL_BTF).with_context(|| {
        format!("can't read {KERNEL_BTF}: this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)")
    })?;
    let offsets = offsets::resolve(&btf::Btf::parse(&data)?)?;
    let btf = Btf::parse(&data, endianness())?;
    let [preferred, fallback] = Access::ALL;
    let loaded = variant(databases, options, &offsets, &btf, preferred)?;
    if loaded.lacks_required() && offsets::has_sockets_of_files(&offsets) {
        return variant(databases, options, &offsets, &btf, fallback);
    }
    Ok(loaded)
}

fn variant(
    databases: &Databases,
    options: Options,
    offsets: &Offsets,
    btf: &Btf,
    access: Access,
) -> Result<Loaded> {
    let ports = databases.port_bitmap();
    let prefixes = databases.prefixes();
    let only_servers = u32::from(!prefixes.is_empty());
    // aya-log's numbers: 0 off, 1 error … 4 debug.
    let level: u8 = if options.diagnostics { 4 } else { 0 };
    let wake_at = u64::from(options.ring_bytes / 4);
    let by_helpers = u32::from(access == Access::Helpers);
    let words = offsets.words();
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(btf))
        .override_global("OFFSETS", &words[..], true)
        .override_global("PORTS", &ports[..], true)
        .override_global("ONLY_SERVERS", &only_servers, true)
        .override_global("WAKE_AT", &wake_at, true)
        .override_global("BY_HELPERS", &by_helpers, true)
        .override_global(aya_log::LEVEL, &level, false)
        .map_max_entries("EVENTS", options.ring_bytes);
    if access == Access::Helpers {
        // Never used, and made all the same.
        loader.map_max_entries("IDENTITIES", 1);
    }
    let mut ebpf = loader
        .load(OBJECT)
        .context("the kernel refused connleak's maps or type information")?;
    if only_servers == 1 {
        let map = ebpf
            .map_mut("SERVERS")
            .context("the kernel object has no map SERVERS")?;
        let mut servers: LpmTrie<_, [u8; 16], u8> = map.try_into()?;
        for (address, length) in prefixes {
            servers.insert(&Key::new(u32::from(length), address.octets()), 1, 0)?;
        }
    }
    let mut refused = Vec::new();
    for probe in table::PROBES {
        if let Err(error) = probe.load(&mut ebpf, btf) {
            refused.push((probe, error));
        }
    }
    Ok(Loaded {
        ebpf,
        access,
        refused,
    })
}

fn endianness() -> aya::Endianness {
    if cfg!(target_endian = "little") {
        aya::Endianness::Little
    } else {
        aya::Endianness::Big
    }
}
