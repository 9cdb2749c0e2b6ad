//! The database systems that connleak knows by name.
//!
//! The names go into logs that other tools read, so they are OpenTelemetry's `db.system.name` where it has
//! one (<https://opentelemetry.io/docs/specs/semconv/registry/attributes/db/>). What people type is another
//! matter: [`FromStr`] takes the usual short names, and its error lists what it would have taken.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::RuleError;

macro_rules! systems {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal $(| $alias:literal)*;)+) => {
        /// A database system, or a proxy that speaks its protocol and has connections of its own to run out of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[non_exhaustive]
        pub enum System { $($(#[$doc])+ $variant,)+ }

        impl System {
            /// Every system, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in the log, `db.system`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            fn of_word(word: &str) -> Option<Self> {
                match word { $($name $(| $alias)* => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

systems! {
    /// `PostgreSQL`.
    Postgresql = "postgresql" | "postgres" | "pg" | "pgsql" | "psql";
    /// `PgBouncer`, a proxy: OpenTelemetry has no name for it, but its limit is not `PostgreSQL`'s.
    Pgbouncer = "pgbouncer";
    /// `MySQL`, and whatever speaks its protocol at its port.
    Mysql = "mysql" | "percona" | "proxysql";
    /// `MariaDB`, where a socket's name or the user says so: it shares `MySQL`'s port.
    Mariadb = "mariadb" | "maria";
    /// Redis, and Valkey.
    Redis = "redis" | "valkey" | "keydb";
    /// `MongoDB`.
    Mongodb = "mongodb" | "mongo";
    /// Microsoft SQL Server.
    SqlServer = "microsoft.sql_server" | "mssql" | "sqlserver" | "sql_server" | "sql-server";
    /// Oracle Database.
    Oracle = "oracle.db" | "oracle" | "oracledb";
    /// Apache Cassandra, and `ScyllaDB`.
    Cassandra = "cassandra" | "scylla" | "scylladb";
    /// `ClickHouse`.
    Clickhouse = "clickhouse";
    /// Memcached.
    Memcached = "memcached" | "memcache";
    /// Elasticsearch.
    Elasticsearch = "elasticsearch" | "elastic" | "es";
    /// `OpenSearch`, where the user says so: it shares Elasticsearch's port.
    Opensearch = "opensearch";
    /// `CockroachDB`.
    Cockroachdb = "cockroachdb" | "cockroach" | "crdb";
    /// IBM Db2.
    Db2 = "ibm.db2" | "db2";
    /// Apache `CouchDB`.
    Couchdb = "couchdb";
    /// Couchbase.
    Couchbase = "couchbase";
    /// Neo4j.
    Neo4j = "neo4j" | "bolt";
    /// `InfluxDB`.
    Influxdb = "influxdb" | "influx";
    /// `RethinkDB`; OpenTelemetry has no name for it.
    Rethinkdb = "rethinkdb";
    /// Firebird.
    Firebird = "firebirdsql" | "firebird";
    /// Amazon Redshift.
    Redshift = "aws.redshift" | "redshift";
    /// SAP HANA; its port depends on the instance, so only `--port` finds it.
    Hana = "sap.hana" | "hana";
    /// Teradata; its port 1025 is too common for other things, so only `--port` finds it.
    Teradata = "teradata";
    /// Trino; its port 8080 is everybody's, so only `--port` finds it.
    Trino = "trino";
    /// Some SQL database that has no name here.
    OtherSql = "other_sql" | "sql" | "other";
    /// A server that was named by port or address alone.
    Unknown = "unknown";
}

impl System {
    /// The system whose default ports and sockets this one shares. `--db mariadb` then means those.
    #[must_use]
    pub const fn shares_ports_of(self) -> Option<Self> {
        match self {
            Self::Mariadb => Some(Self::Mysql),
            Self::Opensearch => Some(Self::Elasticsearch),
            _ => None,
        }
    }

    /// Whether its server may send before its client does: `MySQL`'s greets each.
    #[must_use]
    pub const fn may_speak_first(self) -> bool {
        matches!(self, Self::Mysql | Self::Mariadb | Self::OtherSql | Self::Unknown)
    }
}

/// In a journal a system is its name, which outlives the order of declaration.
impl From<System> for String {
    fn from(system: System) -> Self {
        system.name().to_owned()
    }
}

impl TryFrom<String> for System {
    type Error = RuleError;

    fn try_from(name: String) -> Result<Self, RuleError> {
        name.parse()
    }
}

impl fmt::Display for System {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for System {
    type Err = RuleError;

    fn from_str(word: &str) -> Result<Self, RuleError> {
        Self::of_word(&word.to_ascii_lowercase()).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|system| system.name()).collect();
            RuleError::new(format!(
                "unknown database system {word:?}; known are {}",
                names.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::System;

    #[test]
    fn names_are_unique_and_read_back() {
        let names: BTreeSet<_> = System::ALL.iter().map(|system| system.name()).collect();
        assert_eq!(names.len(), System::ALL.len());
        for system in System::ALL {
            assert_eq!(system.to_string().parse::<System>(), Ok(*system));
        }
    }

    #[test]
    fn usual_words_are_understood() {
        for (word, system) in [
            ("postgres", System::Postgresql),
            ("PG", System::Postgresql),
            ("mssql", System::SqlServer),
            ("sqlserver", System::SqlServer),
            ("Oracle", System::Oracle),
            ("mongo", System::Mongodb),
            ("db2", System::Db2),
            ("valkey", System::Redis),
        ] {
            assert_eq!(word.parse(), Ok(system), "{word}");
        }
    }

    #[test]
    fn the_error_names_the_word_and_the_choices() {
        let error = "postgrse\n".parse::<System>().expect_err("a typo").to_string();
        assert!(
            error.starts_with(r#"unknown database system "postgrse\n"; known are postgresql, pgbouncer, "#),
            "{error}"
        );
        assert!(error.contains("microsoft.sql_server"), "{error}");
    }
}
