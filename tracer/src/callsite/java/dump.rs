//! A thread dump's text: one thread's frames out of it.
//!
//! The text is HotSpot's, but a thread's name in it is anybody's. A name that forges a thread deceives only about its
//! own process; sizes are bounded.

#![forbid(unsafe_code)]

use crate::callsite::{Frame, Role, Runtime};

/// Deepest stack that is kept: HotSpot's own limit for exceptions is 1,024.
const MAX_FRAMES: usize = 256;
/// Longest name that is kept, in bytes; Java allows 65,535.
const MAX_NAME: usize = 512;

/// A thread as a dump has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// It runs a virtual thread, whose frames the dump does not have.
    pub carries_virtual: bool,
}

/// The thread whose number in the process's own pid namespace is `tid`.
#[must_use]
pub fn thread(dump: &str, tid: u32) -> Option<Thread> {
    let mut lines = dump.lines().skip_while(|line| number(line) != Some(tid));
    lines.next()?;
    let mut found = Thread::default();
    for line in lines {
        let line = line.trim();
        // A thread ends with an empty line, in some versions with another thread's first.
        if line.is_empty() || line.starts_with('"') {
            break;
        }
        found.carries_virtual |= line.starts_with("Carrying virtual thread");
        if let Some(frame) = line.strip_prefix("at ").and_then(frame)
            && found.frames.len() < MAX_FRAMES
        {
            found.frames.push(frame);
        }
    }
    Some(found)
}

/// The thread's number out of its first line: `"name" #12 … tid=0x7f… nid=0x1a2b runnable`. Hexadecimal with a prefix
/// up to JDK 20, decimal since (<https://bugs.openjdk.org/browse/JDK-8299858>).
fn number(line: &str) -> Option<u32> {
    // The name may have anything in it, but it comes first.
    let (_, rest) = line.strip_prefix('"')?.rsplit_once(" nid=")?;
    let word = rest.split_ascii_whitespace().next()?;
    match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// `java.net.Socket.connect(java.base@17.0.15/Socket.java:633)`, `A.b(B.java:7)`, `A.b(Native Method)`,
/// `A.b(Unknown Source)`.
fn frame(text: &str) -> Option<Frame> {
    let (function, place) = text.strip_suffix(')')?.rsplit_once('(')?;
    // Frames of hidden classes are `Name/0x0000…`.
    if function.is_empty() || function.contains(char::is_whitespace) {
        return None;
    }
    let (module, place) = match place.rsplit_once('/') {
        Some((module, place)) => (Some(module), place),
        None => (None, place),
    };
    let (file, line) = match place.rsplit_once(':') {
        Some((file, line)) => (Some(file), line.parse().ok()),
        None if matches!(place, "Native Method" | "Unknown Source" | "Redefined") => (None, None),
        None => (Some(place), None),
    };
    Some(Frame {
        runtime: Runtime::Java,
        function: Some(bounded(&super::method::stable(function))),
        file: file.map(bounded),
        line,
        module: module.map(bounded),
        build_id: None,
        offset: None,
        inlined: false,
    })
}

fn bounded(text: &str) -> String {
    text.chars().take(MAX_NAME).collect()
}

/// Whether these frames, innermost first, are those of a thread that is still at work on a connection. If not, it has
/// moved on since, and its stack says nothing about the socket.
#[must_use]
pub fn at_work(frames: &[Frame], role: Role) -> bool {
    /// Frames that may lie between a system call and the classes that are named here: locks, streams, encryption.
    const NEAR: usize = 12;
    const SOCKETS: [&str; 6] = [
        "java.net.Socket",
        "java.net.PlainSocketImpl",
        "java.net.AbstractPlainSocketImpl",
        "java.net.SocksSocketImpl",
        "sun.nio.ch.",
        "sun.security.ssl.SSLSocket",
    ];
    let functions = || frames.iter().filter_map(|frame| frame.function.as_deref());
    // Who waits for *any* socket is at work on none.
    let waits = |function: &str| function.contains("Selector") || function.contains("EPoll.wait");
    let socket = |function: &str| SOCKETS.iter().any(|class| function.starts_with(class));
    // Who opens a connection also computes: passwords, certificates, settings.
    let opens = |function: &str| {
        let method = function.rsplit('.').next().unwrap_or(function);
        role == Role::Opened && (method.contains("connect") || method.contains("Connect"))
    };
    !functions().take(NEAR).any(waits) && (functions().take(NEAR).any(socket) || functions().any(opens))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From JDK 17 and JDK 25, shortened.
    const JDK17: &str = include_str!("testdata/dump-17.txt");
    const JDK25: &str = include_str!("testdata/dump-25.txt");

    fn told(frames: &[Frame]) -> Vec<String> {
        frames
            .iter()
            .map(|frame| {
                format!(
                    "{} {}:{}",
                    frame.function.as_deref().unwrap_or("?"),
                    frame.file.as_deref().unwrap_or("?"),
                    frame.line.unwrap_or(0)
                )
            })
            .collect()
    }

    #[test]
    fn a_thread_is_found_by_its_hexadecimal_number() {
        let thread = thread(JDK17, 0x1a2b).expect("main");
        let told = told(&thread.frames);
        assert_eq!(told[0], "sun.nio.ch.Net.poll ?:0");
        assert_eq!(told[1], "sun.nio.ch.NioSocketImpl.park NioSocketImpl.java:186");
        assert_eq!(told.last().expect("frames"), "OrderDao.find OrderDao.java:88");
        assert_eq!(thread.frames[0].module.as_deref(), Some("java.base@17.0.15"));
        assert_eq!(thread.frames.last().expect("frames").module, None);
        assert!(at_work(&thread.frames, Role::Used));
        assert!(!thread.carries_virtual);
    }

    #[test]
    fn since_jdk_21_the_number_is_decimal() {
        let thread = thread(JDK25, 4711).expect("main");
        assert_eq!(thread.frames.len(), 2);
        assert!(!at_work(&thread.frames, Role::Opened), "it sleeps");
    }

    #[test]
    fn a_thread_that_carries_a_virtual_one_is_known_as_such() {
        let thread = thread(JDK25, 4712).expect("carrier");
        assert!(thread.carries_virtual);
    }

    #[test]
    fn a_thread_that_the_dump_lacks_is_not_replaced_by_another() {
        assert_eq!(thread(JDK17, 1), None);
        assert_eq!(thread("", 0), None);
        assert_eq!(thread("\"x\" nid=oops\n\tat A.b(C.java:1)\n", 0), None);
    }

    #[test]
    fn a_name_that_looks_like_a_thread_does_not_hide_the_number_behind_it() {
        let dump = "\"x nid=0x1\" #9 tid=0x1 nid=0x2 runnable\n\tat A.b(C.java:1)\n";
        assert_eq!(thread(dump, 1), None);
        assert_eq!(thread(dump, 2).expect("thread").frames.len(), 1);
    }

    #[test]
    fn who_waits_for_any_socket_is_at_work_on_none() {
        let dump = "\"loop\" nid=7 runnable\n\
                    \tat sun.nio.ch.EPoll.wait(java.base@17/Native Method)\n\
                    \tat sun.nio.ch.SelectorImpl.select(java.base@17/SelectorImpl.java:146)\n\
                    \tat app.Loop.run(Loop.java:3)\n";
        assert!(!at_work(&thread(dump, 7).expect("thread").frames, Role::Used));
    }

    #[test]
    fn who_computes_while_connecting_is_at_work_on_what_it_opens() {
        let dump = "\"main\" nid=7 runnable\n\
                    \tat javax.crypto.Mac.doFinal(java.base@17/Mac.java:1)\n\
                    \tat org.postgresql.core.v3.ConnectionFactoryImpl.openConnectionImpl(ConnectionFactoryImpl.java:2)\n\
                    \tat app.Dao.find(Dao.java:3)\n";
        let frames = thread(dump, 7).expect("thread").frames;
        assert!(at_work(&frames, Role::Opened));
        assert!(!at_work(&frames, Role::Used));
    }

    #[test]
    fn a_bottomless_stack_is_cut() {
        let dump = format!("\"t\" nid=3 x\n{}", "\tat A.b(C.java:1)\n".repeat(100_000));
        assert_eq!(thread(&dump, 3).expect("thread").frames.len(), MAX_FRAMES);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String, lines in prop::collection::vec("[ \tat.()/:\"0-9]{0,20}", 0..20)) {
            let _ = thread(&text, 3);
            let _ = thread(&format!("\"t\" nid=3 x\n{}\n", lines.join("\n")), 3);
        }
    }
}
