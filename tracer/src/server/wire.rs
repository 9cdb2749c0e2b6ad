//! What a client says of itself before anything is encrypted: who it is, and what it waits for.
//!
//! Two pools of one process look alike at the socket, and so do a listener and a connection that was lost. What
//! the first bytes on the wire say in clear tells them apart:
//!
//! - `PostgreSQL`: the startup message, and `LISTEN` or replication in the first queries
//!   (<https://www.postgresql.org/docs/current/protocol-message-formats.html>);
//! - `MySQL`: the handshake response, and the commands of replication
//!   (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_response.html>);
//! - Redis: `HELLO`, `AUTH`, `SELECT`, `CLIENT SETNAME`, and the commands that turn a connection into a receiver
//!   (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).
//!
//! Pure. The bytes come from any process that connects to a database's port: whatever they are, they are read
//! at most once, from front to back, and what does not fit is left out. Passwords and queries are not kept.
//! What is encrypted says nothing, and is judged without.

use serde::{Deserialize, Serialize};

use super::System;

/// Longest name that is kept, in characters: `PostgreSQL`'s have 63 bytes, `MySQL`'s databases 64 characters.
const LONGEST: usize = 64;
/// Messages that are looked at in one piece of data. A log-in and a first request are fewer.
const MESSAGES: usize = 16;
/// Words of one Redis command that are looked at.
const WORDS: usize = 16;

/// Who a connection is for, as far as it was said in clear.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The user that logs in.
    pub user: Option<String>,
    /// The database; Redis: its number.
    pub database: Option<String>,
    /// What the application calls itself or this connection.
    pub application: Option<String>,
    /// What the connection is kept for, if not for requests.
    pub purpose: Option<Purpose>,
    /// The channels that it waits for.
    pub channel: Option<String>,
}

/// A connection that waits by design: its silence says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Purpose {
    /// `LISTEN`.
    Listener,
    /// `SUBSCRIBE` and its kind.
    Subscriber,
    /// `MONITOR`.
    Monitor,
    /// It follows the server's log.
    Replication,
    /// It takes work from a queue with a blocking command.
    Worker,
}

impl Purpose {
    /// Word for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Subscriber => "subscriber",
            Self::Monitor => "monitor",
            Self::Replication => "replication",
            Self::Worker => "worker",
        }
    }
}

impl Identity {
    /// Takes over what was said later.
    pub fn merge(&mut self, later: &Self) {
        let take = |old: &mut Option<String>, new: &Option<String>| {
            if new.is_some() {
                old.clone_from(new);
            }
        };
        take(&mut self.user, &later.user);
        take(&mut self.database, &later.database);
        take(&mut self.application, &later.application);
        take(&mut self.channel, &later.channel);
        self.purpose = later.purpose.or(self.purpose);
    }
}

/// Reads what a client sent in one piece, early in the life of a connection; `None` when it says nothing of who
/// the client is.
#[must_use]
pub fn read(system: System, sent: &[u8]) -> Option<Identity> {
    let mut identity = Identity::default();
    match system {
        System::Postgresql | System::Pgbouncer | System::Cockroachdb | System::Redshift => {
            postgresql(sent, &mut identity)
        }
        System::Mysql | System::Mariadb => mysql(sent, &mut identity),
        System::Redis => redis(sent, &mut identity),
        _ => None,
    };
    (identity != Identity::default()).then_some(identity)
}

/// Protocol 3.0 and later minor versions: the major number is in the upper half.
const STARTUP: u32 = 3;
/// `SSLRequest`, `GSSENCRequest`, `CancelRequest`: 1234 in the upper half, 5679, 5680, 5678 in the lower.
const REQUESTS: u32 = 1234;

fn postgresql(sent: &[u8], identity: &mut Identity) -> Option<()> {
    let mut rest = Bytes(sent);
    for _ in 0..MESSAGES {
        // Only what comes before the log-in has no type, and begins with the high byte of a small length.
        let kind = match rest.peek()? {
            0 => None,
            _ => Some(rest.byte()?),
        };
        let length = usize::try_from(rest.big_endian()?).ok()?.checked_sub(4)?;
        let mut body = rest.up_to(length);
        match kind {
            None => {
                let code = body.big_endian()?;
                match code >> 16 {
                    STARTUP => parameters(body, identity),
                    REQUESTS => {}
                    _ => return None,
                }
            }
            Some(b'Q') => query(body.until_zero(), identity),
            Some(b'P') => {
                body.until_zero();
                query(body.until_zero(), identity);
            }
            Some(_) => {}
        }
    }
    Some(())
}

/// Names and values, each ended by a zero byte.
fn parameters(mut body: Bytes<'_>, identity: &mut Identity) {
    for _ in 0..MESSAGES {
        let name = body.until_zero();
        if name.is_empty() {
            break;
        }
        let whole = body.0.contains(&0);
        let value = body.until_zero();
        match name {
            b"user" => identity.user = text(value),
            b"database" => identity.database = text(value),
            b"application_name" | b"fallback_application_name"
                if identity.application.is_none() || name[0] == b'a' =>
            {
                identity.application = text(value);
            }
            b"replication" if whole && !matches!(value, b"false" | b"off" | b"no" | b"0") => {
                identity.purpose = Some(Purpose::Replication);
            }
            _ => {}
        }
    }
    // The database defaults to the user's name.
    if identity.database.is_none() {
        identity.database.clone_from(&identity.user);
    }
}

/// Only what turns the connection into a receiver, or names the application, is taken from a query.
fn query(sql: &[u8], identity: &mut Identity) {
    for statement in sql.split(|&byte| byte == b';').take(MESSAGES) {
        let mut words = statement
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let Some(first) = words.next() else { continue };
        if first.eq_ignore_ascii_case(b"listen") {
            identity.purpose = Some(Purpose::Listener);
            identity.channel = words.next().and_then(unquoted);
        } else if first.eq_ignore_ascii_case(b"start_replication") {
            identity.purpose = Some(Purpose::Replication);
        } else if first.eq_ignore_ascii_case(b"set")
            && words
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case(b"application_name"))
        {
            // `= 'x'` or `TO 'x'`; the value ends with its closing quote.
            let quoted = statement.split(|&byte| byte == b'\'').nth(1);
            if let Some(name) = quoted {
                identity.application = text(name);
            }
        }
    }
}

fn unquoted(word: &[u8]) -> Option<String> {
    text(word.strip_prefix(b"\"").map_or(word, |inner| {
        inner.split(|&byte| byte == b'"').next().unwrap_or_default()
    }))
}

/// Flags of the handshake response (`include/mysql_com.h`).
mod flag {
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    pub const CONNECT_ATTRS: u32 = 1 << 20;
    pub const LENGTH_ENCODED_AUTH: u32 = 1 << 21;
}

/// `COM_INIT_DB`, `COM_BINLOG_DUMP`, `COM_REGISTER_SLAVE`, `COM_BINLOG_DUMP_GTID`.
const INIT_DB: u8 = 0x02;
const REPLICATION: [u8; 3] = [0x12, 0x15, 0x1e];

fn mysql(sent: &[u8], identity: &mut Identity) -> Option<()> {
    let mut rest = Bytes(sent);
    for _ in 0..MESSAGES {
        let length = rest.take(3)?;
        let length = usize::from(length[0]) | usize::from(length[1]) << 8 | usize::from(length[2]) << 16;
        let sequence = rest.byte()?;
        let mut body = rest.up_to(length);
        match sequence {
            // A command begins its own count; the answer to the greeting is the second packet.
            0 => match body.byte()? {
                INIT_DB => identity.database = text(body.0),
                command if REPLICATION.contains(&command) => identity.purpose = Some(Purpose::Replication),
                _ => {}
            },
            1 => handshake(body, identity)?,
            _ => {}
        }
    }
    Some(())
}

fn handshake(mut body: Bytes<'_>, identity: &mut Identity) -> Option<()> {
    let flags = body.little_endian()?;
    let has = |flag: u32| flags & flag != 0;
    if !has(flag::PROTOCOL_41) {
        return None;
    }
    // The largest packet, the character set, 23 bytes of nothing. A request for TLS ends here.
    body.take(4 + 1 + 23)?;
    let user = body.until_zero();
    identity.user = text(user);
    if has(flag::LENGTH_ENCODED_AUTH) {
        let length = body.length_encoded()?;
        body.take(length)?;
    } else if has(flag::SECURE_CONNECTION) {
        let length = usize::from(body.byte()?);
        body.take(length)?;
    } else {
        body.until_zero();
    }
    if has(flag::CONNECT_WITH_DB) {
        identity.database = text(body.until_zero());
    }
    if has(flag::PLUGIN_AUTH) {
        body.until_zero();
    }
    if has(flag::CONNECT_ATTRS) {
        let length = body.length_encoded()?;
        let mut attributes = body.up_to(length);
        for _ in 0..MESSAGES {
            let length = attributes.length_encoded()?;
            let name = attributes.take(length)?;
            let length = attributes.length_encoded()?;
            let value = attributes.up_to(length);
            if name == b"program_name" {
                identity.application = text(value.0);
            }
        }
    }
    Some(())
}

fn redis(sent: &[u8], identity: &mut Identity) -> Option<()> {
    let mut rest = Bytes(sent);
    for _ in 0..MESSAGES {
        let count = rest.number(b'*')?;
        let mut words = Vec::new();
        for _ in 0..count {
            let Some(length) = rest.number(b'$') else { break };
            let word = rest.up_to(length).0;
            if words.len() < WORDS {
                words.push(word);
            }
            if rest.take(2).is_none() {
                break;
            }
        }
        command(&words, identity);
    }
    Some(())
}

fn command(words: &[&[u8]], identity: &mut Identity) {
    let Some((name, arguments)) = words.split_first() else {
        return;
    };
    let is = |word: &[u8], other: &str| word.eq_ignore_ascii_case(other.as_bytes());
    let any = |others: &[&str]| others.iter().any(|other| is(name, other));
    let after = |word: &str| {
        let place = arguments.iter().position(|argument| is(argument, word))?;
        text(arguments.get(place + 1)?)
    };
    if is(name, "select") {
        identity.database = arguments.first().and_then(|number| text(number));
    } else if is(name, "client") && arguments.first().is_some_and(|first| is(first, "setname")) {
        identity.application = arguments.get(1).and_then(|name| text(name));
    } else if is(name, "hello") {
        identity.user = after("auth").or(identity.user.take());
        identity.application = after("setname").or(identity.application.take());
    } else if is(name, "auth") {
        // With a user's name since Redis 6; otherwise there is a password alone.
        if let [user, _password] = arguments {
            identity.user = text(user);
        }
    } else if any(&["subscribe", "psubscribe", "ssubscribe"]) {
        identity.purpose = Some(Purpose::Subscriber);
        identity.channel = text(&arguments.join(&b' '));
    } else if is(name, "monitor") {
        identity.purpose = Some(Purpose::Monitor);
    } else if any(&["psync", "sync", "replconf"]) {
        identity.purpose = Some(Purpose::Replication);
    } else if any(&[
        "blpop",
        "brpop",
        "brpoplpush",
        "blmove",
        "blmpop",
        "bzpopmin",
        "bzpopmax",
        "bzmpop",
    ]) || any(&["xread", "xreadgroup"]) && arguments.iter().any(|word| is(word, "block"))
    {
        identity.purpose = Some(Purpose::Worker);
    }
}

/// A name that somebody chose: bounded, and never empty.
fn text(bytes: &[u8]) -> Option<String> {
    // No character has more than four bytes.
    let bytes = &bytes[..bytes.len().min(LONGEST * 4)];
    let text: String = String::from_utf8_lossy(bytes).chars().take(LONGEST).collect();
    (!text.is_empty()).then_some(text)
}

/// What is still to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// So many bytes, or all that there are: only the beginning of what was sent is known.
    fn up_to(&mut self, count: usize) -> Bytes<'a> {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        Bytes(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn big_endian(&mut self) -> Option<u32> {
        let bytes = self.take(4)?;
        Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn little_endian(&mut self) -> Option<u32> {
        self.big_endian().map(u32::swap_bytes)
    }

    /// What is before the next zero byte, or all.
    fn until_zero(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| byte == 0);
        let taken = &self.0[..end.unwrap_or(self.0.len())];
        self.0 = end.map_or(&[], |end| &self.0[end + 1..]);
        taken
    }

    /// `MySQL`'s number of one to nine bytes; one that does not fit a packet is none.
    fn length_encoded(&mut self) -> Option<usize> {
        match self.byte()? {
            0xfc => self
                .take(2)
                .map(|bytes| usize::from(bytes[0]) | usize::from(bytes[1]) << 8),
            0xfd => self.take(3).map(|bytes| {
                usize::from(bytes[0]) | usize::from(bytes[1]) << 8 | usize::from(bytes[2]) << 16
            }),
            0xfe | 0xff | 0xfb => None,
            small => Some(usize::from(small)),
        }
    }

    /// A mark, a number in digits, and the end of the line.
    fn number(&mut self, mark: u8) -> Option<usize> {
        let digits = self.0.strip_prefix(&[mark])?;
        let end = digits.iter().take(9).position(|&byte| byte == b'\r')?;
        let number = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
        self.0 = digits.get(end + 2..)?;
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
        let mut body = 196_608u32.to_be_bytes().to_vec();
        for (name, value) in parameters {
            body.extend(name.bytes().chain([0]).chain(value.bytes()).chain([0]));
        }
        body.push(0);
        let length = u32::try_from(body.len() + 4).expect("short");
        [&length.to_be_bytes()[..], &body].concat()
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("short");
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    fn resp(words: &[&str]) -> Vec<u8> {
        let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
        let count = format!("*{}\r\n", words.len());
        std::iter::once(count)
            .chain(words)
            .collect::<String>()
            .into_bytes()
    }

    #[test]
    fn a_startup_message_names_user_database_and_application() {
        let sent = startup(&[
            ("user", "app"),
            ("database", "orders"),
            ("application_name", "tenant-7"),
            ("fallback_application_name", "psql"),
        ]);
        let identity = read(System::Postgresql, &sent).expect("an identity");
        assert_eq!(
            (identity.user, identity.database, identity.application),
            (
                Some("app".to_owned()),
                Some("orders".to_owned()),
                Some("tenant-7".to_owned())
            )
        );
        let alone = read(System::Pgbouncer, &startup(&[("user", "app")])).expect("an identity");
        assert_eq!(
            alone.database,
            Some("app".to_owned()),
            "the default is the user's name"
        );
    }

    #[test]
    fn what_comes_before_and_after_the_login_is_passed_by() {
        let ssl = [0, 0, 0, 8, 4, 210, 22, 47];
        assert_eq!(read(System::Postgresql, &ssl), None);
        let both = [&ssl[..], &startup(&[("user", "app")])].concat();
        assert_eq!(
            read(System::Postgresql, &both).and_then(|identity| identity.user),
            Some("app".to_owned())
        );
        assert_eq!(read(System::Postgresql, &message(b'p', b"md5secret\0")), None);
        assert_eq!(
            read(
                System::Postgresql,
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
            ),
            None
        );
    }

    #[test]
    fn listeners_and_replication_are_known_by_their_first_query() {
        let simple = read(System::Postgresql, &message(b'Q', b"LISTEN \"jobs\"\0")).expect("a listener");
        assert_eq!(
            (simple.purpose, simple.channel),
            (Some(Purpose::Listener), Some("jobs".to_owned()))
        );
        let extended = [message(b'P', b"\0listen jobs\0\0\0"), message(b'S', b"")].concat();
        let extended = read(System::Postgresql, &extended).expect("a listener");
        assert_eq!(extended.purpose, Some(Purpose::Listener));
        let follows = startup(&[("user", "app"), ("replication", "database")]);
        let follows = read(System::Postgresql, &follows).expect("an identity");
        assert_eq!(follows.purpose, Some(Purpose::Replication));
        for query in [&b"select 'listen'\0"[..], b"insert into listen values (1)\0"] {
            assert_eq!(read(System::Postgresql, &message(b'Q', query)), None);
        }
        let set = message(b'Q', b"SET application_name = 'reports'\0");
        assert_eq!(
            read(System::Postgresql, &set).and_then(|set| set.application),
            Some("reports".to_owned())
        );
    }

    #[test]
    fn a_handshake_response_names_user_database_and_program() {
        let flags = flag::PROTOCOL_41
            | flag::CONNECT_WITH_DB
            | flag::SECURE_CONNECTION
            | flag::PLUGIN_AUTH
            | flag::CONNECT_ATTRS;
        let mut body = flags.to_le_bytes().to_vec();
        body.extend([0; 28]);
        body.extend(b"app\0\x04hashorders\0mysql_native_password\0");
        let attributes = b"\x04_pid\x0242\x0cprogram_name\x07reports";
        body.push(u8::try_from(attributes.len()).expect("short"));
        body.extend(attributes);
        let packet = |sequence: u8, body: &[u8]| {
            let length = u32::try_from(body.len()).expect("short").to_le_bytes();
            [&length[..3], &[sequence], body].concat()
        };
        let identity = read(System::Mysql, &packet(1, &body)).expect("an identity");
        assert_eq!(
            (identity.user, identity.database, identity.application),
            (
                Some("app".to_owned()),
                Some("orders".to_owned()),
                Some("reports".to_owned())
            )
        );
        // A request for TLS ends where the user would be.
        assert_eq!(read(System::Mysql, &packet(1, &body[..32])), None);
        let other = read(System::Mariadb, &packet(0, b"\x02archive")).expect("a database");
        assert_eq!(other.database, Some("archive".to_owned()));
        let dump = read(System::Mysql, &packet(0, b"\x12\0\0")).expect("a replica");
        assert_eq!(dump.purpose, Some(Purpose::Replication));
        assert_eq!(read(System::Mysql, &packet(0, b"\x03select 1")), None);
    }

    #[test]
    fn redis_commands_name_the_connection_and_what_it_waits_for() {
        let sent = [
            resp(&["HELLO", "3", "AUTH", "app", "secret", "SETNAME", "web"]),
            resp(&["SELECT", "2"]),
            resp(&["subscribe", "news", "jobs"]),
        ]
        .concat();
        let identity = read(System::Redis, &sent).expect("an identity");
        assert_eq!(
            identity,
            Identity {
                user: Some("app".to_owned()),
                database: Some("2".to_owned()),
                application: Some("web".to_owned()),
                purpose: Some(Purpose::Subscriber),
                channel: Some("news jobs".to_owned()),
            }
        );
        assert_eq!(read(System::Redis, &resp(&["AUTH", "secret"])), None);
        assert_eq!(read(System::Redis, &resp(&["GET", "subscribe"])), None);
        let purpose =
            |words: &[&str]| read(System::Redis, &resp(words)).and_then(|identity| identity.purpose);
        assert_eq!(purpose(&["MONITOR"]), Some(Purpose::Monitor));
        assert_eq!(purpose(&["BLPOP", "jobs", "0"]), Some(Purpose::Worker));
        assert_eq!(
            purpose(&["XREAD", "BLOCK", "0", "STREAMS", "s", "$"]),
            Some(Purpose::Worker)
        );
        assert_eq!(purpose(&["XREAD", "STREAMS", "s", "0"]), None);
    }

    #[test]
    fn names_are_bounded() {
        let long = "ö".repeat(1000);
        let identity = read(System::Postgresql, &startup(&[("user", &long)])).expect("an identity");
        assert_eq!(identity.user.map(|user| user.chars().count()), Some(LONGEST));
    }

    #[test]
    fn what_is_said_later_is_taken_over() {
        let mut identity = read(System::Redis, &resp(&["HELLO", "3", "SETNAME", "web"])).expect("a name");
        identity.merge(&read(System::Redis, &resp(&["SELECT", "2"])).expect("a database"));
        assert_eq!(
            (identity.database, identity.application),
            (Some("2".to_owned()), Some("web".to_owned()))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_what_is_kept_is_bounded(
            bytes in vec(any::<u8>(), 0..300),
            system in prop::sample::select(System::ALL),
        ) {
            if let Some(identity) = read(system, &bytes) {
                for name in [identity.user, identity.database, identity.application, identity.channel] {
                    prop_assert!(name.is_none_or(|name| (1..=LONGEST).contains(&name.chars().count())));
                }
            }
        }

        #[test]
        fn any_cut_of_a_login_is_read_without_panic(cut in 0usize..200, noise in any::<u8>(), place in 0usize..200) {
            let startup = startup(&[("user", "app"), ("application_name", "tenant")]);
            let commands = [resp(&["HELLO", "3", "SETNAME", "web"]), resp(&["SUBSCRIBE", "news"])].concat();
            for (system, mut sent) in [(System::Postgresql, startup), (System::Redis, commands)] {
                let length = sent.len();
                sent[place % length] ^= noise;
                let _ = read(system, &sent[..cut.min(length)]);
            }
        }
    }
}
