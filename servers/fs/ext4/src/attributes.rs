//! What an inode says about itself, and changing it; open counts; the state of the volume.

use crate::device::BlockCache;
use crate::error::{Error, Result};
use crate::inode::{FileType, Inode, InodeNumber, flags};
use crate::time::Time;
use crate::transaction::Transaction;
use crate::volume::Ext4;
use crate::xattr::XATTR_CREDITS;

/// An inode's attributes, as stat shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Its number.
    pub inode: InodeNumber,
    /// What it is.
    pub kind: FileType,
    /// The lower 12 bits of the mode.
    pub permissions: u16,
    /// How many names it has; a directory with very many subdirectories says 1.
    pub links: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its size in bytes.
    pub size: u64,
    /// The space it takes, in units of 512 bytes.
    pub sectors: u64,
    /// For device files: (major, minor).
    pub device: (u32, u32),
    /// A number that changes when the inode is used anew.
    pub generation: u32,
    /// Last access, as the caller set it.
    pub accessed: Time,
    /// Last change of the content.
    pub modified: Time,
    /// Last change of content or attributes.
    pub changed: Time,
    /// When it was made; the epoch where the inode has no room for it.
    pub created: Time,
}

/// What [`Ext4::set_attributes`] changes; `None` leaves as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttributes {
    /// The lower 12 bits of the mode.
    pub permissions: Option<u16>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// Last access.
    pub accessed: Option<Time>,
    /// Last change of the content.
    pub modified: Option<Time>,
}

/// The state of the volume, as statfs shows it. Blocks are of `block_size` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// The size of a block in bytes.
    pub block_size: usize,
    /// Blocks in all, without those of the file system's own structures.
    pub blocks: u64,
    /// Blocks not in use.
    pub free_blocks: u64,
    /// Blocks not in use and not reserved for the superuser.
    pub available_blocks: u64,
    /// Inodes in all.
    pub inodes: u32,
    /// Inodes not in use.
    pub free_inodes: u32,
    /// The longest name in bytes.
    pub longest_name: u32,
    /// The volume's UUID.
    pub uuid: [u8; 16],
}

impl<C: BlockCache> Ext4<C> {
    /// The attributes of an inode.
    ///
    /// Worst case: reads one block.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn attributes(&self, number: InodeNumber) -> Result<Attributes> {
        let inode = self.inode(number)?;
        let kind = inode.file_type()?;
        let is_device = matches!(kind, FileType::CharDevice | FileType::BlockDevice);
        Ok(Attributes {
            inode: number,
            kind,
            permissions: inode.mode & 0o7777,
            links: inode.links,
            uid: inode.uid,
            gid: inode.gid,
            size: inode.size,
            sectors: inode.sectors(&self.sb),
            device: if is_device { inode.device() } else { (0, 0) },
            generation: inode.generation,
            accessed: inode.accessed,
            modified: inode.modified,
            changed: inode.changed,
            created: inode.created,
        })
    }

    /// Changes an inode's attributes. An access control list follows new permissions.
    ///
    /// Worst case: one metadata block; with an access control list that of [`set_xattr`](Self::set_xattr).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotPermitted`] for immutable and append-only inodes.
    pub fn set_attributes(&mut self, number: InodeNumber, set: &SetAttributes) -> Result<()> {
        self.transact(XATTR_CREDITS, |t| {
            let mut inode = t.inode(number)?;
            if inode.has(flags::IMMUTABLE | flags::APPEND) {
                return Err(Error::NotPermitted);
            }
            if let Some(permissions) = set.permissions {
                inode.mode = inode.mode & 0xf000 | permissions & 0o7777;
            }
            inode.uid = set.uid.unwrap_or(inode.uid);
            inode.gid = set.gid.unwrap_or(inode.gid);
            inode.accessed = set.accessed.unwrap_or(inode.accessed);
            inode.modified = set.modified.unwrap_or(inode.modified);
            inode.changed = t.now;
            match set.permissions {
                Some(_) => t.write_mode(number, inode),
                None => t.write_inode(number, &inode, true),
            }
        })
    }

    /// Notes one more user of an inode: it stays readable and writable when its last name goes.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::NoMemory`] when the state area's table of open files is full.
    pub fn open(&mut self, number: InodeNumber) -> Result<()> {
        self.inode(number)?;
        let users = self.open.get(&number).copied().unwrap_or(0) + 1;
        if let Some(survivor) = &mut self.survivor {
            survivor.set_open(number, users)?;
        }
        self.open.insert(number, users);
        Ok(())
    }

    /// Notes one user less; the last one of an inode without a name frees it.
    ///
    /// Worst case: like freeing the file in `unlink`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it was not open.
    pub fn close(&mut self, number: InodeNumber) -> Result<()> {
        let users = self.open.get_mut(&number).ok_or(Error::Invalid)?;
        *users -= 1;
        let left = *users;
        if let Some(survivor) = &mut self.survivor {
            survivor.set_open(number, left)?;
        }
        if left > 0 {
            return Ok(());
        }
        self.open.remove(&number);
        // Only inodes without a name, and those being truncated, are on the list.
        if !self.is_writable() || !self.orphans.contains(number) {
            return Ok(());
        }
        match self.any_inode(number) {
            Ok(inode) if inode.links > 0 => Ok(()),
            _ => self.free_soon(number),
        }
    }

    /// The state of the volume.
    pub fn statistics(&self) -> Statistics {
        let descriptors = self.sb.desc_blocks(self.sb.group_count);
        let table = u64::from(self.sb.inodes_per_group.div_ceil(self.sb.inodes_per_block()));
        let overhead = self.sb.first_data_block
            + u64::from(self.sb.group_count) * (table + 2)
            + (0..self.sb.group_count).filter(|group| self.sb.has_backup(*group)).count() as u64
                * (1 + descriptors);
        let mut uuid = [0; 16];
        uuid.copy_from_slice(self.sb.uuid());
        let free = self.counters.free_blocks;
        Statistics {
            block_size: self.sb.block_size,
            blocks: self.sb.blocks.saturating_sub(overhead),
            free_blocks: free,
            available_blocks: free.saturating_sub(self.sb.reserved_blocks),
            inodes: self.sb.inodes,
            free_inodes: self.counters.free_inodes,
            longest_name: 255,
            uuid,
        }
    }

    /// Whether the blocks reserved for the superuser may be used by the operations that follow (they may at first).
    pub fn use_reserve(&mut self, allowed: bool) {
        self.use_reserve = allowed;
    }
}

impl<C: BlockCache> Transaction<'_, C> {
    /// A generation for a new inode: different from the one its number had before.
    pub(crate) fn next_generation(&self, number: InodeNumber) -> u32 {
        let before = self.any_inode(number).map_or(0, |inode: Inode| inode.generation);
        let mixed = (self.generation ^ number.0).wrapping_mul(0x9e37_79b9) ^ self.operations as u32;
        if mixed == before { mixed.wrapping_add(1) } else { mixed }
    }
}
