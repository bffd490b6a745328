//! The start of a cpio archive in the "newc" format (cpio(5)): the kernel needs only its first file.

const HEADER: usize = 110;
const MAGIC: &[u8] = b"070701";

/// A field of 8 hexadecimal digits.
fn field(header: &[u8], at: usize) -> Option<usize> {
    let digits = core::str::from_utf8(header.get(at..at.checked_add(8)?)?).ok()?;
    usize::from_str_radix(digits, 16).ok()
}

fn align(at: usize) -> Option<usize> {
    at.checked_next_multiple_of(4)
}

/// The bytes of the archive's first file.
pub fn first_file(archive: &[u8]) -> Option<&[u8]> {
    let header = archive.get(..HEADER)?;
    if !header.starts_with(MAGIC) {
        return None;
    }
    let (size, name) = (field(header, 54)?, field(header, 94)?);
    let start = align(HEADER.checked_add(name)?)?;
    archive.get(start..start.checked_add(size)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(name: &str, data: &[u8]) -> std::vec::Vec<u8> {
        let mut bytes = std::vec::Vec::from(MAGIC);
        for field in [0, 0, 0, 0, 0, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0] {
            bytes.extend(std::format!("{field:08x}").bytes());
        }
        bytes.extend(name.bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(data);
        bytes
    }

    #[test]
    fn the_first_file_is_found() {
        assert_eq!(first_file(&archive("init", b"program")), Some(&b"program"[..]));
    }

    #[test]
    fn what_is_cut_off_or_no_archive_has_no_file() {
        let whole = archive("init", b"program");
        for size in 0..whole.len() {
            assert_eq!(first_file(whole.get(..size).unwrap_or(&[])), None);
        }
        assert_eq!(first_file(&[0; 200]), None);
    }
}
