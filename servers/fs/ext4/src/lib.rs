//! ext4 with a journal, as pure logic over the caller's block cache.
//!
//! [`Ext4`] is a mounted volume; [`BlockDevice`] and [`BlockCache`] are what it runs on. All changes of metadata go
//! through the transaction (`transaction`), which the journal (`journal`) makes durable. Start reading in `volume`, then
//! `transaction`, then `namespace` and `file` for what operations look like.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod acl;
mod allocate;
mod allocate_inode;
mod attributes;
mod bitmap;
mod block_map;
mod block_number;
mod buffer;
mod bytes;
mod checksum;
mod data;
mod device;
mod directory;
mod error;
mod extent;
mod features;
mod file;
mod group;
mod inode;
mod journal;
mod metadata;
mod mkfs;
mod mount;
mod namespace;
mod orphan;
mod orphan_list;
mod permission;
mod space;
mod superblock;
mod survive;
mod symlink;
mod time;
mod transaction;
mod volume;
mod write_back;
mod xattr;
mod zones;

pub use attributes::{Attributes, SetAttributes, Statistics};
pub use buffer::{Block, Buffer, allocate};
pub use device::{BlockCache, BlockDevice};
pub use directory::DirEntry;
pub use error::{Error, IoError, Result};
pub use features::IncompatFeatures;
pub use inode::{FileType, InodeNumber};
pub use mkfs::{FormatOptions, format};
pub use mount::MountOptions;
pub use namespace::{NewInode, Rename};
pub use permission::{Access, Credentials};
pub use space::Fallocate;
pub use survive::StateArea;
pub use time::Time;
pub use volume::Ext4;
pub use write_back::WriteBackCache;
pub use xattr::SetXattr;
