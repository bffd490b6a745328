//! Clients, the driver, and a console as QEMU has it.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use proto::stream::RINGS_BITS;
use rt::work::{Work, World};
use stream::{Client, Update};
use virtio::fake::{Arena, FakeDevice};
use virtio::fragile::{Fragile, Fuse, step};
use virtio::{BeginError, DeviceError, Transport};

use crate::console::{Console, HEAR, MULTIPORT, SAY};
use crate::driver::{Driver, Lines};
use crate::line::Line;

/// The names of the clients' channels; of their ports; and the ports' numbers.
const CHANNELS: [&str; 2] = ["skink-host", "skink-log"];
pub const NAMES: [&str; 2] = ["skink.host", "skink.log"];
pub const LOG: u32 = 1;
pub const HOST: u32 = 2;
/// Identity of a console (VirtIO 1.2, 4.1.2).
const IDENTITY: u16 = 0x1043;
/// Columns, rows, 3 ports.
const CONFIG: [u8; 8] = [80, 0, 25, 0, 3, 0, 0, 0];
const QUEUES: [u16; 8] = [8, 8, 16, 16, 8, 8, 8, 8];
/// What some forty lives of the driver use: it is not used again.
const ARENA: usize = 1 << 22;

/// The memory of it all.
pub struct Memory {
    pub arena: Arena,
    pub rings: [Vec<AtomicU64>; 2],
}

impl Memory {
    pub fn new() -> Memory {
        let rings = || (0..(1 << RINGS_BITS) / 8).map(|_| AtomicU64::new(0)).collect();
        Memory { arena: Arena::new(ARENA), rings: [rings(), rings()] }
    }
}

/// What the console has on its side of a port.
#[derive(Debug, Default)]
pub struct Side {
    /// The driver has opened it.
    pub opened: bool,
    /// Bytes for the driver, and from it.
    pub to_guest: VecDeque<u8>,
    pub from_guest: Vec<u8>,
}

/// The console.
pub struct Qemu<'m> {
    pub device: FakeDevice<'m>,
    pub sides: [Side; 3],
    /// Ports that it adds when the driver is ready, with their names.
    pub plugged: Vec<(u32, &'static str)>,
}

impl<'m> Qemu<'m> {
    fn new(arena: &'m Arena) -> Qemu<'m> {
        let offered = MULTIPORT | FakeDevice::FEATURES;
        Qemu {
            device: FakeDevice::new(arena, offered, &QUEUES, &CONFIG),
            sides: Default::default(),
            plugged: vec![(LOG, NAMES[1]), (HOST, NAMES[0])],
        }
    }

    /// Says something of a port. False: the driver does not listen.
    pub fn says(&self, port: u32, event: u16, value: u16, name: &[u8]) -> bool {
        let head = [port.to_le_bytes().as_slice(), &event.to_le_bytes(), &value.to_le_bytes()].concat();
        self.says_bytes(&[&head, name].concat())
    }

    pub fn says_bytes(&self, message: &[u8]) -> bool {
        let Some(chain) = self.device.take(HEAR) else { return false };
        assert!(self.device.write(chain.segments[0].address, message));
        self.device.complete(HEAR, chain.id.into(), message.len() as u32);
        true
    }

    /// Does all that the driver has given it reason to.
    pub fn work(&mut self) {
        while let Some(bytes) = self.take_bytes(SAY) {
            let number = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            self.heard(number(0).into(), number(4), number(6));
        }
        for port in 0..self.sides.len() {
            let rx = rx(port as u32);
            while let Some(bytes) = self.take_bytes(rx + 1) {
                self.sides[port].from_guest.extend(bytes);
            }
            while self.sides[port].opened && !self.sides[port].to_guest.is_empty() {
                let Some(chain) = self.device.take(rx) else { break };
                let count = self.sides[port].to_guest.len().min(chain.room() as usize);
                let bytes: Vec<u8> = self.sides[port].to_guest.drain(..count).collect();
                assert!(self.device.write(chain.segments[0].address, &bytes));
                self.device.complete(rx, chain.id.into(), count as u32);
            }
        }
    }

    fn heard(&mut self, port: u32, event: u16, value: u16) {
        assert_eq!(value, 1, "the driver says only yes");
        match event {
            0 => {
                for (port, _) in self.plugged.clone() {
                    assert!(self.says(port, 1, 0, b""));
                }
            }
            3 => {
                let name = self.plugged.iter().find(|each| each.0 == port).map_or("", |each| each.1);
                assert!(self.says(port, 7, 1, &[name.as_bytes(), b"\0"].concat()));
                assert!(self.says(port, 6, 1, b""));
            }
            6 => self.sides[port as usize].opened = true,
            other => panic!("no driver says {other}"),
        }
    }

    /// The bytes of the next request on a queue of the driver's bytes.
    fn take_bytes(&self, queue: u16) -> Option<Vec<u8>> {
        let chain = self.device.take(queue)?;
        let bytes = self.bytes(&chain);
        self.device.complete(queue, chain.id.into(), 0);
        Some(bytes)
    }

    fn bytes(&self, chain: &virtio::fake::Chain) -> Vec<u8> {
        let mut bytes = Vec::new();
        for segment in &chain.segments {
            let mut part = vec![0; segment.length as usize];
            assert!(self.device.read(segment.address, &mut part));
            bytes.extend(part);
        }
        bytes
    }

    /// It is reset while the driver is dead. Of bytes that were with it, the first half has gone out.
    fn reset(&mut self) {
        for port in 0..self.sides.len() {
            while let Some(chain) = self.device.take(rx(port as u32) + 1) {
                let bytes = self.bytes(&chain);
                self.sides[port].from_guest.extend(&bytes[..bytes.len() / 2]);
            }
            self.sides[port].opened = false;
        }
        self.device.reset();
    }
}

/// The number of a port's queue of bytes for the driver.
pub fn rx(port: u32) -> u16 {
    if port == 0 { 0 } else { 2 + 2 * port as u16 }
}

/// The world of the driver: who was rung for, who was reported.
pub struct Around {
    client_life: u32,
    pub rung: [u32; 2],
    pub reported: [u32; 2],
}

impl World for Around {
    fn life(&self, _: usize) -> u32 {
        self.client_life
    }

    fn ring(&mut self, line: usize) {
        step();
        self.rung[line] += 1;
    }

    fn begun(&mut self) {
        step();
    }

    fn served(&mut self) {
        step();
    }

    fn report(&mut self, line: usize, _: u64) {
        self.reported[line] += 1;
    }
}

/// All of them, and the lives they are in.
pub struct Bench<'m> {
    pub memory: &'m Memory,
    pub qemu: Qemu<'m>,
    pub clients: [Client<'m>; 2],
    pub driver: Option<Driver<'m, Fragile<FakeDevice<'m>>>>,
    pub around: Around,
    pub fuse: Rc<Fuse>,
    pub driver_life: u32,
    /// The clients that were paired with a new driver since somebody looked.
    pub begun: [bool; 2],
}

impl<'m> Bench<'m> {
    pub fn new(memory: &'m Memory) -> Bench<'m> {
        let fuse = Rc::<Fuse>::default();
        Bench {
            memory,
            qemu: Qemu::new(&memory.arena),
            clients: clients(memory, 1),
            driver: None,
            around: Around { client_life: 1, rung: [0; 2], reported: [0; 2] },
            fuse,
            driver_life: 1,
            begun: [false; 2],
        }
    }

    /// The same, and all ports are open.
    pub fn together(memory: &'m Memory) -> Bench<'m> {
        let mut bench = Bench::new(memory);
        bench.meet();
        assert!(bench.clients.iter().all(Client::is_open));
        bench
    }

    pub fn meet(&mut self) {
        for _ in 0..4 {
            self.step();
        }
    }

    fn update(&mut self, client: usize) -> Update {
        let update = self.clients[client].update(self.driver_life);
        self.begun[client] |= update == Update::Begun;
        update
    }

    /// Everybody does what there is to do.
    pub fn step(&mut self) {
        for client in 0..self.clients.len() {
            self.update(client);
            self.clients[client].flush();
        }
        self.driver_step().expect("an honest device");
        self.qemu.work();
        self.driver_step().expect("an honest device");
    }

    pub fn begin(&mut self) -> Result<Driver<'m, Fragile<FakeDevice<'m>>>, BeginError> {
        let registers = Fragile(self.qemu.device.clone());
        let console = Console::new(Transport::new(registers, IDENTITY)?, &mut &self.memory.arena)?;
        let mut lines = Lines::new();
        for (name, rings) in CHANNELS.into_iter().zip(&self.memory.rings) {
            let line = Line::new(name, rings, self.driver_life).expect("large enough");
            lines.push(line).expect("there is room");
        }
        Ok(Driver::new(console, lines))
    }

    /// Lets the driver work, until it sleeps or is killed; and begin, if it has not.
    pub fn driver_step(&mut self) -> Result<(), DeviceError> {
        let fuse = self.fuse.clone();
        match fuse.watch(|| self.driver_turns()) {
            Some(result) => result,
            None => {
                self.bury_driver();
                Ok(())
            }
        }
    }

    fn driver_turns(&mut self) -> Result<(), DeviceError> {
        let mut driver = match self.driver.take() {
            Some(driver) => driver,
            None => self.begin().expect("a device to begin with"),
        };
        while !driver.turn(&mut self.around)? {}
        self.driver = Some(driver);
        Ok(())
    }

    /// The driver is dead: what init does then.
    pub fn bury_driver(&mut self) {
        self.driver = None;
        self.qemu.reset();
        self.driver_life += 1;
    }

    /// The clients are dead, and begin again.
    pub fn next_clients(&mut self) {
        self.around.client_life += 1;
        self.clients = clients(self.memory, self.around.client_life);
    }

    pub fn write(&mut self, client: usize, bytes: &[u8]) -> usize {
        let written = self.clients[client].write(bytes);
        self.unless_reborn(client, written)
    }

    pub fn read(&mut self, client: usize) -> Vec<u8> {
        let mut place = vec![0; 20_000];
        let read = self.clients[client].read(&mut place);
        place.truncate(self.unless_reborn(client, read));
        place
    }

    /// What looks corrupt is the beginning of a driver's next life.
    fn unless_reborn(&mut self, client: usize, result: Result<usize, ring::Corrupt>) -> usize {
        result.unwrap_or_else(|_| {
            assert_ne!(self.update(client), Update::Same, "the driver is corrupt");
            0
        })
    }
}

fn clients(memory: &Memory, life: u32) -> [Client<'_>; 2] {
    [0, 1].map(|at| Client::new(&memory.rings[at], life).expect("large enough"))
}
