//! `dma-fence` has the driver of a device do what no driver may, and looks whether anything comes of it.
//!
//! QEMU's `edu` device copies memory wherever its driver tells it to, and that driver does what this program says. So it
//! is told to write and read memory of this program's, which is not in its IoSpace: the memory must stay as it was, init
//! name the device and the address, and the driver begin a new life in which it works. And it is told to write the
//! messages of interrupts that are not its device's: none may come.
//!
//! Status 0 if all of that is so, 1 if not, 2 where there is no IOMMU. 3 where only an interrupt came: the IOMMU does not
//! check who writes an interrupt's message, though it is told to. QEMU 7.2's does not: of what a device writes by itself
//! it does not know the sender (it does of the messages of MSI and MSI-X, which only `pci` can change).
#![no_std]
#![no_main]

extern crate alloc;

mod attempts;
mod driver;

use alloc::string::String;

use driver::Driver;

rt::entry!(main);

/// There is no fence that could hold.
const NO_IOMMU: u8 = 2;
/// Memory is fenced, interrupts are not.
const FORGEABLE: u8 = 3;

fn main() -> Result<u8, String> {
    let driver = Driver::find()?;
    let about = driver.about()?;
    let device = about.device();
    if !about.is_fenced() {
        rt::println!(
            "device {device}: no IOMMU, so its driver is trusted with all memory; nothing was tried"
        );
        return Ok(NO_IOMMU);
    }
    rt::println!("device {device}: behind an IOMMU, its driver in life {}", about.life());
    driver.works()?;
    rt::println!("  its driver's own page: written and read, each with an interrupt");
    attempts::foreign_memory(&driver)?;
    if !attempts::forged_interrupts(&driver)? {
        rt::println!(
            "device {device}: memory is fenced; but this IOMMU lets a device raise others' interrupts"
        );
        return Ok(FORGEABLE);
    }
    rt::println!("device {device}: the fence held");
    Ok(0)
}
