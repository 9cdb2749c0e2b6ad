//! What is printed can be read; what is wrong is told with its place.

use proptest::{collection::vec, prelude::*};

use super::*;

fn turned<T: Clone + fmt::Debug + 'static>(
    knobs: &'static [Knob<T>],
    of: T,
    always: bool,
) -> impl Strategy<Value = T> {
    let values: Vec<_> = knobs
        .iter()
        .map(|knob| prop::option::of(knob.range.clone()).boxed())
        .collect();
    values.prop_map(move |values| {
        let mut out = of.clone();
        for (knob, value) in knobs.iter().zip(values) {
            let value = value.or(always.then_some(*knob.range.start()));
            if let Some(value) = value {
                (knob.set)(&mut out, value);
            }
        }
        out
    })
}

fn exceptions() -> impl Strategy<Value = Vec<Exception>> {
    let server = prop::sample::select(vec!["10.0.0.0/8", "[::1]:5432", "/run/a b.sock", "@x=redis"]);
    let one = (".{1,3}", any::<bool>(), server, 1..9u64).prop_map(|(name, named, server, most)| Exception {
        process: named.then_some(name),
        db: None,
        server: server.parse().ok(),
        limits: Limits {
            max_open: Some(most),
            ..Limits::default()
        },
    });
    vec(one, 0..3)
}

proptest! {
    #[test]
    fn what_is_printed_is_the_same_policy_when_it_is_read(
        mut policy in turned(Policy::KNOBS, Policy::default(), false),
        limits in turned(Limits::KNOBS, Limits::default(), false),
        rules in turned(Rules::KNOBS, Rules::default(), false),
        exceptions in exceptions(),
    ) {
        policy.limits = limits;
        policy.rules = rules;
        policy.exceptions = exceptions;
        prop_assert_eq!(parse(&commented(&policy)), Ok(policy.clone()));
        prop_assert_eq!(parse(&differences(&policy)), Ok(policy));
    }

    #[test]
    fn no_text_panics(text in "[a-z_\\[\\]=\"0-9\n .{}-]{0,60}") {
        let _ = parse(&text);
    }
}

#[test]
fn the_default_policy_is_printed_with_every_reason() {
    insta::assert_snapshot!(commented(&Policy::default()));
    assert_eq!(differences(&Policy::default()), "");
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_what_is_expected() {
    let cases = [
        "idle = 30",
        "idle = \"0s\"",
        "\n\nidle = \"-3s\"",
        "idle = \"10000d\"",
        "max_open = 0",
        "max_open = -1",
        "max_open = 1.5",
        "max_open = \"20\"",
        "max_open = 99999999999999999999",
        "maxopen = 3",
        "min_confidence = \"sure\"",
        "idle = \"1s\"\nidle = \"2s\"",
        "idle = ",
        "[rules]\nlinks = 1",
        "[rules]\nlink = 3",
        "[rules]\nordered = 101",
        "rules = 3",
        "limit = 3",
        "[limit]\nmax_open = 3",
        "[[limit]]\nmax_open = 3",
        "[[limit]]\nprocess = \"x\"",
        "[[limit]]\nprocess = \"a name that is too long\"\nmax_open = 1",
        "[[limit]]\nprocess = \"x\"\nserver_limit = 5",
        "[[limit]]\ndb = \"exel\"\nmax_open = 3",
        "[[limit]]\nserver = \"db.example.org\"\nmax_open = 3",
        "[[limit]]\nidle = \"3s\"",
    ];
    let told: Vec<String> = cases
        .iter()
        .map(|case| match parse(case) {
            Ok(policy) => panic!("{case:?} was taken for {policy:?}"),
            Err(wrong) => format!("{case:?}\n    {wrong}\n"),
        })
        .collect();
    insta::assert_snapshot!(told.concat());
}
