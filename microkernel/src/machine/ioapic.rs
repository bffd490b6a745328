//! The I/O APICs: wires to vectors (82093AA data sheet).

use firmware::acpi::Platform;
use spin::{Mutex, Once};
use x86_64::instructions::port::Port;

use super::{cpu, iommu, window};

/// One controller, its registers mapped in the window.
#[derive(Clone, Copy)]
struct Controller {
    registers: u64,
    first_gsi: u32,
    wires: u32,
    /// What its messages come from, for the IOMMU.
    source: Option<u16>,
}

/// Controllers that are used, at most.
pub const MAX: usize = 8;

/// Held around each use of a controller's index register.
static CONTROLLERS: Once<Mutex<[Option<Controller>; MAX]>> = Once::new();

const MASKED: u32 = 1 << 16;
const VERSION: u32 = 1;

impl Controller {
    fn select(&self, register: u32) -> *mut u32 {
        let index = self.registers as *mut u32;
        // SAFETY: the index register of a controller that ACPI names and boot mapped; `CONTROLLERS` is locked.
        unsafe { index.write_volatile(register) };
        self.registers.wrapping_add(0x10) as *mut u32
    }

    fn read(&self, register: u32) -> u32 {
        let data = self.select(register);
        // SAFETY: its data register.
        unsafe { data.read_volatile() }
    }

    fn write(&self, register: u32, value: u32) {
        let data = self.select(register);
        // SAFETY: its data register; entries lead to vectors of devices only, which the IDT is ready for.
        unsafe { data.write_volatile(value) }
    }

    /// The register of a wire's entry: low half here, high half in the next.
    fn entry(&self, gsi: u32) -> Option<u32> {
        let wire = gsi.checked_sub(self.first_gsi).filter(|&wire| wire < self.wires)?;
        wire.checked_mul(2)?.checked_add(0x10)
    }
}

/// Silences the old interrupt controllers, and masks every wire of these.
pub fn init(platform: &Platform) {
    const OLD_CONTROLLERS: [u16; 2] = [0x21, 0xa1];
    for port in OLD_CONTROLLERS {
        // SAFETY: the mask register of an 8259: no interrupt of it comes any more.
        unsafe { Port::new(port).write(0xff_u8) };
    }
    CONTROLLERS.call_once(|| {
        let mut controllers = [None; MAX];
        for (place, apic) in controllers.iter_mut().zip(&platform.io_apics) {
            let registers = window(apic.address);
            let named = platform.io_apic_sources.iter().find(|(id, _)| *id == apic.id);
            let source = named.map(|&(_, source)| source);
            let mut new = Controller { registers, first_gsi: apic.first_gsi, wires: 0, source };
            new.wires = (new.read(VERSION) >> 16 & 0xff).saturating_add(1);
            for gsi in (0..new.wires).filter_map(|wire| new.first_gsi.checked_add(wire)) {
                if let Some(entry) = new.entry(gsi) {
                    new.write(entry, MASKED);
                }
            }
            *place = Some(new);
        }
        Mutex::new(controllers)
    });
}

/// Does `act` with the controller of `gsi` and the register of its entry; false where there is none.
fn with(gsi: u32, act: impl FnOnce(&Controller, u32)) -> bool {
    let Some(controllers) = CONTROLLERS.get() else { return false };
    let controllers = controllers.lock();
    let found = controllers.iter().flatten().find_map(|each| Some((each, each.entry(gsi)?)));
    found.map(|(controller, entry)| act(controller, entry)).is_some()
}

/// Leads the wire `gsi` to `vector` of `cpu`, masked. False where there is no such wire.
pub fn route(gsi: u32, vector: u8, cpu: usize, level: bool, active_low: bool) -> bool {
    let target = u32::from(cpu::apic_id(cpu)) << 24;
    let low = MASKED | u32::from(level) << 15 | u32::from(active_low) << 13 | u32::from(vector);
    with(gsi, |controller, entry| {
        // With interrupts remapped, the entry names the IOMMU's (VT-d specification, 5.1.5.1).
        let remapped = iommu::line(cpu, vector, level, controller.source);
        controller.write(entry, low);
        controller.write(entry.saturating_add(1), remapped.unwrap_or(target));
    })
}

/// Lets no interrupt through, or any.
pub fn mask(gsi: u32, masked: bool) {
    let bit = if masked { MASKED } else { 0 };
    with(gsi, |controller, entry| controller.write(entry, controller.read(entry) & !MASKED | bit));
}
