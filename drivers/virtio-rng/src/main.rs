//! The component `virtio-rng`: brings the device and those who call together.
//!
//! What a device does wrong it dies of, with a panic that says what; init stops the device and starts a new life.
#![no_std]
#![no_main]

use rt::channel::Clients;
use rt::env;
use rt::work::answer;
use virtio::component::Given;
use virtio_rng::{Entropy, vectors};

rt::entry!(main);

/// The endpoint that it serves.
const ENDPOINT: &str = "rng";

fn main() {
    let mut given = Given::new(vectors::COUNT);
    let entropy = Entropy::open(given.transport, &mut given.memory);
    let mut entropy = entropy.unwrap_or_else(|error| panic!("{error}"));
    answer(env::required(ENDPOINT), &mut entropy, Clients::map(&[]))
}
