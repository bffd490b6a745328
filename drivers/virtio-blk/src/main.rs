//! The driver of one VirtIO disk: brings device and clients together, and sleeps.
//!
//! What a device does wrong it dies of, with a panic that says what; init stops the device and starts a new life.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::{CPtr, Error};
use heapless::Vec;
use proto::block::SECTOR;
use proto::life::bell;
use proto::start::{Channel, Device, MAX_CHANNELS};
use rt::{clock, env, life, memory};
use virtio::guest::{DeviceMemory, Mapped, open};
use virtio_blk::client::{Client, Data, Wrong, corrupt};
use virtio_blk::{Disk, Server, World};

rt::entry!(main);

/// How long a device may have requests and answer none, in microseconds.
const PATIENCE: u64 = 20_000_000;
/// The vectors for changes of the configuration and for the queue, and the bits of the bell that tell of them.
const OF_CONFIG: u16 = 0;
const OF_QUEUE: u16 = 1;
const CONFIG_CHANGED: u64 = 1 << (bell::IRQ as u16 + OF_CONFIG);

/// It was ordered to write nonsense into its rings.
static CORRUPT: AtomicBool = AtomicBool::new(false);

/// The clients' channels, and init.
struct Outside {
    channels: Vec<Channel<'static>, MAX_CHANNELS>,
    rings: Vec<&'static [AtomicU64], MAX_CHANNELS>,
}

impl World for Outside {
    #[inline]
    fn life(&self, place: u16) -> u32 {
        life::life_of(place.into())
    }

    #[inline]
    fn ring(&mut self, client: usize) {
        // init gave the right to it, and the bell outlives both.
        let _ = ipc::signal(CPtr(self.channels[client].signal));
    }

    #[inline]
    fn begun(&mut self) {
        life::begun();
    }

    #[inline]
    fn served(&mut self) {
        life::served();
    }

    fn report(&mut self, client: usize, wrong: Wrong) {
        // Whatever init thinks of it, this side has done what it can: it does not serve that life any more.
        let _ = rt::control::report(self.channels[client].peer.into(), wrong as u64);
    }
}

fn main() {
    let device = env::device().expect("the manifest gives this driver no device");
    let mut outside = Outside::new();
    let mut server = begin(&device, &mut outside);
    life::on_corrupt(|| CORRUPT.store(true, Ordering::Relaxed));
    life::ready();
    loop {
        life::beat();
        let idle = server.turn(&mut outside).unwrap_or_else(|error| panic!("{error}"));
        if CORRUPT.load(Ordering::Relaxed) {
            outside.corrupt();
        }
        if idle {
            let deadline = server.deadline(clock::now()).unwrap_or_else(|error| panic!("{error}"));
            if sleep(deadline) & CONFIG_CHANGED != 0 {
                let looked = server.configuration_changed(&mut outside);
                looked.unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}

/// Waits until the bell rings; which bits of it did.
fn sleep(deadline: Option<u64>) -> u64 {
    let rung = match deadline {
        None => ipc::wait(life::bell()),
        Some(deadline) => ipc::wait_until(life::bell(), deadline),
    };
    match rung {
        Ok(bits) => bits,
        Err(Error::TimedOut) => 0,
        Err(error) => panic!("it cannot wait for its bell: {}", error.name()),
    }
}

fn begin(device: &Device, outside: &mut Outside) -> Server<'static, Mapped, AtomicU64> {
    if device.vectors.len() <= usize::from(OF_QUEUE) {
        panic!("the manifest gives this driver fewer than two vectors");
    }
    let transport = open(device).unwrap_or_else(|error| panic!("{error}"));
    let mut reachable = DeviceMemory::new(device);
    let disk = Disk::open(transport, &mut reachable, [OF_CONFIG, OF_QUEUE]);
    let disk = disk.unwrap_or_else(|error| panic!("{error}"));
    let mut clients = Vec::new();
    for channel in &outside.channels {
        let address = reachable.share(channel.data);
        let address =
            address.unwrap_or_else(|error| panic!("data of a client cannot be shared: {}", error.name()));
        let data = Data { address, sectors: (1 << channel.data.bits) / SECTOR };
        let rings = outside.rings[clients.len()];
        let client = Client::new(channel.peer, rings, data, env::life());
        // There are no more channels than have room, and the manifest's rings are as large as the protocol's.
        let _ = clients.push(client.expect("rings too small for requests"));
    }
    Server::new(disk, clients, clock::microseconds(PATIENCE))
}

impl Outside {
    fn new() -> Outside {
        let mut outside = Outside { channels: Vec::new(), rings: Vec::new() };
        for channel in env::channels().into_iter().filter(|channel| !channel.client) {
            let rings = memory::map_words(CPtr(channel.rings.slot), channel.rings.bits.into());
            // As many as there are channels.
            let _ =
                outside.rings.push(rings.unwrap_or_else(|error| panic!("rings cannot be mapped: {error}")));
            let _ = outside.channels.push(channel);
        }
        outside
    }

    fn corrupt(&mut self) {
        for client in 0..self.channels.len() {
            corrupt(self.rings[client]);
            self.ring(client);
        }
    }
}
