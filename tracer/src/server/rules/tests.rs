use std::net::IpAddr;

use proptest::prelude::*;

use super::{PortRule, ServerRule, System};

fn error<T: std::str::FromStr<Err = super::RuleError> + std::fmt::Debug>(text: &str) -> String {
    text.parse::<T>().expect_err(text).to_string()
}

fn server(text: &str) -> ServerRule {
    text.parse().expect(text)
}

fn contains(rule: &str, address: &str) -> bool {
    let ServerRule::Address { prefix, .. } = server(rule) else {
        panic!("{rule} is an address")
    };
    prefix.contains(address.parse::<IpAddr>().expect(address))
}

#[test]
fn ports() {
    assert_eq!(
        "6000=pg".parse(),
        Ok(PortRule {
            port: 6000,
            system: Some(System::Postgresql)
        })
    );
    assert_eq!(
        "6000".parse(),
        Ok(PortRule {
            port: 6000,
            system: None
        })
    );
    for (text, bad) in [
        ("", r#""" in "" is not a port"#),
        ("0", r#""0" in "0" is not a port"#),
        ("65536", r#""65536" in "#),
        ("+80", r#""+80" in "#),
        ("http=mysql", r#""http" in "http=mysql" is not a port"#),
        ("postgresql=6000", r#"unknown database system "6000""#),
        ("6000=", r#"unknown database system """#),
    ] {
        assert!(
            error::<PortRule>(text).starts_with(bad),
            "{}",
            error::<PortRule>(text)
        );
    }
}

#[test]
fn servers_are_shown_in_one_form() {
    for (text, shown) in [
        ("10.0.0.5", "10.0.0.5"),
        ("10.0.0.5:5432", "10.0.0.5:5432"),
        ("10.0.0.5/8", "10.0.0.0/8"),
        ("10.0.0.0/8:6000", "10.0.0.0/8:6000"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[::1]:5432", "[::1]:5432"),
        ("::1:5432", "::1:5432"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("[2001:db8::/32]:5432", "[2001:db8::/32]:5432"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("::ffff:10.0.0.5/104", "10.0.0.0/8"),
        ("[::ffff:10.0.0.5]:5432", "10.0.0.5:5432"),
        ("::/0", "::/0"),
        ("/run/x.sock", "/run/x.sock"),
        ("/run/x.sock=mongo", "/run/x.sock=mongodb"),
        ("@x", "@x"),
    ] {
        assert_eq!(server(text).to_string(), shown);
    }
}

#[test]
fn bad_servers_name_the_bad_part() {
    for (text, bad) in [
        ("", r#""" in "" is not an IP address"#),
        (
            "db.example:5432",
            r#""db.example" in "db.example:5432" is not an IP address; host names are not looked up"#,
        ),
        ("10.0.0", r#""10.0.0" in "10.0.0" is not an IP address"#),
        ("10.0.0.5:", r#""" in "10.0.0.5:" is not a port"#),
        ("10.0.0.5:99999", r#""99999" in "#),
        (
            "10.0.0.5/33",
            r#""33" in "10.0.0.5/33" is not a prefix length from 0 to 32"#,
        ),
        ("10.0.0.5/", r#""" in "10.0.0.5/" is not a prefix length"#),
        ("10.0.0.5/+8", r#""+8" in "#),
        (
            "::1/129",
            r#""129" in "::1/129" is not a prefix length from 0 to 128"#,
        ),
        ("[::1", r#"the bracket in "[::1" is not closed"#),
        ("[::1]/64:5432", r#""/64:5432" after the bracket in "#),
        ("fe80::1%eth0", r#""fe80::1%eth0" in "#),
        ("/", r#""/" is not the path of a socket"#),
        ("/run/x.sock=postgrse", r#"unknown database system "postgrse""#),
    ] {
        assert!(
            error::<ServerRule>(text).starts_with(bad),
            "{}",
            error::<ServerRule>(text)
        );
    }
}

#[test]
fn networks_contain_their_own_family() {
    assert!(contains("10.0.0.0/8", "10.255.0.1"));
    assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
    assert!(contains("::ffff:10.0.0.0/104", "10.1.2.3"));
    assert!(!contains("10.0.0.0/8", "11.0.0.1"));
    assert!(contains("10.0.0.4/31", "10.0.0.5"));
    assert!(!contains("10.0.0.4", "10.0.0.5"));
    assert!(contains("0.0.0.0/0", "192.0.2.1"));
    assert!(!contains("0.0.0.0/0", "2001:db8::1"));
    assert!(contains("2001:db8::/32", "2001:db8:ffff::1"));
    assert!(!contains("2001:db8::/32", "2001:db9::1"));
    assert!(contains("::/0", "2001:db8::1"));
    assert!(!contains("::/0", "10.0.0.1"));
}

proptest! {
    #[test]
    fn any_text_is_survived(text in r"(?s)(\[?[0-9a-f:.]{0,20}(/[0-9]{0,4})?\]?(:[0-9]{0,6})?(=.{0,5})?|.{0,30})") {
        let _ = text.parse::<PortRule>();
        // What is accepted is shown in a form that means the same.
        if let Ok(rule) = text.parse::<ServerRule>() && !rule.to_string().contains('\\') {
            prop_assert_eq!(rule.to_string().parse::<ServerRule>(), Ok(rule));
        }
    }
}
