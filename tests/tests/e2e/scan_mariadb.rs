//! `scan` and a Python application that leaks PyMySQL connections to MariaDB.

use anyhow::Result;
use connleak_tests::{require_root, server::mariadb};

use crate::leak::{Where, args, leaking, scan_names};

const APP: &str = "leak_pymysql.py";
/// The socket does not tell a MariaDB server from a MySQL one: either name is right.
const SYSTEM: &[&str] = &["mysql", "mariadb"];

#[test]
fn root_scan_names_the_python_process_that_leaks_30_pymysql_connections() -> Result<()> {
    require_root!();
    let server = mariadb::shared()?;
    let app = leaking(APP, &["127.0.0.1", &server.port.to_string()])?;
    scan_names(
        app.pid(),
        &server.only_this("mysql"),
        SYSTEM,
        &Where::Tcp("127.0.0.1", server.port),
    )
}

#[test]
fn root_scan_names_the_pymysql_leak_over_the_unix_socket() -> Result<()> {
    require_root!();
    let server = mariadb::shared()?;
    let path = server.socket_text();
    let app = leaking(APP, &[&path])?;
    scan_names(app.pid(), &args(&["--db", "mysql"]), SYSTEM, &Where::Unix(&path))
}
