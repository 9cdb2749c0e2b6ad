//! What each compiled language comes out as.

use super::*;

#[test]
fn c_without_frame_pointers_and_debug_information_is_unwound_down_to_main() {
    let folder = TempDir::new().expect("a folder");
    let Some(program) = build(
        &folder,
        ("program.c", C),
        &[C_COMPILER, &["-Wl,--strip-debug"]].concat(),
    ) else {
        return;
    };
    let stack = Waiting::start(&program).stack();
    let frames = Symbols::default().frames(&stack);
    assert_eq!(
        names(from(&frames, "five"))[..6],
        ["five", "four", "three", "two", "one", "main"]
    );
    assert!(stack.is_complete(), "{}", stack.end);
    assert_eq!(stack.quality(), crate::callsite::Quality::Exact);
}

#[test]
fn a_program_without_any_symbols_has_its_offsets_and_no_made_up_name() {
    let folder = TempDir::new().expect("a folder");
    let Some(program) = build(
        &folder,
        ("program.c", C),
        &[C_COMPILER, &["-s", "-rdynamic"]].concat(),
    ) else {
        return;
    };
    // Exported names are left with -rdynamic: those of functions that are not static. Make none of them cover `five`.
    let stack = Waiting::start(&program).stack();
    let frames = Symbols::default().frames(&stack);
    assert_eq!(
        names(from(&frames, "five"))[..6],
        ["five", "four", "three", "two", "one", "main"]
    );

    let hidden = C.replace("__attribute__((noinline))", "__attribute__((noinline)) static");
    let Some(program) = build(
        &folder,
        ("program.c", &hidden),
        &[C_COMPILER, &["-s", "-rdynamic"]].concat(),
    ) else {
        return;
    };
    let stack = Waiting::start(&program).stack();
    let frames = Symbols::default().frames(&stack);
    let own = frames
        .iter()
        .filter(|frame| frame.module.as_deref() == program.to_str())
        .collect::<Vec<_>>();
    // Five functions and the program's entry have no name; `main` is exported.
    let named = own
        .iter()
        .filter_map(|frame| frame.function.as_deref())
        .collect::<Vec<_>>();
    assert_eq!((own.len(), named), (7, vec!["main", "_start"]), "{frames:#?}");
    assert!(
        own.iter()
            .all(|frame| frame.offset.is_some() && frame.build_id.is_some())
    );
    assert!(stack.is_complete(), "{}", stack.end);
}

#[test]
fn cpp_is_demangled_and_has_lines_and_inlined_functions() {
    const CPP: &str = r#"
        #include <cstdio>
        #include <unistd.h>
        namespace shop { template <typename T> struct Basket {
            __attribute__((noinline)) int leak(T more) { std::puts("ready"); std::fflush(stdout); pause(); return more; }
            __attribute__((always_inline)) int inlined(T more) { return leak(more) + 1; }
        }; }
        __attribute__((noinline)) int checkout(int n) { shop::Basket<int> basket; return basket.inlined(n) + 2; }
        int main(int count, char **) { return checkout(count) + 3; }
    "#;
    let folder = TempDir::new().expect("a folder");
    let compiler = ["c++", "-O2", "-g", "-fomit-frame-pointer"];
    let Some(program) = build(&folder, ("program.cpp", CPP), &compiler) else {
        return;
    };
    let frames = Symbols::default().frames(&Waiting::start(&program).stack());
    let own = from(&frames, "leak(int)");
    assert!(
        own[0]
            .file
            .as_deref()
            .is_some_and(|file| file.ends_with("program.cpp")),
        "{own:#?}"
    );
    let told: Vec<_> = own
        .iter()
        .take(4)
        .map(|frame| (names(std::slice::from_ref(frame))[0], frame.line, frame.inlined))
        .collect();
    assert_eq!(
        told,
        [
            ("shop::Basket<int>::leak(int)", Some(5), false),
            ("shop::Basket<int>::inlined(int)", Some(6), true),
            ("checkout(int)", Some(8), false),
            ("main", Some(9), false)
        ]
    );
}

#[test]
fn rust_is_demangled() {
    const RUST: &str = r#"
        unsafe extern "C" { fn pause() -> i32; }
        mod basket {
            #[inline(never)] pub fn leak(more: i32) -> i32 { println!("ready"); (unsafe { super::pause() }) + more }
        }
        struct Shop;
        trait Checkout { fn checkout(&self) -> i32; }
        impl Checkout for Shop { #[inline(never)] fn checkout(&self) -> i32 { basket::leak(1) + 1 } }
        fn main() { let worker = std::thread::spawn(|| Shop.checkout() + 1); worker.join().unwrap(); }
    "#;
    let folder = TempDir::new().expect("a folder");
    let compiler = ["rustc", "-O", "--edition=2024", "-Cstrip=debuginfo"];
    let Some(program) = build(&folder, ("program.rs", RUST), &compiler) else {
        return;
    };
    let stack = Waiting::start(&program).stack();
    let frames = Symbols::default().frames(&stack);
    let own = names(from(&frames, "basket::leak"));
    assert_eq!(
        own[..2],
        [
            "program::basket::leak",
            "<program::Shop as program::Checkout>::checkout"
        ]
    );
    assert!(stack.is_complete(), "{}", stack.end);
}
