//! Buffers between a client and the device.
//!
//! One turn of [`Driver`] moves what there is, in both directions and for both sides, and only then publishes it: each
//! ring once, the device's queues once, the client's bell once at most. Then the driver asks to be woken, and looks once
//! more.
//!
//! There can be channels to several components, but the device has one client at a time: the one that has come last. The one
//! before it is shown that its link is down, and has the device again when it begins another life.

use channel::Step;
use heapless::Vec;
use proto::life::bell;
use proto::net::{DEPTH, HEADROOM};
use proto::start::MAX_CHANNELS;
use ring::Corrupt;
use rt::work::{Work, World};
use virtio::{DeviceError, Patience, Registers};

use crate::device::{Arrival, Nic, vectors};
use crate::port::{Frame, Port};

/// The bell's bit for changes of the configuration.
const CONFIG: u64 = 1 << (bell::IRQ + vectors::CONFIG as u8);

/// A client, and where the device finds its data.
#[derive(Debug)]
pub struct Client<'m> {
    /// The channel.
    pub port: Port<'m>,
    /// Where the device finds the `data` Frame.
    pub data: u64,
}

/// Clients, at most.
pub type Clients<'m> = Vec<Client<'m>, MAX_CHANNELS>;

/// Why a turn could not be finished.
enum Trouble {
    Device(DeviceError),
    Client,
}

impl From<DeviceError> for Trouble {
    fn from(error: DeviceError) -> Trouble {
        Trouble::Device(error)
    }
}

impl From<Corrupt> for Trouble {
    fn from(_: Corrupt) -> Trouble {
        Trouble::Client
    }
}

/// The driver of a device.
#[derive(Debug)]
pub struct Driver<'m, R> {
    nic: Nic<'m, R>,
    clients: Clients<'m>,
    /// The one whose buffers the device has.
    holder: Option<usize>,
    patience: Patience,
}

impl<R: Registers> Work for Driver<'_, R> {
    type Error = DeviceError;

    fn rung(&mut self, bits: u64, world: &mut impl World) -> Result<(), DeviceError> {
        if bits & CONFIG == 0 {
            return Ok(());
        }
        let before = self.nic.properties().link;
        self.nic.look()?;
        for (at, client) in self.clients.iter_mut().enumerate() {
            client.port.show_link(self.nic.properties(), self.holder == Some(at));
            if self.nic.properties().link != before {
                world.ring(at);
            }
        }
        Ok(())
    }

    fn turn(&mut self, world: &mut impl World) -> Result<bool, DeviceError> {
        for at in 0..self.clients.len() {
            self.meet(at, world)?;
        }
        let Some(at) = self.holder else { return Ok(true) };
        let client = match self.clients.get_mut(at) {
            Some(client) if client.port.is_together() => client,
            _ => return Ok(true),
        };
        self.nic.awake();
        let more = match pass(&mut self.nic, client, world) {
            Ok(more) => more,
            Err(Trouble::Device(error)) => return Err(error),
            Err(Trouble::Client) => {
                client.port.break_off();
                world.accuse(at, client.port.life(), 0);
                return Ok(true);
            }
        };
        self.nic.notify();
        if client.port.publish() {
            world.ring(at);
        }
        // What makes no sense is found out by the next turn.
        Ok(!more && sleep(&mut self.nic, &mut client.port).unwrap_or(false))
    }

    fn deadline(&mut self, now: u64) -> Result<Option<u64>, DeviceError> {
        let (sending, sent) = self.nic.is_sending();
        self.patience.deadline(now, sending, sent)
    }
}

impl<'m, R: Registers> Driver<'m, R> {
    /// The driver of `nic` for these clients. A device that has a link and frames to send, and sends none for `patience`
    /// ticks, is given up.
    pub fn new(nic: Nic<'m, R>, clients: Clients<'m>, patience: u64) -> Driver<'m, R> {
        Driver { nic, clients, holder: None, patience: Patience::new(patience) }
    }

    /// The clients.
    pub fn clients(&self) -> &Clients<'m> {
        &self.clients
    }

    /// Makes sure that a client is the one this side knows. One that begins anew takes over.
    fn meet(&mut self, at: usize, world: &mut impl World) -> Result<(), DeviceError> {
        let life = world.life(at);
        let mut step = self.clients[at].port.update(life);
        if step == Step::Reset {
            if self.holder == Some(at) {
                self.take_back()?;
            }
            let port = &mut self.clients[at].port;
            port.join(self.nic.properties());
            world.ring(at);
            // The client may have been waiting for just this.
            step = port.update(life);
        }
        if step == Step::Begin {
            if let Some(last) = self.holder {
                self.take_back()?;
                self.clients[last].port.show_link(self.nic.properties(), false);
                world.ring(last);
            }
            self.holder = Some(at);
            self.clients[at].port.show_link(self.nic.properties(), true);
        }
        Ok(())
    }

    /// Takes everything back from the device before another client comes.
    fn take_back(&mut self) -> Result<(), DeviceError> {
        if let Some(last) = self.holder.take() {
            self.clients[last].port.break_off();
        }
        match self.nic.is_idle() {
            true => Ok(()),
            false => self.nic.restart(),
        }
    }
}

/// Moves at most a ring full each way. True: that was not all.
fn pass<R: Registers>(
    nic: &mut Nic<R>,
    client: &mut Client,
    world: &mut impl World,
) -> Result<bool, Trouble> {
    pass_received(nic, client, world)?;
    let posted = take_posted(nic, client, world)?;
    pass_sent(nic, client, world)?;
    Ok(take_to_send(nic, client, world)? || posted)
}

fn pass_received<R: Registers>(
    nic: &mut Nic<R>,
    client: &mut Client,
    world: &mut impl World,
) -> Result<(), Trouble> {
    for _ in 0..client.port.room_for_received()? {
        match nic.arrived()? {
            Some(Arrival::Frame(frame, checked)) => {
                world.begun();
                client.port.received(&frame, checked)?;
                world.served();
            }
            Some(Arrival::Spoilt(frame)) => post(nic, client, frame),
            None => return Ok(()),
        }
    }
    Ok(())
}

fn take_posted<R: Registers>(
    nic: &mut Nic<R>,
    client: &mut Client,
    world: &mut impl World,
) -> Result<bool, Trouble> {
    for _ in 0..DEPTH {
        if !nic.can_post() {
            return Ok(false);
        }
        let Some(frame) = client.port.posted()? else { return Ok(false) };
        world.begun();
        post(nic, client, frame);
    }
    Ok(true)
}

fn post<R: Registers>(nic: &mut Nic<R>, client: &Client, frame: Frame) {
    // There is room: it was looked for, or the buffer has just come back.
    let _ = nic.post(frame, address(client, &frame));
}

fn pass_sent<R: Registers>(
    nic: &mut Nic<R>,
    client: &mut Client,
    world: &mut impl World,
) -> Result<(), Trouble> {
    for _ in 0..client.port.room_for_sent()? {
        let Some(frame) = nic.sent()? else { return Ok(()) };
        client.port.sent(&frame)?;
        world.served();
    }
    Ok(())
}

fn take_to_send<R: Registers>(
    nic: &mut Nic<R>,
    client: &mut Client,
    world: &mut impl World,
) -> Result<bool, Trouble> {
    for _ in 0..DEPTH {
        if !nic.can_send() {
            return Ok(false);
        }
        let Some(frame) = client.port.to_send()? else { return Ok(false) };
        world.begun();
        // There is room: it was looked for.
        let _ = nic.send(frame, address(client, &frame));
    }
    Ok(true)
}

/// Where the device finds a frame.
fn address(client: &Client, frame: &Frame) -> u64 {
    client.data + frame.offset + HEADROOM as u64
}

/// Asks to be woken by the device and the client. True: there is nothing to do until then.
fn sleep<R: Registers>(nic: &mut Nic<R>, port: &mut Port) -> Result<bool, Corrupt> {
    // A way that has no room waits for the client to make some, and looks at the device then.
    let receives = match port.room_for_received()? {
        0 => port.sleep_received()?,
        _ => nic.sleep_receiving(),
    };
    let posts = !nic.can_post() || port.sleep_posted()?;
    let sends = match port.room_for_sent()? {
        0 => port.sleep_sent()?,
        _ => nic.sleep_sending(),
    };
    let takes = !nic.can_send() || port.sleep_to_send()?;
    Ok(receives && posts && sends && takes)
}
