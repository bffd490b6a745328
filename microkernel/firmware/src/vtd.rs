//! What is put into a remapping unit's queue of invalidations (VT-d specification, 6.5.2).

/// All context entries.
pub const CONTEXTS: u64 = 1 | 1 << 4;
/// All translations; reads and writes under way are waited for.
pub const IOTLB: u64 = 2 | 1 << 4 | 3 << 6;
/// All interrupt entries.
pub const INTERRUPTS: u64 = 4;
/// What a unit writes once it has done a batch.
pub const DONE: u32 = 1;
/// Nothing after it begins before all that came before is done; the status stays 0.
const FENCE: u64 = 5 | 1 << 5 | 1 << 6;

/// The translations of one domain, likewise.
pub const fn iotlb_of(domain: u16) -> u64 {
    2 | 2 << 4 | 3 << 6 | (domain as u64) << 16
}

/// The entries of a batch: its descriptors one after the other, then that the unit writes [`DONE`] to the physical
/// address `status`. Units may do what is queued in any order (6.5.2.11), so each waits for the one before: a
/// translation made through an old context entry must not outlive the entry.
pub fn batch(descriptors: &[u64], status: u64) -> impl Iterator<Item = [u64; 2]> {
    let fenced = descriptors.iter().flat_map(move |&descriptor| [[descriptor, 0], [FENCE, status]]);
    fenced.chain([[FENCE | (DONE as u64) << 32, status]])
}

#[cfg(test)]
#[path = "../tests/vtd.rs"]
mod tests;
