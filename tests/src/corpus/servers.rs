//! The servers that the corpus needs: one of each kind for all scenarios, a proxy for each that asks for one.

use anyhow::{Context, Result};

use super::labels::{Kind, Scenario};
use crate::server::{
    Server, mariadb, only,
    pgbouncer::{self, Proxy},
    postgres, redis,
};

/// Servers that scenarios share; absent when no scenario needs them.
pub struct Servers {
    postgres: Option<Server>,
    encrypted: Option<Server>,
    mariadb: Option<Server>,
    redis: Option<Server>,
}

/// How one scenario reaches its server, and how the agent is told about it.
pub struct Place {
    /// Environment of the application.
    pub environment: Vec<(&'static str, String)>,
    /// Flags of the agent.
    pub filter: Vec<String>,
    /// A proxy, which lives as long as the scenario.
    pub proxy: Option<Proxy>,
}

impl Servers {
    /// Starts those that these scenarios need.
    pub fn start(scenarios: &[Scenario]) -> Result<Self> {
        let needed = |kinds: &[Kind]| scenarios.iter().any(|scenario| kinds.contains(&scenario.server));
        let on = |kinds: &[Kind], start: fn() -> Result<Server>| needed(kinds).then(start).transpose();
        Ok(Self {
            postgres: on(
                &[Kind::Postgres, Kind::PostgresUnix, Kind::Pgbouncer, Kind::Several],
                postgres::start,
            )?,
            encrypted: on(&[Kind::PostgresTls], postgres::encrypted)?,
            mariadb: on(&[Kind::Mariadb, Kind::MariadbUnix, Kind::Several], mariadb::start)?,
            redis: on(&[Kind::Redis, Kind::Several], redis::start)?,
        })
    }

    /// What a scenario and its agent have to know.
    pub fn place(&self, kind: Kind) -> Result<Place> {
        let started = "a server that was started";
        let place = match kind {
            Kind::Postgres => {
                let server = self.postgres.as_ref().context(started)?;
                Place::new(
                    postgres_environment("127.0.0.1", server.port),
                    server.only_this("postgresql"),
                )
            }
            Kind::PostgresUnix => {
                let server = self.postgres.as_ref().context(started)?;
                let folder = server.socket.parent().context("a folder")?.display().to_string();
                Place::new(
                    postgres_environment(&folder, server.port),
                    ["--server".to_owned(), server.socket_text()],
                )
            }
            Kind::PostgresTls => {
                let server = self.encrypted.as_ref().context(started)?;
                let mut place = Place::new(
                    postgres_environment("127.0.0.1", server.port),
                    server.only_this("postgresql"),
                );
                place.environment.retain(|(name, _)| *name != SSL);
                place.environment.push((SSL, "require".to_owned()));
                place
            }
            Kind::MariadbUnix => {
                let server = self.mariadb.as_ref().context(started)?;
                Place::new(
                    vec![
                        ("MYSQL_PORT", server.port.to_string()),
                        ("MYSQL_UNIX_PORT", server.socket_text()),
                    ],
                    ["--server".to_owned(), server.socket_text()],
                )
            }
            Kind::Mariadb => {
                let server = self.mariadb.as_ref().context(started)?;
                Place::new(
                    vec![("MYSQL_PORT", server.port.to_string())],
                    server.only_this("mysql"),
                )
            }
            Kind::Redis => {
                let server = self.redis.as_ref().context(started)?;
                Place::new(
                    vec![("REDIS_PORT", server.port.to_string())],
                    server.only_this("redis"),
                )
            }
            Kind::Pgbouncer => {
                let server = self.postgres.as_ref().context(started)?;
                let proxy = pgbouncer::start(server.port)?;
                let port = proxy.server.port;
                let mut place = Place::new(
                    postgres_environment("127.0.0.1", port),
                    only("127.0.0.1", port, "pgbouncer"),
                );
                place.filter.extend(server.only_this("postgresql"));
                place.proxy = Some(proxy);
                place
            }
            Kind::Several => {
                let mut place = self.place(Kind::Postgres)?;
                let port = self.postgres.as_ref().context(started)?.port;
                place
                    .filter
                    .extend(["--server".to_owned(), format!("[::1]:{port}")]);
                for other in [Kind::Mariadb, Kind::Redis] {
                    let other = self.place(other)?;
                    place.environment.extend(other.environment);
                    place.filter.extend(other.filter);
                }
                place
            }
        };
        Ok(place)
    }
}

impl Place {
    fn new(environment: Vec<(&'static str, String)>, filter: impl IntoIterator<Item = String>) -> Self {
        Self {
            environment,
            filter: filter.into_iter().collect(),
            proxy: None,
        }
    }
}

/// libpq's variable for TLS.
const SSL: &str = "PGSSLMODE";

/// What libpq, and those who read the same variables, connect with.
fn postgres_environment(host: &str, port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("PGHOST", host.to_owned()),
        ("PGPORT", port.to_string()),
        ("PGUSER", "postgres".to_owned()),
        ("PGDATABASE", "postgres".to_owned()),
        (SSL, "disable".to_owned()),
    ]
}
