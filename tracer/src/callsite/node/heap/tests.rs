//! A heap made of bytes, with the numbers of Node 20.

use proptest::prelude::*;

use super::*;
use crate::callsite::process_memory::testing::{Noise, Pieces};

pub fn heap() -> Heap {
    Heap::NODE_20
}

const META_MAP: u64 = 0x100;

/// A map for each type, by its number: of objects of so many words.
fn map(memory: &mut Pieces, kind: u16, words: usize) -> u64 {
    let at = 0x1_0000 + u64::from(kind) * 0x20;
    let mut bytes = (META_MAP + 1).to_ne_bytes().to_vec();
    bytes.extend([u8::try_from(words).expect("few"), 0, 0, 0]);
    bytes.extend(kind.to_ne_bytes());
    memory.put(at, bytes);
    at + 1
}

/// An object of a type, with these words behind its map.
pub fn object(memory: &mut Pieces, at: u64, kind: u16, words: &[u64]) -> u64 {
    let mut all = vec![map(memory, kind, words.len() + 1)];
    all.extend(words);
    memory.put(
        at,
        all.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>(),
    );
    at + 1
}

fn string(memory: &mut Pieces, at: u64, text: &str) -> u64 {
    let mut bytes = map(memory, 40, 0).to_ne_bytes().to_vec();
    bytes.extend([0; 4]);
    bytes.extend(u32::try_from(text.len()).expect("short").to_ne_bytes());
    bytes.extend(text.as_bytes());
    memory.put(at, bytes);
    at + 1
}

pub fn small(number: u64) -> u64 {
    number << 32
}

pub fn memory() -> Pieces {
    let mut memory = Pieces::default();
    let mut meta = (META_MAP + 1).to_ne_bytes().to_vec();
    meta.extend([0; 4]);
    meta.extend(256_u16.to_ne_bytes());
    memory.put(META_MAP, meta);
    memory
}

#[test]
fn a_name_is_found_behind_the_local_variables_of_its_scope() {
    let mut memory = memory();
    let (local, name) = (
        string(&mut memory, 0x2000, "client"),
        string(&mut memory, 0x2100, "handle"),
    );
    let path = string(&mut memory, 0x2200, "/srv/app.js");
    let scope = object(
        &mut memory,
        0x3000,
        261,
        &[0, small(1), small(1), local, small(0), name, small(3)],
    );
    let script = object(&mut memory, 0x4000, 167, &[0, path]);
    let shared = object(&mut memory, 0x5000, 262, &[0, scope, 0, script]);
    let function = object(&mut memory, 0x6000, 2066, &[0, 0, shared]);
    let heap = heap();
    assert_eq!(heap.shared(&memory, function), Some(shared));
    assert_eq!(heap.name(&memory, shared).as_deref(), Some("handle"));
    let script = heap.script(&memory, shared).expect("script");
    assert_eq!(heap.script_name(&memory, script).as_deref(), Some("/srv/app.js"));
    assert_eq!(heap.shared(&memory, shared), None, "what is no function");
    assert_eq!(heap.script(&memory, scope), None);
}

#[test]
fn a_class_variable_is_not_the_functions_name() {
    let mut memory = memory();
    let (class, name) = (
        string(&mut memory, 0x2000, "Dao"),
        string(&mut memory, 0x2100, "find"),
    );
    let scope = object(&mut memory, 0x3000, 261, &[small(1 << 10), 0, 0, class, name]);
    let shared = object(&mut memory, 0x5000, 262, &[0, scope]);
    assert_eq!(heap().name(&memory, shared).as_deref(), Some("find"));
}

#[test]
fn strings_made_of_strings_are_joined_and_endless_ones_are_none() {
    let mut memory = memory();
    let (left, right) = (
        string(&mut memory, 0x2000, "Client."),
        string(&mut memory, 0x2100, "query"),
    );
    let pair = object(&mut memory, 0x3000, 33, &[small(12), left, right]);
    let thin = object(&mut memory, 0x3100, 37, &[small(12), pair]);
    let ring = object(&mut memory, 0x3200, 33, &[small(12), 0x3201, 0x3201]);
    let heap = heap();
    assert_eq!(heap.text(&memory, thin).as_deref(), Some("Client.query"));
    assert_eq!(heap.text(&memory, ring), None);
    let control = string(&mut memory, 0x2300, "\u{1b}[2J");
    assert_eq!(
        heap.text(&memory, control),
        None,
        "no name has control characters"
    );
}

#[test]
fn an_object_whose_map_is_no_map_is_none() {
    let mut memory = memory();
    let name = string(&mut memory, 0x2000, "handle");
    memory.put(0x2000, small(7).to_ne_bytes());
    assert_eq!(heap().text(&memory, name), None);
}

proptest! {
    #[test]
    fn no_memory_makes_it_panic_or_run_on(bytes in prop::collection::vec(any::<u8>(), 1..200), object: u64, offset: u64) {
        let memory = Noise(bytes);
        let heap = Heap { map_of_maps: u16::MAX, ..heap() };
        let _ = heap.shared(&memory, object);
        let _ = heap.name(&memory, object);
        let _ = heap.text(&memory, object | 1);
        let _ = heap.line(&memory, object | 1, object | 1, offset);
    }
}
