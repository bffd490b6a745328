//! The component `virtio-rng`: brings the device and those who call together.
//!
//! What a device does wrong it dies of, with a panic that says what; init stops the device and starts a new life.
#![no_std]
#![no_main]

use ipc::serve::{Serve, serve};
use ipc::{Message, Received};
use proto::life::bell;
use rt::{env, life};
use virtio::guest::{DeviceMemory, Mapped, open};
use virtio_rng::{Entropy, Failure, answer};

rt::entry!(main);

/// The vector of the queue.
const OF_QUEUE: u16 = 0;
/// The endpoint that it serves.
const ENDPOINT: &str = "rng";

struct Server {
    entropy: Entropy<'static, Mapped>,
}

fn main() {
    let device = env::device().expect("the manifest gives this driver no device");
    let transport = open(&device).unwrap_or_else(|error| panic!("{error}"));
    let entropy = Entropy::open(transport, &mut DeviceMemory::new(&device), OF_QUEUE);
    let mut server = Server { entropy: good(entropy) };
    if let Err(error) = life::bind_bell() {
        panic!("its bell cannot be bound: {error}");
    }
    life::ready();
    panic!("it cannot receive: {}", serve(env::required(ENDPOINT), &mut server).name());
}

fn good<T>(result: Result<T, Failure>) -> T {
    result.unwrap_or_else(|failure| panic!("{failure}"))
}

impl Serve for Server {
    fn message(&mut self, received: &Received) -> Option<Message> {
        life::begun();
        let Message { words, .. } = received.message;
        let answer = good(answer(&mut self.entropy, received.message.label(), words[0]));
        life::served();
        Some(answer)
    }

    fn notified(&mut self, bits: u64) {
        if bits & 1 << bell::ORDERS != 0 {
            life::beat();
        }
        if bits & 1 << bell::IRQ != 0 {
            life::begun();
            good(self.entropy.look());
        }
    }
}
