//! The machine's only file system: an archive of files that the kernel unpacks into memory.
//!
//! The format is cpio's "newc", of which this writes the little that is needed:
//! <https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>

/// An archive in the making.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

impl Archive {
    /// Adds a folder.
    pub fn folder(mut self, name: &str) -> Self {
        self.entry(name, FOLDER, &[]);
        self
    }

    /// Adds a program.
    pub fn program(mut self, name: &str, content: &[u8]) -> Self {
        self.entry(name, PROGRAM, content);
        self
    }

    /// The archive's bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        // Inode, mode, uid, gid, links, mtime, size, device and its own device (major, minor each), name, checksum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            length(content.len()),
            0,
            0,
            0,
            0,
            length(name.len() + 1),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_laid_out_as_the_kernel_reads_it() {
        let archive = Archive::default()
            .folder("bin")
            .program("bin/a", b"12345")
            .finish();
        assert_eq!(archive.len() % 4, 0);
        // 110 bytes of header, the name with its NUL, then padding to four.
        assert_eq!(&archive[..6], b"070701");
        assert_eq!(&archive[110..114], b"bin\0");
        let second = 116;
        assert_eq!(&archive[second..second + 6], b"070701");
        assert_eq!(&archive[second + 54..second + 62], b"00000005");
        assert_eq!(&archive[second + 116..second + 124], b"12345\0\0\0");
        assert_eq!(&archive[second + 124 + 110..second + 124 + 121], b"TRAILER!!!\0");
    }
}
