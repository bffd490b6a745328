//! Where the volume's own structures lie: superblocks, descriptors, bitmaps, inode tables and the journal.
//!
//! Nothing that a file, a directory or an attribute block claims may lie there: a damaged map would otherwise show the
//! structures as data, or overwrite them. Linux calls this block validity.

use alloc::vec::Vec;

use crate::block_number::VolumeBlock;
use crate::error::{Error, Result};
use crate::group::Group;
use crate::inode::InodeNumber;
use crate::superblock::Superblock;

/// A range of blocks of the volume itself, or of its journal.
#[derive(Debug, Clone, Copy)]
struct Zone {
    start: VolumeBlock,
    end: VolumeBlock,
    /// The one inode that may have these blocks: the journal's.
    owner: Option<InodeNumber>,
}

/// All zones in ascending order, none overlapping another.
#[derive(Debug, Default)]
pub(crate) struct Zones(Vec<Zone>);

impl Zones {
    /// The zones that superblock and group descriptors name.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn of_groups(sb: &Superblock, groups: &[Group]) -> Result<Self> {
        let table = u64::from(sb.inodes_per_group.div_ceil(sb.inodes_per_block()));
        let mut zones = Vec::new();
        zones.try_reserve_exact(4 * groups.len()).map_err(|_| Error::NoMemory)?;
        for (number, group) in (0..).zip(groups) {
            let base = sb.base_blocks(number).min(sb.group_blocks(number));
            for (start, count) in [
                (sb.group_start(number), u64::from(base)),
                (group.block_bitmap, 1),
                (group.inode_bitmap, 1),
                (group.inode_table, table),
            ] {
                zones.push(Zone { start, end: start + count, owner: None });
            }
        }
        zones.retain(|zone| zone.start < zone.end);
        zones.sort_unstable_by_key(|zone| zone.start);
        zones.dedup_by(|next, before| {
            let joins = next.start <= before.end;
            if joins {
                before.end = before.end.max(next.end);
            }
            joins
        });
        zones.shrink_to_fit();
        Ok(Zones(zones))
    }

    /// Makes a range the zone of one inode.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a part of it belongs to the volume or was claimed before.
    pub(crate) fn claim(&mut self, owner: InodeNumber, start: VolumeBlock, count: u64) -> Result<()> {
        if self.meeting(start, count).next().is_some() {
            return Err(Error::Corrupt("journal map"));
        }
        self.0.try_reserve(1).map_err(|_| Error::NoMemory)?;
        let at = self.0.partition_point(|zone| zone.start < start);
        self.0.insert(at, Zone { start, end: start + count, owner: Some(owner) });
        Ok(())
    }

    /// Returns true if `inode` may have `count` blocks from `start` on.
    pub(crate) fn allow(&self, inode: InodeNumber, start: VolumeBlock, count: u64) -> bool {
        self.meeting(start, count).all(|zone| zone.owner == Some(inode))
    }

    /// Returns true if nothing of a range is in a zone.
    pub(crate) fn are_clear_of(&self, start: VolumeBlock, count: u64) -> bool {
        self.meeting(start, count).next().is_none()
    }

    /// Returns true if `block` lies in a zone of `owner`.
    pub(crate) fn belong_to(&self, owner: InodeNumber, block: VolumeBlock) -> bool {
        self.meeting(block, 1).any(|zone| zone.owner == Some(owner))
    }

    fn meeting(&self, start: VolumeBlock, count: u64) -> impl Iterator<Item = &Zone> {
        let from = self.0.partition_point(|zone| zone.end <= start);
        let end = VolumeBlock(start.0.saturating_add(count));
        self.0[from..].iter().take_while(move |zone| zone.start < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Zones {
        let zone = |start, end| Zone { start: VolumeBlock(start), end: VolumeBlock(end), owner: None };
        Zones(alloc::vec![zone(0, 10), zone(20, 21), zone(100, 200)])
    }

    #[test]
    fn ranges_that_touch_a_zone_are_refused_and_those_between_are_allowed() {
        let zones = zones();
        let inode = InodeNumber(12);
        for (start, count, allowed) in
            [(10, 10, true), (9, 1, false), (10, 11, false), (21, 79, true), (0, 1000, false), (200, 1, true)]
        {
            assert_eq!(zones.allow(inode, VolumeBlock(start), count), allowed, "{start} {count}");
            assert_eq!(zones.are_clear_of(VolumeBlock(start), count), allowed, "{start} {count}");
        }
        assert!(!zones.allow(inode, VolumeBlock(5), u64::MAX));
    }

    #[test]
    fn the_journals_blocks_belong_to_its_inode_alone_and_are_claimed_once() {
        let mut zones = zones();
        let journal = InodeNumber(8);
        zones.claim(journal, VolumeBlock(30), 5).unwrap();
        assert!(zones.allow(journal, VolumeBlock(30), 5));
        assert!(!zones.allow(InodeNumber(12), VolumeBlock(34), 1));
        assert!(!zones.allow(journal, VolumeBlock(20), 1));
        assert!(zones.belong_to(journal, VolumeBlock(34)) && !zones.belong_to(journal, VolumeBlock(35)));
        assert!(zones.claim(journal, VolumeBlock(34), 1).is_err());
        assert!(zones.claim(journal, VolumeBlock(15), 6).is_err());
    }
}
