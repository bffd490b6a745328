//! A driver that does nothing with its device but look at it. `probe once` says what it is given, and that it is really
//! there; `probe` as a component stays, so that it can die.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};

use abi::CPtr;
use proto::life::bell;
use rt::alloc::AllocError;
use rt::{env, life, memory};

rt::entry!(main);

fn main() -> Result<(), AllocError> {
    let Some(device) = env::device() else { panic!("the manifest gives the probe no device") };
    let once = env::arguments().nth(1) == Some("once");
    if once {
        let (vendor, kind) = device.identity;
        rt::println!(
            "{vendor:04x}:{kind:04x}, {} BARs, {} structures, {} vectors, {}",
            device.bars.len(),
            device.regions.len(),
            device.vectors.len(),
            if device.io_space.is_some() { "behind the IOMMU" } else { "trusted" }
        );
    }
    for bar in &device.bars {
        let registers = memory::map_registers(CPtr(bar.frame.slot), u32::from(bar.frame.bits))?;
        // SAFETY: just mapped there, uncached and for good; the device may change it at any time.
        let word = unsafe { &*registers.cast::<AtomicU32>() }.load(Ordering::Relaxed);
        if once {
            rt::println!("BAR {} has {word:#x}", bar.index);
        }
    }
    life::ready();
    if once {
        return Ok(());
    }
    loop {
        let bits = ipc::wait(life::bell())?;
        life::begun();
        if bits & 1 << bell::ORDERS != 0 {
            life::beat();
        }
    }
}
