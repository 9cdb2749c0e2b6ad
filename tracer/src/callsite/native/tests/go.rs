//! Go, as its tool chain and a C linker make it.

use super::*;

pub(super) const GO: &str = r#"
package main
import ("os"; "syscall")
type shop struct{ left int }
//go:noinline
func (s *shop) leak(n int) int { os.Stdout.WriteString("ready\n"); syscall.Syscall(syscall.SYS_PAUSE, 0, 0, 0); return s.left + n }
func inlined(s *shop) int {
	return s.leak(1) + 1
}
//go:noinline
func checkout(s *shop) int {
	return inlined(s) + 2
}
func main() {
	done := make(chan int)
	go func() { done <- checkout(&shop{}) }()
	<-done
}
"#;

fn go(flags: &[&str]) {
    let folder = TempDir::new().expect("a folder");
    let compiler = [
        &[
            "env",
            "GO111MODULE=off",
            "GOFLAGS=",
            "CGO_ENABLED=0",
            "go",
            "build",
        ],
        flags,
    ]
    .concat();
    if Command::new("go").arg("version").output().is_err() {
        return skipped("go is not installed");
    }
    let Some(program) = build(&folder, ("program.go", GO), &compiler) else {
        return;
    };
    let stack = Waiting::start(&program).stack();
    let frames = Symbols::default().frames(&stack);
    let own = from(&frames, "leak");
    let told: Vec<_> = own
        .iter()
        .map(|frame| (names(std::slice::from_ref(frame))[0], frame.line, frame.inlined))
        .collect();
    assert_eq!(
        told,
        [
            ("main.(*shop).leak", Some(6), false),
            ("main.inlined", Some(8), true),
            ("main.checkout", Some(12), false),
            ("main.main.func1", Some(16), false),
            ("runtime.goexit", Some(1594), false),
        ],
        "{flags:?} {frames:#?}"
    );
    assert_eq!(own[0].runtime, Runtime::Go);
    assert!(
        own[0]
            .file
            .as_deref()
            .is_some_and(|file| file.ends_with("program.go"))
    );
    assert!(names(&frames).contains(&"syscall.Syscall"), "{frames:#?}");
    assert!(stack.is_complete(), "{}", stack.end);
}

#[test]
fn go_has_names_lines_and_inlined_functions() {
    go(&[]);
}

#[test]
fn go_without_symbols_has_them_too() {
    go(&["-ldflags=-s -w"]);
}

#[test]
fn go_that_is_position_independent_has_them_too() {
    go(&["-buildmode=pie", "-ldflags=-s -w"]);
    go(&["-buildmode=pie", "-ldflags=-linkmode=external -s -w"]);
}
