//! A client, the driver and a device of software in one process, and what kills any of them at any step.

use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use crate::device::{HEADER, Nic, Offer, RECEIVE, TRANSMIT};
use crate::driver::{Client, Clients, Driver};
use crate::port::{Counts, Port};
use net::client::{self, LONGEST, Update, Wrong};
use proto::net::{RINGS_BITS, RX_BUFFER};
use rt::work::{Work, World};
use virtio::fake::{Arena, FakeDevice};
use virtio::fragile::{Fragile, Fuse, step};
use virtio::{BeginError, DeviceError, Dma, DmaMemory, Transport};

/// Buffers each way.
pub const BUFFERS: usize = 16;
/// Ticks that a device may send nothing.
pub const PATIENCE: u64 = 1000;
/// Identity of a network device (VirtIO 1.2, 4.1.2).
const IDENTITY: u16 = 0x1041;
/// The client's data, and what some fifty lives of the driver use: it is not used again.
const ARENA: usize = 3 << 19;
pub const MAC: [u8; 6] = [2, 3, 4, 5, 6, 7];
pub const CONFIG: [u8; 12] = [2, 3, 4, 5, 6, 7, 1, 0, 1, 0, 0xdc, 5];
pub const OFFERED: u64 = Offer::all().bits() | FakeDevice::FEATURES;

/// The memory of it all.
pub struct Memory {
    pub arena: Arena,
    pub rings: Vec<AtomicU64>,
}

impl Memory {
    pub fn new() -> Memory {
        let rings = (0..(1 << RINGS_BITS) / 8).map(|_| AtomicU64::new(0)).collect();
        Memory { arena: Arena::new(ARENA), rings }
    }
}

/// What the driver did to its client in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// It has rung the bell.
    pub ring: bool,
    /// It has found it wrong.
    pub wrong: bool,
}

/// The world of the driver, which can be killed at each record.
pub struct Around {
    client_life: u32,
    other_life: u32,
    turn: Turn,
}

impl World for Around {
    fn life(&self, client: usize) -> u32 {
        [self.client_life, self.other_life][client]
    }

    fn ring(&mut self, client: usize) {
        self.turn.ring |= client == 0;
    }

    fn begun(&mut self) {
        step();
    }

    fn served(&mut self) {
        step();
    }

    fn report(&mut self, _: usize, _: u64) {
        self.turn.wrong = true;
    }
}

/// Client, driver, device, and the lives they are in.
pub struct Bench<'m> {
    pub memory: &'m Memory,
    pub device: FakeDevice<'m>,
    pub data: DmaMemory<'m>,
    pub client: client::Client<'m>,
    pub driver: Option<Driver<'m, Fragile<FakeDevice<'m>>>>,
    pub fuse: Rc<Fuse>,
    pub client_life: u32,
    pub driver_life: u32,
    /// Another client's channel, and the life it is in.
    pub other: Option<(&'m [AtomicU64], DmaMemory<'m>, u32)>,
    /// Frames on the wire, towards the device.
    pub wire: Vec<Vec<u8>>,
}

impl<'m> Bench<'m> {
    /// A client and a device that offers all there is; the driver has not begun.
    pub fn new(memory: &'m Memory) -> Bench<'m> {
        Bench::offering(memory, OFFERED)
    }

    pub fn offering(memory: &'m Memory, offered: u64) -> Bench<'m> {
        let data = (&memory.arena).allocate(2 * BUFFERS * RX_BUFFER).expect("the arena is large enough");
        let client = client::Client::new(&memory.rings, data.words(), 1).expect("the memory is large enough");
        Bench {
            memory,
            device: FakeDevice::new(&memory.arena, offered, &[64, 64], &CONFIG),
            data,
            client,
            driver: None,
            fuse: Rc::default(),
            client_life: 1,
            driver_life: 1,
            other: None,
            wire: Vec::new(),
        }
    }

    /// The same, and they have found each other.
    pub fn together(memory: &'m Memory) -> Bench<'m> {
        let mut bench = Bench::new(memory);
        bench.meet();
        bench
    }

    pub fn meet(&mut self) {
        for _ in 0..3 {
            self.driver_step();
            self.client_step();
        }
        assert!(self.client.is_together());
    }

    /// A device with a driver in its first turn.
    pub fn begin(&mut self) -> Result<Driver<'m, Fragile<FakeDevice<'m>>>, BeginError> {
        let registers = Fragile(self.device.clone());
        let transport = Transport::new(registers, IDENTITY)?;
        let nic = Nic::new(transport, &mut &self.memory.arena, [2, 0, 0, 0, 0, 0])?;
        let other = self.other.map(|(rings, data, _)| (rings, data));
        let channels = core::iter::once((self.memory.rings.as_slice(), self.data)).chain(other);
        let mut clients = Clients::new();
        for (rings, data) in channels {
            let port = Port::new(rings, data.bytes() as u64, self.driver_life).expect("large enough");
            clients.push(Client { port, data: data.address() }).expect("there is room for two");
        }
        Ok(Driver::new(nic, clients, PATIENCE))
    }

    /// The driver is dead: what init does then.
    pub fn bury_driver(&mut self) {
        self.driver = None;
        self.device.reset();
        self.driver_life += 1;
    }

    /// The client is dead, and begins again.
    pub fn next_client(&mut self) {
        self.client_life += 1;
        self.client =
            client::Client::new(&self.memory.rings, self.data.words(), self.client_life).expect("as before");
    }

    /// Lets the driver work, until it sleeps or is killed; and begin, if it has not.
    pub fn driver_step(&mut self) -> Turn {
        self.try_driver_step().expect("an honest device")
    }

    pub fn try_driver_step(&mut self) -> Result<Turn, DeviceError> {
        let fuse = self.fuse.clone();
        match fuse.watch(|| self.driver_turns()) {
            Some(result) => result,
            None => {
                self.bury_driver();
                Ok(Turn::default())
            }
        }
    }

    fn driver_turns(&mut self) -> Result<Turn, DeviceError> {
        let mut driver = match self.driver.take() {
            Some(driver) => driver,
            None => self.begin().expect("a device to begin with"),
        };
        let mut around = self.around();
        while !driver.turn(&mut around)? {}
        self.driver = Some(driver);
        Ok(around.turn)
    }

    fn around(&self) -> Around {
        Around {
            client_life: self.client_life,
            other_life: self.other.map_or(0, |other| other.2),
            turn: Turn::default(),
        }
    }

    /// Lets the driver look at the device's configuration.
    pub fn look(&mut self) -> Result<Turn, DeviceError> {
        let mut around = self.around();
        self.driver.as_mut().expect("it lives").rung(u64::MAX, &mut around)?;
        Ok(around.turn)
    }

    pub fn counts(&self) -> Counts {
        self.driver.as_ref().expect("it lives").clients()[0].port.counts()
    }

    pub fn client_step(&mut self) -> Update {
        let update = self.client.update(self.driver_life).expect("an honest driver");
        self.client.flush().expect("an honest driver");
        update
    }

    pub fn send(&mut self, frame: &[u8]) -> bool {
        match self.client.room().expect("an honest driver") {
            Some(room) => {
                let length = self.client.copy_in(&room, frame);
                self.client.send(room, length, None);
                true
            }
            None => false,
        }
    }

    pub fn receive(&mut self) -> Option<Vec<u8>> {
        self.try_receive().expect("an honest driver")
    }

    pub fn try_receive(&mut self) -> Result<Option<Vec<u8>>, Wrong> {
        let Some(frame) = self.client.receive()? else { return Ok(None) };
        let mut place = [0; LONGEST];
        let bytes = self.client.copy_out(&frame, &mut place).to_vec();
        self.client.give_back(frame);
        Ok(Some(bytes))
    }

    /// The frames that the device sends, with the first three units of use of their headers.
    pub fn device_sends(&self) -> Vec<([u16; 3], Vec<u8>)> {
        core::iter::from_fn(|| self.device_sends_one()).collect()
    }

    fn device_sends_one(&self) -> Option<([u16; 3], Vec<u8>)> {
        let chain = self.device.take(TRANSMIT)?;
        let mut bytes = Vec::new();
        for segment in &chain.segments {
            assert!(!segment.writable);
            let mut part = vec![0; segment.length as usize];
            assert!(self.device.read(segment.address, &mut part));
            bytes.extend(part);
        }
        self.device.complete(TRANSMIT, chain.id.into(), 0);
        let frame = bytes.split_off(HEADER as usize);
        let unit = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Some(([unit(0), unit(6), unit(8)], frame))
    }

    /// Lets a frame arrive, with these flags in its header. False: there is no buffer for it.
    pub fn device_receives(&self, flags: [u8; 2], frame: &[u8]) -> bool {
        let Some(chain) = self.device.take(RECEIVE) else { return false };
        let mut bytes = [flags.as_slice(), &[0; HEADER as usize - 2], frame].concat();
        let length = bytes.len() as u32;
        for segment in &chain.segments {
            assert!(segment.writable);
            let rest = bytes.split_off(bytes.len().min(segment.length as usize));
            assert!(self.device.write(segment.address, &bytes));
            bytes = rest;
        }
        assert!(bytes.is_empty(), "the buffer is too small");
        self.device.complete(RECEIVE, chain.id.into(), length);
        true
    }

    /// Lets what is on the wire arrive, in its order, as far as there are buffers.
    pub fn wire_arrives(&mut self) {
        let waiting = std::mem::take(&mut self.wire);
        let arrived = waiting.iter().take_while(|frame| self.device_receives([0; 2], frame)).count();
        self.wire = waiting.into_iter().skip(arrived).collect();
    }
}
