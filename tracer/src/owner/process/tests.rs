use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::Path,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{Process, command_line, effective_uid, start_ticks};
use crate::owner::ProcessId;

const ID: ProcessId = ProcessId {
    pid: 4121,
    start_ticks: 127_395,
};

fn stat(comm: &str, start: u64) -> String {
    format!(
        "4121 ({comm}) R 9571 9571 6174 0 -1 4194304 99 0 0 0 0 0 0 0 20 0 1 0 {start} 3133440 350 18446744073709551615 1\n"
    )
}

fn fake_proc() -> TempDir {
    let root = tempfile::tempdir().expect("a temporary folder");
    let directory = root.path().join("4121");
    fs::create_dir(&directory).expect("a folder");
    let write = |name: &str, content: &[u8]| fs::write(directory.join(name), content).expect("a file");
    write("comm", b"a) R 1 (b\n");
    write("stat", stat("a) R 1 (b", ID.start_ticks).as_bytes());
    write("cmdline", b"/srv/payments\0--name\0\0caf\xc3\xa9\0\xff\0");
    write(
        "status",
        b"Name:\ta) R 1 (b\nUmask:\t0022\nUid:\t1000\t0\t0\t0\nGid:\t0\t0\t0\t0\n",
    );
    write("cgroup", b"0::/system.slice/payments.service\n");
    symlink("/srv/payments (deleted)", directory.join("exe")).expect("a link");
    root
}

fn replace(root: &Path, name: &str, content: &str) {
    fs::write(root.join("4121").join(name), content).expect("a file");
}

#[test]
fn everything_is_read() {
    let root = fake_proc();
    let process = Process::read(root.path(), ID).expect("the process is there");
    assert_eq!(process.name, "a) R 1 (b");
    assert_eq!(process.executable.as_deref(), Some("/srv/payments"));
    assert!(process.executable_deleted);
    assert_eq!(
        process.command_line,
        ["/srv/payments", "--name", "", "café", "\u{fffd}"]
    );
    assert!(!process.command_line_truncated);
    assert_eq!(process.uid, Some(0));
    assert_eq!(process.unit.as_deref(), Some("payments.service"));
    assert_eq!(process.container_id, None);
    assert!(process.start_unix_ms.is_some());
}

#[test]
fn a_reused_pid_is_another_process() {
    let root = fake_proc();
    replace(root.path(), "stat", &stat("payments", ID.start_ticks + 1));
    assert_eq!(Process::read(root.path(), ID), None);
    assert_eq!(Process::read(root.path(), ProcessId { pid: 4122, ..ID }), None);
}

#[test]
fn missing_files_cost_one_field_each() {
    let root = fake_proc();
    for name in ["exe", "cmdline", "status", "cgroup"] {
        fs::remove_file(root.path().join("4121").join(name)).expect("removed");
    }
    let process = Process::read(root.path(), ID).expect("the process is there");
    assert_eq!(
        (process.executable, process.uid, process.unit),
        (None, None, None)
    );
    assert!(process.command_line.is_empty());
}

#[test]
fn garbage_in_stat_is_no_start_time() {
    let root = fake_proc();
    for garbage in [
        "",
        "4121",
        "4121 (x",
        ")",
        "4121 (x) R 1 2 3",
        "4121 (x) R 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 -1 0",
    ] {
        replace(root.path(), "stat", garbage);
        assert_eq!(start_ticks(root.path(), 4121), None, "{garbage:?}");
    }
}

#[test]
fn long_command_lines_are_cut_and_say_so() {
    let root = fake_proc();
    replace(root.path(), "cmdline", &"x\0".repeat(65));
    let process = Process::read(root.path(), ID).expect("the process is there");
    assert_eq!(process.command_line.len(), 64);
    assert!(process.command_line_truncated);

    replace(root.path(), "cmdline", &"é".repeat(100_000));
    let process = Process::read(root.path(), ID).expect("the process is there");
    assert_eq!(process.command_line, ["é".repeat(2048)]);
    assert!(process.command_line_truncated);

    // The bound falls into the middle of a character.
    let (words, truncated) = command_line(format!("x{}", "é".repeat(4000)).as_bytes());
    assert_eq!(words, [format!("x{}", "é".repeat(2047))]);
    assert!(truncated);
}

#[test]
fn rewritten_titles_lose_their_padding() {
    assert_eq!(
        command_line(b"nginx: worker process\0\0\0\0"),
        (vec!["nginx: worker process".to_owned()], false)
    );
    assert_eq!(command_line(b""), (vec![], false));
    assert_eq!(command_line(b"\0\0"), (vec![], false));
}

#[test]
fn a_name_cannot_forge_a_uid() {
    assert_eq!(effective_uid("Name:\tUid:\\n\nUid:\t5\t6\t7\t8\n"), Some(6));
    assert_eq!(effective_uid("Name:\tx\nUid:\t5\n"), None);
    assert_eq!(effective_uid("Uid:\t-1\t-1\n"), None);
}

#[test]
fn this_test_reads_itself() {
    let root = Path::new("/proc");
    let pid = std::process::id();
    let id = ProcessId {
        pid,
        start_ticks: start_ticks(root, pid).expect("we are running"),
    };
    let process = Process::read(root, id).expect("we are running");
    let executable = std::env::current_exe().expect("our own path");
    assert_eq!(process.executable.as_deref(), executable.to_str());
    let arguments: Vec<_> = std::env::args().collect();
    assert_eq!(process.command_line, arguments);
    assert_eq!(process.uid, fs::metadata("/proc/self").ok().map(|own| own.uid()));
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock");
    let age =
        i128::try_from(now.as_millis()).expect("fits") - i128::from(process.start_unix_ms.expect("a time"));
    assert!((-50..600_000).contains(&age), "{age} ms old");
}

proptest! {
    #[test]
    fn any_command_line_is_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..6000)) {
        let (words, _) = command_line(&bytes);
        prop_assert!(words.len() <= 64);
        // One invalid byte becomes a character of three.
        prop_assert!(words.iter().map(String::len).sum::<usize>() <= 3 * 4096);
    }

    #[test]
    fn any_status_is_survived(status in r"(?s)(Uid:)?.{0,100}") {
        effective_uid(&status);
    }
}
