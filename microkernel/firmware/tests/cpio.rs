//! Tests of src/cpio.rs.

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
