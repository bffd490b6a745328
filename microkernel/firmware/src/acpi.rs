//! ACPI's static tables: which CPUs, interrupt controllers, PCI window, IOMMU and reset register there are
//! (ACPI specification 6.4, chapter 5; PCI Firmware specification 3.2, 4.1.2; VT-d specification, chapter 8).

use heapless::Vec;

use crate::region::Region;
use crate::{Physical, array, byte_at, u16_at, u32_at, u64_at};

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// Physical address of its registers.
    pub address: u64,
    /// Its first global system interrupt.
    pub first_gsi: u32,
    /// Its identity.
    pub id: u8,
}

/// The memory window on PCI segment 0's configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecam {
    /// Physical address of bus 0 of the segment (also where `first_bus` is not 0).
    pub base: u64,
    /// The first bus in it.
    pub first_bus: u8,
    /// The last bus in it.
    pub last_bus: u8,
}

impl Ecam {
    /// Where the buses' configuration space lies: 1 MiB for each.
    pub fn region(&self) -> Region {
        let start = self.base.saturating_add(u64::from(self.first_bus) << 20);
        let end = self.base.saturating_add((u64::from(self.last_bus) << 20).saturating_add(1 << 20));
        Region { start, end }
    }
}

/// How a register write resets the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The I/O port.
    pub port: u16,
    /// What to write.
    pub value: u8,
}

/// A DMA remapping unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remapper {
    /// Physical address of its registers.
    pub address: u64,
    /// The PCI segment whose devices are behind it.
    pub segment: u16,
}

/// DMA remapping units that fit into the list.
pub const MAX_REMAPPERS: usize = 32;

/// What the tables say.
#[derive(Clone, Debug, Default)]
pub struct Platform {
    /// Where the RSDP was.
    pub rsdp: Option<u64>,
    /// APIC identities of the CPUs that can be used, in the MADT's order.
    pub cpus: Vec<u8, 64>,
    /// The I/O APICs.
    pub io_apics: Vec<IoApic, 8>,
    /// PCI configuration space of segment 0.
    pub ecam: Option<Ecam>,
    /// The DMA remapping units.
    pub remappers: Vec<Remapper, MAX_REMAPPERS>,
    /// Identities of I/O APICs, and the source (bus << 8 | device << 3 | function) that each has for them.
    pub io_apic_sources: Vec<(u8, u16), MAX_REMAPPERS>,
    /// Whether there is more of either than fits, or their table ends early: devices may be behind units that are
    /// not listed.
    pub remappers_unknown: bool,
    /// The I/O port of the ACPI power management timer, which has at least 24 bits.
    pub pm_timer: Option<u16>,
    /// The reset register.
    pub reset: Option<Reset>,
    /// Tables that could not be read, or whose checksum is wrong.
    pub bad_tables: u32,
}

/// No table that matters here is larger.
const MAX_TABLE: usize = 1 << 20;
/// Tables looked at, at most.
const MAX_TABLES: usize = 256;

impl Platform {
    /// Reads the tables that `rsdp` leads to, or one found where firmware puts it (ACPI 5.2.5.1).
    pub fn read(memory: &impl Physical, rsdp: Option<u64>) -> Platform {
        let mut platform = Platform::default();
        let known = rsdp.and_then(|at| Some((at, root(memory, at)?)));
        let Some((at, (root, width))) = known.or_else(|| scan(memory)) else { return platform };
        platform.rsdp = Some(at);
        for entry in root.get(36..).unwrap_or_default().chunks_exact(width).take(MAX_TABLES) {
            let address = u64_at(entry, 0).or_else(|| u32_at(entry, 0).map(u64::from)).unwrap_or(0);
            match table(memory, address) {
                Some(bytes) => platform.take_table(bytes),
                None => platform.bad_tables = platform.bad_tables.saturating_add(1),
            }
        }
        platform
    }

    fn take_table(&mut self, bytes: &[u8]) {
        let _ends_early = match bytes.get(..4) {
            Some(b"APIC") => self.take_madt(bytes),
            Some(b"MCFG") => self.take_mcfg(bytes),
            Some(b"DMAR") => {
                self.remappers_unknown |= self.take_dmar(bytes).is_none();
                Some(())
            }
            Some(b"FACP") => self.take_fadt(bytes),
            _ => Some(()),
        };
    }

    fn take_madt(&mut self, bytes: &[u8]) -> Option<()> {
        let mut rest = bytes.get(44..)?;
        while !rest.is_empty() {
            let size = usize::from(byte_at(rest, 1)?).max(2);
            let (entry, next) = rest.split_at_checked(size)?;
            rest = next;
            match byte_at(entry, 0)? {
                0 => self.take_cpu(u32::from(byte_at(entry, 3)?), u32_at(entry, 4)?),
                1 => {
                    let (address, first_gsi) = (u64::from(u32_at(entry, 4)?), u32_at(entry, 8)?);
                    let apic = IoApic { address, first_gsi, id: byte_at(entry, 2)? };
                    let _more_than_we_use = self.io_apics.push(apic);
                }
                9 => self.take_cpu(u32_at(entry, 4)?, u32_at(entry, 8)?),
                _ => {}
            }
        }
        Some(())
    }

    /// A CPU that is enabled, and that an xAPIC can address.
    fn take_cpu(&mut self, id: u32, flags: u32) {
        if let (1, Ok(id @ 0..=254)) = (flags & 1, u8::try_from(id))
            && !self.cpus.contains(&id)
        {
            let _more_than_we_use = self.cpus.push(id);
        }
    }

    fn take_mcfg(&mut self, bytes: &[u8]) -> Option<()> {
        for entry in bytes.get(44..)?.chunks_exact(16) {
            let [first_bus, last_bus] = array(entry, 10)?;
            let base = u64_at(entry, 0)?;
            if u16_at(entry, 8)? == 0 && first_bus <= last_bus && base & 0xf_ffff == 0 && base >> 52 == 0 {
                self.ecam.get_or_insert(Ecam { base, first_bus, last_bus });
            }
        }
        Some(())
    }

    fn take_dmar(&mut self, bytes: &[u8]) -> Option<()> {
        let mut rest = bytes.get(48..)?;
        while !rest.is_empty() {
            let size = usize::from(u16_at(rest, 2)?).max(4);
            let (entry, next) = rest.split_at_checked(size)?;
            rest = next;
            if u16_at(entry, 0)? == 0 {
                let (address, segment) = (u64_at(entry, 8)? & !0xfff, u16_at(entry, 6)?);
                self.remappers.push(Remapper { address, segment }).ok()?;
                self.take_scopes(entry.get(16..)?)?;
            }
        }
        Some(())
    }

    /// The device scopes of a remapping unit: which source the messages of an I/O APIC come from.
    fn take_scopes(&mut self, mut rest: &[u8]) -> Option<()> {
        const IO_APIC: u8 = 3;
        while !rest.is_empty() {
            let size = usize::from(byte_at(rest, 1)?).max(8);
            let (scope, next) = rest.split_at_checked(size)?;
            rest = next;
            if byte_at(scope, 0)? == IO_APIC {
                let [id, bus, device, function] = array(scope, 4)?;
                let source = u16::from(bus) << 8 | u16::from(device & 31) << 3 | u16::from(function & 7);
                self.io_apic_sources.push((id, source)).ok()?;
            }
        }
        Some(())
    }

    fn take_fadt(&mut self, bytes: &[u8]) -> Option<()> {
        const RESET_REGISTER_SUPPORTED: u32 = 1 << 10;
        const IO_SPACE: u8 = 1;
        self.pm_timer = u16::try_from(u32_at(bytes, 76)?).ok().filter(|&port| port != 0);
        if u32_at(bytes, 112)? & RESET_REGISTER_SUPPORTED != 0 && byte_at(bytes, 116)? == IO_SPACE {
            let port = u16::try_from(u64_at(bytes, 120)?).ok()?;
            self.reset = Some(Reset { port, value: byte_at(bytes, 128)? });
        }
        Some(())
    }
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}

/// A whole table whose length and checksum are right.
fn table(memory: &impl Physical, at: u64) -> Option<&[u8]> {
    let size = usize::try_from(u32_at(memory.bytes(at, 36)?, 4)?).ok()?;
    let bytes = memory.bytes(at, Some(size).filter(|size| (36..=MAX_TABLE).contains(size))?)?;
    sums_to_zero(bytes).then_some(bytes)
}

/// The XSDT or else the RSDT of the RSDP at `at`, and the size of an entry in it.
fn root(memory: &impl Physical, at: u64) -> Option<(&[u8], usize)> {
    let old = memory.bytes(at, 20)?;
    if old.get(..8)? != b"RSD PTR " || !sums_to_zero(old) {
        return None;
    }
    if byte_at(old, 15)? >= 2
        && let Some(new) = memory.bytes(at, 36).filter(|new| sums_to_zero(new))
        && let Some(xsdt) = table(memory, u64_at(new, 24)?).filter(|xsdt| xsdt.starts_with(b"XSDT"))
    {
        return Some((xsdt, 8));
    }
    let rsdt = table(memory, u64::from(u32_at(old, 16)?))?;
    rsdt.starts_with(b"RSDT").then_some((rsdt, 4))
}

/// Looks for the RSDP in the extended BIOS data area's first KiB and in the BIOS's read-only memory.
fn scan(memory: &impl Physical) -> Option<(u64, (&[u8], usize))> {
    let ebda = memory.bytes(0x40e, 2).and_then(|word| u16_at(word, 0)).map_or(0, |word| u64::from(word) << 4);
    let places = [Region::sized(ebda, 1024), Region { start: 0xe_0000, end: 0x10_0000 }];
    let addresses = places.into_iter().flat_map(|place| (place.start..place.end).step_by(16));
    addresses.filter(|&at| at != 0).find_map(|at| Some((at, root(memory, at)?)))
}

#[cfg(test)]
#[path = "../tests/acpi.rs"]
mod tests;
