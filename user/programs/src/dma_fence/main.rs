//! `dma-fence` has the driver of a device do what no driver may, and looks whether anything comes of it.
//!
//! QEMU's `edu` device copies memory wherever its driver tells it to, and that driver does what this program says. So it
//! is told to write and read memory of this program's, which is not in its IoSpace, and to write to where interrupts are
//! messages. Each time the memory must stay as it was, no interrupt come, init name the device and the address, and the
//! driver begin a new life in which it works. Status 0 if all of that is so, 1 if not, 2 where there is no IOMMU.
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
    attempts::forged_interrupts(&driver)?;
    rt::println!("device {device}: the fence held");
    Ok(0)
}
