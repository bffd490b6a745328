//! Writes cpio archives in the "newc" format (cpio(5); the Linux kernel's initramfs buffer format).

use std::fmt::Write as _;

/// Type and permission bits of a program.
pub const MODE_PROGRAM: u32 = 0o100_755;
/// Type and permission bits of a plain file.
pub const MODE_FILE: u32 = 0o100_644;
/// Type and permission bits of a folder.
pub const MODE_FOLDER: u32 = 0o040_755;

/// An archive being written. Headers and data begin at multiples of four bytes, as the format demands.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
    entries: u32,
}

/// A file whose size the format's eight hexadecimal digits cannot hold.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

impl Writer {
    /// Adds an entry named `name` (relative, without leading slash).
    pub fn add(&mut self, name: &str, mode: u32, data: &[u8]) -> Result<(), TooLarge> {
        self.entries += 1;
        self.entry(self.entries, name, mode, data)
    }

    /// Closes the archive and gives its bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(0, "TRAILER!!!", 0, &[]).expect("an empty entry fits");
        self.bytes
    }

    fn entry(&mut self, inode: u32, name: &str, mode: u32, data: &[u8]) -> Result<(), TooLarge> {
        let size = u32::try_from(data.len()).map_err(|_| TooLarge)?;
        let name_size = u32::try_from(name.len() + 1).map_err(|_| TooLarge)?;
        // In order: inode, mode, uid, gid, links, mtime, size, device (2), its device (2), name size, check.
        let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut header = String::from("070701");
        for field in fields {
            write!(header, "{field:08x}").expect("a String takes all");
        }
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(data);
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::default();
        for (name, data) in entries {
            writer.add(name, MODE_FILE, data).expect("small");
        }
        writer.finish()
    }

    /// The entries of an archive: name, offset of the data, data.
    fn entries(bytes: &[u8]) -> Vec<(String, usize, Vec<u8>)> {
        let field = |at: usize, index: usize| {
            let digits = &bytes[at + 6 + 8 * index..][..8];
            usize::from_str_radix(std::str::from_utf8(digits).expect("ascii"), 16).expect("hex")
        };
        let (mut at, mut seen) = (0, Vec::new());
        loop {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let (size, name_size) = (field(at, 6), field(at, 11));
            let name = String::from_utf8(bytes[at + 110..][..name_size - 1].to_vec()).expect("UTF-8");
            if name == "TRAILER!!!" {
                return seen;
            }
            let data = (at + 110 + name_size).next_multiple_of(4);
            seen.push((name, data, bytes[data..data + size].to_vec()));
            at = (data + size).next_multiple_of(4);
        }
    }

    #[test]
    fn entries_come_back_in_the_order_they_were_added() {
        let bytes = archive(&[("init", b"first"), ("bin/true", b"x"), ("empty", b"")]);
        let found: Vec<_> = entries(&bytes).into_iter().map(|(name, _, data)| (name, data)).collect();
        assert_eq!(
            found,
            [
                ("init".into(), b"first".to_vec()),
                ("bin/true".into(), b"x".to_vec()),
                ("empty".into(), vec![])
            ]
        );
    }

    #[test]
    fn data_of_every_entry_is_aligned_to_four_bytes() {
        for length in 0..5 {
            let name = "n".repeat(length + 1);
            let bytes = archive(&[(&name, &[7; 5][..length]), ("next", b"data")]);
            for (name, offset, _) in entries(&bytes) {
                assert_eq!(offset % 4, 0, "{name}");
            }
            assert_eq!(bytes.len() % 4, 0);
        }
    }

    #[test]
    fn the_same_entries_make_the_same_bytes() {
        assert_eq!(archive(&[("a", b"1")]), archive(&[("a", b"1")]));
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let bytes = archive(&[("a", b"bc")]);
        let expected = concat!(
            "070701",
            "00000001000081a40000000000000000",
            "00000001000000000000000200000000",
            "00000000000000000000000000000002",
            "00000000a\0"
        );
        assert_eq!(std::str::from_utf8(&bytes[..112]), Ok(expected));
        assert_eq!(&bytes[112..116], b"bc\0\0");
    }
}
