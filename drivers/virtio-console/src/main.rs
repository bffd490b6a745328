//! The component `virtio-console`: brings a VirtIO console's ports and their clients together.
#![no_std]
#![no_main]

use core::ops::Range;

use proto::stream::IN;
use rt::channel::{Clients, End};
use rt::env;
use rt::work::work;
use virtio::component::Given;
use virtio_console::console::{Console, vectors};
use virtio_console::driver::Driver;
use virtio_console::line::Line;

rt::entry!(main);

/// The rings it writes.
const WRITTEN: &[Range<usize>] = &[IN];

fn main() {
    let mut given = Given::new(vectors::COUNT);
    let channels = Clients::map(WRITTEN);
    let console = Console::new(given.transport, &mut given.memory).unwrap_or_else(|error| panic!("{error}"));
    let lines = channels.ends().iter().map(|end| line(end, channels.ends())).collect();
    work(&mut Driver::new(console, lines), channels)
}

fn line(end: &End, all: &[End]) -> Line<'static> {
    let name = end.name;
    if all.iter().filter(|other| other.name == name).count() > 1 {
        panic!("the manifest gives the port {name} two clients");
    }
    Line::new(name, end.rings, env::life()).expect("rings too small for a stream")
}
