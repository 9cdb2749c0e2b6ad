//! The applications: a server, one that leaks, and those that must not be taken for it.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    thread,
    time::Duration,
};

use anyhow::Result;

/// Where the server listens, in the place and with the name of `PostgreSQL`'s.
pub const SOCKET: &str = "/tmp/.s.PGSQL.5432";
/// What each of the pools holds.
pub const POOL: usize = 8;
/// Connections to the unix socket.
pub const UNIX: usize = 3;

/// Connections that `churn` opens and closes.
pub const CHURN: usize = 200;

/// Time between two requests: slow, since the machine is emulated.
const PACE: Duration = Duration::from_millis(100);

/// Answers each request with a word, in a thread for each connection. Says its port.
pub fn server() -> Result<()> {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // The name outlives the server before this one.
    let _ = fs::remove_file(SOCKET);
    let unix = UnixListener::bind(SOCKET)?;
    super::say(&tcp.local_addr()?.port().to_string());
    thread::spawn(move || unix.incoming().flatten().for_each(serve));
    tcp.incoming().flatten().for_each(serve);
    Ok(())
}

fn serve(mut connection: impl Read + Write + Send + 'static) {
    thread::spawn(move || {
        let mut request = [0; 64];
        while connection.read(&mut request).is_ok_and(|length| length > 0) {
            if connection.write_all(b"1 row\n").is_err() {
                break;
            }
        }
    });
}

fn query(mut connection: impl Read + Write) -> Result<()> {
    connection.write_all(b"select 1;\n")?;
    let _ = connection.read(&mut [0; 64])?;
    Ok(())
}

fn connect(port: u16) -> Result<TcpStream> {
    let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    query(&connection)?;
    Ok(connection)
}

/// Opens, uses once, forgets.
pub fn leaker(port: u16) -> Result<()> {
    let mut forgotten = Vec::new();
    loop {
        forgotten.push(connect(port)?);
        thread::sleep(PACE);
    }
}

/// Holds a fixed number and uses each again and again, in another order than it opened them.
pub fn pool(port: u16) -> Result<()> {
    let pool = (0..POOL).map(|_| connect(port)).collect::<Result<Vec<_>>>()?;
    loop {
        for turn in 0..POOL {
            query(&pool[turn * 5 % POOL])?;
            thread::sleep(PACE);
        }
    }
}

/// Opens many at once, uses each, closes all; again and again.
pub fn bursts(port: u16) -> Result<()> {
    loop {
        let burst = (0..2 * POOL).map(|_| connect(port)).collect::<Result<Vec<_>>>()?;
        thread::sleep(PACE);
        drop(burst);
        thread::sleep(4 * PACE);
    }
}

/// Opens and closes as fast as it can, so that the kernel uses the memory of one socket for the next. Says when it is
/// done.
pub fn churn(port: u16) -> Result<()> {
    for _ in 0..CHURN {
        connect(port)?;
    }
    super::say("done");
    // Whoever watches has time to see whose connections they were.
    loop {
        thread::sleep(PACE);
    }
}

/// Holds a few connections to the server's unix socket.
pub fn unix() -> Result<()> {
    let mut held = Vec::new();
    for _ in 0..UNIX {
        let connection = UnixStream::connect(SOCKET)?;
        query(&connection)?;
        held.push(connection);
    }
    loop {
        thread::sleep(PACE);
    }
}
