//! What is tried.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::object::{IO_INTERRUPTS, PAGE_SIZE};
use abi::{CPtr, Error, Kind};
use ipc::{Frame, IrqControl, IrqHandler};
use proto::edu::{BUFFER, Request};
use rt::{env, memory};

use crate::driver::{Driver, Stopped};

/// What the foreign memory holds, and what is written over it.
const SECRET: u64 = 0x5ec2_e75e_c2e7_5ec2;
const FORGED: u64 = 0xbad0_bad0_bad0_bad0;

/// Memory of this program's, of which the driver knows nothing but where it is.
struct Foreign {
    words: &'static [AtomicU64],
    physical: u64,
}

impl Foreign {
    fn new() -> Result<Foreign, String> {
        let bits = PAGE_SIZE.ilog2();
        let failed = |error| format!("no memory to be written over: {error}");
        let frame = memory::make(Kind::Frame, bits).map_err(failed)?;
        let words = memory::map_words(frame, bits).map_err(failed)?;
        words.iter().for_each(|word| word.store(SECRET, Ordering::Relaxed));
        let physical = Frame(frame).physical().map_err(|error| failed(error.into()))?;
        Ok(Foreign { words, physical })
    }

    fn is_unchanged(&self) -> bool {
        self.words.iter().all(|word| word.load(Ordering::Relaxed) == SECRET)
    }
}

/// Has the device write this program's memory, and read it.
pub fn foreign_memory(driver: &Driver) -> Result<(), String> {
    let foreign = Foreign::new()?;
    for (request, name) in [(Request::Store, "write"), (Request::Fetch, "read")] {
        driver.load(FORGED)?;
        let stopped = provoke(driver, request, foreign.physical, BUFFER)?;
        if !(foreign.physical..foreign.physical + BUFFER).contains(&stopped.address) {
            return Err(format!("the report names another address: {:#x}", stopped.address));
        }
        if !foreign.is_unchanged() {
            return Err(format!("the memory at {:#x} has changed", foreign.physical));
        }
        rt::println!("  {name} of foreign memory at {:#x}: {}", foreign.physical, stopped.report);
        comes_back(driver)?;
        if !foreign.is_unchanged() {
            return Err(format!("the memory at {:#x} has changed", foreign.physical));
        }
        rt::println!("    memory unchanged, driver in life {}", driver.life()?);
    }
    Ok(())
}

/// Has the device write the message of an interrupt that is this program's.
pub fn forged_interrupts(driver: &Driver) -> Result<(), String> {
    let notification = memory::make(Kind::Notification, 0).map_err(|error| format!("{error}"))?;
    let [address, data] = own_interrupt(notification)?;
    for (address, data) in [(address, data), (IO_INTERRUPTS.start, 0x40)] {
        driver.load(data)?;
        let before = driver.life()?;
        driver.tell(Request::Store, [address, 4])?;
        let stopped = driver.copied();
        rt::println!(
            "  forged {address:#x} {data:#x}: {:?} life {} -> {}",
            stopped.is_ok(),
            before,
            driver.life()?
        );
        match ipc::poll(notification) {
            Err(Error::WouldBlock) => rt::println!("    no interrupt"),
            other => rt::println!("    interrupt: {other:?}"),
        }
    }
    Ok(())
}

/// An interrupt of this program's: the address and data that raise it if its device writes them.
fn own_interrupt(notification: CPtr) -> Result<[u64; 2], String> {
    let failed = |error: Error| format!("no interrupt of its own: {}", error.name());
    let slot = memory::with(|objects| objects.take_slot()).map_err(|error| format!("{error}"))?;
    let cnode = memory::cnode().map_err(|error| format!("{error}"))?;
    let control = IrqControl(env::required("irq-control"));
    let message = control.msi(cnode.0, u64::from(slot.0), 0, NOBODY).map_err(failed)?;
    IrqHandler(slot).bind(notification).map_err(failed)?;
    Ok(message)
}

/// A source that no device is.
const NOBODY: u64 = 0xfff8;

/// Has the driver do what it may not, and waits until it is stopped.
fn provoke(driver: &Driver, request: Request, address: u64, bytes: u64) -> Result<Stopped, String> {
    let life = driver.life()?;
    driver.tell(request, [address, bytes])?;
    driver.stopped(life)
}

/// Waits for the driver's next life, in which it must work.
fn comes_back(driver: &Driver) -> Result<(), String> {
    driver.works().map_err(|error| format!("after its restart: {error}"))
}
