//! The driver of a VirtIO console: the device from the start block, and the loop.
#![no_std]
#![no_main]

use core::sync::atomic::Ordering;

use heapless::Vec;
use proto::life::bell;
use proto::start::MAX_CHANNELS;
use proto::stream::IN;
use rt::channel::End;
use rt::lock::Mutex;
use rt::{control, env, life};
use virtio::guest::{self, DeviceMemory, Mapped};
use virtio_console::console::{Console, vectors};
use virtio_console::driver::{Driver, Lines, World};
use virtio_console::line::Line;

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
    let mut world = Clients(&ends);
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
        if ends.iter().any(|end| end.name == channel.name) {
            panic!("the manifest gives the port {} two clients", channel.name);
        }
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
    let transport = match guest::open(&device) {
        Ok(transport) => transport,
        Err(error) => panic!("{error}"),
    };
    let console = match Console::new(transport, &mut memory) {
        Ok(console) => console,
        Err(error) => panic!("{error}"),
    };
    let mut lines = Lines::new();
    for end in ends {
        match Line::new(end.name, end.rings, env::life()) {
            Ok(line) => drop(lines.push(line)),
            Err(_) => panic!("the rings of the channel {} are too small", end.name),
        }
    }
    Driver::new(console, lines)
}

/// Does all there is to do, until it is time to sleep.
fn work(driver: &mut Driver<'static, Mapped>, world: &mut Clients, bits: u64) {
    if bits & CONFIG != 0
        && let Err(error) = driver.look()
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
struct Clients<'e>(&'e Ends);

impl World for Clients<'_> {
    fn life(&self, line: usize) -> u32 {
        self.0[line].peer_life()
    }

    fn ring(&mut self, line: usize) {
        self.0[line].ring_bell();
    }

    fn begun(&mut self) {
        life::begun();
    }

    fn served(&mut self) {
        life::served();
    }

    fn report(&mut self, line: usize) {
        // init ends the client; where it does not, it knows better.
        let _ = control::report(self.0[line].peer as u64, 0);
    }
}

/// Indexes that cannot be. The clients are to see them before they are right again.
fn corrupt() {
    for end in CHANNELS.lock().iter() {
        let words = end.rings.get(IN).unwrap_or_default();
        words.iter().for_each(|word| word.store(0x5a5a_5a5a_5a5a_5a5a, Ordering::Relaxed));
        end.ring_bell();
    }
}
