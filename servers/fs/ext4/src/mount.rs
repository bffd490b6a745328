//! Mounting, unmounting, and making things durable.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::block_number::VolumeBlock;
use crate::buffer::{Pool, allocate};
use crate::data::DirtyData;
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::features::{incompat, ro_compat};
use crate::group::Group;
use crate::inode::InodeNumber;
use crate::journal::{Journal, Overlay};
use crate::metadata::Kind;
use crate::orphan_list::Orphans;
use crate::superblock::{Counters, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET, Superblock};
use crate::survive::{StateArea, Survivor};
use crate::time::Time;
use crate::transaction::{DirtyBlocks, Running, Transaction, Undo};
use crate::volume::Ext4;
use crate::zones::Zones;

/// How to mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Never write, not even to replay the journal.
    pub read_only: bool,
    /// The time to begin with; see [`Ext4::set_time`].
    pub now: Time,
}

impl<C: BlockCache> Ext4<C> {
    /// Mounts the volume in `cache`. A journal that was not emptied is replayed (in memory only when mounting
    /// read-only), and what the last user was still deleting is deleted.
    ///
    /// A volume with unknown read-only features, or without a journal, is mounted read-only; one whose journal lies on
    /// another device is refused. When a block is still being
    /// read the mount fails with [`Error::Io`] and can be repeated: a caller whose cache answers `Pending` passes in a
    /// handle to it.
    ///
    /// Worst case: reads all group descriptors; replays the whole journal; frees every orphan's space.
    ///
    /// # Errors
    /// [`Error::UnsupportedFeatures`], [`Error::Unsupported`], [`Error::Corrupt`], [`Error::Io`].
    pub fn mount(cache: C, options: &MountOptions) -> Result<Self> {
        Self::mount_surviving(cache, options, None)
    }

    /// Mounts like [`mount`](Self::mount), for a server that keeps what must survive it in `state`: what its predecessor
    /// had done but not committed is done again, in memory, and what it had open stays open. From now on every operation
    /// is recorded there before it answers.
    ///
    /// The predecessor's unwritten file data must still be in `cache`. Without any state the area is taken as new.
    ///
    /// Worst case: like [`mount`](Self::mount), and reads the area once.
    ///
    /// # Errors
    /// Those of [`mount`](Self::mount); [`Error::Invalid`] when the area is too small.
    pub fn mount_surviving(
        mut cache: C,
        options: &MountOptions,
        state: Option<Box<dyn StateArea>>,
    ) -> Result<Self> {
        let (sb, counters) = read_superblock(&mut cache)?;
        let has_journal = sb.has_own_journal()?;
        let writable = !options.read_only && sb.ro_compat & !ro_compat::KNOWN == 0 && has_journal;
        let generation = options.now.nanoseconds ^ options.now.seconds as u32 ^ sb.checksum_seed;
        let mut volume = Ext4 {
            cache,
            sb,
            counters,
            groups: Vec::new(),
            zones: Zones::default(),
            dirty: DirtyBlocks::default(),
            running: Running::default(),
            journal: None,
            overlay: Overlay::new(),
            orphans: Orphans::default(),
            open: HashMap::new(),
            unfinished: Vec::new(),
            data: DirtyData::default(),
            now: options.now,
            pool: Pool::default(),
            undo: Undo::default(),
            operations: 0,
            writable,
            aborted: false,
            stopped: false,
            use_reserve: true,
            generation,
            survivor: state.map(Survivor::new).transpose()?,
        };
        volume.read_groups()?;
        if has_journal {
            volume.recover(writable)?;
            // The journal may have brought features.
            volume.writable &= volume.sb.ro_compat & !ro_compat::KNOWN == 0;
        }
        if volume.writable {
            volume.begin_writing()?;
        }
        Ok(volume)
    }

    /// Opens the journal and replays it, whether or not the superblock says that it must be: the log itself says so, too,
    /// and both kinds of mount must show the same.
    fn recover(&mut self, to_disk: bool) -> Result<()> {
        let mut journal = self.open_journal()?;
        self.claim_journal(&journal)?;
        self.replay(&mut journal, to_disk)?;
        // The replay may have brought newer versions of superblock and groups.
        let (place, offset) = self.superblock_place();
        let buffer = self.load(place, Kind::Plain)?;
        let device = self.cache.block_count().saturating_mul(self.sb.block_size as u64);
        let (sb, counters) = Superblock::parse(&buffer.bytes()[offset..offset + SUPERBLOCK_BYTES], device)?;
        let fixed = |sb: &Superblock| (sb.block_size, sb.group_count, sb.journal_inode);
        if fixed(&sb) != fixed(&self.sb) {
            return Err(Error::Corrupt("journal changes the geometry"));
        }
        (self.sb, self.counters) = (sb, counters);
        self.read_groups()?;
        self.claim_journal(&journal)?;
        self.journal = Some(journal);
        Ok(())
    }

    /// Keeps files and directories from claiming the journal's blocks.
    fn claim_journal(&mut self, journal: &Journal) -> Result<()> {
        let owner = InodeNumber(self.sb.journal_inode);
        journal.places().try_for_each(|(start, count)| self.zones.claim(owner, start, count))
    }

    /// Reads all groups, and takes from them what follows: where the volume's own structures lie, and what is free. The
    /// superblock's own counts are only as new as the last clean unmount of Linux.
    fn read_groups(&mut self) -> Result<()> {
        let mut groups = Vec::new();
        groups.try_reserve_exact(self.sb.group_count as usize).map_err(|_| Error::NoMemory)?;
        for number in 0..self.sb.group_count {
            let (block, offset) = self.descriptor_place(number);
            let buffer = self.load(block, Kind::Plain)?;
            groups.push(Group::parse(&self.sb, number, &buffer.bytes()[offset..offset + self.sb.desc_size])?);
        }
        self.zones = Zones::of_groups(&self.sb, &groups)?;
        let free: u64 = groups.iter().map(|group| u64::from(group.free_blocks)).sum();
        self.counters.free_blocks = free * self.sb.blocks_per_cluster().unwrap_or(1);
        self.counters.free_inodes = groups.iter().map(|group| group.free_inodes).sum();
        self.groups = groups;
        Ok(())
    }

    /// The block and offset of a group's descriptor.
    pub(crate) fn descriptor_place(&self, group: u32) -> (VolumeBlock, usize) {
        let per_block = self.sb.descs_per_block();
        let block = self.sb.first_data_block + 1 + u64::from(group / per_block);
        (VolumeBlock(block), (group % per_block) as usize * self.sb.desc_size)
    }

    /// The block and offset of the superblock.
    pub(crate) fn superblock_place(&self) -> (VolumeBlock, usize) {
        let size = self.sb.block_size as u64;
        (VolumeBlock(SUPERBLOCK_OFFSET / size), (SUPERBLOCK_OFFSET % size) as usize)
    }

    fn begin_writing(&mut self) -> Result<()> {
        self.sb.incompat |= incompat::RECOVER;
        self.sb.note_mount(self.now.seconds);
        self.write_superblock()?;
        let failed = self.journal.as_mut().is_some_and(Journal::take_error);
        self.start_log()?;
        if failed {
            self.note_damage();
        }
        self.restore_survived()?;
        self.process_orphans()?;
        self.commit()
    }

    /// Writes the superblock to its place, past the journal, which is empty.
    fn write_superblock(&mut self) -> Result<()> {
        let (place, offset) = self.superblock_place();
        let old = self.cache.get(place.0)?;
        let mut content = allocate(self.sb.block_size)?;
        let block = Arc::get_mut(&mut content).ok_or(Error::NoMemory)?;
        block.copy_from(&old);
        let raw = self.sb.encode(&self.counters, self.now.seconds);
        block.bytes_mut()[offset..offset + SUPERBLOCK_BYTES].copy_from_slice(raw);
        self.cache.submit(place.0, &content)?;
        self.cache.barrier()?;
        Ok(())
    }

    /// Records that damage was found. The next commit writes it into the superblock; a volume that says so (`errors=`)
    /// takes no operations from now on, only what makes earlier ones durable.
    pub(crate) fn note_damage(&mut self) {
        if self.writable {
            self.sb.note_error(self.now.seconds);
            self.running.changed = true;
            self.stopped |= self.sb.stops_on_errors();
        }
    }

    /// Makes everything durable, empties the journal and stops writing. Files that are still open without a name stay
    /// on the orphan list for the next mount. Can be repeated after an error.
    ///
    /// Worst case: like [`sync`](Self::sync) and [`checkpoint`](Self::checkpoint), and freeing what is unfinished.
    ///
    /// # Errors
    /// [`Error::Io`]; the next mount then replays the journal.
    pub fn shut_down(&mut self) -> Result<()> {
        if !self.writable {
            return Ok(());
        }
        if !self.stopped {
            self.finish_deletions()?;
        }
        self.sync()?;
        self.checkpoint()?;
        self.stop_log()?;
        self.sb.incompat &= !incompat::RECOVER;
        self.write_superblock()?;
        self.writable = false;
        Ok(())
    }

    /// [Shuts down](Self::shut_down) and gives the cache back.
    ///
    /// # Errors
    /// Those of [`shut_down`](Self::shut_down); the cache is lost then.
    pub fn unmount(mut self) -> Result<C> {
        self.shut_down()?;
        Ok(self.cache)
    }

    /// Makes everything done so far durable.
    ///
    /// Worst case: writes all unwritten data, then one commit.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit).
    pub fn sync(&mut self) -> Result<()> {
        self.check_writable()?;
        let wrote = self.write_all_data()?;
        let commits = self.running.changed;
        self.commit()?;
        if wrote && !commits {
            self.cache.barrier()?;
        }
        Ok(())
    }

    /// Makes one inode's data and attributes durable, and with them its name: all of the running transaction is
    /// committed. Nothing is written when nothing of it changed since the last commit, so that many callers are served
    /// by one commit.
    ///
    /// Worst case: writes the inode's unwritten data, then one commit.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit).
    pub fn fsync(&mut self, number: InodeNumber) -> Result<()> {
        let commits = self.running.inodes.contains_key(&number);
        self.make_durable(number, commits)
    }

    /// Like [`fsync`](Self::fsync), but changed times alone need no commit.
    ///
    /// # Errors
    /// Those of [`commit`](Self::commit).
    pub fn fdatasync(&mut self, number: InodeNumber) -> Result<()> {
        let commits = self.running.inodes.get(&number).copied().unwrap_or(false);
        self.make_durable(number, commits)
    }

    fn make_durable(&mut self, number: InodeNumber, commits: bool) -> Result<()> {
        self.check_writable()?;
        let wrote = self.write_data_of(number)?;
        if commits {
            self.commit()
        } else if wrote {
            Ok(self.cache.barrier()?)
        } else {
            Ok(())
        }
    }

    /// Sends the unwritten data of one inode to the device; answers whether there was any.
    pub(crate) fn write_data_of(&mut self, number: InodeNumber) -> Result<bool> {
        let ranges = self.data.take(number);
        for (start, count) in &ranges {
            if let Err(error) = self.cache.write_back(start.0, *count) {
                self.aborted = true;
                return Err(error.into());
            }
        }
        Ok(!ranges.is_empty())
    }

    /// Sends all unwritten data to the device; answers whether there was any.
    pub(crate) fn write_all_data(&mut self) -> Result<bool> {
        let mut wrote = false;
        for number in self.data.inodes() {
            wrote |= self.write_data_of(number)?;
        }
        Ok(wrote)
    }

    /// Puts changed descriptors, with the checksums of their bitmaps, and the superblock into the running transaction.
    pub(crate) fn stamp(&mut self) -> Result<()> {
        let changed: Vec<u32> =
            (0..).zip(&self.groups).filter(|(_, group)| group.dirty).map(|(number, _)| number).collect();
        self.seal_operation(|t| {
            changed.iter().try_for_each(|number| t.stamp_group(*number))?;
            let (place, offset) = t.superblock_place();
            let (counters, now) = (t.counters, t.now.seconds);
            let mut sb = t.sb.clone();
            let raw = sb.encode(&counters, now);
            t.edit(place, Kind::Plain)?[offset..offset + SUPERBLOCK_BYTES].copy_from_slice(raw);
            Ok(())
        })
    }
}

impl<C: BlockCache> Transaction<'_, C> {
    fn stamp_group(&mut self, number: u32) -> Result<()> {
        let group = self.groups[number as usize].clone();
        let sum = |block: VolumeBlock, bits: u32| {
            self.dirty.get(block).map(|buffer| crate::group::bitmap_checksum(&self.sb, bits, buffer.bytes()))
        };
        let blocks = sum(group.block_bitmap, self.sb.blocks_per_group);
        let inodes = sum(group.inode_bitmap, self.sb.inodes_per_group);
        let slot = self.group_mut(number)?;
        slot.block_bitmap_csum = blocks.unwrap_or(slot.block_bitmap_csum);
        slot.inode_bitmap_csum = inodes.unwrap_or(slot.inode_bitmap_csum);
        slot.dirty = false;
        let group = slot.clone();
        let (block, offset) = self.descriptor_place(number);
        let size = self.sb.desc_size;
        let mut raw = [0; 4096];
        let raw = &mut raw[..size];
        raw.copy_from_slice(&self.edit(block, Kind::Plain)?[offset..offset + size]);
        group.encode(&self.sb, number, raw);
        self.edit(block, Kind::Plain)?[offset..offset + size].copy_from_slice(raw);
        Ok(())
    }
}

fn read_superblock<C: BlockCache>(cache: &mut C) -> Result<(Superblock, Counters)> {
    let mut raw = [0; SUPERBLOCK_BYTES];
    cache.read_bytes(SUPERBLOCK_OFFSET, &mut raw)?;
    let (sb, counters) = Superblock::parse(&raw, u64::MAX)?;
    cache.set_block_size(sb.block_size)?;
    if cache.block_count() < sb.blocks {
        return Err(Error::Corrupt("superblock: larger than the device"));
    }
    Ok((sb, counters))
}
