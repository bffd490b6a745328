//! Where everything goes on a new volume.

use alloc::vec::Vec;

use super::FormatOptions;
use crate::error::{Error, Result};

/// Groups whose bitmaps and inode tables lie together, as a power of two.
pub(super) const LOG_FLEX: u8 = 4;
const INODE_BYTES: u64 = 256;
const DESC_BYTES: u64 = 64;
/// The inodes that have a meaning of their own, and lost+found.
pub(super) const FIRST_INODES: u32 = 11;
/// The longest extent.
const LONGEST: u64 = 32768;

/// A range of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) count: u64,
}

impl Range {
    pub(super) fn end(&self) -> u64 {
        self.start + self.count
    }
}

/// The geometry of a new volume, and the places taken on it.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) block_size: u64,
    pub(super) blocks: u64,
    pub(super) first_data_block: u64,
    pub(super) blocks_per_group: u64,
    pub(super) groups: u32,
    pub(super) inodes_per_group: u32,
    pub(super) descriptor_blocks: u64,
    /// For each group: block bitmap, inode bitmap, start of the inode table.
    pub(super) tables: Vec<[u64; 3]>,
    pub(super) journal: Vec<Range>,
    pub(super) root: u64,
    pub(super) lost_found: Range,
    /// All that is taken beside superblocks and descriptors.
    pub(super) used: Vec<Range>,
}

impl Layout {
    /// Plans a volume of `blocks` blocks.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when that is too few, [`Error::Invalid`] for options that do not fit.
    pub(super) fn plan(blocks: u64, options: &FormatOptions) -> Result<Self> {
        let block_size = options.block_size as u64;
        let first_data_block = u64::from(block_size == 1024);
        let blocks_per_group = 8 * block_size;
        let mut layout = Layout {
            block_size,
            blocks,
            first_data_block,
            blocks_per_group,
            groups: 0,
            inodes_per_group: 0,
            descriptor_blocks: 0,
            tables: Vec::new(),
            journal: Vec::new(),
            root: 0,
            lost_found: Range { start: 0, count: 0 },
            used: Vec::new(),
        };
        layout.choose_groups(options)?;
        layout.place_tables()?;
        let goal = layout.used.last().map_or(0, Range::end);
        let root = layout.place(goal, 1)?;
        layout.root = root;
        layout.lost_found =
            Range { start: layout.place(root + 1, 16384 / block_size)?, count: 16384 / block_size };
        layout.place_journal(options)?;
        Ok(layout)
    }

    fn choose_groups(&mut self, options: &FormatOptions) -> Result<()> {
        let per_group = self.blocks_per_group;
        let rest = (self.blocks.saturating_sub(self.first_data_block)) % per_group;
        if self.blocks > per_group && rest > 0 && rest < 1024 {
            // A last group too short for its own structures is left off.
            self.blocks -= rest;
        }
        let groups = self.blocks.saturating_sub(self.first_data_block).div_ceil(per_group);
        self.groups = u32::try_from(groups).map_err(|_| Error::Invalid)?;
        if self.blocks < 2048 {
            return Err(Error::NoSpace);
        }
        let bytes = self.blocks * self.block_size;
        let ratio = if bytes < 512 << 20 { 4096 } else { 16384 };
        let wanted = options.inodes.map_or(bytes / ratio, u64::from);
        let per_block = self.block_size / INODE_BYTES;
        let inodes =
            wanted.div_ceil(groups).next_multiple_of(per_block.max(8)).clamp(16, 8 * self.block_size);
        self.inodes_per_group = inodes as u32;
        self.inodes_per_group.checked_mul(self.groups).ok_or(Error::Invalid)?;
        self.descriptor_blocks = (groups * DESC_BYTES).div_ceil(self.block_size);
        if self.descriptor_blocks + 64 > per_group {
            return Err(Error::Invalid);
        }
        Ok(())
    }

    /// Whether a group holds a copy of superblock and descriptors.
    pub(super) fn has_backup(&self, group: u32) -> bool {
        let power =
            |base: u32| core::iter::successors(Some(base), |n| n.checked_mul(base)).any(|n| n == group);
        group <= 1 || power(3) || power(5) || power(7)
    }

    pub(super) fn group_start(&self, group: u32) -> u64 {
        self.first_data_block + u64::from(group) * self.blocks_per_group
    }

    /// Superblock and descriptors at the start of a group.
    pub(super) fn base(&self, group: u32) -> Range {
        let count = if self.has_backup(group) { 1 + self.descriptor_blocks } else { 0 };
        Range { start: self.group_start(group), count }
    }

    pub(super) fn table_blocks(&self) -> u64 {
        u64::from(self.inodes_per_group) * INODE_BYTES / self.block_size
    }

    /// The first place from `goal` on where `count` blocks meet no superblock.
    fn place(&mut self, goal: u64, count: u64) -> Result<u64> {
        let mut start = goal.max(self.first_data_block + 1);
        loop {
            if start + count > self.blocks {
                return Err(Error::NoSpace);
            }
            match self.obstacle(start, count) {
                Some(end) => start = end,
                None => break,
            }
        }
        self.used.push(Range { start, count });
        Ok(start)
    }

    /// The end of a superblock and its descriptors within a range, if there is one.
    fn obstacle(&self, start: u64, count: u64) -> Option<u64> {
        let group = |block: u64| ((block - self.first_data_block) / self.blocks_per_group) as u32;
        (group(start)..=group(start + count - 1))
            .map(|group| self.base(group))
            .find(|base| base.count > 0 && base.start < start + count && start < base.end())
            .map(|base| base.end())
    }

    /// Bitmaps and inode tables of sixteen groups lie together in the first of them.
    fn place_tables(&mut self) -> Result<()> {
        let flex = 1_u32 << LOG_FLEX;
        let mut first = 0;
        let mut goal = 0;
        while first < self.groups {
            let count = flex.min(self.groups - first);
            goal = self.group_start(first).max(goal);
            let mut tables = alloc::vec![[0; 3]; count as usize];
            for (kind, blocks) in [(0, 1), (1, 1), (2, self.table_blocks())] {
                for table in &mut tables {
                    let start = self.place(goal, blocks)?;
                    goal = start + blocks;
                    table[kind] = start;
                }
            }
            self.tables.extend(tables);
            first += count;
        }
        Ok(())
    }

    /// The journal, in at most four pieces.
    fn place_journal(&mut self, options: &FormatOptions) -> Result<()> {
        let mut left = u64::from(options.journal_blocks.unwrap_or(match self.blocks {
            0..=32767 => 1024,
            32768..=262_143 => 4096,
            262_144..=524_287 => 8192,
            524_288..=4_194_303 => 16384,
            _ => 32768,
        }));
        if left < 1024 {
            return Err(Error::Invalid);
        }
        let mut goal = self.lost_found.end();
        while left > 0 {
            if self.journal.len() == 4 {
                return Err(Error::Invalid);
            }
            // From here to the next superblock.
            let mut count = left.min(LONGEST);
            let start = self.place(goal, 1)?;
            self.used.pop();
            while self.obstacle(start, count).is_some() {
                count /= 2;
            }
            if start + count > self.blocks {
                return Err(Error::NoSpace);
            }
            self.used.push(Range { start, count });
            self.journal.push(Range { start, count });
            (left, goal) = (left - count, start + count);
        }
        Ok(())
    }
}
