//! The boot archive: cpio in the "newc" format (cpio(5): a header of 110 bytes in hexadecimal, name and data each
//! filled up to four bytes).
//!
//! The archive comes from whoever boots the machine. Nothing in it is followed without a check, and a damaged
//! one is told from one that ends.

/// A file in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its path, without a leading slash.
    pub name: &'a str,
    /// Its type and permissions, as in stat(2).
    pub mode: u32,
    /// Its bytes.
    pub data: &'a [u8],
}

/// The archive is damaged from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Bytes from its beginning.
    pub offset: usize,
}

/// An archive in memory.
#[derive(Clone, Copy, Debug)]
pub struct Archive<'a>(pub &'a [u8]);

const HEADER: usize = 110;
const MAGIC: &[u8] = b"070701";
const TRAILER: &str = "TRAILER!!!";
/// Bits of the mode that say what a file is, and those of a regular one.
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

impl<'a> Archive<'a> {
    /// The entries, in their order; the last one may say that the rest is damaged.
    pub fn entries(self) -> Entries<'a> {
        Entries { archive: self.0, offset: 0, ended: false }
    }

    /// The bytes of the regular file called `name`.
    pub fn file(self, name: &str) -> Option<&'a [u8]> {
        let mut entries = self.entries().filter_map(Result::ok);
        entries.find(|entry| entry.name == name && entry.mode & TYPE == REGULAR).map(|entry| entry.data)
    }

    /// The names of the programs, without `bin/`.
    pub fn programs(self) -> impl Iterator<Item = &'a str> {
        self.entries().filter_map(|entry| entry.ok()?.name.strip_prefix("bin/"))
    }
}

/// Goes through an archive.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    archive: &'a [u8],
    offset: usize,
    ended: bool,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(read, Some(Some(_)));
        match read {
            Some(entry) => entry.map(Ok),
            None => Some(Err(Damaged { offset: self.offset })),
        }
    }
}

impl<'a> Entries<'a> {
    /// The entry at the offset, `Some(None)` at the archive's end, `None` where it is damaged.
    fn read(&mut self) -> Option<Option<Entry<'a>>> {
        let header = self.archive.get(self.offset..self.offset.checked_add(HEADER)?)?;
        if header.get(..MAGIC.len())? != MAGIC {
            return None;
        }
        let (mode, size, name_size) = (field(header, 1)?, field(header, 6)?, field(header, 11)?);
        let name_at = self.offset + HEADER;
        let name_end = name_at.checked_add(name_size as usize)?;
        let data_at = name_end.checked_next_multiple_of(4)?;
        let data_end = data_at.checked_add(size as usize)?;
        let name = self.archive.get(name_at..name_end)?.strip_suffix(&[0])?;
        let name = core::str::from_utf8(name).ok()?;
        if name == TRAILER {
            return Some(None);
        }
        let data = self.archive.get(data_at..data_end)?;
        self.offset = data_end.checked_next_multiple_of(4)?;
        Some(Some(Entry { name: name.strip_prefix('/').unwrap_or(name), mode, data }))
    }
}

/// Field `index` of a header, after its magic.
fn field(header: &[u8], index: usize) -> Option<u32> {
    let at = MAGIC.len() + index * 8;
    header
        .get(at..at + 8)?
        .iter()
        .try_fold(0u32, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn add(archive: &mut Vec<u8>, name: &str, mode: u32, data: &[u8]) {
        archive.extend(MAGIC);
        for index in 0..13 {
            let value = match index {
                1 => mode,
                6 => data.len() as u32,
                11 => name.len() as u32 + 1,
                _ => 0,
            };
            archive.extend(std::format!("{value:08x}").bytes());
        }
        archive.extend(name.bytes().chain([0]));
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(data);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }

    fn archive() -> Vec<u8> {
        let mut archive = Vec::new();
        add(&mut archive, "init", 0o100_755, b"12345");
        add(&mut archive, "bin", 0o040_755, b"");
        add(&mut archive, "bin/true", 0o100_755, b"abc");
        add(&mut archive, "/etc/motd", 0o100_644, b"");
        add(&mut archive, TRAILER, 0, b"");
        archive
    }

    #[test]
    fn entries_come_in_their_order_with_their_bytes() {
        let bytes = archive();
        let entries: Vec<_> = Archive(&bytes).entries().map(|entry| entry.expect("whole")).collect();
        let names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["init", "bin", "bin/true", "etc/motd"]);
        assert_eq!(entries[0].data, b"12345");
        assert_eq!(Archive(&bytes).file("bin/true"), Some(&b"abc"[..]));
        assert_eq!(Archive(&bytes).file("etc/motd"), Some(&b""[..]));
        assert_eq!(Archive(&bytes).programs().collect::<Vec<_>>(), ["true"]);
    }

    #[test]
    fn a_folder_is_no_file() {
        assert_eq!(Archive(&archive()).file("bin"), None);
    }

    #[test]
    fn an_archive_cut_anywhere_is_damaged_and_what_comes_before_is_read() {
        let bytes = archive();
        let whole = Archive(&bytes).entries().count();
        for end in 0..bytes.len() - TRAILER.len() - 4 {
            let cut: Vec<_> = Archive(&bytes[..end]).entries().collect();
            assert!(cut.last().is_some_and(Result::is_err), "{end}");
            assert!(cut.len() <= whole + 1);
        }
    }

    #[test]
    fn damaged_bytes_never_lead_outside() {
        let bytes = archive();
        for at in 0..bytes.len() {
            for value in [0, b'0', b'f', b'g', 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                assert!(Archive(&damaged).entries().count() <= 6);
            }
        }
    }
}
