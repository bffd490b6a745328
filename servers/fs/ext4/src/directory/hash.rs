//! The hashes of names by which directories are indexed.
//!
//! Source: the description of the hashes in Documentation/filesystems/ext4/directory.rst of Linux; half MD4 is the
//! middle part of RFC 1320, TEA is the cipher of Wheeler and Needham.

use crate::checksum::crc32c;
use crate::error::{Error, Result};

/// A name's hash: the index orders by `major`; `minor` tells names apart when reading a directory. The legacy hash has no
/// second half, so CRC-32C stands in for it; the half is never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NameHash {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

const MD4_START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// No name has this hash: it means the end of a directory.
const END: u32 = 0xffff_fffe;

/// The hash of `name` in a directory of this hash version (0 to 5) with the volume's seed.
///
/// # Errors
/// [`Error::Unsupported`] for other versions.
pub(crate) fn hash(version: u8, seed: &[u32; 4], name: &[u8]) -> Result<NameHash> {
    let signed = version < 3;
    let start = if seed.iter().all(|word| *word == 0) { MD4_START } else { *seed };
    let (major, minor) = match version % 3 {
        _ if version > 5 => return Err(Error::Unsupported("the hash of a directory index")),
        0 => (legacy(name, signed), crc32c(!0, name)),
        1 => half_md4(start, name, signed),
        _ => tea(start, name, signed),
    };
    let major = major & !1;
    Ok(NameHash { major: if major == END { END - 2 } else { major }, minor })
}

fn widen(byte: u8, signed: bool) -> u32 {
    if signed { byte as i8 as u32 } else { u32::from(byte) }
}

fn legacy(name: &[u8], signed: bool) -> u32 {
    let (mut last, mut before) = (0x12a3_fe2d_u32, 0x37ab_e8f9_u32);
    for byte in name {
        let mut next = before.wrapping_add(last ^ widen(*byte, signed).wrapping_mul(7_152_373));
        if next & 0x8000_0000 != 0 {
            next = next.wrapping_sub(0x7fff_ffff);
        }
        (before, last) = (last, next);
    }
    last << 1
}

/// The next `N` words of a name, padded with its length.
fn words<const N: usize>(name: &[u8], signed: bool) -> [u32; N] {
    let length = name.len() as u32;
    let pad = length | length << 8;
    let pad = pad | pad << 16;
    let mut out = [pad; N];
    for (word, bytes) in out.iter_mut().zip(name.chunks(4)) {
        *word = bytes.iter().fold(pad, |value, byte| (value << 8).wrapping_add(widen(*byte, signed)));
    }
    out
}

fn half_md4(mut state: [u32; 4], name: &[u8], signed: bool) -> (u32, u32) {
    let mut rest = name;
    while !rest.is_empty() {
        md4_rounds(&mut state, &words::<8>(rest, signed));
        rest = &rest[rest.len().min(32)..];
    }
    (state[1], state[2])
}

fn md4_rounds(state: &mut [u32; 4], input: &[u32; 8]) {
    type Mix = fn(u32, u32, u32) -> u32;
    const ROUNDS: [(Mix, u32, [usize; 8], [u32; 4]); 3] = [
        (|x, y, z| z ^ (x & (y ^ z)), 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (|x, y, z| (x & y).wrapping_add((x ^ y) & z), 0x5a82_7999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (|x, y, z| x ^ y ^ z, 0x6ed9_eba1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (mix, constant, order, turns) in ROUNDS {
        for (step, word) in order.into_iter().enumerate() {
            let sum = a.wrapping_add(mix(b, c, d)).wrapping_add(input[word]).wrapping_add(constant);
            (a, b, c, d) = (d, sum.rotate_left(turns[step % 4]), b, c);
        }
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}

fn tea(mut state: [u32; 4], name: &[u8], signed: bool) -> (u32, u32) {
    let mut rest = name;
    while !rest.is_empty() {
        let [k0, k1, k2, k3] = words::<4>(rest, signed);
        let [mut x, mut y, ..] = state;
        let mut sum = 0_u32;
        let mix = |v: u32, sum: u32, a: u32, b: u32| {
            (v << 4).wrapping_add(a) ^ v.wrapping_add(sum) ^ (v >> 5).wrapping_add(b)
        };
        for _ in 0..16 {
            sum = sum.wrapping_add(0x9e37_79b9);
            x = x.wrapping_add(mix(y, sum, k0, k1));
            y = y.wrapping_add(mix(x, sum, k2, k3));
        }
        state[0] = state[0].wrapping_add(x);
        state[1] = state[1].wrapping_add(y);
        rest = &rest[rest.len().min(16)..];
    }
    (state[0], state[1])
}
