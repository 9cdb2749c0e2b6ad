//! Why the kernel refused a program, in one line.
//!
//! The verifier says what was wrong, then statistics. With `-vv` it is asked for a trace of every instruction that it looked at
//! before, thousands of lines, and the whole of it goes to the log.

use aya::programs::ProgramError;

/// What to tell the user.
#[must_use]
pub fn reason(error: &anyhow::Error) -> String {
    let cause = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<ProgramError>());
    let Some(ProgramError::LoadError {
        io_error,
        verifier_log,
    }) = cause
    else {
        return format!("{error:#}");
    };
    let trace = verifier_log.to_string();
    tracing::debug!("{io_error}: {trace}");
    match last_words(&trace) {
        Some(words) => format!("the verifier says: {words}"),
        None => io_error.to_string(),
    }
}

/// The last line of the verifier's trace that is neither statistics nor source code.
fn last_words(trace: &str) -> Option<&str> {
    const STATISTICS: [&str; 4] = ["processed ", "verification time ", "stack depth ", "max_states"];
    trace.lines().rev().map(str::trim).find(|line| {
        !line.is_empty()
            && !line.starts_with(';')
            && !STATISTICS.iter().any(|beginning| line.starts_with(beginning))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifiers_trace_becomes_its_last_words() {
        let trace = "929: (bf) r1 = r6\n930: (85) call bpf_get_socket_cookie#46\n\
                     unknown func bpf_get_socket_cookie#46\nverification time 6570 usec\nstack depth 368\n\
                     processed 296 insns (limit 1000000) max_states_per_insn 0\n";
        assert_eq!(last_words(trace), Some("unknown func bpf_get_socket_cookie#46"));
        assert_eq!(last_words(""), None);
    }
}
