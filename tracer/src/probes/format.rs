//! Whether a classic tracepoint looks as the kernel programs expect it: `events/*/*/format` of tracefs.

use std::fs;

use anyhow::{Result, bail};

/// Where tracefs is mounted.
const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Compares the kernel's format with the offsets that the programs were built with.
///
/// # Errors
/// When tracefs is not mounted, or a field lies elsewhere.
pub(super) fn check(category: &str, name: &str, fields: &[(&str, usize)]) -> Result<()> {
    let Some(text) = read(category, name) else {
        bail!("no tracefs: run 'mount -t tracefs nodev /sys/kernel/tracing'");
    };
    for &(field, offset) in fields {
        match offset_of(&text, field) {
            Some(found) if found == offset => {}
            Some(found) => bail!("{category}:{name} has {field} at {found}, not {offset}"),
            None => bail!("{category}:{name} has no {field}"),
        }
    }
    Ok(())
}

/// Whether `tcp_destroy_sock` is of the older format, without a family.
pub(super) fn old_destroy() -> bool {
    read("tcp", "tcp_destroy_sock").is_some_and(|text| offset_of(&text, "family").is_none())
}

fn read(category: &str, name: &str) -> Option<String> {
    let paths = MOUNTS.map(|mount| format!("{mount}/events/{category}/{name}/format"));
    paths.iter().find_map(|path| fs::read_to_string(path).ok())
}

/// The offset in a line such as `field:int oldstate; offset:16; size:4; signed:1;`.
fn offset_of(format: &str, field: &str) -> Option<usize> {
    format.lines().find_map(|line| {
        let (declaration, rest) = line.trim().strip_prefix("field:")?.split_once(';')?;
        let name = declaration.rsplit([' ', '*']).next()?.split('[').next()?;
        (name == field).then(|| {
            rest.trim()
                .strip_prefix("offset:")?
                .split(';')
                .next()?
                .parse()
                .ok()
        })?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_from_the_kernels_format() {
        let format = "name: inet_sock_set_state\nformat:\n\
            \tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;\n\
            \tfield:int oldstate;\toffset:16;\tsize:4;\tsigned:1;\n\
            \tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;\n";
        assert_eq!(offset_of(format, "skaddr"), Some(8));
        assert_eq!(offset_of(format, "oldstate"), Some(16));
        assert_eq!(offset_of(format, "saddr_v6"), Some(40));
        assert_eq!(offset_of(format, "state"), None);
    }
}
