//! Orphans: inodes whose space is still to be freed, because they have no name or because a truncation is under way.
//!
//! On disk they are a list: the superblock names the last one added, and each names the one before it in the field
//! that otherwise holds its time of deletion. Newer Linux keeps most of them in a file instead; what it left there is
//! worked off at mount.

use alloc::vec::Vec;

use crate::block_number::{FileBlock, VolumeBlock};
use crate::bytes::{le32, put_le32};
use crate::checksum::crc32c;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::features::{compat, ro_compat};
use crate::inode::{Inode, InodeNumber, flags};
use crate::metadata::Kind;
use crate::orphan_list::Orphans;
use crate::space::FREE_CREDITS;
use crate::transaction::Transaction;
use crate::volume::Ext4;

const FILE_MAGIC: u32 = 0x0b10_ca04;
/// Changing the list: the inode and its neighbours.
const SET_ASIDE_CREDITS: usize = 8;

impl<C: BlockCache> Transaction<'_, C> {
    /// Puts an inode on the list; the caller stores it.
    pub(crate) fn add_orphan(&mut self, number: InodeNumber, inode: &mut Inode) -> Result<()> {
        if self.orphans.contains(number) {
            return Ok(());
        }
        inode.deleted = self.push_orphan(number);
        self.counters_mut().last_orphan = number.0;
        Ok(())
    }

    /// Takes an inode off the list; the caller stores it.
    pub(crate) fn drop_orphan(&mut self, number: InodeNumber, inode: &mut Inode) -> Result<()> {
        self.unchain_orphan(number)?;
        inode.deleted = 0;
        Ok(())
    }

    /// Makes the list's neighbours of an inode point past it.
    fn unchain_orphan(&mut self, number: InodeNumber) -> Result<()> {
        let Some(place) = self.orphans.neighbours(number) else { return Ok(()) };
        let older = place.older.map_or(0, |older| older.0);
        match place.newer {
            None => self.counters_mut().last_orphan = older,
            Some(newer) => {
                let mut inode = self.any_inode(newer)?;
                inode.deleted = older;
                self.write_inode(newer, &inode, true)?;
            }
        }
        self.remove_orphan(number);
        Ok(())
    }
}

impl<C: BlockCache> Ext4<C> {
    /// Frees an inode that has neither a name nor a user, in as many transactions as its extents need.
    pub(crate) fn delete_inode(&mut self, number: InodeNumber) -> Result<()> {
        drop(self.data.take(number));
        loop {
            let done = self.transact(FREE_CREDITS + 12, |t| t.delete_step(number))?;
            if done {
                return Ok(());
            }
        }
    }

    /// Frees the space of an inode that has just become an orphan. The operation that made it one is done, and answers
    /// so: what cannot be freed now, because a block is still being read, is freed later; what is damaged is set aside.
    ///
    /// # Errors
    /// [`Error::Aborted`].
    pub(crate) fn free_soon(&mut self, number: InodeNumber) -> Result<()> {
        match self.free_or_set_aside(number) {
            Err(Error::Aborted) => Err(Error::Aborted),
            Err(_) => {
                self.unfinished.push(number);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Frees what orphans still hold because it had to wait. For callers with asynchronous devices; unmounting does it
    /// too.
    ///
    /// # Errors
    /// [`Error::Io`] when it has to wait again.
    pub fn finish_deletions(&mut self) -> Result<()> {
        while let Some(number) = self.unfinished.last().copied() {
            // It may have got a name again, or have been freed and used anew.
            if self.orphans.contains(number) {
                self.free_or_set_aside(number)?;
            }
            self.unfinished.pop();
        }
        Ok(())
    }

    fn free_or_set_aside(&mut self, number: InodeNumber) -> Result<()> {
        match self.process_orphan(number) {
            Err(Error::Corrupt(_)) => self.set_aside(number),
            other => other,
        }
    }

    /// Takes an inode whose space cannot be freed, because something of it is damaged, off the list. What it holds is
    /// left to e2fsck, for which the superblock's note of damage asks.
    fn set_aside(&mut self, number: InodeNumber) -> Result<()> {
        self.note_damage();
        let taken = self.transact_anyway(SET_ASIDE_CREDITS, |t| match t.any_inode(number) {
            Ok(mut inode) => {
                t.drop_orphan(number, &mut inode)?;
                t.write_inode(number, &inode, true)
            }
            Err(Error::Corrupt(_) | Error::NotFound) => t.unchain_orphan(number),
            Err(error) => Err(error),
        });
        match taken {
            // A neighbour is damaged, too: the list on the disk stays as it is, for the next mount to cut.
            Err(Error::Corrupt(_)) => {
                self.orphans.remove(number);
                Ok(())
            }
            other => other,
        }
    }

    /// Finishes a truncation that had to wait for a block, before the file changes in another way.
    pub(crate) fn finish_earlier(&mut self, number: InodeNumber) -> Result<()> {
        if self.orphans.contains(number) && self.any_inode(number)?.links > 0 {
            return self.free_or_set_aside(number);
        }
        Ok(())
    }

    /// Works off what the last user of the volume left: the list, and the file.
    ///
    /// Worst case: frees every extent of every orphan.
    pub(crate) fn process_orphans(&mut self) -> Result<()> {
        self.read_orphan_list()?;
        // What a killed predecessor had open is still in use.
        let unused = |orphan: &InodeNumber| !self.open.contains_key(orphan);
        let unused: Vec<InodeNumber> = self.orphans.newest_first().filter(unused).collect();
        for number in unused {
            if self.stopped {
                return Ok(());
            }
            self.free_or_set_aside(number)?;
        }
        if !self.stopped && self.sb.compat & compat::ORPHAN_FILE != 0 && self.sb.orphan_file_inode != 0 {
            match self.process_orphan_file() {
                Err(Error::Corrupt(_)) => self.note_damage(),
                other => other?,
            }
        }
        Ok(())
    }

    fn process_orphan(&mut self, number: InodeNumber) -> Result<()> {
        let inode = self.any_inode(number)?;
        if inode.links == 0 { self.delete_inode(number) } else { self.finish_truncate(number) }
    }

    /// Reads the list as far as it is one: it ends where it leaves the inodes that can be orphans, or comes back to itself.
    /// What lies behind is lost to us, and found by e2fsck.
    fn read_orphan_list(&mut self) -> Result<()> {
        self.orphans = Orphans::default();
        let mut next = self.counters.last_orphan;
        while next != 0 {
            let number = InodeNumber(next);
            let known = !self.can_be_orphan(number) || self.orphans.contains(number);
            let inode = match self.any_inode(number) {
                _ if known => None,
                Err(Error::Corrupt(_)) => None,
                other => Some(other?),
            };
            let Some(inode) = inode else { return self.cut_orphan_list() };
            self.orphans.push_oldest(number);
            next = inode.deleted;
        }
        Ok(())
    }

    fn can_be_orphan(&self, number: InodeNumber) -> bool {
        (self.sb.first_inode..=self.sb.inodes).contains(&number.0)
    }

    /// Makes the oldest orphan that was found the end of the list on the disk.
    fn cut_orphan_list(&mut self) -> Result<()> {
        self.note_damage();
        let oldest = self.orphans.oldest();
        self.transact_anyway(SET_ASIDE_CREDITS, |t| match oldest {
            Some(number) => {
                let mut inode = t.any_inode(number)?;
                inode.deleted = 0;
                t.write_inode(number, &inode, true)
            }
            None => {
                t.counters_mut().last_orphan = 0;
                Ok(())
            }
        })
    }

    fn process_orphan_file(&mut self) -> Result<()> {
        let file = InodeNumber(self.sb.orphan_file_inode);
        let inode = self.any_inode(file)?;
        let blocks = (inode.size / self.sb.block_size as u64).min(1 << 16) as u32;
        for at in (0..blocks).map(FileBlock) {
            match self.process_orphan_block(file, &inode, at) {
                Err(Error::Corrupt(_)) => self.note_damage(),
                other => other?,
            }
            if self.stopped {
                return Ok(());
            }
        }
        self.sb.ro_compat &= !ro_compat::ORPHAN_PRESENT;
        self.running.changed = true;
        Ok(())
    }

    /// Works off one block of the orphan file. Entries that cannot be orphans are left to e2fsck, as is a block that is
    /// none of the file's.
    fn process_orphan_block(&mut self, file: InodeNumber, inode: &Inode, at: FileBlock) -> Result<()> {
        let place = self.map_block(file, inode, at)?.start.ok_or(Error::Corrupt("orphan file"))?;
        for number in self.orphan_file_entries(file, inode, place)? {
            if self.stopped {
                return Ok(());
            }
            match self.adopt_orphan(number) {
                Err(Error::Corrupt(_)) => self.note_damage(),
                other => other?,
            }
        }
        if self.stopped { Ok(()) } else { self.clear_orphan_file_block(file, inode, place) }
    }

    /// Moves an entry of the orphan file to the list, and works it off.
    fn adopt_orphan(&mut self, number: InodeNumber) -> Result<()> {
        if !self.can_be_orphan(number) {
            return Err(Error::Corrupt("orphan file"));
        }
        self.transact(SET_ASIDE_CREDITS, |t| {
            let mut inode = t.any_inode(number)?;
            t.add_orphan(number, &mut inode)?;
            t.write_inode(number, &inode, true)
        })?;
        self.free_or_set_aside(number)
    }

    fn orphan_file_entries(
        &self,
        file: InodeNumber,
        inode: &Inode,
        place: VolumeBlock,
    ) -> Result<Vec<InodeNumber>> {
        let buffer = self.load(place, Kind::Plain)?;
        let bytes = buffer.bytes();
        let end = bytes.len() - 8;
        let sum = self.orphan_block_checksum(file, inode, place, bytes);
        if le32(bytes, end) != FILE_MAGIC || self.sb.has_checksums() && le32(bytes, end + 4) != sum {
            return Err(Error::Corrupt("orphan file"));
        }
        let mut numbers: Vec<InodeNumber> = bytes[..end]
            .chunks_exact(4)
            .map(|entry| InodeNumber(le32(entry, 0)))
            .filter(|n| n.0 != 0)
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    fn clear_orphan_file_block(
        &mut self,
        file: InodeNumber,
        inode: &Inode,
        place: VolumeBlock,
    ) -> Result<()> {
        let buffer = self.load(place, Kind::Plain)?;
        let end = buffer.bytes().len() - 8;
        if buffer.bytes()[..end].iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let mut empty: Vec<u8> = buffer.bytes().into();
        drop(buffer);
        empty[..end].fill(0);
        if self.sb.has_checksums() {
            let sum = self.orphan_block_checksum(file, inode, place, &empty);
            put_le32(&mut empty, end + 4, sum);
        }
        self.transact(2, |t| {
            t.edit(place, Kind::Plain)?.copy_from_slice(&empty);
            Ok(())
        })
    }

    fn orphan_block_checksum(
        &self,
        file: InodeNumber,
        inode: &Inode,
        place: VolumeBlock,
        bytes: &[u8],
    ) -> u32 {
        let seed = crc32c(self.seed(file, inode), &place.0.to_le_bytes());
        crc32c(seed, &bytes[..bytes.len() - 8])
    }
}

impl<C: BlockCache> Transaction<'_, C> {
    /// The time of deletion to store. Numbers up to the count of inodes mean the next orphan, so that a clock that was
    /// never set must not give one of them.
    fn deletion_time(&self) -> u32 {
        let earliest = i64::from(self.sb.inodes) + 1;
        self.now.seconds.clamp(earliest, i64::from(u32::MAX)) as u32
    }

    /// Frees a part of an inode without a name; the last step frees the inode itself. Answers whether that is done.
    fn delete_step(&mut self, number: InodeNumber) -> Result<bool> {
        let mut inode = self.any_inode(number)?;
        if inode.links > 0 {
            return Ok(true);
        }
        let is_dir = inode.is_dir();
        self.release_xattr_block(number, &mut inode)?;
        let has_map = !self.is_inline_link(&inode) && !inode.file_type().is_ok_and(|kind| kind.is_special());
        inode.size = if has_map { 0 } else { inode.size };
        let done = !has_map || self.free_beyond(number, &mut inode)?;
        if !done {
            self.write_inode(number, &inode, true)?;
            return Ok(false);
        }
        self.drop_orphan(number, &mut inode)?;
        inode.deleted = self.deletion_time();
        inode.size = 0;
        inode.flags &= flags::EXTENTS;
        self.write_inode(number, &inode, true)?;
        self.free_inode(number, is_dir)?;
        Ok(true)
    }
}
