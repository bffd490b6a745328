//! Listing directories with cookies that stay good while the directory changes.
//!
//! Where the volume has indexes the order is that of the names' hashes, whether or not this directory has one yet, so
//! that a split or a new index moves nothing. Other directories are listed by position.

use alloc::vec::Vec;

use super::block;
use super::hash::hash;
use crate::device::BlockCache;
use crate::error::Result;
use crate::inode::{FileType, Inode, InodeNumber};
use crate::metadata::Kind;
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
/// Leaves whose hashes continue in the next are sorted together, up to so many.
const LEAVES_TOGETHER: usize = 16;

/// A name to be listed.
struct Listed {
    cookie: u64,
    inode: InodeNumber,
    kind: Option<FileType>,
    name: Vec<u8>,
}

impl<C: BlockCache> Ext4<C> {
    /// Calls `each` for the names of a directory from `cookie` on (0: from the start), until it answers `false`.
    ///
    /// A name that stays in the directory all the time is listed exactly once by calls that each go on at the last
    /// entry's `next`, however the directory changes between them (a name that `each` refused is listed again).
    ///
    /// Worst case: reads each block of the directory once (and its index, at most two blocks a leaf).
    ///
    /// # Errors
    /// [`crate::Error::NotDirectory`], [`crate::Error::NotFound`].
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
        let cookie = cookie.max(FIRST);
        if self.is_indexed(&inode) {
            self.list_indexed(dir, &inode, cookie, &mut each)
        } else if self.sb.has_index() && self.dir_blocks(&inode)? == 1 {
            let mut names = Vec::new();
            self.collect_hashed(dir, &inode, 0, self.sb.hash_version, &mut names)?;
            emit(names, cookie, &mut each);
            Ok(())
        } else {
            self.list_by_position(dir, &inode, cookie, &mut each)
        }
    }

    fn collect_hashed(
        &self,
        dir: InodeNumber,
        inode: &Inode,
        at: u32,
        version: u8,
        names: &mut Vec<Listed>,
    ) -> Result<()> {
        let leaf = self.dir_block(dir, inode, at)?;
        for entry in block::entries(&leaf.buffer.bytes()[..self.entry_space()]) {
            let entry = entry?;
            if matches!(entry.name, b"." | b"..") {
                continue;
            }
            let hash = hash(version, &self.sb.hash_seed, entry.name)?;
            let cookie = (u64::from(hash.major >> 1) << 32 | u64::from(hash.minor)).max(FIRST);
            names.push(Listed { cookie, inode: entry.inode, kind: entry.kind, name: entry.name.into() });
        }
        Ok(())
    }

    fn list_indexed(
        &self,
        dir: InodeNumber,
        inode: &Inode,
        cookie: u64,
        each: &mut impl FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let mut from = (cookie >> 32 << 1) as u32;
        for _ in 0..self.dir_blocks(inode)? {
            let mut path = self.descend(dir, inode, from)?;
            let mut names = Vec::new();
            for _ in 0..LEAVES_TOGETHER {
                self.leaf(dir, inode, path.leaf)?;
                self.collect_hashed(dir, inode, path.leaf, path.version, &mut names)?;
                match path.next {
                    Some(next) if next & 1 == 1 => path = self.descend(dir, inode, next)?,
                    _ => break,
                }
            }
            if !emit(names, cookie, each) {
                return Ok(());
            }
            match path.next {
                Some(next) if next > from => from = next,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    fn list_by_position(
        &self,
        dir: InodeNumber,
        inode: &Inode,
        cookie: u64,
        each: &mut impl FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let size = self.sb.block_size as u64;
        let position = cookie - FIRST;
        for at in (position / size) as u32..self.dir_blocks(inode)? {
            let block = self.dir_block(dir, inode, at)?;
            if !matches!(block.kind, Kind::DirLeaf(_)) {
                continue;
            }
            for entry in block::entries(&block.buffer.bytes()[..self.entry_space()]) {
                let entry = entry?;
                let here = u64::from(at) * size + entry.at as u64;
                if here < position || matches!(entry.name, b"." | b"..") {
                    continue;
                }
                let next = FIRST + here + 1;
                if !each(&DirEntry { inode: entry.inode, kind: entry.kind, name: entry.name, next }) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Lists names in the order of their cookies; answers whether to go on.
fn emit(mut names: Vec<Listed>, cookie: u64, each: &mut impl FnMut(&DirEntry<'_>) -> bool) -> bool {
    names.retain(|name| name.cookie >= cookie);
    names.sort_by(|a, b| (a.cookie, &a.name).cmp(&(b.cookie, &b.name)));
    names.iter().all(|listed| {
        each(&DirEntry {
            inode: listed.inode,
            kind: listed.kind,
            name: &listed.name,
            next: listed.cookie + 1,
        })
    })
}
