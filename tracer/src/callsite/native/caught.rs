//! Panics that are expected: `blazesym` 0.2.7 panics at some forged files (an index of a file that is not there, in a table
//! of lines). They are caught, and the default hook's words about them would only frighten whoever reads standard error.
//! So the hook is silent where one is expected, on that thread, and as it was everywhere else.

#![forbid(unsafe_code)]

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::Once,
};

static HOOK: Once = Once::new();

thread_local! {
    /// `Some` while this thread expects a panic: where it was, once it has come.
    static EXPECTED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Does the work, which may panic. What it changes may be half changed then: throw that away.
///
/// # Errors
///
/// It has panicked: there.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let expected = EXPECTED.with_borrow_mut(|expected| {
                let place = expected.as_mut()?;
                *place = panic.location().map(ToString::to_string).unwrap_or_default();
                Some(())
            });
            if expected.is_none() {
                usual(panic);
            }
        }));
    });
    EXPECTED.set(Some(String::new()));
    let done = catch_unwind(AssertUnwindSafe(work));
    let place = EXPECTED.take().unwrap_or_default();
    done.map_err(|_| place)
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread};

    use super::*;

    #[test]
    #[ignore = "the other test runs it, to see what it writes"]
    fn panics_twice() {
        let place = caught(|| panic!("the expected one")).expect_err("it panics");
        assert!(place.contains("caught.rs:"), "{place}");
        let other = thread::spawn(|| panic!("the other one"));
        assert!(other.join().is_err());
    }

    #[test]
    fn an_expected_panic_is_an_error_and_any_other_is_told_as_ever() {
        let program = std::env::current_exe().expect("this program");
        let own = "callsite::native::caught::tests::panics_twice";
        let output = Command::new(program)
            .args(["--exact", own, "--ignored", "--nocapture"])
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        assert!(told.contains("the other one"), "{told}");
        assert!(!told.contains("the expected one"), "{told}");
        assert_eq!(caught(|| 7), Ok(7));
    }
}
