//! How the journal's blocks are laid out, which depends on its features.

use alloc::vec::Vec;

use crate::block_number::VolumeBlock;
use crate::bytes::{be32, high32, low16, low32, put_be32};
use crate::checksum::crc32c;
use crate::error::{Error, Result};
use crate::time::Time;

pub(crate) const MAGIC: u32 = 0xc03b_3998;
pub(super) const FEATURE_REVOKE: u32 = 1;
pub(super) const FEATURE_64BIT: u32 = 2;
/// The commit record is written along with the rest, so that only its checksum says whether all of it is there.
pub(super) const FEATURE_ASYNC_COMMIT: u32 = 4;
pub(super) const FEATURE_CSUM_V2: u32 = 8;
pub(super) const FEATURE_CSUM_V3: u32 = 0x10;
pub(super) const FEATURE_FAST_COMMIT: u32 = 0x20;
pub(super) const FEATURES_KNOWN: u32 = FEATURE_REVOKE | FEATURE_64BIT | FEATURE_CSUM_V2 | FEATURE_CSUM_V3;
/// Among the features that need not be known: a commit record holds a checksum of the whole transaction.
pub(super) const COMPAT_CHECKSUM: u32 = 1;

/// The kinds of blocks that begin with the magic number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockType {
    Descriptor = 1,
    Commit = 2,
    Revoke = 5,
}

const ESCAPED: u32 = 1;
const SAME_UUID: u32 = 2;
const DELETED: u32 = 4;
const LAST: u32 = 8;

/// One block that a descriptor lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) block: VolumeBlock,
    pub(super) escaped: bool,
    pub(super) checksum: u32,
}

/// Fields of a commit record: the older checksum of the transaction, the newer one of the record, and the time.
const SUM_TYPE_AT: usize = 0xc;
const SUM_AT: usize = 0x10;
const TIME_AT: usize = 0x30;
/// The unit that a device writes whole.
const SECTOR: usize = 512;

/// What the features decide.
#[derive(Debug, Clone)]
pub(super) struct Format {
    compat: u32,
    incompat: u32,
    seed: u32,
    uuid: [u8; 16],
    block_size: usize,
}

impl Format {
    pub(super) fn new(compat: u32, incompat: u32, uuid_bytes: &[u8], block_size: usize) -> Self {
        let mut uuid = [0; 16];
        uuid.copy_from_slice(uuid_bytes);
        Format { compat, incompat, seed: crc32c(!0, &uuid), uuid, block_size }
    }

    pub(super) fn has_checksums(&self) -> bool {
        self.incompat & (FEATURE_CSUM_V2 | FEATURE_CSUM_V3) != 0
    }

    /// Returns true if the commit record holds the older checksum, of the whole transaction.
    pub(super) fn sums_transactions(&self) -> bool {
        self.compat & COMPAT_CHECKSUM != 0 && !self.has_checksums()
    }

    fn is_v3(&self) -> bool {
        self.incompat & FEATURE_CSUM_V3 != 0
    }

    fn is_wide(&self) -> bool {
        self.incompat & FEATURE_64BIT != 0
    }

    fn tag_bytes(&self) -> usize {
        if self.is_v3() {
            return 16;
        }
        let base = if self.is_wide() { 12 } else { 8 };
        // Version 2 of the checksums made tags two bytes longer without using them.
        if self.has_checksums() { base + 2 } else { base }
    }

    /// Where the tags or revoked numbers of a block end.
    fn end(&self) -> usize {
        self.block_size - if self.has_checksums() { 4 } else { 0 }
    }

    /// How many tags fit a descriptor block.
    pub(super) fn tags_per_block(&self) -> usize {
        (self.end() - 12 - 16) / self.tag_bytes()
    }

    /// How many block numbers fit a revoke block.
    pub(super) fn revokes_per_block(&self) -> usize {
        (self.end() - 16) / self.revoke_bytes()
    }

    fn revoke_bytes(&self) -> usize {
        if self.is_wide() { 8 } else { 4 }
    }

    /// The type of a block of transaction `sequence`, if it is one.
    pub(super) fn block_type(&self, bytes: &[u8], sequence: u32) -> Option<BlockType> {
        if be32(bytes, 0) != MAGIC || be32(bytes, 8) != sequence {
            return None;
        }
        match be32(bytes, 4) {
            1 => Some(BlockType::Descriptor),
            2 => Some(BlockType::Commit),
            5 => Some(BlockType::Revoke),
            _ => None,
        }
    }

    pub(super) fn put_header(bytes: &mut [u8], kind: BlockType, sequence: u32) {
        put_be32(bytes, 0, MAGIC);
        put_be32(bytes, 4, kind as u32);
        put_be32(bytes, 8, sequence);
    }

    /// Whether the checksum of a descriptor or revoke block (at its end) or commit block (inside) is right.
    pub(super) fn is_sealed(&self, kind: BlockType, bytes: &[u8]) -> bool {
        if !self.has_checksums() {
            return true;
        }
        let at = self.checksum_at(kind);
        self.block_checksum(at, bytes) == be32(bytes, at)
    }

    pub(super) fn seal(&self, kind: BlockType, bytes: &mut [u8]) {
        if self.has_checksums() {
            let at = self.checksum_at(kind);
            let sum = self.block_checksum(at, bytes);
            put_be32(bytes, at, sum);
        }
    }

    /// Whether a commit record of the right number is right; `sum` is the older checksum of what lies before it, and
    /// `since` the time of the commit before. Returns false if the record was torn, or is older than this log.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the record is damaged: a tear leaves whole sectors, and all but the first are zeros.
    pub(super) fn check_commit(&self, bytes: &[u8], sum: u32, since: u64) -> Result<bool> {
        if self.is_sealed(BlockType::Commit, bytes) && self.is_summed(bytes, sum) {
            return Ok(true);
        }
        let torn = bytes[SECTOR..].iter().any(|byte| *byte != 0);
        if torn || self.commit_time(bytes) < since {
            return Ok(false);
        }
        Err(Error::Corrupt("journal: commit record"))
    }

    /// Whether the older checksum is right, or was left out (type and size 0).
    fn is_summed(&self, bytes: &[u8], sum: u32) -> bool {
        if !self.sums_transactions() {
            return true;
        }
        let found = be32(bytes, SUM_AT);
        match bytes[SUM_TYPE_AT..SUM_TYPE_AT + 2] {
            [1, 4] => found == sum,
            [0, 0] => found == 0,
            _ => false,
        }
    }

    pub(super) fn put_commit_time(bytes: &mut [u8], now: Time) {
        put_be32(bytes, TIME_AT, high32(now.seconds as u64));
        put_be32(bytes, TIME_AT + 4, low32(now.seconds as u64));
        put_be32(bytes, TIME_AT + 8, now.nanoseconds);
    }

    /// When a transaction was committed, in seconds.
    pub(super) fn commit_time(&self, bytes: &[u8]) -> u64 {
        u64::from(be32(bytes, TIME_AT)) << 32 | u64::from(be32(bytes, TIME_AT + 4))
    }

    /// Whether a block is the commit record of transaction `sequence` or of one of the `ring` transactions behind it.
    /// Where no checksum ties it to this journal it must not be older than `since`.
    pub(super) fn is_commit_from(&self, bytes: &[u8], sequence: u32, ring: u32, since: u64) -> bool {
        let number = be32(bytes, 8);
        number.wrapping_sub(sequence) < ring
            && self.block_type(bytes, number) == Some(BlockType::Commit)
            && self.is_sealed(BlockType::Commit, bytes)
            && (self.has_checksums() || self.commit_time(bytes) >= since)
    }

    fn checksum_at(&self, kind: BlockType) -> usize {
        if kind == BlockType::Commit { SUM_AT } else { self.block_size - 4 }
    }

    fn block_checksum(&self, at: usize, bytes: &[u8]) -> u32 {
        let sum = crc32c(crc32c(self.seed, &bytes[..at]), &[0; 4]);
        crc32c(sum, &bytes[at + 4..])
    }

    /// The checksum of a listed block as it lies in the log; the tag has room for 16 bits of it in version 2.
    pub(super) fn content_checksum(&self, sequence: u32, bytes: &[u8]) -> u32 {
        if !self.has_checksums() {
            return 0;
        }
        let sum = crc32c(crc32c(self.seed, &sequence.to_be_bytes()), bytes);
        if self.is_v3() { sum } else { sum & 0xffff }
    }

    /// Reads the tags of a descriptor block.
    pub(super) fn tags(&self, bytes: &[u8]) -> Result<Vec<Tag>> {
        let mut tags = Vec::new();
        let mut at = 12;
        while at + self.tag_bytes() <= self.end() {
            let flags = if self.is_v3() { be32(bytes, at + 4) } else { be32(bytes, at + 4) & 0xffff };
            let checksum = if self.is_v3() { be32(bytes, at + 12) } else { be32(bytes, at + 4) >> 16 };
            let high = if self.is_wide() { u64::from(be32(bytes, at + 8)) << 32 } else { 0 };
            if flags & DELETED != 0 {
                return Err(Error::Corrupt("journal tag"));
            }
            tags.push(Tag {
                block: VolumeBlock(u64::from(be32(bytes, at)) | high),
                escaped: flags & ESCAPED != 0,
                checksum,
            });
            at += self.tag_bytes() + if flags & SAME_UUID == 0 { 16 } else { 0 };
            if flags & LAST != 0 {
                break;
            }
        }
        Ok(tags)
    }

    /// Writes a whole descriptor block for at most [`tags_per_block`](Self::tags_per_block) tags.
    pub(super) fn put_tags(&self, bytes: &mut [u8], sequence: u32, tags: &[Tag]) {
        Self::put_header(bytes, BlockType::Descriptor, sequence);
        let mut at = 12;
        for (index, tag) in tags.iter().enumerate() {
            let mut flags = if tag.escaped { ESCAPED } else { 0 };
            flags |= if index > 0 { SAME_UUID } else { 0 };
            flags |= if index + 1 == tags.len() { LAST } else { 0 };
            put_be32(bytes, at, low32(tag.block.0));
            if self.is_v3() {
                put_be32(bytes, at + 4, flags);
                put_be32(bytes, at + 8, high32(tag.block.0));
                put_be32(bytes, at + 12, tag.checksum);
            } else {
                put_be32(bytes, at + 4, u32::from(low16(tag.checksum)) << 16 | flags);
                if self.is_wide() {
                    put_be32(bytes, at + 8, high32(tag.block.0));
                }
            }
            at += self.tag_bytes();
            if index == 0 {
                bytes[at..at + 16].copy_from_slice(&self.uuid);
                at += 16;
            }
        }
        self.seal(BlockType::Descriptor, bytes);
    }

    /// Reads the block numbers of a revoke block.
    pub(super) fn revokes(&self, bytes: &[u8]) -> Result<Vec<VolumeBlock>> {
        let used = be32(bytes, 12) as usize;
        if !(16..=self.end()).contains(&used) {
            return Err(Error::Corrupt("journal revoke block"));
        }
        let numbers = bytes[16..used].chunks_exact(self.revoke_bytes());
        Ok(numbers
            .map(|n| {
                VolumeBlock(if n.len() == 8 {
                    u64::from(be32(n, 0)) << 32 | u64::from(be32(n, 4))
                } else {
                    u64::from(be32(n, 0))
                })
            })
            .collect())
    }

    /// Writes a whole revoke block for at most [`revokes_per_block`](Self::revokes_per_block) numbers.
    pub(super) fn put_revokes(&self, bytes: &mut [u8], sequence: u32, blocks: &[VolumeBlock]) {
        Self::put_header(bytes, BlockType::Revoke, sequence);
        let mut at = 16;
        for block in blocks {
            if self.is_wide() {
                put_be32(bytes, at, high32(block.0));
                at += 4;
            }
            put_be32(bytes, at, low32(block.0));
            at += 4;
        }
        put_be32(bytes, 12, at as u32);
        self.seal(BlockType::Revoke, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_revokes_read_back_in_every_format() {
        for incompat in [0, FEATURE_64BIT, FEATURE_CSUM_V2, FEATURE_CSUM_V3, FEATURE_CSUM_V3 | FEATURE_64BIT]
        {
            let format = Format::new(0, incompat, &[7; 16], 1024);
            let tags: Vec<Tag> = (0..format.tags_per_block() as u64)
                .map(|n| Tag {
                    block: VolumeBlock(n * 3),
                    escaped: n % 2 == 0,
                    checksum: if format.has_checksums() { 9 } else { 0 },
                })
                .collect();
            let mut bytes = [0; 1024];
            format.put_tags(&mut bytes, 5, &tags);
            assert_eq!(format.block_type(&bytes, 5), Some(BlockType::Descriptor));
            assert!(format.is_sealed(BlockType::Descriptor, &bytes));
            assert_eq!(format.tags(&bytes).unwrap(), tags);
            let numbers: Vec<VolumeBlock> = (0..format.revokes_per_block() as u64).map(VolumeBlock).collect();
            let mut bytes = [0; 1024];
            format.put_revokes(&mut bytes, 6, &numbers);
            assert_eq!(format.revokes(&bytes).unwrap(), numbers);
            assert!(format.is_sealed(BlockType::Revoke, &bytes));
        }
    }
}
