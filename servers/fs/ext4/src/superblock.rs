//! The superblock: geometry, features, and the counters that change.
//!
//! Source: Documentation/filesystems/ext4/super.rst of Linux.

use alloc::boxed::Box;

use crate::block_number::VolumeBlock;
use crate::bytes::{high32, le16, le32, low32, put_le16, put_le32};
use crate::checksum::crc32c;
use crate::error::{Error, Result};
use crate::features::{IncompatFeatures, compat, incompat, ro_compat};

/// Where the superblock begins on the device, in bytes.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// Its length in bytes.
pub const SUPERBLOCK_BYTES: usize = 1024;
pub(crate) const MAGIC: u16 = 0xef53;
/// The bit of the state that says that damage was found.
const STATE_DAMAGED: u16 = 2;
/// The longest name of a volume.
pub(crate) const LABEL_BYTES: usize = 16;

/// The superblock's fields by their offset, in bytes.
pub(crate) mod at {
    pub(crate) const INODES: usize = 0x0;
    pub(crate) const BLOCKS: usize = 0x4;
    pub(crate) const RESERVED_BLOCKS: usize = 0x8;
    pub(crate) const FREE_BLOCKS: usize = 0xc;
    pub(crate) const FREE_INODES: usize = 0x10;
    pub(crate) const FIRST_DATA_BLOCK: usize = 0x14;
    pub(crate) const LOG_BLOCK_SIZE: usize = 0x18;
    pub(crate) const LOG_CLUSTER_SIZE: usize = 0x1c;
    pub(crate) const BLOCKS_PER_GROUP: usize = 0x20;
    pub(crate) const CLUSTERS_PER_GROUP: usize = 0x24;
    pub(crate) const INODES_PER_GROUP: usize = 0x28;
    pub(crate) const MOUNT_TIME: usize = 0x2c;
    pub(crate) const WRITE_TIME: usize = 0x30;
    pub(crate) const MOUNT_COUNT: usize = 0x34;
    pub(crate) const MOST_MOUNTS: usize = 0x36;
    pub(crate) const MAGIC: usize = 0x38;
    pub(crate) const STATE: usize = 0x3a;
    pub(crate) const ON_ERRORS: usize = 0x3c;
    pub(crate) const CHECK_TIME: usize = 0x40;
    pub(crate) const REVISION: usize = 0x4c;
    pub(crate) const FIRST_INODE: usize = 0x54;
    pub(crate) const INODE_SIZE: usize = 0x58;
    pub(crate) const GROUP_OF_COPY: usize = 0x5a;
    pub(crate) const COMPAT: usize = 0x5c;
    pub(crate) const INCOMPAT: usize = 0x60;
    pub(crate) const RO_COMPAT: usize = 0x64;
    pub(crate) const UUID: usize = 0x68;
    pub(crate) const LABEL: usize = 0x78;
    pub(crate) const RESERVED_DESC_BLOCKS: usize = 0xce;
    pub(crate) const JOURNAL_UUID: usize = 0xd0;
    pub(crate) const JOURNAL_INODE: usize = 0xe0;
    pub(crate) const LAST_ORPHAN: usize = 0xe8;
    pub(crate) const HASH_SEED: usize = 0xec;
    pub(crate) const HASH_VERSION: usize = 0xfc;
    pub(crate) const DESC_SIZE: usize = 0xfe;
    pub(crate) const MOUNT_OPTIONS: usize = 0x100;
    pub(crate) const FORMAT_TIME: usize = 0x108;
    pub(crate) const BLOCKS_HIGH: usize = 0x150;
    pub(crate) const RESERVED_BLOCKS_HIGH: usize = 0x154;
    pub(crate) const FREE_BLOCKS_HIGH: usize = 0x158;
    pub(crate) const EXTRA_INODE_BYTES: usize = 0x15c;
    pub(crate) const WANTED_EXTRA_INODE_BYTES: usize = 0x15e;
    pub(crate) const FLAGS: usize = 0x160;
    pub(crate) const LOG_FLEX: usize = 0x174;
    pub(crate) const ERROR_COUNT: usize = 0x194;
    pub(crate) const FIRST_ERROR_TIME: usize = 0x198;
    pub(crate) const LAST_ERROR_TIME: usize = 0x1cc;
    pub(crate) const BACKUP_GROUPS: usize = 0x24c;
    pub(crate) const LOST_FOUND_INODE: usize = 0x268;
    pub(crate) const CHECKSUM_SEED: usize = 0x270;
    pub(crate) const MOUNT_TIME_HIGH: usize = 0x274;
    pub(crate) const WRITE_TIME_HIGH: usize = 0x275;
    pub(crate) const ORPHAN_FILE_INODE: usize = 0x280;
    pub(crate) const CHECKSUM: usize = 0x3fc;
}

/// The superblock as it was read, and what follows from it.
#[derive(Debug, Clone)]
pub(crate) struct Superblock {
    raw: Box<[u8]>,
    pub(crate) block_size: usize,
    pub(crate) blocks: u64,
    pub(crate) inodes: u32,
    pub(crate) first_data_block: u64,
    pub(crate) blocks_per_group: u32,
    pub(crate) inodes_per_group: u32,
    pub(crate) inode_size: usize,
    pub(crate) first_inode: u32,
    pub(crate) desc_size: usize,
    pub(crate) group_count: u32,
    pub(crate) compat: u32,
    pub(crate) incompat: u32,
    pub(crate) ro_compat: u32,
    pub(crate) checksum_seed: u32,
    pub(crate) hash_seed: [u32; 4],
    pub(crate) hash_version: u8,
    pub(crate) journal_inode: u32,
    pub(crate) orphan_file_inode: u32,
    pub(crate) reserved_blocks: u64,
}

/// The part of the superblock that operations change; small, so that undoing is copying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) free_blocks: u64,
    pub(crate) free_inodes: u32,
    pub(crate) last_orphan: u32,
    /// The compatible features: an operation may bring the first use of one.
    pub(crate) compat: u32,
    /// The features that operations brought which others must know to write.
    pub(crate) new_ro_compat: u32,
}

impl Superblock {
    /// Reads and checks a superblock of a device of `device_bytes` bytes.
    pub(crate) fn parse(raw: &[u8], device_bytes: u64) -> Result<(Self, Counters)> {
        if raw.len() < SUPERBLOCK_BYTES || le16(raw, at::MAGIC) != MAGIC {
            return Err(Error::Corrupt("superblock magic"));
        }
        let raw: Box<[u8]> = raw[..SUPERBLOCK_BYTES].into();
        let incompat = le32(&raw, at::INCOMPAT);
        if incompat & !incompat::KNOWN != 0 {
            return Err(Error::UnsupportedFeatures(IncompatFeatures(incompat & !incompat::KNOWN)));
        }
        let mut sb = Self::decode(raw, incompat)?;
        sb.check_geometry(device_bytes)?;
        sb.group_count = sb.groups()?;
        let counters = sb.counters();
        Ok((sb, counters))
    }

    fn decode(raw: Box<[u8]>, incompat: u32) -> Result<Self> {
        let wide = incompat & incompat::BITS64 != 0;
        let high = |at: usize| if wide { u64::from(le32(&raw, at)) << 32 } else { 0 };
        let log_block_size = le32(&raw, at::LOG_BLOCK_SIZE);
        if log_block_size > 2 {
            return Err(Error::Unsupported("blocks of more than 4 KiB"));
        }
        let old = le32(&raw, at::REVISION) == 0;
        let desc_size = if wide { usize::from(le16(&raw, at::DESC_SIZE)) } else { 32 };
        let signed_hash = le32(&raw, at::FLAGS) & 2 == 0;
        let hash_version = match raw[at::HASH_VERSION] {
            version @ 0..=2 if !signed_hash => version + 3,
            version => version,
        };
        let mut sb = Superblock {
            block_size: 1024 << log_block_size,
            blocks: u64::from(le32(&raw, at::BLOCKS)) | high(at::BLOCKS_HIGH),
            inodes: le32(&raw, at::INODES),
            first_data_block: u64::from(le32(&raw, at::FIRST_DATA_BLOCK)),
            blocks_per_group: le32(&raw, at::BLOCKS_PER_GROUP),
            inodes_per_group: le32(&raw, at::INODES_PER_GROUP),
            inode_size: if old { 128 } else { usize::from(le16(&raw, at::INODE_SIZE)) },
            first_inode: if old { 11 } else { le32(&raw, at::FIRST_INODE) },
            desc_size,
            group_count: 0,
            compat: le32(&raw, at::COMPAT),
            incompat,
            ro_compat: le32(&raw, at::RO_COMPAT),
            checksum_seed: 0,
            hash_seed: [0, 4, 8, 12].map(|n| le32(&raw, at::HASH_SEED + n)),
            hash_version,
            journal_inode: le32(&raw, at::JOURNAL_INODE),
            orphan_file_inode: le32(&raw, at::ORPHAN_FILE_INODE),
            reserved_blocks: u64::from(le32(&raw, at::RESERVED_BLOCKS)) | high(at::RESERVED_BLOCKS_HIGH),
            raw,
        };
        if sb.has_checksums() && crc32c(!0, &sb.raw[..at::CHECKSUM]) != le32(&sb.raw, at::CHECKSUM) {
            return Err(Error::Corrupt("superblock checksum"));
        }
        sb.checksum_seed = match incompat & incompat::CSUM_SEED {
            0 => crc32c(!0, &sb.raw[at::UUID..at::LABEL]),
            _ => le32(&sb.raw, at::CHECKSUM_SEED),
        };
        Ok(sb)
    }

    fn check_geometry(&self, device_bytes: u64) -> Result<()> {
        let bits = self.block_size as u64 * 8;
        let corrupt = Err(Error::Corrupt("superblock geometry"));
        if self.first_data_block != u64::from(self.block_size == 1024) {
            return corrupt;
        }
        let Some(blocks_per_cluster) = self.blocks_per_cluster() else { return corrupt };
        if self.blocks_per_group < 256
            || u64::from(self.blocks_per_group) > bits * blocks_per_cluster
            || !self.blocks_per_group.is_multiple_of(8)
        {
            return corrupt;
        }
        if self.inodes_per_group == 0
            || u64::from(self.inodes_per_group) > bits
            || !self.inodes_per_group.is_multiple_of(8)
        {
            return corrupt;
        }
        let inode_size_ok = self.inode_size.is_power_of_two()
            && (128..=self.block_size).contains(&self.inode_size)
            && self.first_inode >= 11;
        let desc_size_ok =
            self.desc_size.is_power_of_two() && (32..=self.block_size).contains(&self.desc_size);
        if !inode_size_ok || !desc_size_ok || (self.is_wide() && self.desc_size < 64) {
            return corrupt;
        }
        if self.blocks <= self.first_data_block + 8 || self.blocks > device_bytes / self.block_size as u64 {
            return Err(Error::Corrupt("superblock: larger than the device"));
        }
        Ok(())
    }

    /// How many blocks one bit of a block bitmap stands for: more than one only with `bigalloc`.
    pub(crate) fn blocks_per_cluster(&self) -> Option<u64> {
        let (block, cluster) = (le32(&self.raw, at::LOG_BLOCK_SIZE), le32(&self.raw, at::LOG_CLUSTER_SIZE));
        if self.ro_compat & ro_compat::BIGALLOC == 0 {
            return (cluster == block).then_some(1);
        }
        cluster.checked_sub(block).filter(|log| *log <= 16).map(|log| 1 << log)
    }

    fn groups(&self) -> Result<u32> {
        let groups = (self.blocks - self.first_data_block).div_ceil(u64::from(self.blocks_per_group));
        let groups = u32::try_from(groups).map_err(|_| Error::Corrupt("superblock: too many groups"))?;
        if groups.checked_mul(self.inodes_per_group) != Some(self.inodes) || self.first_inode > self.inodes {
            return Err(Error::Corrupt("superblock: inode count"));
        }
        if self.first_data_block + 1 + self.desc_blocks(groups) >= self.blocks {
            return Err(Error::Corrupt("superblock: group descriptors"));
        }
        Ok(groups)
    }

    fn counters(&self) -> Counters {
        let high = if self.is_wide() { u64::from(le32(&self.raw, at::FREE_BLOCKS_HIGH)) << 32 } else { 0 };
        Counters {
            free_blocks: u64::from(le32(&self.raw, at::FREE_BLOCKS)) | high,
            free_inodes: le32(&self.raw, at::FREE_INODES),
            last_orphan: le32(&self.raw, at::LAST_ORPHAN),
            compat: self.compat,
            new_ro_compat: 0,
        }
    }

    /// Puts counters and features into the 1,024 bytes, and their checksum.
    pub(crate) fn encode(&mut self, counters: &Counters, write_time: i64) -> &[u8] {
        let raw = &mut self.raw;
        put_le32(raw, at::FREE_BLOCKS, low32(counters.free_blocks));
        if self.incompat & incompat::BITS64 != 0 {
            put_le32(raw, at::FREE_BLOCKS_HIGH, high32(counters.free_blocks));
        }
        put_le32(raw, at::FREE_INODES, counters.free_inodes);
        put_le32(raw, at::LAST_ORPHAN, counters.last_orphan);
        put_le32(raw, at::WRITE_TIME, low32(write_time as u64));
        raw[at::WRITE_TIME_HIGH] = (high32(write_time as u64) & 0xff) as u8;
        put_le32(raw, at::COMPAT, counters.compat);
        put_le32(raw, at::INCOMPAT, self.incompat);
        put_le32(raw, at::RO_COMPAT, self.ro_compat | counters.new_ro_compat);
        if self.ro_compat & ro_compat::METADATA_CSUM != 0 {
            let checksum = crc32c(!0, &raw[..at::CHECKSUM]);
            put_le32(raw, at::CHECKSUM, checksum);
        }
        raw
    }

    /// Notes a mount for writing: the time and the count.
    pub(crate) fn note_mount(&mut self, time: i64) {
        let mounts = le16(&self.raw, at::MOUNT_COUNT).saturating_add(1);
        put_le16(&mut self.raw, at::MOUNT_COUNT, mounts);
        put_le32(&mut self.raw, at::MOUNT_TIME, low32(time as u64));
        self.raw[at::MOUNT_TIME_HIGH] = (high32(time as u64) & 0xff) as u8;
    }

    /// Notes that damage was found: e2fsck then looks at the whole volume, whatever the journal says.
    pub(crate) fn note_error(&mut self, now: i64) {
        let raw = &mut self.raw;
        let (state, count) = (le16(raw, at::STATE) | STATE_DAMAGED, le32(raw, at::ERROR_COUNT));
        put_le16(raw, at::STATE, state);
        put_le32(raw, at::ERROR_COUNT, count.saturating_add(1));
        if count == 0 {
            put_le32(raw, at::FIRST_ERROR_TIME, low32(now as u64));
        }
        put_le32(raw, at::LAST_ERROR_TIME, low32(now as u64));
    }

    /// Returns true if the volume is to take no more changes once damage was found (`errors=remount-ro`, and `panic`: a
    /// server does not stop the system).
    pub(crate) fn stops_on_errors(&self) -> bool {
        matches!(le16(&self.raw, at::ON_ERRORS), 2 | 3)
    }

    /// Notes in which group this copy lies.
    pub(crate) fn set_group_number(&mut self, group: u32) {
        put_le16(&mut self.raw, at::GROUP_OF_COPY, (group & 0xffff) as u16);
    }

    pub(crate) fn uuid(&self) -> &[u8] {
        &self.raw[at::UUID..at::LABEL]
    }

    /// The volume name, up to its first NUL.
    pub(crate) fn label(&self) -> &[u8] {
        let label = &self.raw[at::LABEL..at::LABEL + LABEL_BYTES];
        &label[..label.iter().position(|b| *b == 0).unwrap_or(LABEL_BYTES)]
    }

    /// The size that new inodes' extra fields should have.
    pub(crate) fn extra_inode_bytes(&self) -> u16 {
        let room = (self.inode_size - 128) as u16;
        if room < 32 { 0 } else { le16(&self.raw, at::WANTED_EXTRA_INODE_BYTES).clamp(32, room) & !3 }
    }

    pub(crate) fn is_wide(&self) -> bool {
        self.incompat & incompat::BITS64 != 0
    }

    pub(crate) fn has_checksums(&self) -> bool {
        self.ro_compat & ro_compat::METADATA_CSUM != 0
    }

    /// Returns true if the volume has a journal in an inode of its own, false if it has none.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a journal on another device, [`Error::Corrupt`] when a journal is needed that is not
    /// there.
    pub(crate) fn has_own_journal(&self) -> Result<bool> {
        let named = self.compat & compat::HAS_JOURNAL != 0;
        let needed = self.incompat & incompat::RECOVER != 0;
        match (named, self.journal_inode, self.raw[at::JOURNAL_UUID..at::JOURNAL_INODE] != [0; 16]) {
            (true, 0, true) => Err(Error::Unsupported("a journal on another device")),
            (true, 0, false) => Err(Error::Corrupt("superblock: a journal without an inode")),
            (true, ..) => Ok(true),
            (false, ..) if needed => Err(Error::Corrupt("superblock: a journal to be replayed is missing")),
            (false, ..) => Ok(false),
        }
    }

    pub(crate) fn has_index(&self) -> bool {
        self.compat & compat::DIR_INDEX != 0
    }

    pub(crate) fn descs_per_block(&self) -> u32 {
        (self.block_size / self.desc_size) as u32
    }

    pub(crate) fn desc_blocks(&self, groups: u32) -> u64 {
        u64::from(groups.div_ceil(self.descs_per_block()))
    }

    pub(crate) fn inodes_per_block(&self) -> u32 {
        (self.block_size / self.inode_size) as u32
    }

    /// The first block of group `group`.
    pub(crate) fn group_start(&self, group: u32) -> VolumeBlock {
        VolumeBlock(self.first_data_block + u64::from(group) * u64::from(self.blocks_per_group))
    }

    /// How many blocks group `group` has; the last may be shorter.
    pub(crate) fn group_blocks(&self, group: u32) -> u32 {
        let rest = self.blocks.saturating_sub(self.group_start(group).0);
        rest.min(u64::from(self.blocks_per_group)) as u32
    }

    /// The group of `block`, and the block's place in it.
    pub(crate) fn locate(&self, VolumeBlock(block): VolumeBlock) -> Result<(u32, u32)> {
        if block < self.first_data_block || block >= self.blocks {
            return Err(Error::Corrupt("block number"));
        }
        let relative = block - self.first_data_block;
        let per_group = u64::from(self.blocks_per_group);
        Ok(((relative / per_group) as u32, (relative % per_group) as u32))
    }

    /// Whether `count` blocks from `start` on lie on the volume.
    pub(crate) fn contains(&self, VolumeBlock(start): VolumeBlock, count: u64) -> bool {
        start > self.first_data_block && start.checked_add(count).is_some_and(|end| end <= self.blocks)
    }

    /// Whether group `group` holds a backup of superblock and group descriptors.
    pub(crate) fn has_backup(&self, group: u32) -> bool {
        if self.compat & compat::SPARSE_SUPER2 != 0 {
            return group == 0
                || group == le32(&self.raw, at::BACKUP_GROUPS)
                || group == le32(&self.raw, at::BACKUP_GROUPS + 4);
        }
        if self.ro_compat & ro_compat::SPARSE_SUPER == 0 || group <= 1 {
            return true;
        }
        [3, 5, 7].into_iter().any(|base| is_power(group, base))
    }

    /// Blocks at the start of `group` taken by superblock, descriptors and those reserved for growth.
    pub(crate) fn base_blocks(&self, group: u32) -> u32 {
        if !self.has_backup(group) {
            return 0;
        }
        let reserved = u32::from(le16(&self.raw, at::RESERVED_DESC_BLOCKS));
        1 + (self.desc_blocks(self.group_count) as u32) + reserved
    }
}

fn is_power(mut value: u32, base: u32) -> bool {
    while value > 1 && value.is_multiple_of(base) {
        value /= base;
    }
    value == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_lie_in_groups_that_are_powers_of_three_five_and_seven() {
        let powers: alloc::vec::Vec<u32> =
            (2..130).filter(|g| [3, 5, 7].into_iter().any(|base| is_power(*g, base))).collect();
        assert_eq!(powers, [3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    #[test]
    fn a_short_or_foreign_block_is_no_superblock() {
        assert!(Superblock::parse(&[0; 1024], 1 << 20).is_err());
        assert!(Superblock::parse(&[0; 10], 1 << 20).is_err());
    }
}
