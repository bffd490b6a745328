//! QEMU's device for teaching (docs/specs/edu.txt of QEMU): it reads and writes where it is told, and signals
//! when it is told. So it can be told to do what no driver should.

use abi::{CPtr, Kind, MapFlags};
use ipc::{IoPort, Untyped};

use crate::world::{CNODE, IO_PORT, Must, Slot, VSPACE, World, slots};

/// Where its registers are mapped.
const HERE: u64 = 0x7_4000_0000;
/// Bytes of its registers.
const SIZE: u64 = 1 << 20;
/// Vendor and device.
const IDENTITY: u64 = 0x11e8_1234;
/// Ports to PCI configuration space: address, data.
const ADDRESS: u64 = 0xcf8;
const DATA: u64 = 0xcfc;
/// Buses that are looked at.
const BUSES: u64 = 32;

/// Registers of configuration space.
mod config {
    pub const COMMAND: u64 = 0x04;
    pub const CLASS: u64 = 0x08;
    pub const BAR: u64 = 0x10;
    pub const BUSES: u64 = 0x18;
    pub const WINDOW: u64 = 0x20;
    pub const CAPABILITIES: u64 = 0x34;
    /// Memory, and mastering the bus.
    pub const ENABLED: u64 = 6;
    /// Of a bridge between PCI buses.
    pub const BRIDGE: u64 = 0x0604;
    pub const MSI: u64 = 5;
}

/// Its own registers.
mod register {
    pub const RAISE: u64 = 0x60;
    pub const ACKNOWLEDGE: u64 = 0x64;
    pub const SOURCE: u64 = 0x80;
    pub const DESTINATION: u64 = 0x88;
    pub const COUNT: u64 = 0x90;
    pub const COMMAND: u64 = 0x98;
    /// Where its own memory is, to it.
    pub const MEMORY: u64 = 0x4_0000;
}

/// Which way it copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From memory into the device.
    In = 1,
    /// From the device into memory.
    Out = 3,
}

/// The device.
#[derive(Clone, Copy, Debug)]
pub struct Edu {
    /// bus << 8 | device << 3 | function.
    pub source: u64,
}

fn read(ports: IoPort, source: u64, register: u64) -> u64 {
    ports.write(ADDRESS, 4, 1 << 31 | source << 8 | register).must("naming a register");
    ports.read(DATA, 4).must("reading it")
}

fn write(source: u64, register: u64, value: u64) {
    IO_PORT.write(ADDRESS, 4, 1 << 31 | source << 8 | register).must("naming a register");
    IO_PORT.write(DATA, 4, value).must("writing it");
}

/// Looks for it. The last one: where a driver runs beside the tests, it has the first.
pub fn find(ports: IoPort) -> Option<Edu> {
    (0..BUSES << 8).rfind(|&source| read(ports, source, 0) == IDENTITY).map(|source| Edu { source })
}

impl Edu {
    /// The device, put into the test's device memory, mapped and allowed to master the bus.
    pub fn start(w: &mut World) -> Edu {
        let edu = find(IO_PORT).unwrap_or_else(|| panic!("the device is gone"));
        let slot = w.slot();
        Untyped(CPtr(slots::DEVICE))
            .retype(Kind::Frame, SIZE.trailing_zeros().into(), CNODE.0, slot.into_slot(), 1)
            .must("a Frame of device memory");
        let place = ipc::Frame(slot).physical().must("its place");
        VSPACE.map(slot, HERE, 0, SIZE / abi::PAGE_SIZE, MapFlags::WRITE).must("a map");
        if let Some(bridge) = edu.bridge() {
            write(bridge, config::WINDOW, place >> 16 | (place + SIZE - 1) & 0xfff0_0000);
            write(bridge, config::COMMAND, config::ENABLED);
        }
        write(edu.source, config::BAR, place);
        write(edu.source, config::COMMAND, config::ENABLED);
        edu
    }

    /// The bridge that it is behind.
    fn bridge(&self) -> Option<u64> {
        let is_above = |&source: &u64| {
            let class = read(IO_PORT, source, config::CLASS) >> 16;
            let secondary = read(IO_PORT, source, config::BUSES) >> 8 & 0xff;
            class == config::BRIDGE && secondary == self.source >> 8
        };
        (0..BUSES << 8).find(is_above).filter(|_| self.source >> 8 != 0)
    }

    /// Lets it reach nothing by the bus itself.
    pub fn stop(&self) {
        write(self.source, config::COMMAND, 0);
    }

    fn set(&self, register: u64, value: u64) {
        // SAFETY: a register of the device, mapped by `start`.
        unsafe { ((HERE + register) as *mut u64).write_volatile(value) }
    }

    /// Copies `bytes` between its memory and what it finds at `address`; returns when it is done.
    pub fn copy(&self, w: &World, way: Way, address: u64, bytes: u64) {
        let ends = match way {
            Way::In => [address, register::MEMORY],
            Way::Out => [register::MEMORY, address],
        };
        self.set(register::SOURCE, ends[0]);
        self.set(register::DESTINATION, ends[1]);
        self.set(register::COUNT, bytes);
        self.set(register::COMMAND, way as u64);
        // SAFETY: a register of the device, mapped by `start`.
        let busy = || unsafe { ((HERE + register::COMMAND) as *const u64).read_volatile() } & 1 != 0;
        w.until("the device has copied", || !busy());
    }

    /// Sets the message that it signals by.
    pub fn set_message(&self, [address, data]: [u64; 2]) {
        let mut at = read(IO_PORT, self.source, config::CAPABILITIES) & 0xfc;
        while read(IO_PORT, self.source, at) & 0xff != config::MSI {
            at = read(IO_PORT, self.source, at) >> 8 & 0xfc;
            assert_ne!(at, 0, "it signals by no message");
        }
        let control = read(IO_PORT, self.source, at);
        let (enable, wide) = (1 << 16, control & 1 << 23 != 0);
        write(self.source, at, control & !enable);
        write(self.source, at + 4, address & 0xffff_ffff);
        if wide {
            write(self.source, at + 8, address >> 32);
        }
        write(self.source, at + if wide { 12 } else { 8 }, data);
        write(self.source, at, control | enable);
    }

    /// Signals.
    pub fn signal(&self) {
        let set = |register: u64| {
            // SAFETY: a register of the device, mapped by `start`.
            unsafe { ((HERE + register) as *mut u32).write_volatile(1) }
        };
        set(register::RAISE);
        set(register::ACKNOWLEDGE);
    }
}
