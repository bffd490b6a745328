//! The component `edu`: brings the device and those who call together.
#![no_std]
#![no_main]

mod hardware;

use edu::{Edu, Page, Server};
use ipc::serve::{Serve, serve};
use ipc::{Message, Received};
use proto::edu::BUFFER;
use proto::life::bell;
use rt::{env, life};
use virtio::Dma;
use virtio::guest::DeviceMemory;

use hardware::Mapped;

rt::entry!(main);

/// The endpoint that it serves.
const ENDPOINT: &str = "edu";

struct Driver(Server<'static, Mapped>);

fn main() {
    let device = env::device().expect("the manifest gives this driver no device");
    let registers = match Mapped::new(&device) {
        Ok(Some(registers)) => registers,
        Ok(None) => panic!("its device has no registers"),
        Err(error) => panic!("its registers cannot be mapped: {error}"),
    };
    let memory = DeviceMemory::new(&device).allocate(BUFFER as usize).expect("no memory for the device");
    let server = Server {
        edu: Edu::open(registers).unwrap_or_else(|failure| panic!("{failure}")),
        page: Page { words: memory.words(), address: memory.address() },
        fenced: device.io_space.is_some(),
        life: env::life(),
        address: device.address,
    };
    if let Err(error) = life::bind_bell() {
        panic!("its bell cannot be bound: {error}");
    }
    life::ready();
    panic!("it cannot receive: {}", serve(env::required(ENDPOINT), &mut Driver(server)).name());
}

impl Serve for Driver {
    fn message(&mut self, received: &Received) -> Option<Message> {
        life::begun();
        let Message { words, .. } = received.message;
        let answer = self.0.answer(received.message.label(), &words);
        life::served();
        Some(answer.unwrap_or_else(|failure| panic!("{failure}")))
    }

    fn notified(&mut self, bits: u64) {
        if bits & 1 << bell::ORDERS != 0 {
            life::beat();
        }
        if bits & 1 << bell::IRQ != 0 {
            life::begun();
            self.0.edu.interrupt().unwrap_or_else(|failure| panic!("{failure}"));
        }
    }
}
