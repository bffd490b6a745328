//! The component `serial`: brings a line and its client together, and sleeps.
//!
//! It drives COM3 with its usual port and the interrupt that the machine has free for it; the manifest gives the right to
//! both.
#![no_std]
#![no_main]

mod hardware;

use core::sync::atomic::AtomicU64;

use abi::CPtr;
use ipc::IrqHandler;
use proto::life::bell;
use rt::{control, env, life};
use serial::{Line, Port};

use hardware::Ports;

rt::entry!(main);

/// What the channel is called.
const CHANNEL: &str = "serial";
/// COM3, and the interrupt that QEMU's machine has free for it.
const BASE: u16 = 0x3e8;
const IRQ: u32 = 5;

fn main() {
    let ports = env::required("ports-0x3e8");
    let irq = IrqHandler(env::required("irq-5"));
    let line = Line::open(Ports { ports, base: BASE });
    let line = line.unwrap_or_else(|_| panic!("there is no 16550 at port {BASE:#x}"));
    let end = match rt::channel::servers(CHANNEL).next() {
        Some(Ok(end)) => end,
        Some(Err(error)) => panic!("its channel cannot be mapped: {error}"),
        None => panic!("the manifest gives nobody a channel to it"),
    };
    if let Err(error) = irq.bind(env::required("irq-5-bell")) {
        panic!("its interrupt {IRQ} cannot be bound: {}", error.name());
    }
    let port: Option<Port<_, AtomicU64>> = Port::new(line, end.rings, env::life());
    let mut port = port.expect("rings too small for a stream");
    life::ready();
    let mut reported = 0;
    loop {
        life::beat();
        let turn = port.turn(end.peer_life()).unwrap_or_else(|_| panic!("the line is gone"));
        if turn.ring {
            end.ring_bell();
        }
        if turn.corrupt && reported != end.peer_life() {
            reported = end.peer_life();
            // Whatever init thinks of it, this side does not serve that life any more.
            let _ = control::report(end.peer as u64, 0);
        }
        if turn.bytes > 0 {
            life::served();
        }
        if wait() & 1 << bell::IRQ != 0 {
            life::begun();
            port.interrupt();
            if let Err(error) = irq.ack() {
                panic!("its interrupt stays off: {}", error.name());
            }
        }
    }
}

/// Waits until the bell rings; which bits of it did.
fn wait() -> u64 {
    let bell: CPtr = life::bell();
    ipc::wait(bell).unwrap_or_else(|error| panic!("it cannot wait for its bell: {}", error.name()))
}
