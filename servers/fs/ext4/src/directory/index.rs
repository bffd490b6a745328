//! The hash index of a directory: a tree of at most two levels over its leaves.
//!
//! Index blocks hold pairs of a hash and a block of the directory, ascending; the first pair's hash stands for "from
//! the smallest", and its room holds the limit and the count. The lowest bit of a pair's hash says that entries with
//! that hash begin in the leaf before.

use alloc::vec::Vec;

use super::hash::{NameHash, hash};
use super::{DirBlock, Found, Role, block};
use crate::block_number::VolumeBlock;
use crate::bytes::{le16, le32, put_le16, put_le32};
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::inode::{FileType, Inode, InodeNumber, flags};
use crate::metadata::{Kind, NODE_ENTRIES_AT, ROOT_ENTRIES_AT};
use crate::transaction::Transaction;
use crate::volume::Ext4;

const PAIR: usize = 8;
/// Where the root says: the hash version, and the levels below it.
const VERSION_AT: usize = 0x1c;
const LEVELS_AT: usize = 0x1e;
const DEEPEST: u8 = 1;

/// An index block on the way down, and the pair taken in it.
#[derive(Debug, Clone, Copy)]
struct Frame {
    place: VolumeBlock,
    kind: Kind,
    entries_at: usize,
    pair: usize,
    count: usize,
    limit: usize,
}

/// The way to a leaf.
#[derive(Debug, Clone)]
pub(super) struct IndexPath {
    frames: Vec<Frame>,
    /// The levels of index blocks below the root.
    levels: usize,
    /// The leaf, as a block of the directory.
    pub(super) leaf: u32,
    /// The hash at which the leaf begins, with its lowest bit.
    pub(super) begins: u32,
    /// The hash at which the next leaf begins, with its lowest bit.
    pub(super) next: Option<u32>,
    pub(super) version: u8,
}

fn pair_hash(bytes: &[u8], entries_at: usize, pair: usize) -> u32 {
    if pair == 0 { 0 } else { le32(bytes, entries_at + pair * PAIR) }
}

fn pair_block(bytes: &[u8], entries_at: usize, pair: usize) -> u32 {
    le32(bytes, entries_at + pair * PAIR + 4) & 0x0fff_ffff
}

/// Where the pairs of an index block begin.
fn entries_at(kind: Kind) -> usize {
    if matches!(kind, Kind::DirRoot(_)) { ROOT_ENTRIES_AT } else { NODE_ENTRIES_AT }
}

impl<C: BlockCache> Ext4<C> {
    fn pair_limit(&self, entries_at: usize) -> usize {
        let tail = if self.sb.has_checksums() { 8 } else { 0 };
        (self.sb.block_size - entries_at - tail) / PAIR
    }

    fn frame(&self, block: &DirBlock, hash: u32) -> Result<Frame> {
        let entries_at = entries_at(block.kind);
        let bytes = block.buffer.bytes();
        let limit = usize::from(le16(bytes, entries_at));
        let count = usize::from(le16(bytes, entries_at + 2));
        if limit != self.pair_limit(entries_at) || count == 0 || count > limit {
            return Err(Error::Corrupt("directory index"));
        }
        let (mut low, mut high) = (1, count);
        while low < high {
            let middle = (low + high) / 2;
            if pair_hash(bytes, entries_at, middle) <= hash { low = middle + 1 } else { high = middle }
        }
        Ok(Frame { place: block.place, kind: block.kind, entries_at, pair: low - 1, count, limit })
    }

    /// The way to the leaf whose pair is the last one at or before `hash`.
    pub(super) fn descend(&self, dir: InodeNumber, inode: &Inode, hash: u32) -> Result<IndexPath> {
        self.descend_from(&self.first_block(dir, inode)?, dir, inode, hash)
    }

    fn descend_from(&self, root: &DirBlock, dir: InodeNumber, inode: &Inode, hash: u32) -> Result<IndexPath> {
        let bytes = root.buffer.bytes();
        let levels = bytes[LEVELS_AT];
        if levels > DEEPEST || le32(bytes, 0x18) != 0 || bytes[VERSION_AT + 1] != 8 {
            return Err(Error::Corrupt("directory index root"));
        }
        let mut path = IndexPath {
            frames: alloc::vec![self.frame(root, hash)?],
            levels: usize::from(levels),
            leaf: 0,
            begins: 0,
            next: None,
            version: self.index_version(root),
        };
        self.complete(dir, inode, &mut path, hash)?;
        Ok(path)
    }

    /// Follows the frames of a path, and goes on below the last one by `hash` down to a leaf.
    fn complete(&self, dir: InodeNumber, inode: &Inode, path: &mut IndexPath, hash: u32) -> Result<()> {
        (path.begins, path.next) = (0, None);
        for level in 0..=path.levels {
            if level == path.frames.len() {
                let node = self.dir_block(dir, inode, path.leaf, Role::Node)?;
                path.frames.push(self.frame(&node, hash)?);
            }
            let frame = path.frames[level];
            let buffer = self.load(frame.place, frame.kind)?;
            let bytes = buffer.bytes();
            path.begins = path.begins.max(pair_hash(bytes, frame.entries_at, frame.pair));
            if frame.pair + 1 < frame.count {
                path.next = Some(pair_hash(bytes, frame.entries_at, frame.pair + 1));
            }
            path.leaf = pair_block(bytes, frame.entries_at, frame.pair);
            if path.leaf == 0 || path.leaf >= self.dir_blocks(inode)? {
                return Err(Error::Corrupt("directory index block number"));
            }
        }
        Ok(())
    }

    /// Moves a path to the next leaf; returns false if there is none.
    pub(super) fn advance(&self, dir: InodeNumber, inode: &Inode, path: &mut IndexPath) -> Result<bool> {
        let Some(level) = path.frames.iter().rposition(|frame| frame.pair + 1 < frame.count) else {
            return Ok(false);
        };
        path.frames.truncate(level + 1);
        path.frames[level].pair += 1;
        self.complete(dir, inode, path, 0)?;
        Ok(true)
    }

    fn index_version(&self, root: &DirBlock) -> u8 {
        let version = root.buffer.bytes()[VERSION_AT];
        if version < 3 && self.sb.hash_version >= 3 { version + 3 } else { version }
    }

    pub(super) fn find_indexed(&self, dir: InodeNumber, inode: &Inode, name: &[u8]) -> Result<Option<Found>> {
        let root = self.first_block(dir, inode)?;
        let wanted = hash(self.index_version(&root), &self.sb.hash_seed, name)?.major;
        let mut path = self.descend_from(&root, dir, inode, wanted)?;
        // As many leaves as the directory has, at most: a damaged index must not lead in circles.
        for _ in 0..self.dir_blocks(inode)? {
            let leaf = self.dir_block(dir, inode, path.leaf, Role::Leaf)?;
            if let Some(found) = self.find_in(&leaf, name)? {
                return Ok(Some(found));
            }
            if path.next != Some(wanted | 1) || !self.advance(dir, inode, &mut path)? {
                return Ok(None);
            }
        }
        Err(Error::Corrupt("directory index"))
    }

    /// Returns true if no leaf of the index holds a name. A block that the index does not reach is damage: it may hold
    /// names.
    pub(super) fn is_empty_index(&self, dir: InodeNumber, inode: &Inode) -> Result<bool> {
        let mut path = self.descend(dir, inode, 0)?;
        let nodes = if path.levels > 0 { path.frames[0].count } else { 0 };
        let mut left = self.dir_blocks(inode)?.saturating_sub(1).saturating_sub(nodes as u32);
        loop {
            left = left.checked_sub(1).ok_or(Error::Corrupt("directory index"))?;
            if !self.is_empty_leaf(&self.dir_block(dir, inode, path.leaf, Role::Leaf)?)? {
                return Ok(false);
            }
            if !self.advance(dir, inode, &mut path)? {
                return if left == 0 { Ok(true) } else { Err(Error::Corrupt("directory index")) };
            }
        }
    }
}

/// An entry of a leaf that is being split.
struct Moved {
    hash: u32,
    inode: InodeNumber,
    code: u8,
    name: Vec<u8>,
}

impl<C: BlockCache> Transaction<'_, C> {
    /// Gives a directory of one block an index: its entries move to a second block.
    pub(super) fn make_index(&mut self, dir: InodeNumber, inode: &mut Inode) -> Result<()> {
        let first = self.dir_block(dir, inode, 0, Role::Leaf)?;
        let parent = block::parent(first.buffer.bytes())?;
        let place = first.place;
        let space = self.entry_space();
        let mut moved = Vec::new();
        for entry in block::entries(&first.buffer.bytes()[..space]) {
            let entry = entry?;
            if !entry.is_dots() {
                moved.push(Moved { hash: 0, inode: entry.inode, code: entry.code, name: entry.name.into() });
            }
        }
        drop(first);
        let seed = self.seed(dir, inode);
        let leaf = self.add_block(dir, inode)?;
        self.fill_leaf(leaf, seed, &moved)?;
        let version = self.sb.hash_version % 3;
        let limit = self.pair_limit(ROOT_ENTRIES_AT);
        let size = self.sb.block_size;
        let code = self.entry_code(FileType::Directory);
        let root = self.edit(place, Kind::DirRoot(seed))?;
        root.fill(0);
        block::start(&mut root[..size], dir, parent, code);
        root[VERSION_AT] = version;
        root[VERSION_AT + 1] = 8;
        put_le16(root, ROOT_ENTRIES_AT, limit as u16);
        put_le16(root, ROOT_ENTRIES_AT + 2, 1);
        put_le32(root, ROOT_ENTRIES_AT + 4, 1);
        inode.flags |= flags::INDEX;
        Ok(())
    }

    fn fill_leaf(&mut self, place: VolumeBlock, seed: u32, entries: &[Moved]) -> Result<()> {
        let space = self.entry_space();
        let bytes = &mut self.new_leaf(place, seed)?[..space];
        let mut used = 0;
        for (n, entry) in entries.iter().enumerate() {
            // Entries go one behind the other; the last one's room reaches to the end.
            let needed = if n + 1 == entries.len() { space - used } else { block::entry_bytes(&entry.name) };
            if used + block::entry_bytes(&entry.name) > space {
                return Err(Error::Corrupt("directory block"));
            }
            block::put_entry(bytes, used, needed, &entry.name, entry.inode, entry.code);
            used += needed;
        }
        Ok(())
    }

    pub(super) fn add_indexed(
        &mut self,
        dir: InodeNumber,
        inode: &mut Inode,
        name: &[u8],
        target: InodeNumber,
        code: u8,
    ) -> Result<()> {
        let version = self.index_version(&self.first_block(dir, inode)?);
        let wanted = hash(version, &self.sb.hash_seed, name)?;
        let space = self.entry_space();
        // Each round adds a level, splits an index block or splits a leaf; then there is room.
        for _ in 0..6 {
            let path = self.descend(dir, inode, wanted.major)?;
            let leaf = self.dir_block(dir, inode, path.leaf, Role::Leaf)?;
            if self.insert_into(leaf, name, target, code, space)? {
                return Ok(());
            }
            match path.frames.last() {
                Some(frame) if frame.count < frame.limit => self.split_leaf(dir, inode, &path)?,
                _ => self.make_index_room(dir, inode, &path)?,
            }
        }
        Err(Error::NoSpace)
    }

    /// Moves the upper half of a leaf's entries, by hash, to a new leaf behind it.
    fn split_leaf(&mut self, dir: InodeNumber, inode: &mut Inode, path: &IndexPath) -> Result<()> {
        let old = self.dir_block(dir, inode, path.leaf, Role::Leaf)?;
        let mut entries = self.hashed_entries(&old, path.version)?;
        let place = old.place;
        drop(old);
        if entries.len() < 2 {
            return Err(Error::Corrupt("directory block"));
        }
        entries.sort_by_key(|entry| entry.hash);
        let split = split_point(&entries, self.sb.block_size);
        let begins = entries[split].hash;
        let continued = entries[split - 1].hash == begins;
        let seed = self.seed(dir, inode);
        let new_at = self.dir_blocks(inode)?;
        let new = self.add_block(dir, inode)?;
        self.edit(place, Kind::DirLeaf(seed))?;
        self.fill_leaf(place, seed, &entries[..split])?;
        self.fill_leaf(new, seed, &entries[split..])?;
        let frame = path.frames.last().ok_or(Error::Corrupt("directory index"))?;
        self.insert_pair(frame, begins | u32::from(continued), new_at)
    }

    fn hashed_entries(&self, leaf: &DirBlock, version: u8) -> Result<Vec<Moved>> {
        let mut entries = Vec::new();
        for entry in block::entries(&leaf.buffer.bytes()[..self.entry_space()]) {
            let entry = entry?;
            let NameHash { major, .. } = hash(version, &self.sb.hash_seed, entry.name)?;
            let (inode, code) = (entry.inode, entry.code);
            entries.push(Moved { hash: major, inode, code, name: entry.name.into() });
        }
        Ok(entries)
    }

    /// Adds a pair behind the frame's; there is room.
    fn insert_pair(&mut self, frame: &Frame, hash: u32, leaf: u32) -> Result<()> {
        let bytes = self.edit(frame.place, frame.kind)?;
        let at = frame.entries_at + (frame.pair + 1) * PAIR;
        bytes.copy_within(at..frame.entries_at + frame.count * PAIR, at + PAIR);
        put_le32(bytes, at, hash);
        put_le32(bytes, at + 4, leaf);
        put_le16(bytes, frame.entries_at + 2, frame.count as u16 + 1);
        Ok(())
    }

    /// Makes the index deeper, or splits its full lower block.
    fn make_index_room(&mut self, dir: InodeNumber, inode: &mut Inode, path: &IndexPath) -> Result<()> {
        match path.frames.as_slice() {
            [root] => self.add_level(dir, inode, root),
            [root, node] if root.count < root.limit => self.split_node(dir, inode, root, node),
            _ => Err(Error::NoSpace),
        }
    }

    fn write_node(&mut self, place: VolumeBlock, seed: u32, pairs: &[u8]) -> Result<()> {
        let limit = self.pair_limit(NODE_ENTRIES_AT);
        let size = self.sb.block_size;
        let bytes = self.create(place, Kind::DirNode(seed))?;
        put_le16(bytes, 4, size as u16);
        bytes[NODE_ENTRIES_AT..NODE_ENTRIES_AT + pairs.len()].copy_from_slice(pairs);
        put_le16(bytes, NODE_ENTRIES_AT, limit as u16);
        put_le16(bytes, NODE_ENTRIES_AT + 2, (pairs.len() / PAIR) as u16);
        Ok(())
    }

    /// Moves all pairs of the root to a node below it.
    fn add_level(&mut self, dir: InodeNumber, inode: &mut Inode, root: &Frame) -> Result<()> {
        let buffer = self.load(root.place, root.kind)?;
        let pairs: Vec<u8> = buffer.bytes()[root.entries_at..root.entries_at + root.count * PAIR].into();
        drop(buffer);
        let seed = self.seed(dir, inode);
        let at = self.dir_blocks(inode)?;
        let place = self.add_block(dir, inode)?;
        self.write_node(place, seed, &pairs)?;
        let bytes = self.edit(root.place, root.kind)?;
        bytes[LEVELS_AT] += 1;
        put_le16(bytes, ROOT_ENTRIES_AT + 2, 1);
        put_le32(bytes, ROOT_ENTRIES_AT + 4, at);
        Ok(())
    }

    /// Moves the upper half of a node's pairs to a new node behind it.
    fn split_node(&mut self, dir: InodeNumber, inode: &mut Inode, root: &Frame, node: &Frame) -> Result<()> {
        let buffer = self.load(node.place, node.kind)?;
        let half = node.count / 2;
        let range = node.entries_at + half * PAIR..node.entries_at + node.count * PAIR;
        let pairs: Vec<u8> = buffer.bytes()[range].into();
        drop(buffer);
        let seed = self.seed(dir, inode);
        let at = self.dir_blocks(inode)?;
        let place = self.add_block(dir, inode)?;
        self.write_node(place, seed, &pairs)?;
        put_le16(self.edit(node.place, node.kind)?, node.entries_at + 2, half as u16);
        self.insert_pair(root, le32(&pairs, 0), at)
    }
}

/// Where sorted entries are cut so that both parts take about the same room; neither is empty.
fn split_point(entries: &[Moved], block_size: usize) -> usize {
    let mut size = 0;
    let mut split = entries.len();
    for entry in entries.iter().rev() {
        let bytes = block::entry_bytes(&entry.name);
        if size + bytes / 2 > block_size / 2 {
            break;
        }
        size += bytes;
        split -= 1;
    }
    split.clamp(1, entries.len() - 1)
}
