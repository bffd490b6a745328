//! Taking and giving back inodes.

use crate::bitmap;
use crate::buffer::Buffer;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::group::{Group, INODE_UNINIT, bitmap_checksum};
use crate::inode::InodeNumber;
use crate::metadata::Kind;
use crate::transaction::Transaction;
use crate::volume::Ext4;

impl<C: BlockCache> Ext4<C> {
    fn inode_bitmap(&self, group: &Group) -> Result<Buffer> {
        let buffer = self.load(group.inode_bitmap, Kind::Plain)?;
        if !self.is_trusted(group.inode_bitmap, &buffer) {
            let sum = bitmap_checksum(&self.sb, self.sb.inodes_per_group, buffer.bytes());
            if self.sb.has_checksums() && sum != group.inode_bitmap_csum {
                return Err(Error::Corrupt("inode bitmap checksum"));
            }
            buffer.set_verified(0);
        }
        Ok(buffer)
    }

    /// The group of an inode.
    pub(crate) fn inode_group(&self, number: InodeNumber) -> u32 {
        number.0.saturating_sub(1) / self.sb.inodes_per_group
    }

    /// The group in which a new inode should lie: its directory's, or for a directory, the next one that has no less
    /// than half of the average room, so that directories spread and their files stay near them.
    fn choose_group(&self, parent: u32, is_dir: bool) -> Result<u32> {
        let count = self.sb.group_count;
        let inodes = self.counters.free_inodes / count / 2;
        let blocks = (self.counters.free_blocks / u64::from(count) / 2) as u32;
        let roomy = |number: &u32| {
            let group = &self.groups[*number as usize];
            group.free_inodes > 0 && (!is_dir || group.free_inodes >= inodes && group.free_blocks >= blocks)
        };
        let near = |n: u32| (parent + n) % count;
        let any = |number: &u32| self.groups[*number as usize].free_inodes > 0;
        (0..count).map(near).find(roomy).or_else(|| (0..count).map(near).find(any)).ok_or(Error::NoSpace)
    }
}

impl<C: BlockCache> Transaction<'_, C> {
    /// Takes an inode near the directory `parent`.
    ///
    /// Worst case: looks at every group's counts, and at one bitmap.
    ///
    /// # Errors
    /// [`Error::NoSpace`].
    pub(crate) fn allocate_inode(&mut self, parent: InodeNumber, is_dir: bool) -> Result<InodeNumber> {
        let number = self.choose_group(self.inode_group(parent) % self.sb.group_count, is_dir)?;
        if self.groups[number as usize].flags & INODE_UNINIT != 0 {
            self.initialise_inode_bitmap(number)?;
        }
        let group = self.groups[number as usize].clone();
        let bits = self.inode_bitmap(&group)?;
        let reserved = if number == 0 { self.sb.first_inode - 1 } else { 0 };
        let from = group.inode_hint.max(reserved);
        let end = self.sb.inodes_per_group;
        let bit = bitmap::next(bits.bytes(), None, from, end, false)
            .ok_or(Error::Corrupt("free inodes of a group"))?;
        drop(bits);
        bitmap::set(self.edit(group.inode_bitmap, Kind::Plain)?, bit, 1);
        let group = self.group_mut(number)?;
        group.free_inodes -= 1;
        group.unused_inodes = group.unused_inodes.min(end - bit - 1);
        group.used_dirs += u32::from(is_dir);
        group.inode_hint = bit + 1;
        let counters = self.counters_mut();
        counters.free_inodes = counters.free_inodes.checked_sub(1).ok_or(Error::Corrupt("free inodes"))?;
        Ok(InodeNumber(number * end + bit + 1))
    }

    fn initialise_inode_bitmap(&mut self, number: u32) -> Result<()> {
        let (end, bits) = (self.sb.inodes_per_group, self.sb.block_size as u32 * 8);
        let block = self.groups[number as usize].inode_bitmap;
        let bytes = self.create(block, Kind::Plain)?;
        bitmap::set(bytes, end, bits - end);
        self.group_mut(number)?.flags &= !INODE_UNINIT;
        Ok(())
    }

    /// Gives an inode back; its bytes were stored as deleted before.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it was not in use.
    pub(crate) fn free_inode(&mut self, inode: InodeNumber, is_dir: bool) -> Result<()> {
        let corrupt = Error::Corrupt("freeing an inode that is not in use");
        if inode.0 < self.sb.first_inode || inode.0 > self.sb.inodes {
            return Err(corrupt);
        }
        let number = self.inode_group(inode);
        let bit = (inode.0 - 1) % self.sb.inodes_per_group;
        let group = self.groups[number as usize].clone();
        if group.flags & INODE_UNINIT != 0 || !bitmap::all(self.inode_bitmap(&group)?.bytes(), bit, 1, true) {
            return Err(corrupt);
        }
        bitmap::clear(self.edit(group.inode_bitmap, Kind::Plain)?, bit, 1);
        let group = self.group_mut(number)?;
        group.free_inodes += 1;
        group.used_dirs = group.used_dirs.saturating_sub(u32::from(is_dir));
        group.inode_hint = group.inode_hint.min(bit);
        self.counters_mut().free_inodes += 1;
        Ok(())
    }
}
