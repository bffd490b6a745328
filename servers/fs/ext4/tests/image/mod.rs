//! Images changed by hand: fields of the superblock, of inodes and of the log, where no tool would put them.
#![allow(dead_code)]

use crate::{disk::Disk, linux};

pub const SUPERBLOCK: usize = 1024;
const EXTENT_ROOT: usize = 0x28;

/// An image as bytes, with the geometry that its superblock names.
#[derive(Clone)]
pub struct Image(pub Vec<u8>);

impl Image {
    pub fn make(megabytes: u64, options: &[&str]) -> Self {
        Image(linux::make_image(megabytes, options))
    }

    /// Runs commands of debugfs that write.
    pub fn debugfs(self, commands: &str) -> Self {
        let file = linux::Scratch::holding("image", &self.0);
        linux::debugfs(&file.0, true, commands);
        Image(file.read())
    }

    /// The blocks of a file as debugfs lists them.
    pub fn blocks(&self, path: &str) -> Vec<usize> {
        let file = linux::Scratch::holding("image", &self.0);
        let said = linux::debugfs(&file.0, false, &format!("blocks {path}\n"));
        said.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    pub fn disk(&self) -> Disk {
        Disk::new(self.0.clone())
    }

    pub fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn block_size(&self) -> usize {
        1024 << self.u32(SUPERBLOCK + 0x18)
    }

    /// Where the descriptor of the first group begins.
    fn group(&self) -> usize {
        (self.u32(SUPERBLOCK + 0x14) as usize + 1) * self.block_size()
    }

    pub fn block_bitmap(&self) -> u32 {
        self.u32(self.group())
    }

    pub fn inode_bitmap(&self) -> u32 {
        self.u32(self.group() + 4)
    }

    pub fn inode_table(&self) -> u32 {
        self.u32(self.group() + 8)
    }

    /// Where an inode of the first group begins.
    pub fn inode(&self, number: u32) -> usize {
        let size = usize::from(self.u16(SUPERBLOCK + 0x58));
        self.inode_table() as usize * self.block_size() + (number as usize - 1) * size
    }

    /// Gives an inode a root of these extents, as (block, count word, start).
    pub fn put_extents(&mut self, inode: u32, extents: &[(u32, u16, u32)]) {
        let at = self.inode(inode) + EXTENT_ROOT;
        put_node(&mut self.0[at..at + 60], 4, 0, extents);
    }

    /// Makes a block a leaf of these extents.
    pub fn put_leaf(&mut self, block: u32, extents: &[(u32, u16, u32)]) {
        let size = self.block_size();
        let most = ((size - 12) / 12) as u16;
        put_node(&mut self.0[block as usize * size..][..size], most, 0, extents);
    }

    /// Gives an inode a root of these leaves, as (first block, place).
    pub fn put_leaves(&mut self, inode: u32, leaves: &[(u32, u32)]) {
        let at = self.inode(inode) + EXTENT_ROOT;
        put_node(&mut self.0[at..at + 60], 4, 1, &[]);
        self.put(at + 2, &(leaves.len() as u16).to_le_bytes());
        for (n, (key, place)) in leaves.iter().enumerate() {
            self.put(at + 12 + 12 * n, &key.to_le_bytes());
            self.put(at + 16 + 12 * n, &place.to_le_bytes());
        }
    }

    /// The first block of the journal, and where its superblock begins.
    pub fn journal(&self) -> (usize, usize) {
        let first = self.blocks("<8>")[0];
        (first, first * self.block_size())
    }

    pub fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    pub fn put_be32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_be_bytes());
    }

    /// The journal's blocks in the order of the log.
    pub fn log(&self) -> Vec<usize> {
        self.blocks("<8>")
    }

    /// The header blocks of the log that belong to transactions from its first on: (place in bytes, type, sequence).
    pub fn log_headers(&self) -> Vec<(usize, u32, u32)> {
        let log = self.log();
        let size = self.block_size();
        let first = self.be32(log[0] * size + 0x18);
        let headers = log[1..].iter().map(|block| block * size);
        headers
            .filter(|at| self.be32(*at) == 0xc03b_3998 && self.be32(at + 8).wrapping_sub(first) < 1000)
            .map(|at| (at, self.be32(at + 4), self.be32(at + 8)))
            .collect()
    }
}

fn put_node(bytes: &mut [u8], most: u16, depth: u16, extents: &[(u32, u16, u32)]) {
    bytes.fill(0);
    for (at, word) in [(0, 0xf30a), (2, extents.len() as u16), (4, most), (6, depth)] {
        bytes[at..at + 2].copy_from_slice(&word.to_le_bytes());
    }
    for (n, (block, count, start)) in extents.iter().enumerate() {
        let at = 12 + 12 * n;
        bytes[at..at + 4].copy_from_slice(&block.to_le_bytes());
        bytes[at + 4..at + 6].copy_from_slice(&count.to_le_bytes());
        bytes[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
    }
}
