//! Command lines go into logs, and some carry passwords.
//!
//! What is recognised: the password of a URL, values of options and settings whose name ends in a word for a
//! secret. A password in a place of its own (`mysql -pSECRET`) is recognised for that one spelling. This is a
//! net, not a proof: do not put secrets on command lines.

/// Stands for what was there.
const MASK: &str = "***";
/// Endings of names whose values are secrets.
const SECRETS: [&str; 7] = [
    "password", "passwd", "pwd", "secret", "token", "api-key", "apikey",
];

/// Masks the secrets of a command line.
#[must_use]
pub fn command_line(arguments: &[String]) -> Vec<String> {
    let program = arguments
        .first()
        .and_then(|first| first.rsplit('/').next())
        .unwrap_or_default();
    let short_password = ["mysql", "mariadb"].iter().any(|name| program.starts_with(name));
    let mut masked = Vec::with_capacity(arguments.len());
    let mut value_follows = false;
    for argument in arguments {
        if value_follows && !argument.starts_with('-') {
            masked.push(MASK.to_owned());
            value_follows = false;
            continue;
        }
        value_follows = argument.starts_with('-') && is_secret(argument)
            || argument == "-a" && program.starts_with("redis-cli");
        masked.push(if short_password && is_short_password(argument) {
            format!("-p{MASK}")
        } else {
            settings(&url(argument))
        });
    }
    masked
}

/// `-pSECRET`, as `mysql` and its relatives take it.
fn is_short_password(argument: &str) -> bool {
    argument.len() > 2 && argument.starts_with("-p")
}

/// `scheme://user:SECRET@host` → `scheme://user:***@host`
fn url(argument: &str) -> String {
    let Some((scheme, rest)) = argument.split_once("://") else {
        return argument.to_owned();
    };
    let authority_len = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_len);
    match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{scheme}://{name}:{MASK}@{host}{path}"),
            None => argument.to_owned(),
        },
        None => argument.to_owned(),
    }
}

/// `password=SECRET`, wherever it stands in the argument: connection strings have several settings.
fn settings(argument: &str) -> String {
    let mut out = String::with_capacity(argument.len());
    let mut rest = argument;
    while let Some(equals) = rest.find('=') {
        let (name, value) = (&rest[..equals], &rest[equals + 1..]);
        out.push_str(&rest[..=equals]);
        rest = value;
        if is_secret(name) {
            let end = value.find([' ', '&', ';']).unwrap_or(value.len());
            out.push_str(MASK);
            rest = &value[end..];
        }
    }
    out.push_str(rest);
    out
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('_', "-");
    SECRETS.iter().any(|secret| name.ends_with(secret))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(arguments: &[&str]) -> String {
        command_line(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>()).join(" ")
    }

    #[test]
    fn secrets_are_masked_where_they_are_usually_written() {
        assert_eq!(
            masked(&["app", "postgres://me:hunter2@db:5432/x"]),
            "app postgres://me:***@db:5432/x"
        );
        assert_eq!(
            masked(&["app", "host=db password=hunter2 user=me"]),
            "app host=db password=*** user=me"
        );
        assert_eq!(
            masked(&["java", "-Ddb.password=hunter2"]),
            "java -Ddb.password=***"
        );
        assert_eq!(masked(&["mysql", "-phunter2", "-P3306"]), "mysql -p*** -P3306");
        assert_eq!(
            masked(&["psql", "--password", "hunter2", "db"]),
            "psql --password *** db"
        );
        assert_eq!(masked(&["app", "API_TOKEN=hunter2"]), "app API_TOKEN=***");
        assert_eq!(
            masked(&["app", "password=hun,ter2 user=me"]),
            "app password=*** user=me"
        );
        assert_eq!(
            masked(&["/usr/bin/redis-cli", "-a", "hunter2", "ping"]),
            "/usr/bin/redis-cli -a *** ping"
        );
    }

    #[test]
    fn the_rest_stays_as_it_is() {
        assert_eq!(masked(&["app", "-profile", "-a", "b"]), "app -profile -a b");
        let call = [
            "node",
            "server.js",
            "--port=80",
            "-p",
            "8080",
            "http://host/a@b:c",
            "a=b=c",
        ];
        assert_eq!(masked(&call), call.join(" "));
    }

    proptest! {
        #[test]
        fn any_command_line_is_taken(arguments in proptest::collection::vec(any::<String>(), 0..8)) {
            prop_assert_eq!(command_line(&arguments).len(), arguments.len());
        }
    }
}
