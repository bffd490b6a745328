//! The client's side of a channel that speaks `proto::net`: buffers to receive into, frames to send.
//!
//! The `data` Frame is divided into buffers of equal size, one half to receive into, the other to send from. A buffer is
//! the program's, or waits to be handed over, or is the server's; only the server's ones can come back, so a server
//! that returns others, or returns one twice, or says of one what cannot be, is found out: [`Wrong`].
//!
//! When the server begins another life, all buffers are this side's again. Those to receive into are posted anew,
//! and frames that were not said to be sent are sent again, in their order: so one may be sent twice, as on any
//! Ethernet. What had arrived before the death is kept. While there is no server, frames to send wait.

use core::sync::atomic::{AtomicU64, Ordering};

use channel::{End, Protocol, Role, Server, Step};
use heapless::{Deque, Vec};
use proto::net::properties::{FLAGS, LINK_UP, MAC, MTU, RX_CHECKSUM, TX_CHECKSUM};
use proto::net::{
    CHECKSUM, DEPTH, HEADROOM, LENGTHS, OFFSET, RECORD, RX_BUFFER, RX_DONE, RX_FREE, TX, TX_DONE,
};
use ring::index::{Role as RingRole, clear};
use ring::records::{Consumer, Producer, PushError};
use ring::{Begin, TooSmall};

pub use channel::{Update, Wrong};

use crate::data::Data;
use crate::wire::frame::{ETHERNET, Mac};

/// Bytes of a buffer.
const BUFFER: usize = RX_BUFFER;
/// Bytes of a frame, at most.
pub const LONGEST: usize = BUFFER - HEADROOM;

/// What the server says of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The device's address.
    pub mac: Mac,
    /// Bytes of a frame's payload, at most.
    pub mtu: usize,
    /// There is a link.
    pub up: bool,
    /// Checksums of frames to send can be left to the device.
    pub tx_checksum: bool,
    /// The device checks those of received ones.
    pub rx_checksum: bool,
}

/// A frame that has arrived. It keeps its buffer until [`Client::give_back`].
#[derive(Debug)]
#[must_use = "its buffer is lost unless it is given back"]
pub struct Received {
    buffer: u16,
    length: u16,
    checked: bool,
}

impl Received {
    /// Bytes of the frame.
    pub fn length(&self) -> usize {
        usize::from(self.length)
    }

    /// The device has checked its checksums.
    pub fn is_checked(&self) -> bool {
        self.checked
    }
}

/// A buffer to put a frame into. It is kept until [`Client::send`] or [`Client::discard`].
#[derive(Debug)]
#[must_use = "its buffer is lost unless it is sent or discarded"]
pub struct Room {
    buffer: u16,
}

/// Where the device is to put an Internet checksum (RFC 1071).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// It is computed from this byte of the frame on.
    pub from: u16,
    /// It goes so many bytes behind that.
    pub to: u16,
}

/// What has happened, for who wants to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Servers that this client was paired with.
    pub pairings: u64,
    /// Frames that were handed over again after a server's death.
    pub sent_again: u64,
    /// Times that the server was found to be [`Wrong`].
    pub wrong: u64,
}

/// The rings of one pairing.
#[derive(Debug)]
struct Rings<'m> {
    rx_free: Producer<'m, RECORD>,
    rx_done: Consumer<'m, RECORD>,
    tx: Producer<'m, RECORD>,
    tx_done: Consumer<'m, RECORD>,
}

impl<'m> Rings<'m> {
    /// The rings of a new pairing. [`Client::new`] has seen that the memory is large enough.
    fn new(memory: &'m [AtomicU64]) -> Result<Rings<'m>, TooSmall> {
        Ok(Rings {
            rx_free: Producer::new(&memory[RX_FREE], Begin::New)?,
            rx_done: Consumer::new(&memory[RX_DONE], Begin::New)?,
            tx: Producer::new(&memory[TX], Begin::New)?,
            tx_done: Consumer::new(&memory[TX_DONE], Begin::New)?,
        })
    }
}

/// Whose a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The program's; or this side's, in one of its queues.
    Client,
    /// The server's.
    Server,
}

/// A frame that is to be sent or was handed over.
#[derive(Clone, Copy, Debug)]
struct Outgoing {
    owner: Owner,
    /// How many were handed over before it.
    order: u64,
    length: u16,
    checksum: u64,
}

/// The client.
#[derive(Debug)]
pub struct Client<'m> {
    end: End<'m>,
    memory: &'m [AtomicU64],
    data: Data<'m>,
    rings: Option<Rings<'m>>,
    link: Option<Link>,
    counts: Counts,
    /// Buffers for receiving are numbered from 0 on; those for sending follow.
    receiving: usize,
    rx: [Owner; DEPTH],
    tx: [Outgoing; DEPTH],
    /// To be posted.
    to_post: Deque<u16, DEPTH>,
    /// Arrived, and not yet taken by the program: the buffer, its length, whether it was checked.
    arrived: Deque<(u16, u16, bool), DEPTH>,
    /// Free to be written.
    free: Deque<u16, DEPTH>,
    /// To be handed over.
    to_send: Deque<u16, DEPTH>,
    /// How many were ever handed over.
    handed: u64,
}

impl<'m> Client<'m> {
    /// The client in life `own` of its component, by its two Frames.
    pub fn new(rings: &'m [AtomicU64], data: &'m [AtomicU64], own: u32) -> Result<Client<'m>, TooSmall> {
        let data = Data::new(data);
        let receiving = (data.bytes() / BUFFER / 2).min(DEPTH);
        if receiving == 0 || rings.len() < TX_DONE.end {
            return Err(TooSmall);
        }
        let buffers = || {
            let mut all = Deque::new();
            all.extend(0..receiving as u16);
            all
        };
        Ok(Client {
            end: End::new(rings.first_chunk().ok_or(TooSmall)?, Role::Client, own),
            memory: rings,
            data,
            rings: None,
            link: None,
            counts: Counts::default(),
            receiving,
            rx: [Owner::Client; DEPTH],
            tx: [Outgoing { owner: Owner::Client, order: 0, length: 0, checksum: 0 }; DEPTH],
            to_post: buffers(),
            arrived: Deque::new(),
            free: buffers(),
            to_send: Deque::new(),
            handed: 0,
        })
    }

    /// Looks whether the server, which is in life `peer`, is the one that this side knows. To be called at each bell
    /// of the channel or of changed lives, and after a [`Wrong`].
    pub fn update(&mut self, peer: u32) -> Result<Update, Wrong> {
        match self.end.update(peer) {
            Step::Reset => {
                self.take_back();
                self.end.joined();
                // The server may have been waiting for just this.
                match self.end.update(peer) {
                    Step::Begin => self.begin(),
                    _ => Ok(Update::Apart),
                }
            }
            Step::Begin => self.begin(),
            Step::Wait | Step::Together => Ok(Update::Same),
        }
    }

    /// There is a server.
    pub fn is_together(&self) -> bool {
        self.rings.is_some()
    }

    /// What the server says of the device; while there is none, what the last one said. None: there was none yet.
    pub fn link(&mut self) -> Option<Link> {
        if self.rings.is_some()
            && let Some(link) = &mut self.link
        {
            link.up = self.end.properties()[FLAGS].load(Ordering::Relaxed) & LINK_UP != 0;
        }
        self.link
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The next frame that has arrived.
    pub fn receive(&mut self) -> Result<Option<Received>, Wrong> {
        if self.arrived.is_empty() {
            self.watch(Self::take_arrived)?;
        }
        let next = self.arrived.pop_front();
        Ok(next.map(|(buffer, length, checked)| Received { buffer, length, checked }))
    }

    /// Copies the frame out; gives the part that was filled. What `to` has no room for is left away.
    pub fn copy_out<'t>(&self, frame: &Received, to: &'t mut [u8]) -> &'t [u8] {
        let length = frame.length().min(to.len());
        self.data.read(self.rx_offset(frame.buffer) + HEADROOM, &mut to[..length]);
        &to[..length]
    }

    /// The frame itself, without a copy.
    ///
    /// # Safety
    ///
    /// The server and its device do not write to a buffer that they have given back: see [`Data::lend`].
    pub unsafe fn bytes<'f>(&'f self, frame: &'f Received) -> &'f [u8] {
        // SAFETY: this side lends the buffer to nobody else, as there is one `Received` of it, which is not given back
        // while it is borrowed; of the others the caller promises it.
        unsafe { self.data.lend(self.rx_offset(frame.buffer) + HEADROOM, frame.length()) }
    }

    /// Gives the buffer of a frame back, to be received into again. The server sees it at the next [`Self::flush`].
    pub fn give_back(&mut self, frame: Received) {
        enqueue(&mut self.to_post, frame.buffer);
    }

    /// A buffer for a frame to send. None: all are under way. The server rings when one comes back, if
    /// [`Self::sleep`] was told to wait for it.
    pub fn room(&mut self) -> Result<Option<Room>, Wrong> {
        if self.free.is_empty() {
            self.watch(Self::take_sent)?;
        }
        Ok(self.free.pop_front().map(|buffer| Room { buffer }))
    }

    /// Copies `frame` into `room`, as much as fits; says how much that is.
    pub fn copy_in(&mut self, room: &Room, frame: &[u8]) -> usize {
        let length = frame.len().min(LONGEST);
        self.data.write(self.tx_offset(room.buffer) + HEADROOM, &frame[..length]);
        length
    }

    /// The room itself, [`LONGEST`] bytes to be written.
    ///
    /// # Safety
    ///
    /// The server and its device do not read or write a buffer that they have given back: see [`Data::lend`].
    pub unsafe fn bytes_mut<'r>(&'r mut self, room: &'r mut Room) -> &'r mut [u8] {
        // SAFETY: this side lends the buffer to nobody else, as there is one `Room` of it, borrowed meanwhile; of the
        // others the caller promises it.
        unsafe { self.data.lend_mut(self.tx_offset(room.buffer) + HEADROOM, LONGEST) }
    }

    /// Sends the first `length` bytes of the room, an Ethernet frame, with a checksum to be computed by the device if
    /// its [`Link`] says that it can. The server sees it at the next [`Self::flush`].
    pub fn send(&mut self, room: Room, length: usize, checksum: Option<Checksum>) {
        let place = &mut self.tx[usize::from(room.buffer)];
        place.length = length.min(LONGEST) as u16;
        place.checksum = checksum.map_or(0, |each| u64::from(each.from) | u64::from(each.to) << 32);
        enqueue(&mut self.to_send, room.buffer);
    }

    /// The room is not needed.
    pub fn discard(&mut self, room: Room) {
        enqueue(&mut self.free, room.buffer);
    }

    /// Hands everything that waits to the server. True: ring its bell.
    pub fn flush(&mut self) -> Result<bool, Wrong> {
        let mut ring = false;
        self.watch(|client, rings| {
            ring = client.hand_over(rings)?;
            Ok(())
        })?;
        Ok(ring)
    }

    /// True: there is nothing to receive (and, if `for_room`, no room to send), and the server rings when there is.
    /// While there is no server: the bell of lives rings.
    pub fn sleep(&mut self, for_room: bool) -> Result<bool, Wrong> {
        let mut sleeps = self.arrived.is_empty() && (!for_room || self.free.is_empty());
        self.watch(|_, rings| {
            if sleeps {
                sleeps = rings.rx_done.sleep()? && (!for_room || rings.tx_done.sleep()?);
            }
            Ok(())
        })?;
        Ok(sleeps)
    }

    /// Lets `act` use the rings, if there are any; not ever again in this pairing if it finds the server wrong.
    fn watch(
        &mut self,
        act: impl FnOnce(&mut Self, &mut Rings<'m>) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        let Some(mut rings) = self.rings.take() else { return Ok(()) };
        match act(self, &mut rings) {
            Ok(()) => {
                self.rings = Some(rings);
                Ok(())
            }
            Err(wrong) => {
                self.counts.wrong += 1;
                Err(wrong)
            }
        }
    }

    /// The server is dead: keeps what it had passed on before, and takes all buffers back.
    fn take_back(&mut self) {
        if let Some(mut rings) = self.rings.take() {
            // What the dead had published is true up to where it makes no sense: the next life may be resetting its
            // words by now.
            let _ = self.take_arrived(&mut rings);
            let _ = self.take_sent(&mut rings);
        }
        for buffer in 0..self.receiving {
            if self.rx[buffer] == Owner::Server {
                self.rx[buffer] = Owner::Client;
                enqueue(&mut self.to_post, buffer as u16);
            }
        }
        self.take_back_frames();
        for (range, role) in [
            (RX_FREE, RingRole::Producer),
            (RX_DONE, RingRole::Consumer),
            (TX, RingRole::Producer),
            (TX_DONE, RingRole::Consumer),
        ] {
            clear(&self.memory[range], role);
        }
    }

    /// Frames that were handed over and did not come back go before those that wait, in their order.
    fn take_back_frames(&mut self) {
        let tx = &mut self.tx;
        let mut left: Vec<u16, DEPTH> =
            (0..DEPTH as u16).filter(|buffer| tx[usize::from(*buffer)].owner == Owner::Server).collect();
        left.sort_unstable_by_key(|buffer| tx[usize::from(*buffer)].order);
        for buffer in left.into_iter().rev() {
            tx[usize::from(buffer)].owner = Owner::Client;
            self.counts.sent_again += 1;
            // As many places as buffers.
            let _ = self.to_send.push_front(buffer);
        }
    }

    fn begin(&mut self) -> Result<Update, Wrong> {
        self.rings = Rings::new(self.memory).ok();
        self.link = Some(self.read_link());
        self.counts.pairings += 1;
        self.flush()?;
        Ok(Update::Begun)
    }

    fn read_link(&self) -> Link {
        let words = self.end.properties();
        let word = |at: usize| words[at].load(Ordering::Relaxed);
        let [a, b, c, d, e, f, ..] = word(MAC).to_le_bytes();
        let flags = word(FLAGS);
        Link {
            mac: Mac([a, b, c, d, e, f]),
            mtu: word(MTU).min((LONGEST - ETHERNET) as u64) as usize,
            up: flags & LINK_UP != 0,
            tx_checksum: flags & TX_CHECKSUM != 0,
            rx_checksum: flags & RX_CHECKSUM != 0,
        }
    }

    fn take_arrived(&mut self, rings: &mut Rings<'m>) -> Result<(), Wrong> {
        while let Some(record) = rings.rx_done.pop()? {
            let buffer = self.buffer(&record, 0)?;
            let owner = &mut self.rx[usize::from(buffer)];
            if core::mem::replace(owner, Owner::Client) != Owner::Server {
                return Err(Wrong::Buffer);
            }
            match frame_in(&record) {
                Ok(arrived) => enqueue(&mut self.arrived, (buffer, arrived.0, arrived.1)),
                Err(wrong) => {
                    enqueue(&mut self.to_post, buffer);
                    return Err(wrong);
                }
            }
        }
        let _ = rings.rx_done.publish();
        Ok(())
    }

    fn take_sent(&mut self, rings: &mut Rings<'m>) -> Result<(), Wrong> {
        while let Some(record) = rings.tx_done.pop()? {
            let buffer = self.buffer(&record, self.receiving)?;
            let place = &mut self.tx[usize::from(buffer)];
            if core::mem::replace(&mut place.owner, Owner::Client) != Owner::Server {
                return Err(Wrong::Buffer);
            }
            enqueue(&mut self.free, buffer);
        }
        let _ = rings.tx_done.publish();
        Ok(())
    }

    fn hand_over(&mut self, rings: &mut Rings<'m>) -> Result<bool, Wrong> {
        while let Some(buffer) = self.to_post.pop_front() {
            let record = [self.rx_offset(buffer) as u64, BUFFER as u64, 0, 0];
            if !pushed(rings.rx_free.push(&record))? {
                let _ = self.to_post.push_front(buffer);
                break;
            }
            self.rx[usize::from(buffer)] = Owner::Server;
        }
        while let Some(buffer) = self.to_send.pop_front() {
            let Outgoing { length, checksum, .. } = self.tx[usize::from(buffer)];
            let lengths = BUFFER as u64 | u64::from(length) << 32;
            if !pushed(rings.tx.push(&[self.tx_offset(buffer) as u64, lengths, checksum, 0]))? {
                let _ = self.to_send.push_front(buffer);
                break;
            }
            let place = &mut self.tx[usize::from(buffer)];
            (place.owner, place.order) = (Owner::Server, self.handed);
            self.handed += 1;
        }
        let free = rings.rx_free.publish();
        Ok(rings.tx.publish() || free)
    }

    /// The buffer that a record speaks of, which is one from number `first` on.
    fn buffer(&self, record: &[u64; RECORD], first: usize) -> Result<u16, Wrong> {
        let number = usize::try_from(record[OFFSET] / BUFFER as u64).map_err(|_| Wrong::Buffer)?;
        match number.checked_sub(first) {
            Some(buffer) if buffer < self.receiving && record[OFFSET].is_multiple_of(BUFFER as u64) => {
                Ok(buffer as u16)
            }
            _ => Err(Wrong::Buffer),
        }
    }

    fn rx_offset(&self, buffer: u16) -> usize {
        usize::from(buffer) * BUFFER
    }

    fn tx_offset(&self, buffer: u16) -> usize {
        (self.receiving + usize::from(buffer)) * BUFFER
    }
}

impl Protocol for Client<'_> {
    fn meet(&mut self, server: Server) -> Result<Update, Wrong> {
        self.update(server.life)
    }

    fn flush(&mut self) -> Result<bool, Wrong> {
        Client::flush(self)
    }
}

/// What a record of a received frame says of it: its length, and whether it was checked.
fn frame_in(record: &[u64; RECORD]) -> Result<(u16, bool), Wrong> {
    let (buffer, frame) = (record[LENGTHS] & 0xffff_ffff, record[LENGTHS] >> 32);
    if buffer != BUFFER as u64 || !(ETHERNET as u64..=LONGEST as u64).contains(&frame) {
        return Err(Wrong::Length);
    }
    match record[CHECKSUM] {
        0 => Ok((frame as u16, false)),
        1 => Ok((frame as u16, true)),
        _ => Err(Wrong::Record),
    }
}

/// Whether there was room.
fn pushed(result: Result<(), PushError>) -> Result<bool, Wrong> {
    match result {
        Ok(()) => Ok(true),
        Err(PushError::Full) => Ok(false),
        Err(PushError::Corrupt) => Err(Wrong::Index),
    }
}

/// Puts a buffer into a queue, which has room for all buffers there are: each is in one queue at a time.
fn enqueue<T>(queue: &mut Deque<T, DEPTH>, item: T) {
    let full = queue.push_back(item).is_err();
    debug_assert!(!full);
}

#[cfg(test)]
mod tests;
