//! The driver of a VirtIO network device: the device from the start block, and the loop.
#![no_std]
#![no_main]

use core::sync::atomic::Ordering;

use proto::life::bell;
use proto::start::Device;
use rt::channel::End;
use rt::lock::Mutex;
use rt::{control, env, life};
use virtio::guest::{self, DeviceMemory, Mapped};
use virtio_net::device::{Nic, vectors};
use virtio_net::driver::{Driver, Witness};
use virtio_net::port::Port;

rt::entry!(main);

/// The channel, for the order to make nonsense of its rings.
static CHANNEL: Mutex<Option<End>> = Mutex::new(None);

const CONFIG: u64 = 1 << (bell::IRQ + vectors::CONFIG as u8);
const ORDERS: u64 = 1 << bell::ORDERS;

fn main() {
    let end = the_client();
    let mut driver = begin(&end);
    *CHANNEL.lock() = Some(end);
    life::on_corrupt(corrupt);
    life::ready();
    // What was rung for before this life is looked at in any case.
    let mut bits = CONFIG | ORDERS;
    loop {
        work(&mut driver, &end, bits);
        bits = match ipc::wait(life::bell()) {
            Ok(bits) => bits,
            Err(error) => panic!("the bell cannot be waited for: {error:?}"),
        };
    }
}

/// The one client: its end of the channel.
fn the_client() -> End {
    let mut clients = env::channels().into_iter().filter(|channel| !channel.client);
    let (Some(channel), None) = (clients.next(), clients.next()) else {
        panic!("the manifest gives this driver another number of clients than one");
    };
    match End::map(&channel) {
        Ok(end) => end,
        Err(error) => panic!("the client's channel cannot be mapped: {error}"),
    }
}

fn begin(end: &End) -> Driver<'static, Mapped> {
    let Some(device) = env::device() else { panic!("the manifest gives this driver no device") };
    let mut memory = DeviceMemory::new(&device);
    let data = match memory.share(end.data_frame) {
        Ok(data) => data,
        Err(error) => panic!("the device cannot be let at the client's data: {}", error.name()),
    };
    let transport = match guest::open(&device) {
        Ok(transport) => transport,
        Err(error) => panic!("{error}"),
    };
    let nic = match Nic::new(transport, &mut memory, substitute(&device)) {
        Ok(nic) => nic,
        Err(error) => panic!("{error}"),
    };
    match Port::new(end.rings, 1 << end.data_frame.bits, env::life()) {
        Ok(port) => Driver::new(nic, port, data),
        Err(_) => panic!("the channel's rings are too small"),
    }
}

/// An address for a device that has none of its own: locally administered, after its place on the bus.
fn substitute(device: &Device) -> [u8; 6] {
    let [low, high] = device.address.to_le_bytes();
    [2, 0, 0, 0, high, low]
}

/// Does all there is to do, until it is time to sleep.
fn work(driver: &mut Driver<'static, Mapped>, end: &End, bits: u64) {
    if bits & CONFIG != 0 {
        match driver.look() {
            Ok(true) => end.ring_bell(),
            Ok(false) => {}
            Err(error) => panic!("{error}"),
        }
    }
    loop {
        life::beat();
        let turn = match driver.turn(end.peer_life(), &mut InInitsPages) {
            Ok(turn) => turn,
            Err(error) => panic!("{error}"),
        };
        if turn.ring {
            end.ring_bell();
        }
        if turn.wrong {
            // init ends the client; where it does not, it knows better.
            let _ = control::report(end.peer as u64, 0);
        }
        if !turn.more && driver.sleep() {
            return;
        }
    }
}

/// init reads how the work goes.
struct InInitsPages;

impl Witness for InInitsPages {
    fn begun(&mut self) {
        life::begun();
    }

    fn served(&mut self) {
        life::served();
    }
}

/// Indexes that cannot be, and buffers that nobody has. The client is to see them before they are right again.
fn corrupt() {
    let Some(end) = *CHANNEL.lock() else { return };
    for ring in [proto::net::RX_DONE, proto::net::TX_DONE] {
        let words = end.rings.get(ring).unwrap_or_default();
        words.iter().for_each(|word| word.store(0x5a5a_5a5a_5a5a_5a5a, Ordering::Relaxed));
    }
    end.ring_bell();
}
