//! Listing directories with cookies that stay good while the directory changes.
//!
//! Where the volume has indexes the order is that of the names' hashes, whether or not this directory has one yet, so
//! that a split or a new index moves nothing. Other directories are listed by position.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use super::block::{self, RawEntry};
use super::hash::{NameHash, hash};
use super::{DirBlock, Role};
use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::inode::{FileType, Inode, InodeNumber};
use crate::volume::Ext4;

/// One name of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// What it names.
    pub inode: InodeNumber,
    /// Its type, where the directory stores one.
    pub kind: Option<FileType>,
    /// The name, without terminator.
    pub name: &'a [u8],
    /// Where a listing goes on behind this name.
    pub next: u64,
}

/// The cookies of `.` and `..`; all others are larger.
const DOT: u64 = 0;
const DOT_DOT: u64 = 1;
const FIRST: u64 = 2;

/// A name to be listed.
struct Listed {
    hash: NameHash,
    inode: InodeNumber,
    kind: Option<FileType>,
    name: Vec<u8>,
}

/// Where a listing is: the cookie of the next name, and who takes the names.
struct Listing<'a, F> {
    cookie: u64,
    each: &'a mut F,
}

impl<F: FnMut(&DirEntry<'_>) -> bool> Listing<'_, F> {
    /// Lists names in the order of their cookies; returns false when the caller has had enough. `names` holds either all
    /// or none of the names of each major hash.
    ///
    /// A cookie is the major hash above 31 bits of the minor one. Names for which both are equal get cookies behind one
    /// another, in the order of the names, so that none is passed over when the listing goes on between them.
    fn emit(&mut self, mut names: Vec<Listed>) -> bool {
        names.sort_by(|a, b| (a.hash, &a.name).cmp(&(b.hash, &b.name)));
        let mut cookie = FIRST - 1;
        for listed in &names {
            let wanted = u64::from(listed.hash.major >> 1) << 32 | u64::from(listed.hash.minor >> 1);
            cookie = wanted.max(cookie + 1);
            if cookie < self.cookie {
                continue;
            }
            let entry =
                DirEntry { inode: listed.inode, kind: listed.kind, name: &listed.name, next: cookie + 1 };
            if !(self.each)(&entry) {
                return false;
            }
        }
        true
    }
}

impl<C: BlockCache> Ext4<C> {
    /// Calls `each` for the names of a directory from `cookie` on (0: from the start), until it answers `false`.
    ///
    /// A name that stays in the directory all the time is listed exactly once by calls that each go on at the last
    /// entry's `next`, however the directory changes between them (a name that `each` refused is listed again). Names
    /// that agree in 62 bits of two hashes are an exception: one may be passed over when another one is removed
    /// between two calls.
    ///
    /// Worst case: reads each block of the directory once (and its index, at most two blocks a leaf).
    ///
    /// # Errors
    /// [`Error::NotDirectory`], [`Error::NotFound`].
    pub fn read_dir(
        &self,
        dir: InodeNumber,
        cookie: u64,
        mut each: impl FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let inode = self.directory(dir)?;
        if cookie <= DOT_DOT {
            let parent = self.parent_of(dir, &inode)?;
            let directory = Some(FileType::Directory);
            let dot = DirEntry { inode: dir, kind: directory, name: b".", next: DOT_DOT };
            let dot_dot = DirEntry { inode: parent, kind: directory, name: b"..", next: FIRST };
            if cookie == DOT && !each(&dot) || !each(&dot_dot) {
                return Ok(());
            }
        }
        let mut listing = Listing { cookie: cookie.max(FIRST), each: &mut each };
        if self.is_indexed(&inode) {
            self.list_indexed(dir, &inode, &mut listing)
        } else if self.sb.has_index() && self.dir_blocks(&inode)? == 1 {
            let mut names = Vec::new();
            let leaf = self.dir_block(dir, &inode, 0, Role::Leaf)?;
            self.collect_hashed(&leaf, self.sb.hash_version, 0..=u32::MAX, &mut names)?;
            listing.emit(names);
            Ok(())
        } else {
            self.list_by_position(dir, &inode, &mut listing)
        }
    }

    /// Refuses an entry that callers must not see.
    fn check_entry(&self, entry: &RawEntry<'_>) -> Result<()> {
        if entry.inode.0 > self.sb.inodes {
            return Err(Error::Corrupt("directory entry inode"));
        }
        entry.check_name()
    }

    /// Collects the names of a leaf, whose hashes must lie in `range`.
    fn collect_hashed(
        &self,
        leaf: &DirBlock,
        version: u8,
        range: RangeInclusive<u32>,
        names: &mut Vec<Listed>,
    ) -> Result<()> {
        for entry in block::entries(&leaf.buffer.bytes()[..self.entry_space()]) {
            let entry = entry?;
            self.check_entry(&entry)?;
            if entry.is_dots() {
                continue;
            }
            let hash = hash(version, &self.sb.hash_seed, entry.name)?;
            if !range.contains(&hash.major) {
                return Err(Error::Corrupt("directory index: a name in a wrong leaf"));
            }
            let kind = self.entry_kind(entry.code);
            names.push(Listed { hash, inode: entry.inode, kind, name: entry.name.into() });
        }
        Ok(())
    }

    fn list_indexed<F: FnMut(&DirEntry<'_>) -> bool>(
        &self,
        dir: InodeNumber,
        inode: &Inode,
        listing: &mut Listing<'_, F>,
    ) -> Result<()> {
        let from = (listing.cookie >> 32 << 1) as u32;
        let mut path = self.descend(dir, inode, from)?;
        let mut names = Vec::new();
        // As many leaves as the directory has, at most: a damaged index must not lead in circles.
        for _ in 0..self.dir_blocks(inode)? {
            let leaf = self.dir_block(dir, inode, path.leaf, Role::Leaf)?;
            // A hash that continues in the next leaf waits for the rest of its names.
            let continued = path.next.filter(|next| next & 1 == 1).map(|next| next & !1);
            let last = continued.or(path.next.map(|next| next.saturating_sub(1))).unwrap_or(u32::MAX);
            self.collect_hashed(&leaf, path.version, path.begins & !1..=last, &mut names)?;
            let waiting = match continued {
                Some(hash) => names.extract_if(.., |name| name.hash.major == hash).collect(),
                None => Vec::new(),
            };
            if !listing.emit(core::mem::replace(&mut names, waiting))
                || !self.advance(dir, inode, &mut path)?
            {
                return Ok(());
            }
        }
        Err(Error::Corrupt("directory index"))
    }

    fn list_by_position<F: FnMut(&DirEntry<'_>) -> bool>(
        &self,
        dir: InodeNumber,
        inode: &Inode,
        listing: &mut Listing<'_, F>,
    ) -> Result<()> {
        let size = self.sb.block_size as u64;
        let position = listing.cookie - FIRST;
        for at in (position / size) as u32..self.dir_blocks(inode)? {
            let block = self.dir_block(dir, inode, at, Role::Leaf)?;
            for entry in block::entries(&block.buffer.bytes()[..self.entry_space()]) {
                let entry = entry?;
                let here = u64::from(at) * size + entry.at as u64;
                if here < position || entry.is_dots() {
                    continue;
                }
                self.check_entry(&entry)?;
                let kind = self.entry_kind(entry.code);
                let next = FIRST + here + 1;
                if !(listing.each)(&DirEntry { inode: entry.inode, kind, name: entry.name, next }) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
