//! The component `edu`: brings the device and those who call together.
#![no_std]
#![no_main]

mod hardware;

use edu::{Edu, Page, Server};
use proto::edu::BUFFER;
use rt::channel::Clients;
use rt::env;
use rt::work::answer;
use virtio::Dma;
use virtio::guest::DeviceMemory;

use hardware::Mapped;

rt::entry!(main);

/// The endpoint that it serves.
const ENDPOINT: &str = "edu";

fn main() {
    let device = env::device().expect("the manifest gives this driver no device");
    let registers = match Mapped::new(&device) {
        Ok(Some(registers)) => registers,
        Ok(None) => panic!("its device has no registers"),
        Err(error) => panic!("its registers cannot be mapped: {error}"),
    };
    let memory = DeviceMemory::new(&device).allocate(BUFFER as usize).expect("no memory for the device");
    let mut server = Server {
        edu: Edu::open(registers).unwrap_or_else(|failure| panic!("{failure}")),
        page: Page { words: memory.words(), address: memory.address() },
        fenced: device.io_space.is_some(),
        life: env::life(),
        address: device.address,
    };
    answer(env::required(ENDPOINT), &mut server, Clients::map(&[]))
}
