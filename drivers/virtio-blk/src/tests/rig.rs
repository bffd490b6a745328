//! A machine: device, driver, clients, and who brings them back.

use std::cell::{Cell, RefCell};

use crate::client::{Client, Data};
use crate::{Disk, Server};
use block::Client as BlockClient;
use channel::Server as Lives;
use proto::block::{RINGS_BITS, SECTOR};
use rt::work::{Work, World};
use virtio::fake::{Arena, FakeDevice};
use virtio::fragile::{Fragile, Fuse, step};
use virtio::{Dma, DmaMemory, Transport};

use super::medium::{ALL, Medium, SECTORS, config};
use super::word::FragileWord;

/// Sectors of a client's data.
pub const DATA: u64 = 256;
/// How long a device may be silent.
pub const PATIENCE: u64 = 1000;

pub type TestServer<'m> = Server<'m, Fragile<FakeDevice<'m>>, FragileWord>;
pub type TestClient<'m> = BlockClient<'m, FragileWord>;

/// Memory that outlives everybody.
pub struct Memory {
    pub arena: Arena,
    rings: Vec<Vec<FragileWord>>,
}

impl Memory {
    pub fn new(clients: usize) -> Memory {
        let words = || (0..(1 << RINGS_BITS) / 8).map(|_| FragileWord::default()).collect();
        Memory { arena: Arena::new(2 << 20), rings: (0..clients).map(|_| words()).collect() }
    }
}

/// What init and the kernel do for the components, and what they are seen to do.
#[derive(Debug, Default)]
pub struct Outside {
    /// The server's life and faults, and the clients' lives.
    pub server: Cell<u32>,
    pub faults: Cell<u64>,
    pub clients: RefCell<Vec<u32>>,
    /// The bells of the clients, and the server's.
    pub rung: RefCell<Vec<bool>>,
    pub server_rung: Cell<bool>,
    pub reports: RefCell<Vec<(usize, u64)>>,
    pub served: Cell<u64>,
}

impl Outside {
    pub fn peer(&self) -> Lives {
        Lives { life: self.server.get(), faults: self.faults.get() }
    }
}

impl World for &Outside {
    fn life(&self, client: usize) -> u32 {
        self.clients.borrow()[client]
    }

    fn ring(&mut self, client: usize) {
        self.rung.borrow_mut()[client] = true;
        step();
    }

    fn begun(&mut self) {
        step();
    }

    fn served(&mut self) {
        self.served.set(self.served.get() + 1);
    }

    fn report(&mut self, client: usize, what: u64) {
        self.reports.borrow_mut().push((client, what));
    }
}

/// The machine. Its clients' programs are the tests' own.
pub struct Rig<'m> {
    memory: &'m Memory,
    pub medium: Medium<'m>,
    pub outside: Outside,
    pub data: Vec<DmaMemory<'m>>,
    pub server: Option<TestServer<'m>>,
    /// What the server dies of.
    pub fuse: Fuse,
    /// The next one dies at this step; 0: at none.
    pub next_fuse: u64,
    pub deaths: u64,
}

impl<'m> Rig<'m> {
    /// A machine with a disk that offers everything; nothing runs yet.
    pub fn new(memory: &'m Memory) -> Rig<'m> {
        Rig::with(memory, ALL, &config(SECTORS, 512, 254, 64))
    }

    /// A machine with a disk that offers `features`.
    pub fn with(memory: &'m Memory, features: u64, config: &[u8]) -> Rig<'m> {
        let arena = &memory.arena;
        let device = FakeDevice::new(arena, features, &[256], config);
        let count = memory.rings.len();
        let data = memory.rings.iter();
        let data = data.map(|_| (&mut &*arena).allocate((DATA * SECTOR) as usize).unwrap()).collect();
        arena.keep();
        let outside = Outside {
            clients: RefCell::new(vec![0; count]),
            rung: RefCell::new(vec![false; count]),
            ..Outside::default()
        };
        Rig {
            memory,
            medium: Medium::new(device),
            outside,
            data,
            server: None,
            fuse: Fuse::default(),
            next_fuse: 0,
            deaths: 0,
        }
    }

    /// The words of a client's rings.
    pub fn rings(&self, client: usize) -> &'m [FragileWord] {
        &self.memory.rings[client]
    }

    /// A new life of client `client`.
    pub fn start_client(&mut self, client: usize) -> TestClient<'m> {
        let mut lives = self.outside.clients.borrow_mut();
        lives[client] += 1;
        self.outside.server_rung.set(true);
        BlockClient::new(self.rings(client), lives[client]).unwrap()
    }

    /// Whether something has woken the server since it went to sleep.
    pub fn server_wakes(&self) -> bool {
        self.server.is_none() || self.outside.server_rung.get() || self.medium.device.interrupts() != 0
    }

    /// Whether something has woken client `client` since it went to sleep.
    pub fn client_wakes(&self, client: usize) -> bool {
        std::mem::take(&mut self.outside.rung.borrow_mut()[client])
    }

    /// A server that does not live begins another life. None: it dies in it.
    pub fn start_server(&mut self) -> Option<()> {
        if self.server.is_none() {
            let build = || build(self.memory, &self.medium, &self.outside, &self.data);
            self.server = Some(self.fuse.watch(build)?);
        }
        Some(())
    }

    /// The server is dead. Its device does not know yet.
    pub fn kill_server(&mut self, at_fault: bool) {
        self.server = None;
        self.deaths += 1;
        self.fuse.set(std::mem::take(&mut self.next_fuse));
        self.outside.faults.set(self.outside.faults.get() + u64::from(at_fault));
        self.outside.server.set(self.outside.server.get() + 1);
        self.outside.rung.borrow_mut().fill(true);
    }

    /// The device of a dead server is stopped, after it has carried out some more requests; and the server's memory is
    /// taken back.
    pub fn fence(&mut self, carried_out: usize) {
        self.medium.reset(carried_out);
        self.memory.arena.take_back(0xa5a5_a5a5_a5a5_a5a5);
    }

    /// Lets the server do all it has to, bringing it back if it dies of its fuse; the device has then carried out
    /// `carried_out` more requests.
    pub fn serve(&mut self, carried_out: usize) {
        if self.outside.server.get() == 0 {
            self.outside.server.set(1);
        }
        loop {
            let done = self.start_server().and_then(|()| {
                let (Some(server), mut outside) = (&mut self.server, &self.outside) else {
                    return Some(true);
                };
                outside.server_rung.set(false);
                self.fuse.watch(|| server.turn(&mut outside).expect("a device that behaves"))
            });
            match done {
                Some(true) => return,
                Some(false) => {}
                None => {
                    self.kill_server(false);
                    self.fence(carried_out);
                }
            }
        }
    }
}

fn build<'m>(
    memory: &'m Memory,
    medium: &Medium<'m>,
    outside: &Outside,
    data: &[DmaMemory<'m>],
) -> TestServer<'m> {
    let transport = Transport::new(Fragile(medium.device.clone()), 0x1042).unwrap();
    let disk = Disk::open(transport, &mut &memory.arena).expect("a device that behaves");
    let client = |(place, data): (usize, &DmaMemory)| {
        let data = Data { address: data.address(), sectors: DATA };
        Client::new(&memory.rings[place], data, outside.server.get()).unwrap()
    };
    Server::new(disk, data.iter().enumerate().map(client).collect(), PATIENCE)
}
