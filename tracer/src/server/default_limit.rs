//! How many connections a server accepts if nobody has set anything.
//!
//! Nobody knows whether the server at hand has the default. So this is for a sentence that says so, and never
//! for a verdict.

use super::System;

/// The default, and the setting's name; `None` where there is none, or it depends on the machine.
#[must_use]
pub const fn default_limit(system: System) -> Option<(u64, &'static str)> {
    match system {
        // https://www.postgresql.org/docs/current/runtime-config-connection.html; 3 of them for superusers.
        System::Postgresql => Some((100, "max_connections")),
        // https://www.pgbouncer.org/config.html
        System::Pgbouncer => Some((100, "max_client_conn")),
        // https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html#sysvar_max_connections
        // https://mariadb.com/docs/server/server-management/variables-and-modes/server-system-variables
        System::Mysql | System::Mariadb => Some((151, "max_connections")),
        // https://redis.io/docs/latest/develop/reference/clients/#maximum-concurrent-connected-clients
        System::Redis => Some((10_000, "maxclients")),
        // https://docs.memcached.org/serverguide/ (-c)
        System::Memcached => Some((1024, "-c")),
        _ => None,
    }
}
