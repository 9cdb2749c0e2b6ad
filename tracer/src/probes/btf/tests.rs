//! On a small kernel made here, on damaged data, and on the kernel that runs the test.

use aya_obj::btf::BtfKind;
use proptest::prelude::*;

use super::*;
use crate::probes::{object::KERNEL_BTF, offsets, table};

/// Writes BTF data: types in order, strings as they come.
#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Writer {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let place = u32::try_from(self.strings.len()).expect("small");
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        place
    }

    fn words(&mut self, words: &[u32]) {
        self.types
            .extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    fn int(&mut self, name: &str) {
        let name = self.name(name);
        self.words(&[name, kind::INT << 24, 4, 32]);
    }

    /// Members are (name, type, bit offset, bit width where it is a bit field).
    fn structure(&mut self, name: &str, flagged: bool, members: &[(&str, u32, u32, u32)]) {
        let name = self.name(name);
        let count = u32::try_from(members.len()).expect("small");
        self.words(&[name, u32::from(flagged) << 31 | kind::STRUCT << 24 | count, 64]);
        for &(name, id, bits, width) in members {
            let name = self.name(name);
            self.words(&[name, id, width << 24 | bits]);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len(), self.strings.len());
        let mut out = Vec::from(MAGIC.to_ne_bytes());
        out.extend([1, 0]);
        for word in [24, 0, types, types, strings] {
            out.extend(u32::try_from(word).expect("small").to_ne_bytes());
        }
        out.extend(&self.types);
        out.extend(&self.strings);
        out
    }
}

/// 1 int; 2 an inner structure; 3 an anonymous one; 4 `outer`.
fn sample() -> Vec<u8> {
    let mut writer = Writer::default();
    writer.int("int");
    writer.structure("inner", false, &[("first", 1, 0, 0), ("deep", 1, 32, 0)]);
    writer.structure("", false, &[("hidden", 1, 64, 0)]);
    writer.structure(
        "outer",
        true,
        &[
            ("plain", 1, 0, 0),
            ("nested", 2, 128, 0),
            ("", 3, 256, 0),
            ("bits", 1, 512, 3),
        ],
    );
    writer.bytes()
}

#[test]
fn members_are_found_by_path_and_through_anonymous_structures() {
    let data = sample();
    let btf = Btf::parse(&data).expect("valid");
    let offset = |path| btf.offset("outer", path).expect("undamaged");
    assert_eq!(offset("plain"), Some(0));
    assert_eq!(offset("nested.deep"), Some(20));
    assert_eq!(offset("hidden"), Some(40));
    assert_eq!(offset("bits"), None, "a bit field has no byte offset");
    assert_eq!(offset("absent"), None);
    assert_eq!(btf.offset("missing", "plain").expect("undamaged"), None);
}

#[test]
fn every_cut_is_refused_or_read_without_a_panic() {
    let data = sample();
    for length in 0..data.len() {
        if let Ok(btf) = Btf::parse(&data[..length]) {
            let _ = btf.offset("outer", "nested.deep");
        }
    }
}

#[test]
fn a_required_member_that_is_missing_is_named() {
    let data = sample();
    let error = offsets::resolve(&Btf::parse(&data).expect("valid")).expect_err("this is no kernel");
    assert!(error.to_string().contains("sock_common.skc_family"), "{error}");
}

#[test]
fn this_kernels_offsets_are_all_found() {
    // Kernels without BTF take another way; the tests of that are elsewhere.
    let Ok(data) = std::fs::read(KERNEL_BTF) else {
        return;
    };
    let btf = Btf::parse(&data).expect("the kernel's own");
    let found = offsets::resolve(&btf).expect("all that is required");
    assert_eq!(found.skc_daddr, 0, "sock_common begins with the addresses");
    let unix = [
        found.unix_addr,
        found.unix_peer,
        found.unix_address_len,
        found.unix_address_name,
    ];
    assert!(!unix.contains(&connleak_ebpf::ABSENT), "unix sockets can be read");
}

/// aya's own word on the number of each hook's type, in these data.
fn numbers(data: &[u8]) -> Vec<Option<u32>> {
    let types = aya::Btf::parse(data, aya::Endianness::default()).expect("data that aya can read");
    let number = |wanted| match wanted {
        Wanted::Function(name) => types.id_by_type_name_kind(&name, BtfKind::Func).ok(),
        Wanted::Typedef(name) => types.id_by_type_name_kind(&name, BtfKind::Typedef).ok(),
    };
    table::by_type().map(number).collect()
}

#[test]
fn an_excerpt_has_the_hooks_types_at_the_kernels_numbers() {
    let Ok(data) = std::fs::read(KERNEL_BTF) else {
        return;
    };
    let hooks: Vec<Wanted> = table::by_type().collect();
    let excerpt = Btf::parse(&data).expect("the kernel's own").excerpt(&hooks);
    let kept = numbers(&excerpt);
    assert_eq!(kept, numbers(&data));
    assert!(kept[0].is_some(), "inet_sock_set_state is in every kernel");
}

#[test]
fn what_the_kernel_lacks_is_missing_in_an_excerpt() {
    let data = sample();
    let btf = Btf::parse(&data).expect("valid");
    let excerpt = btf.excerpt(&[
        Wanted::Function("outer".to_owned()),
        Wanted::Typedef("int".to_owned()),
    ]);
    assert!(numbers(&excerpt).iter().all(Option::is_none));
    assert_eq!(
        Btf::parse(&excerpt).expect("valid").starts.len(),
        btf.starts.len()
    );
}

proptest! {
    #[test]
    fn damaged_data_never_panics(place in 0usize..400, value in any::<u8>()) {
        let mut data = sample();
        let length = data.len();
        data[place % length] = value;
        if let Ok(btf) = Btf::parse(&data) {
            let _ = btf.offset("outer", "nested.deep");
            let _ = btf.offset("outer", "hidden");
            let _ = btf.excerpt(&[Wanted::Function("first".to_owned())]);
        }
    }

    #[test]
    fn arbitrary_data_never_panics(mut data in proptest::collection::vec(any::<u8>(), 0..400)) {
        if data.len() > 2 {
            data[..2].copy_from_slice(&MAGIC.to_ne_bytes());
        }
        if let Ok(btf) = Btf::parse(&data) {
            let _ = btf.offset("a", "b");
        }
    }
}
