//! The component `virtio-net`: brings a VirtIO network device and its clients together.
#![no_std]
#![no_main]

use core::ops::Range;

use proto::net::{RX_DONE, TX_DONE};
use rt::channel::{Clients, End};
use rt::work::work;
use rt::{clock, env};
use virtio::component::Given;
use virtio::guest::Mapped;
use virtio_net::device::{Nic, vectors};
use virtio_net::driver::{Client, Driver};
use virtio_net::port::Port;

rt::entry!(main);

/// How long a device may have frames to send and send none, in microseconds.
const PATIENCE: u64 = 20_000_000;
/// The rings it writes.
const WRITTEN: &[Range<usize>] = &[RX_DONE, TX_DONE];

fn main() {
    let channels = Clients::map(WRITTEN);
    work(&mut begin(channels.ends()), channels)
}

/// Apart, so that what the beginning takes of the stack is free again.
#[inline(never)]
fn begin(ends: &[End]) -> Driver<'static, Mapped> {
    let mut given = Given::new(vectors::COUNT);
    let clients = ends.iter().map(|end| client(&mut given, end)).collect();
    let nic = Nic::new(given.transport, &mut given.memory, substitute(given.address));
    let nic = nic.unwrap_or_else(|error| panic!("{error}"));
    Driver::new(nic, clients, clock::microseconds(PATIENCE))
}

fn client(given: &mut Given, end: &End) -> Client<'static> {
    let port = Port::new(end.rings, 1 << end.data_frame.bits, env::life());
    Client { port: port.expect("rings too small for frames"), data: given.share(end) }
}

/// An address for a device that has none of its own: locally administered, after its place on the bus.
fn substitute(place: u16) -> [u8; 6] {
    let [low, high] = place.to_le_bytes();
    [2, 0, 0, 0, high, low]
}
