//! The driver: requests go from the clients' rings to the device, answers back.
//!
//! [`Server`]'s turn does all there is to do, once: first what the device has done, then what the clients want, then it
//! tells device and clients, each at most once for the whole batch. It says whether there is a reason to sleep.
//!
//! Nothing is kept for a next life: it meets all clients anew, and they submit again what was not answered.

use heapless::Vec;
use proto::block::{Op, RECORD, SECTOR, Status, properties};
use proto::channel::PROPERTIES;
use proto::life::bell;
use proto::start::MAX_CHANNELS;
use ring::Word;
use rt::work::{Work, World};
use virtio::{DeviceError, Patience, Registers};

use crate::client::{Client, Properties, Wrong};
use crate::disk::{DEPTH, Disk, vectors};
use crate::request::Request;

/// Who asked for a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    client: u8,
    id: u64,
}

/// The bell's bit for changes of the configuration.
const CONFIG: u64 = 1 << (bell::IRQ + vectors::CONFIG as u8);

/// The driver.
#[derive(Debug)]
pub struct Server<'m, R, W> {
    disk: Disk<'m, R, Asked>,
    clients: Vec<Client<'m, W>, MAX_CHANNELS>,
    properties: Properties,
    /// The client whose turn is first.
    first: usize,
    answered: u64,
    patience: Patience,
}

impl<R: Registers, W: Word> Work for Server<'_, R, W> {
    type Error = DeviceError;

    fn rung(&mut self, bits: u64, world: &mut impl World) -> Result<(), DeviceError> {
        if bits & CONFIG != 0 && self.disk.look()? {
            self.properties = properties(&self.disk);
            for (at, client) in self.clients.iter().enumerate().filter(|(_, client)| client.is_served()) {
                client.say(&self.properties);
                world.ring(at);
            }
        }
        Ok(())
    }

    fn turn(&mut self, world: &mut impl World) -> Result<bool, DeviceError> {
        self.disk.awake();
        self.take_answers(world)?;
        for at in 0..self.clients.len() {
            let client = (self.first + at) % self.clients.len();
            self.take_requests(client, world);
        }
        self.first = (self.first + 1) % self.clients.len().max(1);
        self.disk.publish();
        let mut sleeps = self.disk.sleep();
        for client in 0..self.clients.len() {
            if self.clients[client].publish() {
                world.ring(client);
            }
            let asleep = self.clients[client].sleep();
            sleeps &= self.unless_wrong(client, asleep, world).unwrap_or(true);
        }
        Ok(sleeps)
    }

    fn deadline(&mut self, now: u64) -> Result<Option<u64>, DeviceError> {
        self.patience.deadline(now, self.disk.under_way() > 0, self.answered)
    }
}

impl<'m, R: Registers, W: Word> Server<'m, R, W> {
    /// The driver of `disk` for `clients`. A device that has requests and answers none for `patience` ticks is given
    /// up.
    pub fn new(
        disk: Disk<'m, R, Asked>,
        clients: Vec<Client<'m, W>, MAX_CHANNELS>,
        patience: u64,
    ) -> Server<'m, R, W> {
        let patience = Patience::new(patience);
        let properties = properties(&disk);
        Server { disk, clients, properties, first: 0, answered: 0, patience }
    }

    fn take_answers(&mut self, world: &mut impl World) -> Result<(), DeviceError> {
        while let Some((Asked { client, id }, status)) = self.disk.pop()? {
            world.begun();
            self.answered = self.answered.wrapping_add(1);
            let client = usize::from(client);
            self.clients[client].done();
            self.answer(client, id, status, world);
        }
        Ok(())
    }

    /// Gives the device what client `client` wants, as much as there is room for.
    fn take_requests(&mut self, client: usize, world: &mut impl World) {
        let life = world.life(client);
        if self.clients[client].meet(life, &self.properties) {
            world.ring(client);
        }
        if let Some(request) = self.clients[client].waiting()
            && !self.give(client, request)
        {
            return;
        }
        // No more than the device can have: others want a turn, too.
        for _ in 0..DEPTH {
            let taken = self.clients[client].take();
            match self.unless_wrong(client, taken, world).flatten() {
                Some(record) => {
                    world.begun();
                    if !self.take_request(client, record, world) {
                        return;
                    }
                }
                None => return,
            }
        }
    }

    /// False: there is no room for more.
    fn take_request(&mut self, client: usize, record: [u64; RECORD], world: &mut impl World) -> bool {
        let [id, ..] = record;
        match Request::read(record, self.disk.limits(), self.clients[client].data.sectors) {
            Ok(request) if request.op == Op::Flush && !self.disk.has_cache() => {
                self.answer(client, id, Status::Ok, world);
                true
            }
            Ok(request) => self.give(client, request),
            Err(status) => {
                self.answer(client, id, status, world);
                true
            }
        }
    }

    /// Gives the device a request. False: it has no room, and the request was set aside.
    fn give(&mut self, client: usize, request: Request) -> bool {
        let asked = Asked { client: client as u8, id: request.id };
        let place = &mut self.clients[client];
        if self.disk.submit(&request, place.data.address, asked) {
            place.given();
            true
        } else {
            place.set_aside(request);
            false
        }
    }

    fn answer(&mut self, client: usize, id: u64, status: Status, world: &mut impl World) {
        let answered = self.clients[client].answer(id, status);
        if self.unless_wrong(client, answered, world).is_some() {
            world.served();
        }
    }

    /// What came out, unless the client did something wrong: then it is not served any more in this life.
    #[inline]
    fn unless_wrong<T>(
        &mut self,
        client: usize,
        result: Result<T, Wrong>,
        world: &mut impl World,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(wrong) => {
                let place = &mut self.clients[client];
                place.give_up();
                world.accuse(client, place.life(), wrong as u64);
                None
            }
        }
    }
}

/// What is shown to clients, in the order of `proto::block::properties`.
fn properties<R: Registers>(disk: &Disk<R, Asked>) -> Properties {
    let limits = disk.limits();
    let flag = |condition, flag| if condition { flag } else { 0 };
    let flags = flag(limits.read_only, properties::READ_ONLY)
        | flag(disk.has_cache(), properties::CACHE)
        | flag(limits.discard, properties::DISCARD)
        | flag(limits.write_zeroes, properties::WRITE_ZEROES);
    let mut words = [0; properties::COUNT];
    for (word, value) in [
        (properties::SECTORS, limits.sectors),
        (properties::FLAGS, flags),
        (properties::BLOCK, limits.block * SECTOR),
        (properties::MOST_CLEARED, limits.cleared),
        (properties::MOST_SEGMENTS, limits.segments as u64),
    ] {
        words[word - PROPERTIES] = value;
    }
    words
}
