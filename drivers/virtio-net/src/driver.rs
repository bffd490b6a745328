//! Buffers between the client and the device.
//!
//! One [`turn`](Driver::turn) moves what there is, in both directions and for both sides, and only then publishes it: each
//! ring once, the device's queues once, the client's bell once at most. Then the driver asks to be woken and looks once
//! more ([`Driver::sleep`]).

use channel::Step;
use proto::net::{DEPTH, HEADROOM};
use ring::Corrupt;
use virtio::{DeviceError, Registers};

use crate::device::{Arrival, Nic};
use crate::port::{Counts, Frame, Port};

/// Who hears how the work goes (`proto::life`).
pub trait Witness {
    /// A record or a frame is begun.
    fn begun(&mut self);
    /// A request of the client's is answered.
    fn served(&mut self);
}

/// What is to be done after a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Ring the client's bell.
    pub ring: bool,
    /// There may be more: take another turn before sleeping.
    pub more: bool,
    /// The client has written what it cannot mean, and is not listened to any more: init is to hear of it.
    pub wrong: bool,
}

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

/// The driver of a device with a client.
#[derive(Debug)]
pub struct Driver<'m, R> {
    nic: Nic<'m, R>,
    port: Port<'m>,
    /// Where the device finds the client's data.
    data: u64,
}

impl<'m, R: Registers> Driver<'m, R> {
    /// The driver; the device finds the client's data at `data`.
    pub fn new(nic: Nic<'m, R>, port: Port<'m>, data: u64) -> Driver<'m, R> {
        Driver { nic, port, data }
    }

    /// What has been counted in this life.
    pub fn counts(&self) -> Counts {
        self.port.counts()
    }

    /// Looks what has changed of the device, after an interrupt for its configuration. True: ring the client's bell.
    pub fn look(&mut self) -> Result<bool, DeviceError> {
        let before = self.nic.properties().link;
        self.nic.look()?;
        self.port.show_link(self.nic.properties());
        Ok(self.nic.properties().link != before)
    }

    /// Moves what there is to be moved. The client is in life `peer`.
    pub fn turn(&mut self, peer: u32, witness: &mut impl Witness) -> Result<Turn, DeviceError> {
        let mut turn = Turn { ring: self.meet(peer)?, ..Turn::default() };
        if !self.port.is_together() {
            return Ok(turn);
        }
        self.nic.awake();
        match self.pass(witness) {
            Ok(more) => turn.more = more,
            Err(Trouble::Device(error)) => return Err(error),
            Err(Trouble::Client) => {
                self.port.break_off();
                turn.wrong = true;
            }
        }
        self.nic.notify();
        turn.ring |= self.port.publish();
        Ok(turn)
    }

    /// Asks to be woken by the device and the client. True: there is nothing to do until then.
    pub fn sleep(&mut self) -> bool {
        // What makes no sense is found out by the next turn.
        !self.port.is_together() || self.try_sleep().unwrap_or(false)
    }

    /// Makes sure that the client is the one this side knows, and takes everything back from the device before
    /// another one comes. True: ring its bell.
    fn meet(&mut self, peer: u32) -> Result<bool, DeviceError> {
        if self.port.update(peer) != Step::Reset {
            return Ok(false);
        }
        if !self.nic.is_idle() {
            self.nic.restart()?;
        }
        self.port.join(self.nic.properties());
        // The client may have been waiting for just this.
        self.port.update(peer);
        Ok(true)
    }

    /// Moves at most a ring full each way. True: that was not all.
    fn pass(&mut self, witness: &mut impl Witness) -> Result<bool, Trouble> {
        let mut more = self.pass_received(witness)?;
        more |= self.take_posted(witness)?;
        more |= self.pass_sent(witness)?;
        more |= self.take_to_send(witness)?;
        Ok(more)
    }

    fn pass_received(&mut self, witness: &mut impl Witness) -> Result<bool, Trouble> {
        for _ in 0..self.port.room_for_received()? {
            match self.nic.arrived()? {
                Some(Arrival::Frame(frame, checked)) => {
                    witness.begun();
                    self.port.received(&frame, checked)?;
                    witness.served();
                }
                Some(Arrival::Spoilt(frame)) => self.post(frame),
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    fn take_posted(&mut self, witness: &mut impl Witness) -> Result<bool, Trouble> {
        for _ in 0..DEPTH {
            if !self.nic.can_post() {
                return Ok(false);
            }
            let Some(frame) = self.port.posted()? else { return Ok(false) };
            witness.begun();
            self.post(frame);
        }
        Ok(true)
    }

    fn post(&mut self, frame: Frame) {
        let address = self.address(&frame);
        // There is room: it was looked for, or the buffer has just come back.
        let _ = self.nic.post(frame, address);
    }

    fn pass_sent(&mut self, witness: &mut impl Witness) -> Result<bool, Trouble> {
        for _ in 0..self.port.room_for_sent()? {
            let Some(frame) = self.nic.sent()? else { return Ok(false) };
            self.port.sent(&frame)?;
            witness.served();
        }
        Ok(false)
    }

    fn take_to_send(&mut self, witness: &mut impl Witness) -> Result<bool, Trouble> {
        for _ in 0..DEPTH {
            if !self.nic.can_send() {
                return Ok(false);
            }
            let Some(frame) = self.port.to_send()? else { return Ok(false) };
            witness.begun();
            let address = self.address(&frame);
            // There is room: it was looked for.
            let _ = self.nic.send(frame, address);
        }
        Ok(true)
    }

    /// Where the device finds a frame.
    fn address(&self, frame: &Frame) -> u64 {
        self.data + frame.offset + HEADROOM as u64
    }

    fn try_sleep(&mut self) -> Result<bool, Corrupt> {
        // A side that has no room waits for the client to make some, and looks at the device then.
        let receives = match self.port.room_for_received()? {
            0 => self.port.sleep_received()?,
            _ => self.nic.sleep_receiving(),
        };
        let posts = !self.nic.can_post() || self.port.sleep_posted()?;
        let sends = match self.port.room_for_sent()? {
            0 => self.port.sleep_sent()?,
            _ => self.nic.sleep_sending(),
        };
        let takes = !self.nic.can_send() || self.port.sleep_to_send()?;
        Ok(receives && posts && sends && takes)
    }
}
