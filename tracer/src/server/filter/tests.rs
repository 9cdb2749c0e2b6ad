use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::{Databases, Flags, System};

/// Flags as they are typed: `db=…`, `port=…`, `server=…`, `all-ports`.
fn flags(words: &[&str]) -> Flags {
    let mut flags = Flags::default();
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("db", value) => flags.db.push(value.parse().expect(word)),
            ("port", value) => flags.ports.push(value.parse().expect(word)),
            ("server", value) => flags.servers.push(value.parse().expect(word)),
            ("all-ports", _) => flags.all_ports = true,
            _ => panic!("{word}"),
        }
    }
    flags
}

fn build(words: &[&str]) -> Databases {
    Databases::build(&flags(words)).expect("flags that agree")
}

fn error(words: &[&str]) -> String {
    Databases::build(&flags(words))
        .expect_err("flags that disagree")
        .to_string()
}

fn tcp(databases: &Databases, address: &str, port: u16) -> Option<System> {
    databases.system_of_tcp(address.parse().expect(address), port)
}

fn has(bitmap: &[u64; 1024], port: u16) -> bool {
    bitmap[usize::from(port / 64)] >> (port % 64) & 1 == 1
}

fn ports(databases: &Databases) -> Vec<u16> {
    let bitmap = databases.port_bitmap();
    (0..=u16::MAX).filter(|port| has(&bitmap, *port)).collect()
}

const PGSQL: &str = "/run/postgresql/.s.PGSQL.5432";

#[test]
fn without_flags_the_defaults_hold() {
    let all = build(&[]);
    assert_eq!(tcp(&all, "10.0.0.5", 5432), Some(System::Postgresql));
    assert_eq!(tcp(&all, "2001:db8::1", 3306), Some(System::Mysql));
    assert_eq!(tcp(&all, "10.0.0.5", 6000), None);
    assert_eq!(all.system_of_unix(PGSQL), Some(System::Postgresql));
    assert_eq!(all.system_of_unix("/run/docker.sock"), None);
    assert_eq!(all.prefixes(), []);
    assert_eq!(
        ports(&all),
        super::DEFAULT_PORTS
            .iter()
            .map(|(port, _)| *port)
            .collect::<Vec<_>>()
    );
}

#[test]
fn port_adds_and_overrides() {
    let more = build(&["port=6000=pg", "port=3306=mariadb", "port=7000", "port=6379"]);
    assert_eq!(tcp(&more, "10.0.0.5", 6000), Some(System::Postgresql));
    assert_eq!(tcp(&more, "10.0.0.5", 3306), Some(System::Mariadb));
    assert_eq!(tcp(&more, "10.0.0.5", 7000), Some(System::Unknown));
    assert_eq!(tcp(&more, "10.0.0.5", 6379), Some(System::Redis));
    assert_eq!(tcp(&more, "10.0.0.5", 5432), Some(System::Postgresql));
    // The same port with and without a system: what was said holds, in either order.
    assert_eq!(
        tcp(&build(&["port=6000=pg", "port=6000"]), "::1", 6000),
        Some(System::Postgresql)
    );
    assert_eq!(
        tcp(&build(&["port=6000", "port=6000=pg"]), "::1", 6000),
        Some(System::Postgresql)
    );
    assert_eq!(
        error(&["port=6000=pg", "port=6000=mysql"]),
        "--port 6000=postgresql and --port 6000=mysql contradict each other: keep one"
    );
}

#[test]
fn db_keeps_only_what_it_names() {
    let only = build(&["db=redis", "db=mongo"]);
    assert_eq!(tcp(&only, "10.0.0.5", 6379), Some(System::Redis));
    assert_eq!(tcp(&only, "10.0.0.5", 5432), None);
    assert_eq!(only.system_of_unix(PGSQL), None);
    assert_eq!(only.system_of_unix("/run/redis/redis.sock"), Some(System::Redis));
    assert_eq!(ports(&only), [6379, 6380, 26379, 27017, 27018, 27019]);
}

#[test]
fn db_mariadb_means_the_ports_it_shares() {
    let only = build(&["db=mariadb"]);
    assert_eq!(tcp(&only, "10.0.0.5", 3306), Some(System::Mariadb));
    assert_eq!(
        only.system_of_unix("/run/mysqld/mysqld.sock"),
        Some(System::Mariadb)
    );
    let both = build(&["db=mariadb", "db=mysql"]);
    assert_eq!(tcp(&both, "10.0.0.5", 3306), Some(System::Mysql));
    assert_eq!(both.system_of_unix("/tmp/mariadb.sock"), Some(System::Mariadb));
}

#[test]
fn db_and_port_agree_or_are_refused() {
    // One system: an unnamed port is that system's.
    assert_eq!(
        tcp(&build(&["db=pg", "port=6000"]), "10.0.0.5", 6000),
        Some(System::Postgresql)
    );
    assert_eq!(
        tcp(&build(&["db=hana", "port=30015"]), "10.0.0.5", 30015),
        Some(System::Hana)
    );
    let two = build(&["db=hana", "db=teradata", "server=/x=teradata", "server=/y=hana"]);
    assert_eq!(two.system_of_unix("/y"), Some(System::Hana));
    for (words, message) in [
        (
            vec!["db=pg", "db=mysql", "port=6000"],
            "--port 6000 could be any of --db postgresql,mysql: write which, as in --port 6000=postgresql",
        ),
        (
            vec!["db=pg", "port=6000=redis"],
            "--port 6000=redis is redis, which --db postgresql leaves out: drop one of them, or name the system in --db too",
        ),
        (
            vec!["db=pg", "port=3306"],
            "--port 3306 is mysql, which --db postgresql leaves out: drop one of them, or write which, as in --port 3306=postgresql",
        ),
        (
            vec!["db=hana"],
            "no default port is known for --db sap.hana: add its port, as in --port 6000=sap.hana",
        ),
    ] {
        assert_eq!(error(&words), message);
    }
}

#[test]
fn a_server_without_port_narrows_the_known_ports() {
    let one = build(&["server=10.0.0.0/8", "server=2001:db8::1"]);
    assert_eq!(tcp(&one, "10.1.2.3", 5432), Some(System::Postgresql));
    assert_eq!(tcp(&one, "::ffff:10.1.2.3", 5432), Some(System::Postgresql));
    assert_eq!(tcp(&one, "2001:db8::1", 5432), Some(System::Postgresql));
    assert_eq!(tcp(&one, "192.0.2.1", 5432), None);
    assert_eq!(tcp(&one, "10.1.2.3", 6000), None);
    assert_eq!(
        one.system_of_unix(PGSQL),
        None,
        "unix sockets are off when addresses are named"
    );
    let mapped: Ipv6Addr = "::ffff:10.0.0.0".parse().expect("an address");
    let v6: Ipv6Addr = "2001:db8::1".parse().expect("an address");
    assert_eq!(one.prefixes(), [(mapped, 104), (v6, 128)]);
}

#[test]
fn a_server_with_port_needs_no_known_port() {
    let one = build(&[
        "server=10.0.0.5:6000",
        "server=10.0.0.6:5432",
        "server=[::1]:7000",
        "port=7000=mysql",
    ]);
    assert_eq!(tcp(&one, "10.0.0.5", 6000), Some(System::Unknown));
    assert_eq!(tcp(&one, "10.0.0.5", 5432), None);
    assert_eq!(tcp(&one, "10.0.0.6", 5432), Some(System::Postgresql));
    assert_eq!(tcp(&one, "::1", 7000), Some(System::Mysql));
    assert_eq!(ports(&one), [5432, 6000, 7000]);
    assert_eq!(
        tcp(&build(&["server=10.0.0.5:6000", "db=pg"]), "10.0.0.5", 6000),
        Some(System::Postgresql)
    );
    // Two rules for one address: either may match.
    let two = build(&["server=10.0.0.5:6000", "server=10.0.0.0/8"]);
    assert_eq!(tcp(&two, "10.0.0.5", 6000), Some(System::Unknown));
    assert_eq!(tcp(&two, "10.0.0.5", 5432), Some(System::Postgresql));
    assert!(
        error(&["server=10.0.0.5:3306", "db=pg"]).starts_with("--server 10.0.0.5:3306 is mysql, which --db")
    );
    assert!(
        error(&["server=10.0.0.5:6000", "db=pg", "db=redis"]).contains("write which, as in --port 6000=")
    );
}

#[test]
fn a_server_may_be_a_socket() {
    let sockets = build(&[
        "server=/var/run/x.sock=mongo",
        "server=/run/mysqld/mysqld.sock",
        "server=@y",
    ]);
    assert_eq!(sockets.system_of_unix("/run/x.sock"), Some(System::Mongodb));
    assert_eq!(sockets.system_of_unix("/var/run/x.sock\0"), Some(System::Mongodb));
    assert_eq!(
        sockets.system_of_unix("/var/run/mysqld/mysqld.sock"),
        Some(System::Mysql)
    );
    assert_eq!(sockets.system_of_unix("\0y"), Some(System::Unknown));
    assert_eq!(sockets.system_of_unix(PGSQL), None);
    assert_eq!(tcp(&sockets, "10.0.0.5", 5432), None, "no address was named");
    assert_eq!((ports(&sockets), sockets.prefixes()), (vec![], vec![]));
    assert!(
        error(&["server=/run/x.sock", "db=pg", "db=redis"])
            .ends_with("as in --server /run/x.sock=postgresql")
    );
}

#[test]
fn all_ports_takes_every_port() {
    let all = build(&["all-ports", "port=6000=pg"]);
    assert_eq!(tcp(&all, "10.0.0.5", 80), Some(System::Unknown));
    assert_eq!(tcp(&all, "10.0.0.5", 6000), Some(System::Postgresql));
    assert_eq!(ports(&all).len(), 65536);
    let some = build(&["all-ports", "server=10.0.0.5"]);
    assert_eq!(tcp(&some, "10.0.0.5", 80), Some(System::Unknown));
    assert_eq!(tcp(&some, "10.0.0.6", 80), None);
    assert_eq!(ports(&build(&["all-ports", "server=10.0.0.5:80"])), [80]);
    assert_eq!(
        error(&["all-ports", "db=pg", "db=redis"]),
        "--all-ports takes every port for a database, --db postgresql,redis only the ports of those systems: leave one of \
         them out, or name the further ports with --port 6000=postgresql"
    );
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u8>().prop_map(|last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last))),
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).to_ipv6_mapped().into()),
    ]
}

proptest! {
    #[test]
    fn the_kernel_never_refuses_what_the_exact_answer_accepts(
        servers in proptest::collection::vec(
            (address(), 0_u8..=32, proptest::option::of(1_u16..)).prop_map(|(address, length, port)| {
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                format!("[{address}/{length}]{port}")
            }),
            0..4,
        ),
        extra in proptest::collection::vec(1_u16.., 0..3),
        all_ports: bool,
        address in address(),
        port in prop_oneof![any::<u16>(), Just(5432_u16), Just(3306_u16)],
    ) {
        let mut words: Vec<String> = servers.iter().map(|server| format!("server={server}")).collect();
        words.extend(extra.iter().map(|port| format!("port={port}")));
        if all_ports {
            words.push("all-ports".to_owned());
        }
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let databases = build(&words);
        let bitmap = databases.port_bitmap();
        let prefixes = databases.prefixes();
        let v6 = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        for port in extra.into_iter().chain([port]) {
            if databases.system_of_tcp(address, port).is_some() {
                prop_assert!(has(&bitmap, port));
                let inside = |(network, length): &(Ipv6Addr, u8)| {
                    let differing = network.to_bits() ^ v6.to_bits();
                    differing.leading_zeros() >= u32::from(*length)
                };
                prop_assert!(prefixes.is_empty() || prefixes.iter().any(inside));
            }
        }
    }
}
