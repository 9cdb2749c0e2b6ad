//! Which TCP ports are databases when nobody says otherwise.
//!
//! A port in this table costs every connection to it a record, and a wrong one costs false findings; a
//! missing one costs a `--port`. So a port is here when its registration or its vendor's manual gives it to
//! one database and it is not also the habit of something common. Left out on purpose:
//!
//! - 9000, `ClickHouse`'s native protocol, is also php-fpm, `MinIO`, `SonarQube`, Portainer: nginx's
//!   connections to php-fpm would fill the report. `--port 9000=clickhouse` where it is true.
//! - 9300 (Elasticsearch), 7000 (Cassandra), 16379 (Redis), 4567 (Galera): nodes of one cluster among
//!   themselves, which keep idle connections for ever and on purpose. Applications don't connect there.
//! - 8080 (Trino), 1025 (Teradata), 4000 (`TiDB`), 9999 (Pgpool-II), 8443 and 8091: everybody's ports.
//! - 1434/udp (SQL Server's browser) is not TCP.

use super::System;

/// Port and system, rising. "IANA" is
/// <https://www.iana.org/assignments/service-names-port-numbers/service-names-port-numbers.xhtml>.
#[rustfmt::skip]
pub const DEFAULT_PORTS: &[(u16, System)] = &[
    // IANA ms-sql-s; https://learn.microsoft.com/en-us/sql/sql-server/install/configure-the-windows-firewall-to-allow-sql-server-access
    (1433, System::SqlServer),
    // https://docs.oracle.com/en/database/oracle/oracle-database/19/netag/configuring-and-administering-oracle-net-listener.html
    (1521, System::Oracle),
    // IANA ttc and ttc-ssl: the registered ports of the same listener, without and with TLS.
    (2483, System::Oracle),
    (2484, System::Oracle),
    // IANA gds-db; https://firebirdsql.org/en/firebird-documentation/
    (3050, System::Firebird),
    // IANA mysql; https://dev.mysql.com/doc/mysql-port-reference/en/mysql-port-reference-tables.html
    // MariaDB has the same default (https://mariadb.com/docs/server/ref/mdb/system-variables/port/): a port can't
    // tell them apart, so the name is MySQL's unless `--db mariadb` or `--port 3306=mariadb` says otherwise.
    (3306, System::Mysql),
    // The first PostgreSQL. IANA postgresql; https://www.postgresql.org/docs/current/runtime-config-connection.html
    (5432, System::Postgresql),
    // The second: Debian's pg_createcluster takes the next free port, so an upgraded server is often here.
    // YugabyteDB's SQL is here too, with the same protocol. https://manpages.debian.org/pg_createcluster
    (5433, System::Postgresql),
    // https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-redshift-cluster.html#cfn-redshift-cluster-port
    (5439, System::Redshift),
    // IANA couchdb; https://docs.couchdb.org/en/stable/config/http.html (6984 below: with TLS)
    (5984, System::Couchdb),
    // ProxySQL's port for applications, MySQL's protocol: https://proxysql.com/documentation/Global-Variables/ (mysql-interfaces)
    (6033, System::Mysql),
    // IANA redis; https://redis.io/docs/latest/operate/oss_and_stack/management/config-file/
    (6379, System::Redis),
    // With TLS, by habit and on Azure: https://learn.microsoft.com/en-us/azure/azure-cache-for-redis/cache-configure
    (6380, System::Redis),
    // https://www.pgbouncer.org/config.html (listen_port)
    (6432, System::Pgbouncer),
    // MySQL Router, read-write and read-only, then the same for the X Protocol:
    // https://docs.oracle.com/cd/E17952_01/mysql-router-8.0-relnotes-en/news-8-0-24.html
    (6446, System::Mysql),
    (6447, System::Mysql),
    (6448, System::Mysql),
    (6449, System::Mysql),
    // https://docs.couchdb.org/en/stable/config/http.html ([ssl])
    (6984, System::Couchdb),
    // IANA bolt; https://neo4j.com/docs/operations-manual/current/configuration/ports/
    (7687, System::Neo4j),
    // https://docs.influxdata.com/influxdb/v2/reference/config-options/#http-bind-address
    (8086, System::Influxdb),
    // HTTP: https://clickhouse.com/docs/guides/sre/network-ports
    (8123, System::Clickhouse),
    // Native protocol, the same with TLS, and Thrift of versions before 4:
    // https://docs.datastax.com/en/cassandra-oss/3.x/cassandra/configuration/secureFireWall.html
    (9042, System::Cassandra),
    (9142, System::Cassandra),
    (9160, System::Cassandra),
    // https://www.elastic.co/guide/en/elasticsearch/reference/current/modules-network.html
    // OpenSearch has the same default.
    (9200, System::Elasticsearch),
    // Native protocol with TLS: https://clickhouse.com/docs/guides/sre/network-ports
    (9440, System::Clickhouse),
    // Key-value service with TLS and without: https://docs.couchbase.com/server/current/install/install-ports.html
    (11207, System::Couchbase),
    (11210, System::Couchbase),
    // IANA memcache; https://docs.memcached.org/
    (11211, System::Memcached),
    // The first instance since 11.5.6: https://www.ibm.com/support/pages/node/465801
    (25000, System::Db2),
    // https://www.cockroachlabs.com/docs/stable/cockroach-start
    (26257, System::Cockroachdb),
    // Sentinel: Redis's protocol, and clients that look up the primary leak connections there as well.
    // https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/
    (26379, System::Redis),
    // mongod and mongos, a shard, a configuration server:
    // https://www.mongodb.com/docs/manual/reference/default-mongodb-port/
    (27017, System::Mongodb),
    (27018, System::Mongodb),
    (27019, System::Mongodb),
    // Client drivers: https://rethinkdb.com/docs/cli-options/
    (28015, System::Rethinkdb),
    // X Protocol, then the administrative interface:
    // https://dev.mysql.com/doc/mysql-port-reference/en/mysql-port-reference-tables.html
    (33060, System::Mysql),
    (33062, System::Mysql),
    // The first instance up to 11.5.5: https://www.ibm.com/support/pages/node/465801
    (50000, System::Db2),
];

/// The system that a port belongs to by default.
#[must_use]
pub fn system_of_port(port: u16) -> Option<System> {
    let index = DEFAULT_PORTS
        .binary_search_by_key(&port, |(port, _)| *port)
        .ok()?;
    DEFAULT_PORTS.get(index).map(|(_, system)| *system)
}

/// A port as people write it: digits, 1 to 65535, no sign and no leading zero.
pub(super) fn port_number(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT_PORTS, System, system_of_port};

    #[test]
    fn the_table_rises_so_that_it_can_be_searched() {
        assert!(DEFAULT_PORTS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (port, system) in DEFAULT_PORTS {
            assert_eq!(system_of_port(*port), Some(*system));
        }
    }

    #[test]
    fn ambiguous_ports_are_not_databases() {
        for port in [0, 80, 443, 1025, 4000, 8080, 9000, 9300, 9999, 65535] {
            assert_eq!(system_of_port(port), None, "{port}");
        }
    }

    #[test]
    fn shared_ports_go_to_the_elder() {
        assert_eq!(system_of_port(3306), Some(System::Mysql));
        assert_eq!(system_of_port(9200), Some(System::Elasticsearch));
    }
}
