//! One list a runtime: where code lies, and whose it is.

use proptest::prelude::*;

use super::*;

fn frame(runtime: Runtime, function: &str, file: &str, module: &str) -> Frame {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Frame {
        runtime,
        function: some(function),
        file: some(file),
        line: None,
        module: some(module),
        build_id: None,
        offset: None,
        inlined: false,
    }
}

/// `-` for the application's own, `.` for machinery, or the library's name.
fn word(runtime: Runtime, function: &str, file: &str, module: &str) -> String {
    match Origin::of(&frame(runtime, function, file, module)) {
        Origin::Application => "-".to_owned(),
        Origin::Machinery => ".".to_owned(),
        Origin::Library(name) => name,
    }
}

#[test]
fn machine_code_is_told_apart_by_its_module() {
    for (module, expected) in [
        ("/srv/payments", "-"),
        ("/srv/lib/libdao.so", "-"),
        ("/usr/bin/pgbench", "-"),
        ("", "-"),
        ("/usr/lib/x86_64-linux-gnu/libpq.so.5.15", "libpq"),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "."),
        ("[vdso]", "."),
        (
            "/usr/lib/python3.11/lib-dynload/_asyncio.cpython-311-x86_64-linux-gnu.so",
            ".",
        ),
        ("/usr/bin/python3.11", "."),
        ("/opt/node/bin/node", "."),
        ("/usr/lib/x86_64-linux-gnu/libnode.so.108", "."),
        ("/usr/sbin/php-fpm8.2", "."),
        ("/usr/lib/x86_64-linux-gnu/libruby-3.1.so.3.1.2", "."),
        ("/srv/nodewatch", "-"),
        (
            "/usr/lib/x86_64-linux-gnu/ruby/vendor_ruby/3.1.0/pg_ext.so",
            "pg_ext",
        ),
        ("/usr/lib/jvm/java-17-openjdk-amd64/lib/libnio.so", "."),
        (
            "/v/lib/python3.11/site-packages/psycopg2_binary.libs/libpq.so.5",
            "psycopg2_binary",
        ),
        (
            "/usr/lib/python3/dist-packages/psycopg2/_psycopg.cpython-311-x86_64-linux-gnu.so",
            "psycopg2",
        ),
        ("/srv/node_modules/pg-native/build/addon.node", "pg-native"),
    ] {
        assert_eq!(word(Runtime::Native, "f", "", module), expected, "{module}");
    }
}

#[test]
fn rust_is_told_apart_by_its_sources_or_else_by_the_crate() {
    let registry = "/root/.cargo/registry/src/index.crates.io-6f17d22bba15001f/tokio-postgres-0.7.1/src/a.rs";
    for (function, file, expected) in [
        ("x::y", registry, "tokio-postgres"),
        ("x::y", "/rustc/05f9846f893b09a1be/library/std/src/net.rs", "."),
        ("app::find", "src/main.rs", "-"),
        ("app::find", "", "-"),
        ("tokio::net::connect", "", "tokio"),
        ("<tokio::net::TcpStream as core::x>::f", "", "tokio"),
        ("std::net::connect", "", "."),
        ("main", "", "-"),
        // In a static program.
        ("connect", "", "."),
    ] {
        assert_eq!(
            word(Runtime::Native, function, file, "/srv/app"),
            expected,
            "{function} {file}"
        );
    }
}

#[test]
fn go_is_told_apart_by_its_packages_and_files() {
    for (function, file, expected) in [
        ("main.(*Dao).Find", "/srv/app/dao.go", "-"),
        ("github.com/acme/shop/dao.Find", "/build/dao/dao.go", "-"),
        ("acme/dao.Find", "acme/dao/dao.go", "-"),
        (
            "github.com/lib/pq.(*conn).exec",
            "/root/go/pkg/mod/github.com/lib/pq@v1.10.9/conn.go",
            "github.com/lib/pq",
        ),
        (
            "github.com/lib/pq.Open",
            "github.com/lib/pq@v1.1.0/x.go",
            "github.com/lib/pq",
        ),
        ("github.com/lib/pq.Open", "", "github.com/lib/pq"),
        (
            "database/sql.(*DB).conn",
            "/usr/lib/go-1.19/src/database/sql/sql.go",
            "database/sql",
        ),
        ("net.(*Dialer).DialContext", "", "net"),
        ("internal/poll.(*FD).Connect", "", "."),
        ("runtime.goexit.abi0", "", "."),
        ("syscall.Syscall6", "", "."),
    ] {
        assert_eq!(
            word(Runtime::Go, function, file, "/srv/app"),
            expected,
            "{function}"
        );
    }
}

#[test]
fn python_is_told_apart_by_its_files() {
    for (file, expected) in [
        ("/srv/shop/dao.py", "-"),
        ("dao.py", "-"),
        ("", "-"),
        ("/v/lib/python3.11/site-packages/psycopg/connection.py", "psycopg"),
        ("/v/lib/python3.11/site-packages/six.py", "six"),
        (
            "/usr/lib/python3/dist-packages/sqlalchemy/pool/base.py",
            "sqlalchemy",
        ),
        ("/usr/lib/python3.11/threading.py", "."),
        ("/usr/local/lib/python3.13/asyncio/events.py", "."),
        ("<frozen runpy>", "."),
    ] {
        assert_eq!(word(Runtime::Python, "f", file, ""), expected, "{file}");
    }
}

#[test]
fn java_is_told_apart_by_its_packages() {
    for (function, expected) in [
        ("shop.OrderDao.find", "-"),
        ("OrderDao.find", "-"),
        ("java.base/java.net.Socket.connect", "."),
        ("org.postgresql.Driver.connect", "postgresql"),
        ("com.zaxxer.hikari.pool.HikariPool.getConnection", "HikariCP"),
        ("org.postgresqlish.Dao.find", "-"),
    ] {
        assert_eq!(
            word(Runtime::Java, function, "X.java", ""),
            expected,
            "{function}"
        );
    }
}

#[test]
fn node_ruby_and_php_are_told_apart_by_their_files() {
    use Runtime::{JavaScript, Php, Ruby};
    for (runtime, file, expected) in [
        (JavaScript, "/srv/shop/dao.js", "-"),
        (JavaScript, "/srv/node_modules/pg/lib/client.js", "pg"),
        (JavaScript, "/a/node_modules/b/node_modules/@x/y/z.js", "@x/y"),
        (JavaScript, "node:internal/process/task_queues", "."),
        (Ruby, "/srv/shop/dao.rb", "-"),
        (
            Ruby,
            "/var/lib/gems/3.1.0/gems/sequel-5.63.0/lib/sequel.rb",
            "sequel",
        ),
        (Ruby, "/usr/lib/ruby/vendor_ruby/pg/connection.rb", "pg"),
        (Ruby, "/usr/lib/ruby/3.1.0/monitor.rb", "."),
        (Ruby, "<internal:kernel>", "."),
        (Php, "/var/www/index.php", "-"),
        (
            Php,
            "/var/www/vendor/doctrine/dbal/src/Connection.php",
            "doctrine/dbal",
        ),
    ] {
        assert_eq!(word(runtime, "f", file, ""), expected, "{file}");
    }
    assert_eq!(word(Php, "PDO::__construct", "", ""), ".", "PHP's own functions");
}

#[test]
fn a_pool_is_known_by_its_library() {
    let go = |function: &str| frame(Runtime::Go, function, "", "/srv/app");
    assert!(through_a_pool(&[go("database/sql.(*DB).conn"), go("main.find")]));
    assert!(!through_a_pool(&[go("github.com/lib/pq.Open"), go("main.find")]));
    assert!(through_a_pool(&[go(
        "github.com/gomodule/redigo/redis.(*Pool).dial"
    )]));
    assert!(!through_a_pool(&[go("github.com/gomodule/redigo/redis.Dial")]));
    let asyncpg = "/v/lib/python3.11/site-packages/asyncpg";
    let python = |file: &str| frame(Runtime::Python, "connect", &format!("{asyncpg}/{file}"), "");
    assert!(through_a_pool(&[python("pool.py")]));
    assert!(!through_a_pool(&[python("connection.py")]));
}

proptest! {
    #[test]
    fn no_name_is_too_strange(function in any::<String>(), file in "(/|gems|vendor|-|@v|\\.|é|node_modules|site-packages|registry/src){0,12}") {
        for runtime in [
            Runtime::Native, Runtime::Go, Runtime::Python, Runtime::Java, Runtime::JavaScript, Runtime::Ruby,
            Runtime::Php,
        ] {
            let _ = Origin::of(&frame(runtime, &function, &file, &file));
        }
    }
}
