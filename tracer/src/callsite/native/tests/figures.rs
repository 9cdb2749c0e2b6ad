//! What it costs.

use super::{go::GO, *};

/// Not a test: prints what things cost here. `cargo test --release -p connleak --lib figures -- --ignored --nocapture`
#[test]
#[ignore = "prints figures, and checks nothing"]
fn figures() {
    fn median(mut run: impl FnMut() -> Duration, times: usize) -> Duration {
        let mut all: Vec<_> = (0..times).map(|_| run()).collect();
        all.sort_unstable();
        all[times / 2]
    }
    fn took<T>(run: impl FnOnce() -> T) -> Duration {
        let start = std::time::Instant::now();
        let _result = std::hint::black_box(run());
        start.elapsed()
    }
    let folder = TempDir::new().expect("a folder");
    let c = build(&folder, ("program.c", C), C_COMPILER).expect("a C compiler");
    let c = Waiting::start(&c);
    let go = TempDir::new().expect("a folder");
    let compiler = ["env", "GO111MODULE=off", "CGO_ENABLED=0", "go", "build"];
    let go_program = build(&go, ("program.go", GO), &compiler).expect("go");
    let go = Waiting::start(&go_program);
    for (name, waiting) in [("C", &c), ("Go", &go)] {
        let capture = waiting.capture();
        let first = median(|| took(|| Unwinder::new().unwind(&capture)), 21);
        let mut unwinder = Unwinder::new();
        let stack = unwinder.unwind(&capture);
        // Registers that differ make it another stack, to the recogniser.
        let warm = median(
            || {
                unwinder.forget_stacks();
                took(|| unwinder.unwind(&capture))
            },
            1_001,
        );
        let hot = median(
            || took(|| (0..1_000).for_each(|_| drop(unwinder.unwind(&capture)))),
            101,
        ) / 1_000;
        let names = median(|| took(|| Symbols::default().frames(&stack)), 11);
        let mut symbols = Symbols::default();
        let _ = symbols.frames(&stack);
        let again = median(|| took(|| symbols.frames(&stack)), 1_001);
        let _ = writeln!(
            std::io::stderr(),
            "{name}: {} frames; first {first:?}, walked again {warm:?}, recognised {hot:?}; names first {names:?}, again {again:?}",
            stack.frames.len()
        );
    }
}
