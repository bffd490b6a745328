//! The beginning of a driver's component: what the manifest gives it.
//!
//! Without it the driver cannot do its work, and its life ends with a panic that says what is missing.

use rt::channel::End;
use rt::env;

use crate::Transport;
use crate::guest::{self, DeviceMemory, Mapped};

/// The device that the component drives.
#[derive(Debug)]
pub struct Given {
    /// The way to it.
    pub transport: Transport<Mapped>,
    /// The memory that it reaches.
    pub memory: DeviceMemory,
    /// Its place: bus, device and function.
    pub address: u16,
}

impl Given {
    /// The device of a driver that uses so many interrupt vectors of its.
    ///
    /// # Panics
    /// The manifest gives none, or fewer vectors, or it is not a VirtIO device.
    pub fn new(vectors: u16) -> Given {
        let device = env::device().expect("the manifest gives this driver no device");
        let there = device.vectors.len();
        assert!(there >= vectors.into(), "it has {there} vectors and takes {vectors}");
        let transport = guest::open(&device).unwrap_or_else(|error| panic!("{error}"));
        Given { transport, memory: DeviceMemory::new(&device), address: device.address }
    }

    /// Lets the device at the data of a client; where it finds it.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn share(&mut self, client: &End) -> u64 {
        let shared = self.memory.share(client.data_frame);
        shared.unwrap_or_else(|error| panic!("the device cannot be let at a client's data: {}", error.name()))
    }
}
