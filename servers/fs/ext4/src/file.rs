//! Reading and writing file data.

use crate::block_number::{FileBlock, VolumeBlock};
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::extent::{END_OF_FILES, Extent, INSERT_CREDITS, LARGEST_WRITTEN};
use crate::inode::{FileType, Inode, InodeNumber, flags};
use crate::transaction::Transaction;
use crate::volume::Ext4;

/// Room for a step of writing: a few extents, and the inode.
const WRITE_CREDITS: usize = 4 * INSERT_CREDITS;
/// The most bytes one step takes, so that its data is not held back for long.
const STEP_BYTES: usize = 8 << 20;
const ZEROS: [u8; 4096] = [0; 4096];

impl<C: BlockCache> Ext4<C> {
    /// The size in bytes that a file mapped like this one cannot exceed.
    pub(crate) fn largest_file(&self, inode: &Inode) -> u64 {
        let extents = u64::from(END_OF_FILES.0);
        let blocks = if inode.has_block_map() { extents.min(self.largest_block_map()) } else { extents };
        blocks * self.sb.block_size as u64
    }

    /// An inode whose data can be read and written: a regular file.
    pub(crate) fn regular(&self, number: InodeNumber) -> Result<Inode> {
        let inode = self.inode(number)?;
        match inode.file_type()? {
            FileType::Regular => Ok(inode),
            FileType::Directory => Err(Error::IsDirectory),
            _ => Err(Error::Invalid),
        }
    }

    /// A regular file that may be changed.
    pub(crate) fn changeable(&self, number: InodeNumber) -> Result<Inode> {
        let inode = self.regular(number)?;
        if inode.has(flags::IMMUTABLE) { Err(Error::NotPermitted) } else { Ok(inode) }
    }

    /// Reads from byte `offset` on into `out`; answers how many bytes the file had there.
    ///
    /// Worst case: per extent or hole of the range a walk of five tree blocks, and each data block once.
    ///
    /// # Errors
    /// [`Error::IsDirectory`], [`Error::Invalid`] for what is neither; [`Error::NotFound`].
    pub fn read(&self, number: InodeNumber, offset: u64, out: &mut [u8]) -> Result<usize> {
        let inode = self.regular(number)?;
        let length =
            inode.size.min(self.largest_file(&inode)).saturating_sub(offset).min(out.len() as u64) as usize;
        let size = self.sb.block_size;
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let inside = (at % size as u64) as usize;
            let run = self.map_block(number, &inode, FileBlock::of(at, size))?;
            let bytes = (run.count as usize).saturating_mul(size).saturating_sub(inside);
            let part = &mut out[done..length];
            let bytes = bytes.min(part.len());
            let part = &mut part[..bytes];
            done += match run.start.filter(|_| !run.unwritten) {
                Some(start) => self.read_run(start, inside, part)?,
                None => {
                    part.fill(0);
                    bytes
                }
            };
        }
        Ok(length)
    }

    /// Reads a part of a run of blocks: up to the next block boundary, or whole blocks.
    fn read_run(&self, start: VolumeBlock, inside: usize, out: &mut [u8]) -> Result<usize> {
        let size = self.sb.block_size;
        if inside == 0 && out.len() >= size {
            let whole = out.len() / size * size;
            self.fetch_run(start, &mut out[..whole])?;
            return Ok(whole);
        }
        let count = out.len().min(size - inside);
        let buffer = self.fetch(start)?;
        out[..count].copy_from_slice(&buffer.bytes()[inside..inside + count]);
        Ok(count)
    }

    /// Writes `data` from byte `offset` on; answers how many bytes were written, which is fewer only when space or
    /// the largest file size ran out after the first.
    ///
    /// Worst case: per extent written, a change of each of five tree levels and a search of all bitmaps.
    ///
    /// # Errors
    /// [`Error::NoSpace`] and [`Error::FileTooBig`] when not even one byte fits; [`Error::IsDirectory`],
    /// [`Error::Invalid`], [`Error::NotFound`], [`Error::NotPermitted`].
    pub fn write(&mut self, number: InodeNumber, offset: u64, data: &[u8]) -> Result<usize> {
        let room = self.largest_file(&self.regular(number)?).checked_sub(offset).ok_or(Error::FileTooBig)?;
        if room == 0 && !data.is_empty() {
            return Err(Error::FileTooBig);
        }
        let data = &data[..data.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        self.finish_earlier(number)?;
        let mut done = 0;
        while done < data.len() {
            let step = &data[done..data.len().min(done + STEP_BYTES)];
            match self.write_step(number, offset + done as u64, step) {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_step(&mut self, number: InodeNumber, offset: u64, data: &[u8]) -> Result<usize> {
        let mut fits = 0;
        let all = self.transact(WRITE_CREDITS, |t| t.write_part(number, offset, data, &mut fits));
        if all == Err(Error::NoSpace) && fits > 0 {
            let data = &data[..fits];
            return self.transact(WRITE_CREDITS, |t| t.write_part(number, offset, data, &mut 0));
        }
        all
    }
}

impl<C: BlockCache> Transaction<'_, C> {
    /// Writes as much of `data` as the credits allow; `fits` is what was written before space ran out.
    fn write_part(
        &mut self,
        number: InodeNumber,
        offset: u64,
        data: &[u8],
        fits: &mut usize,
    ) -> Result<usize> {
        let mut inode = self.changeable(number)?;
        if inode.has(flags::APPEND) && offset < inode.size {
            return Err(Error::NotPermitted);
        }
        let mut essential = false;
        if offset > inode.size {
            essential |= self.zero_tail(number, &inode, inode.size)?;
        }
        let mut done = 0;
        while done < data.len() && (done == 0 || self.credits_left() >= 2 * INSERT_CREDITS) {
            *fits = done;
            let (count, mapped) = self.write_run(number, &mut inode, offset + done as u64, &data[done..])?;
            essential |= mapped;
            done += count;
        }
        if offset + done as u64 > inode.size {
            inode.size = offset + done as u64;
            essential = true;
        }
        if essential {
            self.order_data(number);
        }
        let now = (self.now, self.now);
        // Writing again within one tick of the caller's clock changes nothing but the data.
        if essential || (inode.modified, inode.changed) != now {
            (inode.modified, inode.changed) = now;
            self.write_inode(number, &inode, essential)?;
        }
        Ok(done)
    }

    /// Writes into one extent or hole; answers the bytes, and whether the map changed.
    fn write_run(
        &mut self,
        number: InodeNumber,
        inode: &mut Inode,
        offset: u64,
        data: &[u8],
    ) -> Result<(usize, bool)> {
        let size = self.sb.block_size;
        let inside = (offset % size as u64) as usize;
        let block = FileBlock::of(offset, size);
        let needed = u32::try_from((inside + data.len()).div_ceil(size)).unwrap_or(u32::MAX);
        let run = self.map_block(number, inode, block)?;
        let count = run.count.min(needed);
        let (start, count, fresh) = match run.start {
            Some(start) if !run.unwritten => (start, count, false),
            Some(start) => (start, self.mark_extent(number, inode, block, count, false)?, true),
            None => {
                let (start, count) = self.map_new(number, inode, block, count.min(LARGEST_WRITTEN), false)?;
                (start, count, true)
            }
        };
        let bytes = data.len().min(count as usize * size - inside);
        self.put_data(number, start, inside, &data[..bytes], fresh)?;
        Ok((bytes, fresh))
    }

    /// Allocates and maps blocks for a hole.
    pub(crate) fn map_new(
        &mut self,
        number: InodeNumber,
        inode: &mut Inode,
        block: FileBlock,
        count: u32,
        unwritten: bool,
    ) -> Result<(VolumeBlock, u32)> {
        let count = if inode.has_block_map() { count.min(self.blocks_in_table(block)?) } else { count };
        let goal = self.data_goal(number, inode, block)?;
        let (start, count) = self.allocate_blocks(goal, count)?;
        inode.add_blocks(&self.sb, i64::from(count))?;
        self.insert_extent(number, inode, Extent { block, start, count, unwritten })?;
        Ok((start, count))
    }

    /// Behind the block before, or in the inode's group.
    fn data_goal(&self, number: InodeNumber, inode: &Inode, block: FileBlock) -> Result<VolumeBlock> {
        if let Some(before) = block.0.checked_sub(1)
            && let Some(start) = self.map_block(number, inode, FileBlock(before))?.start
        {
            return Ok(start + 1);
        }
        Ok(self.inode_goal(number))
    }

    /// Puts bytes into blocks; in `fresh` blocks the rest becomes zeros.
    fn put_data(
        &mut self,
        number: InodeNumber,
        start: VolumeBlock,
        inside: usize,
        data: &[u8],
        fresh: bool,
    ) -> Result<()> {
        let size = self.sb.block_size;
        let (mut block, mut inside, mut data) = (start, inside, data);
        while !data.is_empty() {
            let whole = data.len() / size * size;
            let count = if inside == 0 && whole > 0 { whole } else { data.len().min(size - inside) };
            let (now, later) = data.split_at(count);
            if inside == 0 && whole > 0 {
                self.write_data(number, block, now)?;
                block = block + (whole / size) as u64;
            } else if fresh {
                let mut padded = ZEROS;
                padded[inside..inside + count].copy_from_slice(now);
                self.write_data(number, block, &padded[..size])?;
                block = block + 1;
            } else {
                self.patch_data(number, block, inside, now)?;
                block = block + 1;
            }
            (data, inside) = (later, 0);
        }
        Ok(())
    }

    /// Zeros the bytes from `from` to the end of their block, if it is mapped and written. Answers whether it did.
    pub(crate) fn zero_tail(&mut self, number: InodeNumber, inode: &Inode, from: u64) -> Result<bool> {
        let size = self.sb.block_size as u64;
        let inside = (from % size) as usize;
        if inside == 0 {
            return Ok(false);
        }
        self.zero_part(number, inode, from, self.sb.block_size - inside)
    }

    /// Zeros `count` bytes within one block, if it is mapped and written.
    pub(crate) fn zero_part(
        &mut self,
        number: InodeNumber,
        inode: &Inode,
        from: u64,
        count: usize,
    ) -> Result<bool> {
        let size = self.sb.block_size as u64;
        let run = self.map_block(number, inode, FileBlock::of(from, self.sb.block_size))?;
        let Some(start) = run.start.filter(|_| !run.unwritten) else { return Ok(false) };
        self.patch_data(number, start, (from % size) as usize, &ZEROS[..count])?;
        self.order_data(number);
        Ok(true)
    }
}
