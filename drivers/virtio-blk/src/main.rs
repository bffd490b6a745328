//! The component `virtio-blk`: brings a VirtIO disk and its clients together.
//!
//! What a device does wrong it dies of, with a panic that says what; init stops the device and starts a new life.
#![no_std]
#![no_main]

use core::ops::Range;
use core::sync::atomic::AtomicU64;

use proto::block::{COMPLETIONS, SECTOR};
use rt::channel::{Clients, End};
use rt::work::work;
use rt::{clock, env};
use virtio::component::Given;
use virtio::guest::Mapped;
use virtio_blk::client::{Client, Data};
use virtio_blk::disk::{Disk, vectors};
use virtio_blk::server::Server;

rt::entry!(main);

/// How long a device may have requests and answer none, in microseconds.
const PATIENCE: u64 = 20_000_000;
/// The rings it writes.
const WRITTEN: &[Range<usize>] = &[COMPLETIONS];

fn main() {
    let channels = Clients::map(WRITTEN);
    work(&mut begin(channels.ends()), channels)
}

/// Apart, so that what the beginning takes of the stack is free again.
#[inline(never)]
fn begin(ends: &[End]) -> Server<'static, Mapped, AtomicU64> {
    let mut given = Given::new(vectors::COUNT);
    let clients = ends.iter().map(|end| client(&mut given, end)).collect();
    let disk = Disk::open(given.transport, &mut given.memory).unwrap_or_else(|error| panic!("{error}"));
    Server::new(disk, clients, clock::microseconds(PATIENCE))
}

fn client(given: &mut Given, end: &End) -> Client<'static> {
    let data = Data { address: given.share(end), sectors: (1 << end.data_frame.bits) / SECTOR };
    Client::new(end.rings, data, env::life()).expect("rings too small for requests")
}
