//! Which sockets are a database's. Asked first, so that all other traffic pays for nothing else.

use aya_ebpf::{
    macros::map,
    maps::{LpmTrie, lpm_trie::Key},
};
use connleak_ebpf::PORT_WORDS;

/// One bit for each server port that is watched.
#[unsafe(no_mangle)]
static PORTS: [u64; PORT_WORDS] = [0; PORT_WORDS];

/// 1 when only the networks in [`SERVERS`] are watched.
#[unsafe(no_mangle)]
static ONLY_SERVERS: u32 = 0;

/// Networks that are watched, as 128-bit prefixes (IPv4 under `::ffff:0:0/96`).
#[map]
static SERVERS: LpmTrie<[u8; 16], u8> =
    LpmTrie::with_max_entries(1024, 1 /* BPF_F_NO_PREALLOC, which tries demand */);

/// Whether connections to this port (host order) may be watched.
#[inline(always)]
pub(crate) fn port_wanted(port: u16) -> bool {
    let word = usize::from(port) / 64;
    // SAFETY: `word` is below 1,024, the length of the array.
    let bits = unsafe { core::ptr::read_volatile((&raw const PORTS).cast::<u64>().add(word)) };
    bits >> (port % 64) & 1 == 1
}

/// Whether an address can be unwanted at all.
#[inline(always)]
pub(crate) fn only_servers() -> bool {
    // SAFETY: a live static, set before load.
    unsafe { core::ptr::read_volatile(&raw const ONLY_SERVERS) != 0 }
}

/// Whether connections to this address may be watched.
#[inline(always)]
pub(crate) fn address_wanted(address: [u8; 16]) -> bool {
    !only_servers() || SERVERS.get(Key::new(128, address)).is_some()
}
