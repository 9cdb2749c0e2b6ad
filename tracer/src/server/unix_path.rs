//! Which unix-domain sockets are databases.
//!
//! A unix socket has no port, just the path that the *server* was bound to, perhaps relative and perhaps in
//! another mount namespace. So the file's name decides, and the folder's only where the name says nothing.

use super::{System, ports::port_number};

/// The system behind a socket path, and the port where the path names one. Abstract names may begin with `@`
/// or NUL.
#[must_use]
pub fn system_of_path(path: &str) -> Option<(System, Option<u16>)> {
    let path = path.trim_end_matches('\0').trim_start_matches(['@', '\0']);
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let folder_name = folder.rsplit('/').next().unwrap_or_default();

    // PostgreSQL: https://www.postgresql.org/docs/current/runtime-config-connection.html#GUC-UNIX-SOCKET-DIRECTORIES
    // PgBouncer names its own the same way, by its own port: https://www.pgbouncer.org/config.html#unix_socket_dir
    // So does CockroachDB: https://www.cockroachlabs.com/docs/stable/cockroach-start (--socket-dir)
    if let Some(port) = name.strip_prefix(".s.PGSQL.") {
        let port = port_number(port)?;
        let system = match port {
            6432 => System::Pgbouncer,
            26257 => System::Cockroachdb,
            _ if folder_name == "pgbouncer" => System::Pgbouncer,
            _ => System::Postgresql,
        };
        return Some((system, Some(port)));
    }
    // The Cloud SQL proxy binds MySQL instances by name: https://github.com/GoogleCloudPlatform/cloud-sql-proxy
    if folder == "/cloudsql" && name.split(':').count() == 3 {
        return Some((System::Mysql, None));
    }
    let stem = name
        .strip_suffix(".sock")
        .or_else(|| name.strip_suffix(".socket"))?;
    if stem.contains("exporter") {
        return None;
    }
    let by_name = NAMES.iter().find(|(known, _)| is_instance_of(stem, known));
    let by_folder = || FOLDERS.iter().find(|(known, _)| *known == folder_name);
    let (_, system) = by_name.or_else(by_folder)?;
    // mongodb-27017.sock, redis_6380.sock
    let port = stem
        .rsplit_once(['-', '_'])
        .and_then(|(_, digits)| port_number(digits))
        .filter(|port| *port >= 1024);
    Some((*system, port))
}

/// File names without `.sock`; an instance may add to them (`mysqld2`, `redis-cache`, `mongodb-27017`).
#[rustfmt::skip]
const NAMES: &[(&str, System)] = &[
    // https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html#sysvar_socket (mysql.sock; Debian: mysqld.sock)
    ("mysqld", System::Mysql),
    ("mysql", System::Mysql),
    // https://dev.mysql.com/doc/refman/8.4/en/x-plugin-options-system-variables.html#sysvar_mysqlx_socket
    ("mysqlx", System::Mysql),
    // https://proxysql.com/documentation/Global-Variables/ (mysql-interfaces)
    ("proxysql", System::Mysql),
    // https://www.mariadb.com/server/ref/mdb/system-variables/socket
    ("mariadb", System::Mariadb),
    ("mariadbd", System::Mariadb),
    // https://redis.io/docs/latest/operate/oss_and_stack/management/config-file/ (unixsocket; Debian: redis-server.sock)
    ("redis", System::Redis),
    ("redis-server", System::Redis),
    ("valkey", System::Redis),
    ("valkey-server", System::Redis),
    ("keydb", System::Redis),
    // https://www.mongodb.com/docs/manual/reference/configuration-options/#net.unixDomainSocket-Options
    ("mongodb", System::Mongodb),
    // https://docs.memcached.org/ (option -s has no default; this is the habit)
    ("memcached", System::Memcached),
];

/// Folders in which every `*.sock` is that system's.
const FOLDERS: &[(&str, System)] = &[
    ("mysqld", System::Mysql),
    ("mysql", System::Mysql),
    ("mariadb", System::Mariadb),
    ("redis", System::Redis),
    ("redis-sentinel", System::Redis),
    ("valkey", System::Redis),
    ("memcached", System::Memcached),
];

/// One spelling for a path: NULs of an abstract name as `@`, and `/run` for `/var/run`, a link to it on every
/// current distribution (<https://refspecs.linuxfoundation.org/FHS_3.0/fhs/ch05s13.html>); servers bind to either.
pub(super) fn plain_path(path: &str) -> String {
    let path = path.trim_end_matches('\0');
    if let Some(name) = path.strip_prefix('\0') {
        return format!("@{name}");
    }
    path.strip_prefix("/var")
        .filter(|rest| rest.starts_with("/run/"))
        .unwrap_or(path)
        .to_owned()
}

/// `stem` is `known`, or `known` with a number or a separated suffix.
fn is_instance_of(stem: &str, known: &str) -> bool {
    stem.strip_prefix(known).is_some_and(|rest| {
        rest.bytes().all(|byte| byte.is_ascii_digit()) || rest.starts_with(['-', '_', '.', '@'])
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{System, system_of_path};

    #[test]
    #[rustfmt::skip]
    fn databases_are_recognised_by_name() {
        for (path, system, port) in [
            ("/var/run/postgresql/.s.PGSQL.5432", System::Postgresql, Some(5432)),
            ("/tmp/.s.PGSQL.5433", System::Postgresql, Some(5433)),
            (".s.PGSQL.5432", System::Postgresql, Some(5432)),
            ("@/tmp/.s.PGSQL.5432", System::Postgresql, Some(5432)),
            ("\0/tmp/.s.PGSQL.5432", System::Postgresql, Some(5432)),
            ("/cloudsql/project:europe-west1:main/.s.PGSQL.5432", System::Postgresql, Some(5432)),
            ("/tmp/.s.PGSQL.6432", System::Pgbouncer, Some(6432)),
            ("/run/pgbouncer/.s.PGSQL.5432", System::Pgbouncer, Some(5432)),
            ("/tmp/.s.PGSQL.26257", System::Cockroachdb, Some(26257)),
            ("/run/mysqld/mysqld.sock", System::Mysql, None),
            ("/tmp/mysql.sock", System::Mysql, None),
            ("/var/lib/mysql/mysql.sock", System::Mysql, None),
            ("/run/mysqld/mysqlx.sock", System::Mysql, None),
            ("/run/mysqld/mysqld2.sock", System::Mysql, None),
            ("/tmp/proxysql.sock", System::Mysql, None),
            ("/cloudsql/project:europe-west1:main", System::Mysql, None),
            ("/run/mysqld/mariadb.sock", System::Mariadb, None),
            ("/run/redis/redis-server.sock", System::Redis, None),
            ("/run/redis/redis.sock", System::Redis, None),
            ("/var/run/redis/redis-cache.sock", System::Redis, None),
            ("/var/run/redis_6380.sock", System::Redis, Some(6380)),
            ("/run/redis/sentinel.sock", System::Redis, None),
            ("/run/valkey/valkey-server.sock", System::Redis, None),
            ("/tmp/mongodb-27017.sock", System::Mongodb, Some(27017)),
            ("/run/memcached/memcached.sock", System::Memcached, None),
            ("/run/memcached/memcached.socket", System::Memcached, None),
        ] {
            assert_eq!(system_of_path(path), Some((system, port)), "{path:?}");
        }
    }

    #[test]
    fn other_sockets_are_not() {
        for path in [
            "",
            "/",
            "@",
            "\0\0",
            "/run/docker.sock",
            "/run/systemd/journal/socket",
            "/tmp/.X11-unix/X0",
            "/tmp/.s.PGSQL.5432.lock",
            "/tmp/.s.PGSQL.",
            "/tmp/.s.PGSQL.0",
            "/tmp/.s.PGSQL.99999",
            "/tmp/.s.PGSQL.+5432",
            "/tmp/mysqlite.sock",
            "/run/redistribute.sock",
            "/run/mysqld_exporter.sock",
            "/run/mysqld/mysqld.pid",
            "/cloudsql/x",
            "/run/php/php8.3-fpm.sock",
        ] {
            assert_eq!(system_of_path(path), None, "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_survived(path in r"(?s)(.{0,20}|[@\x00]?(/run/)?(redis|\.s\.PGSQL\.|mongodb-).{0,12}(\.sock)?)") {
            let _ = system_of_path(&path);
        }
    }
}
