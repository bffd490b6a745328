//! The machine's two serial lines: ports and interrupts of [`Uart`]s.

use core::fmt;

use abi::boot::slots;
use abi::{CPtr, Error, Rights};
use ipc::{IrqControl, IrqHandler};
use proto::life::bell;
use rt::alloc::AllocError;
use rt::memory;
use uart::{Gone, Ports};

use crate::console::uart::Uart;
use crate::machine::CNODE;

/// COM1: the operator's terminal, which the kernel's log goes to, too.
pub const COM1: Place = Place { port: 0x3f8, irq: 4 };
/// COM2: the host's tool.
pub const COM2: Place = Place { port: 0x2f8, irq: 3 };

/// Where a serial line is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    port: u16,
    irq: u8,
}

impl Place {
    /// The badge by which init's Notification tells that this line has interrupted.
    pub const fn badge(self) -> u64 {
        1 << (bell::OWN + self.irq)
    }
}

/// Why a line cannot be used.
#[derive(Clone, Copy, Debug)]
pub enum OpenError {
    /// Its interrupt cannot be had.
    Interrupt(AllocError),
    /// It is not there.
    Gone(Gone),
}

impl From<AllocError> for OpenError {
    fn from(error: AllocError) -> OpenError {
        OpenError::Interrupt(error)
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> OpenError {
        OpenError::Interrupt(error.into())
    }
}

impl From<Gone> for OpenError {
    fn from(gone: Gone) -> OpenError {
        OpenError::Gone(gone)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            OpenError::Interrupt(error) => error.fmt(f),
            OpenError::Gone(gone) => gone.fmt(f),
        }
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
    pub fn open(place: Place, notification: CPtr) -> Result<Serial, OpenError> {
        let [handler, badged] = memory::with(|objects| Ok([objects.take_slot()?, objects.take_slot()?]))?;
        let (control, from) = (IrqControl(CPtr(slots::IRQ_CONTROL)), u64::from(notification.0));
        control.handler(CNODE.0, u64::from(handler.0), u64::from(place.irq), 0, 0)?;
        CNODE.mint(u64::from(badged.0), CNODE.0, from, Rights::WRITE, place.badge())?;
        let irq = IrqHandler(handler);
        irq.bind(badged)?;
        let ports = Ports { ports: CPtr(slots::IO_PORT), base: place.port };
        let serial = Serial { uart: Uart::open(ports)?, irq };
        serial.let_through()?;
        Ok(serial)
    }

    /// Lets the next interrupt through.
    pub fn let_through(&self) -> Result<(), Error> {
        self.irq.ack()
    }
}
