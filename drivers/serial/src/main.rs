//! The component `serial`: brings a line and its client together.
//!
//! It drives COM3 with its usual port and the interrupt that the machine has free for it; the manifest gives the right to
//! both.
#![no_std]
#![no_main]

use core::ops::Range;

use ipc::IrqHandler;
use proto::life::bell;
use proto::stream::IN;
use rt::channel::Clients;
use rt::env;
use rt::work::{Work, World, work};
use serial::Port;
use uart::{Gone, Line, Ports};

rt::entry!(main);

/// COM3, and the interrupt that QEMU's machine has free for it.
const BASE: u16 = 0x3e8;
const IRQ: u32 = 5;
/// The ring it writes.
const WRITTEN: &[Range<usize>] = &[IN];

/// The line with its interrupt.
struct Serial {
    port: Port<'static, Ports>,
    irq: IrqHandler,
}

fn main() {
    let ports = env::required("ports-0x3e8");
    let irq = IrqHandler(env::required("irq-5"));
    let line = Line::open(Ports { ports, base: BASE });
    let line = line.unwrap_or_else(|gone| panic!("port {BASE:#x}: {gone}"));
    let clients = Clients::map(WRITTEN);
    let [end] = clients.ends() else { panic!("the manifest gives not one client a channel to it") };
    let port = Port::new(line, end.rings, env::life()).expect("rings too small for a stream");
    if let Err(error) = irq.bind(env::required("irq-5-bell")) {
        panic!("its interrupt {IRQ} cannot be bound: {}", error.name());
    }
    work(&mut Serial { port, irq }, clients)
}

impl Work for Serial {
    type Error = Gone;

    fn rung(&mut self, bits: u64, world: &mut impl World) -> Result<(), Gone> {
        self.port.rung(bits, world)?;
        if bits & 1 << bell::IRQ != 0
            && let Err(error) = self.irq.ack()
        {
            panic!("its interrupt stays off: {}", error.name());
        }
        Ok(())
    }

    fn turn(&mut self, world: &mut impl World) -> Result<bool, Gone> {
        self.port.turn(world)
    }
}
