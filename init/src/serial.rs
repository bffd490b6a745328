//! The machine's two serial lines: ports and interrupts of [`Uart`]s.

use abi::boot::slots;
use abi::{CPtr, Error, Rights};
use ipc::{IoPort, IrqControl, IrqHandler};
use proto::life::bell;
use rt::alloc::AllocError;
use rt::memory;

use crate::machine::CNODE;
use crate::uart::{Registers, Uart};

/// COM1: the operator's terminal, which the kernel's log goes to, too.
pub const COM1: Place = Place { port: 0x3f8, irq: 4 };
/// COM2: the host's tool.
pub const COM2: Place = Place { port: 0x2f8, irq: 3 };

/// Where a serial line is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    port: u64,
    irq: u8,
}

impl Place {
    /// The badge by which init's Notification tells that this line has interrupted.
    pub const fn badge(self) -> u64 {
        1 << (bell::OWN + self.irq)
    }
}

/// The registers of a line.
#[derive(Debug)]
pub struct Ports(u64);

/// All I/O ports.
const PORTS: IoPort = IoPort(CPtr(slots::IO_PORT));

impl Registers for Ports {
    fn read(&mut self, number: u8) -> u8 {
        // init has all ports, so nothing is refused. A port without a device reads as ones.
        PORTS.read(self.0 + u64::from(number), 1).unwrap_or(0xff) as u8
    }

    fn write(&mut self, number: u8, value: u8) {
        let _ = PORTS.write(self.0 + u64::from(number), 1, u64::from(value));
    }
}

/// A serial line.
#[derive(Debug)]
pub struct Serial {
    /// The device.
    pub uart: Uart<Ports>,
    irq: IrqHandler,
}

impl Serial {
    /// Sets up the line at `place`; its interrupts signal `notification` with the place's badge.
    pub fn open(place: Place, notification: CPtr) -> Result<Serial, AllocError> {
        let [handler, badged] = memory::with(|objects| Ok([objects.take_slot()?, objects.take_slot()?]))?;
        let (control, from) = (IrqControl(CPtr(slots::IRQ_CONTROL)), u64::from(notification.0));
        control.handler(CNODE.0, u64::from(handler.0), u64::from(place.irq), 0, 0)?;
        CNODE.mint(u64::from(badged.0), CNODE.0, from, Rights::WRITE, place.badge())?;
        let irq = IrqHandler(handler);
        irq.bind(badged)?;
        let serial = Serial { uart: Uart::new(Ports(place.port)), irq };
        serial.let_through()?;
        Ok(serial)
    }

    /// Lets the next interrupt through.
    pub fn let_through(&self) -> Result<(), Error> {
        self.irq.ack()
    }
}
