//! Names of users, from `/etc/passwd`.
//!
//! The C library's look-up loads plug-ins at run time, which a static program cannot, and may ask a directory
//! server, which a tracer should not wait for. So users that only such a server knows stay numbers.
//! <https://man7.org/linux/man-pages/man5/passwd.5.html>

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read},
};

/// Hosts with more local users than fit in this have them in a directory instead.
const MAX_FILE: u64 = 4 << 20;
/// A longer line is none of ours to understand.
const MAX_LINE: u64 = 4096;

/// The host's users.
const PASSWD: &str = "/etc/passwd";

/// The names that were found so far: two hundred processes of one user are one look at the file. A user without a name
/// is looked for again, since one may have been added.
#[derive(Debug, Default)]
pub struct Users(BTreeMap<u32, String>);

impl Users {
    /// The name of a user; `None` when the file does not have it.
    pub fn name(&mut self, uid: u32) -> Option<String> {
        if let Some(known) = self.0.get(&uid) {
            return Some(known.clone());
        }
        let file = File::open(PASSWD).ok()?;
        let name = find(BufReader::new(file.take(MAX_FILE)), uid)?;
        // As many as there can be lines in the file.
        self.0.insert(uid, name.clone());
        Some(name)
    }
}

fn find(mut lines: impl BufRead, uid: u32) -> Option<String> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        if let Some(name) = name_in(&line, uid) {
            return Some(name);
        }
    }
}

/// The name in a line `name:password:uid:…`, if it is that user's.
fn name_in(line: &[u8], uid: u32) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split(':');
    let (name, _password, number) = (fields.next()?, fields.next()?, fields.next()?);
    let ours = !name.is_empty() && !name.starts_with(['#', '+', '-']);
    (ours && number.parse() == Ok(uid)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(file: &[u8], uid: u32) -> Option<String> {
        find(file, uid)
    }

    #[test]
    fn the_first_line_with_the_number_tells() {
        let file = b"root:x:0:0:root:/root:/bin/bash\npostgres:x:114:120::/:/bin/sh\nalias:x:114:1::/:\n";
        assert_eq!(name(file, 0).as_deref(), Some("root"));
        assert_eq!(name(file, 114).as_deref(), Some("postgres"));
        assert_eq!(name(file, 1), None);
    }

    #[test]
    fn what_is_no_user_is_passed_over() {
        let file =
            b"\n#old:x:7:7\n+::7:\n-nis:x:7:\n:x:7:7\nshort:x\nletters:x:seven:7\n\xff:x:7:7\nuser:x:7:7";
        assert_eq!(name(file, 7).as_deref(), Some("user"));
        assert_eq!(name(b"", 7), None);
    }

    #[test]
    fn an_endless_line_is_no_endless_memory() {
        let mut file = vec![b'x'; 1 << 20];
        file.extend_from_slice(b"\nuser:x:7:7\n");
        assert_eq!(name(&file, 7).as_deref(), Some("user"));
    }
}
