//! What is tried.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::object::PAGE_SIZE;
use abi::{CPtr, Kind};
use ipc::{Frame, IrqControl, IrqHandler};
use proto::edu::{BUFFER, Request};
use rt::alloc::AllocError;
use rt::{env, memory};

use crate::driver::{self, Deadline, Driver, Stopped};

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

/// What became of the message of an interrupt that the device wrote without being allowed to.
struct Forged {
    /// The interrupt came.
    came: bool,
    /// What init tells of it, if the IOMMU has told init.
    report: Option<String>,
}

/// Has the device write messages of interrupts that are not its own: one of this program's, and the same after it was
/// given back. Whether none came.
pub fn forged_interrupts(driver: &Driver) -> Result<bool, String> {
    let failed = |error: AllocError| format!("no interrupt of its own: {error}");
    let notification = memory::make(Kind::Notification, 0).map_err(failed)?;
    let slot = memory::with(|objects| objects.take_slot()).map_err(failed)?;
    let message = own_interrupt(notification, slot).map_err(failed)?;
    let others = forge(driver, message, notification)?;
    tell("interrupt of another device", message, &others);
    let deleted = memory::cnode().and_then(|cnode| Ok(cnode.delete(u64::from(slot.0))?));
    deleted.map_err(failed)?;
    let nobodys = forge(driver, message, notification)?;
    tell("interrupt that is nobody's", message, &nobodys);
    comes_back(driver)?;
    if nobodys.came {
        return Err("an interrupt came that nobody has".into());
    }
    Ok(!others.came)
}

/// An interrupt of this program's: the address and data that raise it if its device writes them.
fn own_interrupt(notification: CPtr, slot: CPtr) -> Result<[u64; 2], AllocError> {
    let control = IrqControl(env::required("irq-control"));
    let message = control.msi(memory::cnode()?.0, u64::from(slot.0), 0, NOBODY)?;
    IrqHandler(slot).bind(notification)?;
    Ok(message)
}

fn forge(driver: &Driver, [address, data]: [u64; 2], notification: CPtr) -> Result<Forged, String> {
    driver.load(data)?;
    let life = driver.life()?;
    driver.tell(Request::Store, [address, MESSAGE])?;
    driver.copied()?;
    let deadline = Deadline::after(SOON);
    while deadline.is_ahead() && driver.life()? == life {
        driver::pause();
    }
    let stopped = driver.life()? != life;
    let report = if stopped { Some(driver.stopped(life)?.report) } else { None };
    Ok(Forged { came: ipc::poll(notification).is_ok(), report })
}

fn tell(what: &str, [address, data]: [u64; 2], forged: &Forged) {
    let came = if forged.came { "it came, which it must not" } else { "it did not come" };
    let report = forged.report.as_deref().unwrap_or("this IOMMU does not report it");
    rt::println!("  write of {data:#x} to {address:#x}, an {what}: {report}");
    rt::println!("    {came}");
}

/// A source that no device is.
const NOBODY: u64 = 0xfff8;
/// Bytes of a message.
const MESSAGE: u64 = 4;
/// How long a report may take after the device has written, in microseconds.
const SOON: u64 = 500_000;

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
