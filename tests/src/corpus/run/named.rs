//! Whether a finding named the function that leaks.

use serde_json::Value;

/// Where a finding has the function, the best place last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    /// Nowhere.
    Nowhere,
    /// On the stack that used the sockets last.
    LastUse,
    /// On the stack that opened them.
    Opening,
    /// It is the one that the message names.
    Message,
}

impl Named {
    /// Words for the page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nowhere => "**no**",
            Self::LastUse => "in last use",
            Self::Opening => "in opening",
            Self::Message => "named",
        }
    }
}

/// Where this line of the log has the function.
pub fn named(function: &str, line: &Value) -> Named {
    let on = |site: &Value| {
        let frames = site["frames"].as_array().into_iter().flatten();
        frames
            .filter(|frame| frame["origin"] == "application")
            .any(|frame| is(function, frame))
    };
    if is(function, &line["code"]) {
        Named::Message
    } else if on(&line["site"]) {
        Named::Opening
    } else if on(&line["last_use"]) {
        Named::LastUse
    } else {
        Named::Nowhere
    }
}

/// Runtimes decorate names: `shop::Dao::find::{{closure}}`, `main.(*Dao).Find.func1`.
fn is(function: &str, frame: &Value) -> bool {
    let wanted = words(function);
    let all = words(frame["function"].as_str().unwrap_or_default());
    !wanted.is_empty() && all.windows(wanted.len()).any(|some| some == wanted)
}

fn words(name: &str) -> Vec<&str> {
    name.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_function_is_known_by_its_whole_name_however_it_is_decorated() {
        let frame = |name: &str| json!({ "function": name });
        for decorated in [
            "Dao.find",
            "shop::Dao::find::{{closure}}",
            "main.(*Dao).find.func1",
        ] {
            assert!(is("Dao.find", &frame(decorated)), "{decorated}");
        }
        for other in ["Dao.find_all", "OtherDao.find", "find", ""] {
            assert!(!is("Dao.find", &frame(other)), "{other}");
        }
    }

    #[test]
    fn a_librarys_function_of_the_same_name_does_not_count() {
        let line = |origin: &str| {
            json!({
                "code": null,
                "site": { "frames": [{ "function": "run", "origin": origin }] },
                "last_use": null,
            })
        };
        assert_eq!(named("run", &line("library")), Named::Nowhere);
        assert_eq!(named("run", &line("application")), Named::Opening);
    }
}
