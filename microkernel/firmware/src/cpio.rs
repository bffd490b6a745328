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
#[path = "../tests/cpio.rs"]
mod tests;
