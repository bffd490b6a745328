//! The driver of a VirtIO network device: the device from the start block, and the loop.
#![no_std]
#![no_main]

use core::sync::atomic::Ordering;

use heapless::Vec;
use proto::life::bell;
use proto::start::{Device, MAX_CHANNELS};
use rt::channel::End;
use rt::lock::Mutex;
use rt::{control, env, life};
use virtio::guest::{self, DeviceMemory, Mapped};
use virtio_net::device::{Nic, vectors};
use virtio_net::driver::{Client, Clients, Driver, World};
use virtio_net::port::Port;

rt::entry!(main);

/// The clients' ends of channels.
type Ends = Vec<End, MAX_CHANNELS>;

/// The channels, for the order to make nonsense of their rings.
static CHANNELS: Mutex<Ends> = Mutex::new(Ends::new());

const CONFIG: u64 = 1 << (bell::IRQ + vectors::CONFIG as u8);

fn main() {
    let ends = ends();
    let mut driver = begin(&ends);
    CHANNELS.lock().clone_from(&ends);
    life::on_corrupt(corrupt);
    life::ready();
    let mut world = Outside(&ends);
    // What was rung for before this life is looked at in any case.
    let mut bits = CONFIG;
    loop {
        work(&mut driver, &mut world, bits);
        bits = match ipc::wait(life::bell()) {
            Ok(bits) => bits,
            Err(error) => panic!("the bell cannot be waited for: {error:?}"),
        };
    }
}

fn ends() -> Ends {
    let mut ends = Ends::new();
    for channel in env::channels().iter().filter(|channel| !channel.client) {
        match End::map(channel) {
            // As many places as channels.
            Ok(end) => drop(ends.push(end)),
            Err(error) => panic!("the channel {} cannot be mapped: {error}", channel.name),
        }
    }
    ends
}

fn begin(ends: &Ends) -> Driver<'static, Mapped> {
    let Some(device) = env::device() else { panic!("the manifest gives this driver no device") };
    let mut memory = DeviceMemory::new(&device);
    let mut clients = Clients::new();
    for end in ends {
        let data = match memory.share(end.data_frame) {
            Ok(data) => data,
            Err(error) => panic!("the device cannot be let at a client's data: {}", error.name()),
        };
        match Port::new(end.rings, 1 << end.data_frame.bits, env::life()) {
            // As many places as channels.
            Ok(port) => drop(clients.push(Client { port, data })),
            Err(_) => panic!("the rings of the channel {} are too small", end.name),
        }
    }
    let transport = match guest::open(&device) {
        Ok(transport) => transport,
        Err(error) => panic!("{error}"),
    };
    match Nic::new(transport, &mut memory, substitute(&device)) {
        Ok(nic) => Driver::new(nic, clients),
        Err(error) => panic!("{error}"),
    }
}

/// An address for a device that has none of its own: locally administered, after its place on the bus.
fn substitute(device: &Device) -> [u8; 6] {
    let [low, high] = device.address.to_le_bytes();
    [2, 0, 0, 0, high, low]
}

/// Does all there is to do, until it is time to sleep.
fn work(driver: &mut Driver<'static, Mapped>, world: &mut Outside, bits: u64) {
    if bits & CONFIG != 0
        && let Err(error) = driver.look(world)
    {
        panic!("{error}");
    }
    loop {
        life::beat();
        match driver.turn(world) {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The clients, and init's pages.
struct Outside<'e>(&'e Ends);

impl World for Outside<'_> {
    fn life(&self, client: usize) -> u32 {
        self.0[client].peer_life()
    }

    fn ring(&mut self, client: usize) {
        self.0[client].ring_bell();
    }

    fn begun(&mut self) {
        life::begun();
    }

    fn served(&mut self) {
        life::served();
    }

    fn report(&mut self, client: usize) {
        // init ends the client; where it does not, it knows better.
        let _ = control::report(self.0[client].peer as u64, 0);
    }
}

/// Indexes that cannot be, and buffers that nobody has. The clients are to see them before they are right again.
fn corrupt() {
    for end in CHANNELS.lock().iter() {
        for ring in [proto::net::RX_DONE, proto::net::TX_DONE] {
            let words = end.rings.get(ring).unwrap_or_default();
            words.iter().for_each(|word| word.store(0x5a5a_5a5a_5a5a_5a5a, Ordering::Relaxed));
        }
        end.ring_bell();
    }
}
