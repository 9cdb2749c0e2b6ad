//! Whose code a frame is: the application's own, a library's, or the machinery below both.
//!
//! A stack has twenty frames of which two are the reader's. Which two is told from where the code lies (a package
//! folder, a registry, the system's libraries) or, where only a name is known, from its package. A guess at the
//! border: an application that was installed as a package looks like a library. So whoever shows a stack without
//! any frame of the application's own shows the library's.

#![forbid(unsafe_code)]

use super::{Frame, Runtime};

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// What the reader has written.
    Application,
    /// Somebody else's, by this name.
    Library(String),
    /// The interpreter, the run-time system, the standard library: nobody looks for a leak there.
    Machinery,
}

impl Origin {
    /// Of a frame.
    #[must_use]
    pub fn of(frame: &Frame) -> Self {
        match frame.runtime {
            Runtime::Native => native(frame),
            Runtime::Go => go(frame),
            Runtime::Python => python(frame),
            Runtime::Java => java(frame),
            Runtime::JavaScript => javascript(frame),
            Runtime::Ruby => ruby(frame),
            Runtime::Php => php(frame),
        }
    }
}

/// Libraries that lend connections, or their beginnings: whoever needs one when none is idle opens it, in whatever
/// function that happens to be.
const POOLS: [&str; 21] = [
    "HikariCP",
    "c3p0",
    "dbcp",
    "commons-pool",
    "druid",
    "tomcat",
    "database/sql",
    "sqlalchemy",
    "psycopg_pool",
    "psycopg2_pool",
    "dbutils",
    "pg-pool",
    "generic-pool",
    "sequel",
    "connection_pool",
    "activerecord",
    "deadpool",
    "bb8",
    "r2d2",
    "sqlx",
    "github.com/jackc/puddle",
];

/// Pools in libraries that also connect without one: a part of a function's name, or the end of its file's.
const POOLS_WITHIN: [&str; 6] = [
    "/redigo/redis.(*Pool).",
    "/internal/pool.(*ConnPool).",
    "/asyncpg/pool.py",
    "/aiomysql/pool.py",
    "/psycopg2/pool.py",
    "/mysql/connector/pooling.py",
];

/// Whether a stack goes through a pool that lends connections.
#[must_use]
pub fn through_a_pool(frames: &[Frame]) -> bool {
    frames.iter().any(|frame| match Origin::of(frame) {
        Origin::Library(name) => {
            let function = frame.function.as_deref().unwrap_or_default();
            let file = frame.file.as_deref().unwrap_or_default();
            POOLS.iter().any(|pool| name.starts_with(pool))
                || POOLS_WITHIN
                    .iter()
                    .any(|pool| function.contains(pool) || file.ends_with(pool))
        }
        Origin::Application | Origin::Machinery => false,
    })
}

/// Event loops of Python: end of the file, and the function that runs what is ready.
const LOOPS: [(&str, &str); 3] = [
    ("/asyncio/base_events.py", "_run_once"),
    ("/twisted/internet/base.py", "mainLoop"),
    ("/trio/_core/_run.py", "unrolled_run"),
];

/// Whether this frame runs an event loop: whatever is further out has only started the loop.
#[must_use]
pub fn runs_a_loop(frame: &Frame) -> bool {
    let (Some(file), Some(function)) = (&frame.file, &frame.function) else {
        return false;
    };
    // From 3.11 on with its class in front.
    let function = function.rsplit('.').next().unwrap_or_default();
    frame.runtime == Runtime::Python
        && LOOPS
            .iter()
            .any(|(end, name)| file.ends_with(end) && function == *name)
}

/// The word by which a library is known.
fn library(name: &str) -> Origin {
    Origin::Library(name.to_owned())
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Packages of Python, Node, Ruby and PHP contain machine code, too.
fn package(path: &str) -> Option<Origin> {
    python_package(path)
        .or_else(|| node_package(path))
        .or_else(|| ruby_gem(path))
        .map(|name| library(&name))
}

/// What runs other code; `lib` may stand before it, and a version behind.
const INTERPRETERS: [&str; 5] = ["python", "node", "nodejs", "ruby", "php"];
/// The Java machine's libraries, wherever it is installed.
const JAVA_MACHINE: [&str; 4] = ["libjvm.so", "libjli.so", "libnio.so", "libnet.so"];

/// `python3.11`, `libnode.so.108`, `php-fpm8.2`; not `nodewatch`.
fn is_interpreter(file_name: &str) -> bool {
    let name = file_name.strip_prefix("lib").unwrap_or(file_name);
    INTERPRETERS.iter().any(|interpreter| {
        name.strip_prefix(interpreter).is_some_and(|rest| {
            let version = |c: char| c.is_ascii_digit() || c == '.';
            let rest = ["-fpm", "-cgi", "-"]
                .iter()
                .find_map(|kind| rest.strip_prefix(kind))
                .unwrap_or(rest);
            rest.is_empty() || rest.starts_with(version)
        })
    })
}

/// The C library and its relatives, the kernel's page, the compilers' run-time libraries.
const C_LIBRARY: [&str; 14] = [
    "libc.so",
    "libc-2",
    "libpthread",
    "ld-linux",
    "ld-2",
    "ld-musl",
    "libm.so",
    "libdl.so",
    "librt.so",
    "libstdc++",
    "libgcc_s",
    "libc++",
    "libuv.so",
    "[vdso]",
];

/// Names in a program that was linked with its C library: nobody calls functions of their own like that.
const C_FUNCTIONS: [&str; 16] = [
    "_start",
    "__libc_start_main",
    "__libc_start_call_main",
    "start_thread",
    "clone",
    "clone3",
    "__clone3",
    "connect",
    "__connect",
    "__libc_connect",
    "send",
    "sendto",
    "sendmsg",
    "write",
    "writev",
    "syscall",
];

fn native(frame: &Frame) -> Origin {
    if let Some(origin) = frame.file.as_deref().and_then(rust_source) {
        return origin;
    }
    let module = frame.module.as_deref().unwrap_or_default();
    let name = file_name(module);
    let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| name.starts_with(beginning));
    if let Some(origin) = package(module) {
        return origin;
    }
    let of_c = frame
        .function
        .as_deref()
        .is_some_and(|function| C_FUNCTIONS.contains(&function));
    // Modules of Python's standard library.
    if module.contains("/lib-dynload/") {
        return Origin::Machinery;
    }
    let of_java = module.contains("/jvm/") || JAVA_MACHINE.contains(&name);
    if of_c || of_java || begins(&C_LIBRARY) || is_interpreter(name) {
        return Origin::Machinery;
    }
    let of_the_system = [
        "/usr/lib",
        "/lib",
        "/usr/local/lib",
        "/usr/libexec",
        "/nix/store/",
    ];
    if name.contains(".so") && of_the_system.iter().any(|folder| module.starts_with(folder)) {
        return library(name.split(".so").next().unwrap_or(name));
    }
    frame
        .function
        .as_deref()
        .and_then(rust_crate)
        .unwrap_or(Origin::Application)
}

/// `…/.cargo/registry/src/index.crates.io-…/tokio-1.2.3/src/net.rs`, `/rustc/HASH/library/std/src/net.rs`
fn rust_source(file: &str) -> Option<Origin> {
    if file.starts_with("/rustc/") || file.contains("/rustlib/src/") {
        return Some(Origin::Machinery);
    }
    let (_, path) = file
        .split_once("/registry/src/")
        .or_else(|| file.split_once("/git/checkouts/"))?;
    let folder = path.split('/').nth(1)?;
    Some(library(without_version(folder)))
}

/// `tokio-1.2.3` → `tokio`
fn without_version(folder: &str) -> &str {
    let digit = |c: char| c.is_ascii_digit();
    folder
        .match_indices('-')
        .find(|(place, _)| folder[place + 1..].starts_with(digit))
        .map_or(folder, |(place, _)| &folder[..place])
}

/// Crates that open connections, pool them, or run what does; for binaries without line information.
const CRATES: [&str; 34] = [
    "tokio",
    "tokio_postgres",
    "postgres",
    "postgres_protocol",
    "tokio_util",
    "tokio_native_tls",
    "tokio_rustls",
    "mio",
    "socket2",
    "rustix",
    "deadpool",
    "deadpool_postgres",
    "deadpool_redis",
    "bb8",
    "bb8_postgres",
    "r2d2",
    "r2d2_postgres",
    "sqlx",
    "sqlx_core",
    "sqlx_postgres",
    "sqlx_mysql",
    "diesel",
    "mysql",
    "mysql_async",
    "redis",
    "hyper",
    "hyper_util",
    "axum",
    "tower",
    "futures_util",
    "futures_executor",
    "async_std",
    "async_io",
    "smol",
];

/// Of the first name in `tokio::net::connect`, or in `<tokio::net::TcpStream as Trait>::connect`.
fn rust_crate(function: &str) -> Option<Origin> {
    let path = function.trim_start_matches(['<', '&', '*']);
    let (first, _) = path.split_once("::")?;
    if matches!(first, "std" | "core" | "alloc") || function.starts_with("__rust") {
        return Some(Origin::Machinery);
    }
    CRATES.contains(&first).then(|| library(first))
}

/// First elements of import paths in Go's standard library.
const GO_STANDARD: [&str; 28] = [
    "bufio",
    "bytes",
    "compress",
    "container",
    "context",
    "crypto",
    "database",
    "encoding",
    "errors",
    "expvar",
    "fmt",
    "io",
    "iter",
    "log",
    "math",
    "net",
    "os",
    "reflect",
    "regexp",
    "slices",
    "sort",
    "strings",
    "sync",
    "syscall",
    "testing",
    "text",
    "time",
    "vendor",
];
/// Modules that open or pool connections; for binaries without files' names.
const GO_MODULES: [&str; 12] = [
    "github.com/lib/pq",
    "github.com/jackc",
    "github.com/go-sql-driver",
    "github.com/redis",
    "github.com/go-redis",
    "github.com/gomodule/redigo",
    "github.com/jmoiron/sqlx",
    "gorm.io",
    "go.mongodb.org",
    "github.com/gocql",
    "entgo.io",
    "golang.org/x",
];

fn go(frame: &Frame) -> Origin {
    let function = frame.function.as_deref().unwrap_or_default();
    let package = go_package(function);
    if matches!(package.split('/').next(), Some("runtime" | "internal")) || package == "syscall" {
        return Origin::Machinery;
    }
    let file = frame.file.as_deref().unwrap_or_default();
    let elsewhere = ["/pkg/mod/", "/gocode/src/", "/vendor/"];
    if elsewhere.iter().any(|folder| file.contains(folder)) || file.contains("@v") {
        return library(package);
    }
    let first = package.split('/').next().unwrap_or_default();
    if GO_STANDARD.contains(&first) || GO_MODULES.iter().any(|module| package.starts_with(module)) {
        return library(package);
    }
    Origin::Application
}

/// `github.com/lib/pq.(*conn).exec` → `github.com/lib/pq`
fn go_package(function: &str) -> &str {
    let last = function.rfind('/').map_or(0, |slash| slash + 1);
    function[last..]
        .find('.')
        .map_or(function, |dot| &function[..last + dot])
}

fn python(frame: &Frame) -> Origin {
    let Some(file) = frame.file.as_deref() else {
        return Origin::Application;
    };
    if let Some(name) = python_package(file) {
        return library(&name);
    }
    let standard = ["/lib/python3.", "/lib64/python3."];
    if file.starts_with('<') || standard.iter().any(|folder| file.contains(folder)) {
        Origin::Machinery
    } else {
        Origin::Application
    }
}

/// `…/site-packages/psycopg/connection.py` → `psycopg`
fn python_package(path: &str) -> Option<String> {
    let (_, inside) = ["/site-packages/", "/dist-packages/"]
        .iter()
        .find_map(|folder| path.rsplit_once(folder))?;
    let first = inside.split('/').next()?;
    // A module of one file, or a folder of shared libraries beside its package.
    let name = first.split('.').next().filter(|name| !name.is_empty())?;
    Some(name.trim_end_matches("_libs").to_owned())
}

/// Packages of the Java platform itself, and of languages on top of it.
const JAVA_PLATFORM: [&str; 11] = [
    "java.",
    "javax.",
    "jdk.",
    "sun.",
    "com.sun.",
    "kotlin.",
    "kotlinx.",
    "scala.",
    "groovy.",
    "clojure.",
    "org.codehaus.groovy.",
];
/// Packages of drivers, pools, frameworks and servers, and how they are called.
const JAVA_LIBRARIES: [(&str, &str); 34] = [
    ("com.zaxxer.hikari.", "HikariCP"),
    ("org.postgresql.", "postgresql"),
    ("com.mysql.", "mysql"),
    ("org.mariadb.", "mariadb"),
    ("oracle.", "oracle"),
    ("com.microsoft.sqlserver.", "sqlserver"),
    ("com.mongodb.", "mongodb"),
    ("com.datastax.", "cassandra"),
    ("redis.clients.", "jedis"),
    ("io.lettuce.", "lettuce"),
    ("org.redisson.", "redisson"),
    ("com.mchange.", "c3p0"),
    ("com.alibaba.druid.", "druid"),
    ("org.apache.commons.dbcp", "dbcp"),
    ("org.apache.commons.pool", "commons-pool"),
    ("org.apache.tomcat.", "tomcat"),
    ("org.apache.catalina.", "tomcat"),
    ("org.apache.coyote.", "tomcat"),
    ("org.apache.ibatis.", "mybatis"),
    ("org.mybatis.", "mybatis"),
    ("org.jooq.", "jooq"),
    ("org.flywaydb.", "flyway"),
    ("org.hibernate.", "hibernate"),
    ("org.springframework.", "spring"),
    ("org.eclipse.jetty.", "jetty"),
    ("io.undertow.", "undertow"),
    ("org.jboss.", "jboss"),
    ("io.netty.", "netty"),
    ("io.vertx.", "vertx"),
    ("io.r2dbc.", "r2dbc"),
    ("reactor.", "reactor"),
    ("io.quarkus.", "quarkus"),
    ("io.micronaut.", "micronaut"),
    ("akka.", "akka"),
];

fn java(frame: &Frame) -> Origin {
    // A module name may stand before the class: `java.base/java.net.Socket.connect`.
    let function = frame.function.as_deref().unwrap_or_default();
    let function = function.rsplit('/').next().unwrap_or(function);
    if JAVA_PLATFORM.iter().any(|package| function.starts_with(package)) {
        return Origin::Machinery;
    }
    let known = JAVA_LIBRARIES
        .iter()
        .find(|(package, _)| function.starts_with(package));
    known.map_or(Origin::Application, |(_, name)| library(name))
}

fn javascript(frame: &Frame) -> Origin {
    let file = frame.file.as_deref().unwrap_or_default();
    if let Some(name) = node_package(file) {
        return library(&name);
    }
    if file.starts_with("node:") || file.starts_with("internal/") {
        return Origin::Machinery;
    }
    Origin::Application
}

/// `…/node_modules/@scope/name/lib/x.js` → `@scope/name`
fn node_package(path: &str) -> Option<String> {
    let (_, inside) = path.rsplit_once("/node_modules/")?;
    let mut parts = inside.split('/');
    let first = parts.next()?;
    Some(match parts.next() {
        Some(second) if first.starts_with('@') => format!("{first}/{second}"),
        _ => first.to_owned(),
    })
}

fn ruby(frame: &Frame) -> Origin {
    let file = frame.file.as_deref().unwrap_or_default();
    if let Some(name) = ruby_gem(file) {
        return library(&name);
    }
    if file.starts_with("<internal:") || file.contains("/lib/ruby/") {
        return Origin::Machinery;
    }
    Origin::Application
}

/// `…/gems/sequel-5.63.0/lib/x.rb` → `sequel`; Debian has gems in `vendor_ruby`.
fn ruby_gem(path: &str) -> Option<String> {
    if let Some((_, inside)) = path.rsplit_once("/vendor_ruby/") {
        // Machine code lies in a folder for the version.
        let version = |part: &&str| part.starts_with(|c: char| c.is_ascii_digit());
        let first = inside.split('/').find(|part| !version(part))?;
        return Some(first.split('.').next().unwrap_or(first).to_owned());
    }
    let inside = path.split("/gems/").last().filter(|inside| *inside != path)?;
    Some(without_version(inside.split('/').next()?).to_owned())
}

fn php(frame: &Frame) -> Origin {
    // Without a file: PHP's own, as `PDO::__construct`.
    let Some(file) = frame.file.as_deref() else {
        return Origin::Machinery;
    };
    if let Some((_, inside)) = file.rsplit_once("/vendor/") {
        let mut parts = inside.split('/');
        if let (Some(vendor), Some(name), Some(_)) = (parts.next(), parts.next(), parts.next()) {
            return library(&format!("{vendor}/{name}"));
        }
    }
    if let Some(inside) = file.strip_prefix("/usr/share/php/") {
        return library(inside.split('/').next().unwrap_or(inside));
    }
    Origin::Application
}

#[cfg(test)]
mod tests;
