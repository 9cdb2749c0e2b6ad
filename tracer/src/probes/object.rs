//! The kernel object: embedded in the agent, given this kernel's offsets and the user's filter, and loaded.

use std::{
    fs,
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Btf, Ebpf, EbpfLoader, VerifierLogLevel,
    maps::lpm_trie::{Key, LpmTrie},
};
use connleak_ebpf::Offsets;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Backend, Options, btf, format, lull, offsets, table};
use crate::server::Databases;

/// Built by `cargo xtask ebpf` from `tracer-ebpf`, and committed, so that this crate needs stable Rust alone.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../tracer-ebpf/object/connleak.bpf.o");

/// The kernel's own type information.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// This kernel's structure offsets, and the types that programs hook in by, as data.
fn describe() -> Result<(Offsets, Vec<u8>)> {
    let data = fs::read(KERNEL_BTF).with_context(|| {
        format!("can't read {KERNEL_BTF}: this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)")
    })?;
    let types = btf::Btf::parse(&data)?;
    let hooks: Vec<btf::Wanted> = table::by_type().collect();
    Ok((offsets::resolve(&types)?, types.excerpt(&hooks)))
}

/// An object whose maps are made and whose programs can be loaded.
pub struct Loaded {
    /// The object.
    pub ebpf: Ebpf,
    /// The types that programs hook in by, where the back-end needs them.
    pub btf: Option<Btf>,
}

/// Makes the maps and sets the globals, for the programs of this back-end.
///
/// # Errors
/// When the kernel has no BTF, lacks a structure member, or refuses a map; when stacks are asked for that this
/// back-end does not have.
pub fn load(databases: &Databases, options: Options, backend: Backend) -> Result<Loaded> {
    let loader = loader();
    thread::scope(|scope| {
        let (offsets, hooks) = if backend.described() {
            let (offsets, hooks) = describe()?;
            (
                offsets,
                Some(scope.spawn(move || Btf::parse(&hooks, endianness()))),
            )
        } else {
            (Offsets::UNRESOLVED, None)
        };
        let ebpf = fill(loader, databases, options, backend, &offsets)?;
        let hooks = hooks.map(ScopedJoinHandle::join).transpose();
        let btf =
            hooks.map_err(|_| anyhow!("reading the kernel's types failed in a way that it must not"))?;
        Ok(Loaded {
            ebpf,
            btf: btf.transpose()?,
        })
    })
}

/// A loader. As it is made it reads and builds all of the kernel's types if it can, 15 ms and 20 MiB, though nothing in
/// our object is relocated by them. So for that moment it can't: the process may open no file. If the limit can't be
/// set, the loader has what it does not need.
fn loader() -> EbpfLoader<'static> {
    let limit = getrlimit(Resource::RLIMIT_NOFILE);
    let lowered = limit.is_ok_and(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, 0, most).is_ok());
    let mut loader = EbpfLoader::new();
    if let (true, Ok((usual, most))) = (lowered, limit) {
        let _no_higher_than_it_was = setrlimit(Resource::RLIMIT_NOFILE, usual, most);
    }
    if !tracing::enabled!(tracing::Level::DEBUG) {
        // A program that is refused is loaded again and again until its log fits a buffer. With a trace of every
        // instruction that kept an emulated 5.10, which refuses a few, busy for 70 seconds; this leaves what was wrong.
        loader.verifier_log_level(VerifierLogLevel::STATS);
    }
    loader
}

/// Makes the maps and sets the globals.
fn fill(
    loader: EbpfLoader<'_>,
    databases: &Databases,
    options: Options,
    backend: Backend,
    offsets: &Offsets,
) -> Result<Ebpf> {
    if backend == Backend::Memory && !offsets::has_sockets_of_files(offsets) {
        bail!("this kernel's BTF lacks what tells a socket from another file");
    }
    let stacks = options.stacks.on(backend, offsets)?;
    let offsets = offsets.words();
    let ports = databases.port_bitmap();
    let prefixes = databases.prefixes();
    let only_servers = u32::from(!prefixes.is_empty());
    // aya-log's numbers: 0 off, 1 error … 4 debug.
    let level: u8 = if options.diagnostics { 4 } else { 0 };
    let by_helpers = u32::from(backend != Backend::Memory);
    let old_destroy = u32::from(backend == Backend::Tracepoint && format::old_destroy());
    // The numbers that stand for cookies: made by every load, used by one back-end alone.
    let identities = if backend == Backend::Memory { 65_536 } else { 1 };
    let mut loader = loader;
    let mut ebpf = loader
        // Nothing in the object is relocated by the kernel's types.
        .btf(None)
        .override_global("OFFSETS", &offsets[..], true)
        .override_global("PORTS", &ports[..], true)
        .override_global("ONLY_SERVERS", &only_servers, true)
        .override_global("BY_HELPERS", &by_helpers, true)
        .override_global("OLD_DESTROY", &old_destroy, true)
        .override_global("STACK_BYTES", &stacks.bytes, true)
        .override_global("LAST_USE", &u32::from(stacks.last_use), true)
        .override_global("STACKS_WAKE_AT", &u64::from(stacks.ring_bytes / 4), true)
        .override_global("STACKS_FULL_AT", &stacks.full_at(), true)
        .override_global(aya_log::LEVEL, &level, false)
        .map_max_entries("STACKS", stacks.ring_bytes)
        .map_max_entries("SCRATCH", stacks.processors()?)
        .map_max_entries("USES", stacks.uses())
        .map_max_entries("KNOWN", stacks.uses().min(16_384))
        .map_max_entries("IDENTITIES", identities)
        .map_max_entries("EVENTS", options.ring_bytes)
        .load(OBJECT)
        .context("the kernel refused connleak's maps or type information")?;
    lull::wake_at(&mut ebpf, options.ring_bytes)?;
    if only_servers == 1 {
        let map = ebpf
            .map_mut("SERVERS")
            .context("the kernel object has no map SERVERS")?;
        let mut servers: LpmTrie<_, [u8; 16], u8> = map.try_into()?;
        for (address, length) in prefixes {
            servers.insert(&Key::new(u32::from(length), address.octets()), 1, 0)?;
        }
    }
    Ok(ebpf)
}

fn endianness() -> aya::Endianness {
    if cfg!(target_endian = "little") {
        aya::Endianness::Little
    } else {
        aya::Endianness::Big
    }
}
