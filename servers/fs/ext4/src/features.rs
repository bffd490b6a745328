//! The feature words of the superblock: which ones this crate knows, and their names.
//!
//! Source: the ext4 disk layout documentation of Linux (Documentation/filesystems/ext4/super.rst).

use core::fmt;

/// Features that an implementation may ignore.
pub mod compat {
    /// Directories may be indexed by hash.
    pub const DIR_INDEX: u32 = 0x20;
    /// There is a journal.
    pub const HAS_JOURNAL: u32 = 0x4;
    /// Extended attributes are in use.
    pub const EXT_ATTR: u32 = 0x8;
    /// Backup superblocks lie in two named groups only.
    pub const SPARSE_SUPER2: u32 = 0x200;
    /// A file holds the numbers of orphaned inodes.
    pub const ORPHAN_FILE: u32 = 0x1000;
}

/// Features that an implementation must know to read.
pub mod incompat {
    /// Directory entries hold the file type.
    pub const FILETYPE: u32 = 0x2;
    /// The journal must be replayed.
    pub const RECOVER: u32 = 0x4;
    /// Files may be mapped by extents.
    pub const EXTENTS: u32 = 0x40;
    /// Group descriptors and counters are 64 bits wide.
    pub const BITS64: u32 = 0x80;
    /// Group metadata may lie outside of its group.
    pub const FLEX_BG: u32 = 0x200;
    /// The checksum seed is stored, not derived from the UUID.
    pub const CSUM_SEED: u32 = 0x2000;
    /// What this crate reads and writes.
    pub const KNOWN: u32 = FILETYPE | RECOVER | EXTENTS | BITS64 | FLEX_BG | CSUM_SEED;
}

/// Features that an implementation must know to write.
pub mod ro_compat {
    /// Backup superblocks lie in few groups only.
    pub const SPARSE_SUPER: u32 = 0x1;
    /// There may be files of 2 GiB and more.
    pub const LARGE_FILE: u32 = 0x2;
    /// Block counts of inodes are 48 bits wide and may count whole blocks.
    pub const HUGE_FILE: u32 = 0x8;
    /// Directories may have more links than fit the count.
    pub const DIR_NLINK: u32 = 0x20;
    /// Space is given out in clusters of several blocks.
    pub const BIGALLOC: u32 = 0x200;
    /// Inodes are larger than 128 bytes.
    pub const EXTRA_ISIZE: u32 = 0x40;
    /// All metadata has CRC-32C checksums.
    pub const METADATA_CSUM: u32 = 0x400;
    /// The orphan file has entries.
    pub const ORPHAN_PRESENT: u32 = 0x1_0000;
    /// What this crate writes.
    pub const KNOWN: u32 =
        SPARSE_SUPER | LARGE_FILE | HUGE_FILE | DIR_NLINK | EXTRA_ISIZE | METADATA_CSUM | ORPHAN_PRESENT;
}

/// Incompatible feature bits, shown by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IncompatFeatures(pub u32);

const INCOMPAT_NAMES: [(u32, &str); 19] = [
    (0x1, "compression"),
    (0x2, "filetype"),
    (0x4, "needs_recovery"),
    (0x8, "journal_dev"),
    (0x10, "meta_bg"),
    (0x40, "extent"),
    (0x80, "64bit"),
    (0x100, "mmp"),
    (0x200, "flex_bg"),
    (0x400, "ea_inode"),
    (0x1000, "dirdata"),
    (0x2000, "metadata_csum_seed"),
    (0x4000, "large_dir"),
    (0x8000, "inline_data"),
    (0x1_0000, "encrypt"),
    (0x2_0000, "casefold"),
    (0x20, "FEATURE_I5"),
    (0x800, "FEATURE_I11"),
    (0x4_0000, "FEATURE_I18"),
];

/// Writes the names of the bits in `bits`, each after a space; a bit without a name as `FEATURE_I<n>`.
pub(crate) fn feature_names(bits: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for n in 0..32 {
        let bit = 1u32 << n;
        if bits & bit == 0 {
            continue;
        }
        match INCOMPAT_NAMES.iter().find(|(known, _)| *known == bit) {
            Some((_, name)) => write!(f, " {name}")?,
            None => write!(f, " FEATURE_I{n}")?,
        }
    }
    Ok(())
}

impl fmt::Display for IncompatFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        feature_names(self.0, f)
    }
}
