//! What CPUs and devices reach by their tables, and by what they remember of them.

use objects::memory::Table;

use super::World;

impl World {
    /// The leaf entry for `address` under the root table `root`, as the processor would find it.
    pub fn walk(&self, root: u64, address: u64) -> Option<u64> {
        let mut table = root;
        for level in (0..4).rev() {
            let shift = 12 + 9 * level;
            let found = self.memory.object::<Table>(table)?;
            let entry = found.get()[(address >> shift) as usize & 511].get();
            if entry & 1 == 0 {
                return None;
            }
            if level == 0 || level < 3 && entry & 1 << 7 != 0 {
                let page = address & ((1 << shift) - 1) & !0xfff;
                return Some((entry & !(((1 << shift) - 1) & 0x000f_ffff_ffff_f000)) | page);
            }
            table = entry & 0x000f_ffff_ffff_f000;
        }
        None
    }

    /// The current thread of `cpu` reads at `address`: the entry that its CPU uses, cached or found.
    pub fn touch(&self, cpu: usize, address: u64) -> Option<u64> {
        let page = address & !0xfff;
        if let Some(&entry) = self.machine.tlbs[cpu].borrow().get(&page) {
            return Some(entry);
        }
        let entry = self.walk(self.machine.roots[cpu].get(), page)?;
        self.machine.tlbs[cpu].borrow_mut().insert(page, entry);
        Some(entry)
    }

    /// Every cached translation is still true.
    pub fn check_tlbs(&self) {
        for cpu in 0..self.cpus.len() {
            let root = self.machine.roots[cpu].get();
            for (&page, &entry) in self.machine.tlbs[cpu].borrow().iter() {
                assert_eq!(self.walk(root, page), Some(entry), "CPU {cpu} keeps a stale page {page:#x}");
            }
        }
    }

    /// The device `source` reaches for `address`: the physical address it gets to. What was stopped is told on
    /// CPU 0.
    pub fn dma(&self, source: u16, address: u64, write: bool) -> Option<u64> {
        let reached = self.machine.iommu.reach(self.memory, source, address, write);
        let (here, _) = self.begin(0);
        self.kernel.take_faults(here);
        self.end(here);
        reached
    }

    /// No device is under an IoSpace that is gone, or reaches by the IOMMU's memory what the tables do not have.
    pub fn check_devices(&self, living: &std::collections::BTreeSet<u64>) {
        for space in self.kernel.devices.iter().filter_map(|device| device.space.get()) {
            assert!(living.contains(&(space.address() - abi::PAGE_SIZE)), "a device is under a dead IoSpace");
            assert!(space.is_io());
        }
        self.machine.iommu.check(self.memory);
    }
}
