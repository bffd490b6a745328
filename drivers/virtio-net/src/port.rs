//! The server's end of the channel: what the client asks for, checked and copied once.

use core::sync::atomic::{AtomicU64, Ordering};

use channel::{End, Role, Step};
use proto::net::properties::{FLAGS, LINK_UP, MAC, MTU, RX_CHECKSUM, TX_CHECKSUM};
use proto::net::{CHECKSUM, HEADROOM, LENGTHS, OFFSET, RECORD, RX_BUFFER, RX_DONE, RX_FREE, TX, TX_DONE};
use ring::index::{Role as RingRole, clear};
use ring::records::{Consumer, Producer, PushError};
use ring::{Begin, Corrupt, TooSmall};

use crate::device::{Offer, Properties};

/// Bytes of an Ethernet header, and of the tag that can come on top (IEEE Std 802.1Q, 9.6).
const ETHERNET: u32 = 14;
const TAG: u32 = 4;

/// A client's buffer, inside the `data` Frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Where the buffer begins; the frame begins [`HEADROOM`] behind that.
    pub offset: u64,
    /// Bytes there are for a frame.
    pub room: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// The checksum to be computed, of a frame to send.
    pub checksum: Option<Checksum>,
}

/// Where an Internet checksum (RFC 1071) is to go, inside the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// From which byte on it is computed.
    pub from: u16,
    /// How far behind that it goes.
    pub to: u16,
}

/// What has been counted in this life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames passed on to the client.
    pub received: u64,
    /// Frames sent for it.
    pub sent: u64,
    /// Records of the client that made no sense.
    pub refused: u64,
}

/// The end.
#[derive(Debug)]
pub struct Port<'m> {
    end: End<'m>,
    memory: &'m [AtomicU64],
    /// Bytes of the `data` Frame.
    data: u64,
    rings: Option<Rings<'m>>,
    longest: u32,
    offer: Offer,
    counts: Counts,
}

#[derive(Debug)]
struct Rings<'m> {
    rx_free: Consumer<'m, RECORD>,
    rx_done: Producer<'m, RECORD>,
    tx: Consumer<'m, RECORD>,
    tx_done: Producer<'m, RECORD>,
}

impl<'m> Rings<'m> {
    fn new(memory: &'m [AtomicU64]) -> Result<Rings<'m>, TooSmall> {
        Ok(Rings {
            rx_free: Consumer::new(&memory[RX_FREE], Begin::New)?,
            rx_done: Producer::new(&memory[RX_DONE], Begin::New)?,
            tx: Consumer::new(&memory[TX], Begin::New)?,
            tx_done: Producer::new(&memory[TX_DONE], Begin::New)?,
        })
    }
}

impl<'m> Port<'m> {
    /// The end of a driver in its life `own`, by the `rings` Frame and how many bytes of data there are.
    pub fn new(rings: &'m [AtomicU64], data: u64, own: u32) -> Result<Port<'m>, TooSmall> {
        if rings.len() < TX_DONE.end {
            return Err(TooSmall);
        }
        Ok(Port {
            end: End::new(rings.first_chunk().ok_or(TooSmall)?, Role::Server, own),
            memory: rings,
            data,
            rings: None,
            longest: 0,
            offer: Offer::empty(),
            counts: Counts::default(),
        })
    }

    /// What has been counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Looks whether the client, which is in life `peer`, is the one that this side knows. `Reset`: take back all of
    /// its buffers, then [`Self::join`].
    pub fn update(&mut self, peer: u32) -> Step {
        let step = self.end.update(peer);
        match step {
            Step::Reset => self.rings = None,
            // `new` has seen that the memory is large enough.
            Step::Begin => self.rings = Rings::new(self.memory).ok(),
            Step::Wait | Step::Together => {}
        }
        step
    }

    /// Nothing of the client's is in use any more: says what the device is, and is ready for it.
    pub fn join(&mut self, device: &Properties) {
        for (range, role) in [
            (RX_FREE, RingRole::Consumer),
            (RX_DONE, RingRole::Producer),
            (TX, RingRole::Consumer),
            (TX_DONE, RingRole::Producer),
        ] {
            clear(&self.memory[range], role);
        }
        self.longest = u32::from(device.mtu) + ETHERNET + TAG;
        self.offer = device.offer;
        let [a, b, c, d, e, f] = device.mac;
        self.say(MAC, u64::from_le_bytes([a, b, c, d, e, f, 0, 0]));
        self.say(MTU, device.mtu.into());
        self.show_link(device, true);
        self.end.joined();
    }

    /// Says whether there is a link: for a client that does not have the device there is none.
    pub fn show_link(&mut self, device: &Properties, has_it: bool) {
        let flags = [
            (LINK_UP, device.link && has_it),
            (TX_CHECKSUM, device.offer.contains(Offer::CSUM)),
            (RX_CHECKSUM, device.offer.contains(Offer::GUEST_CSUM)),
        ];
        self.say(FLAGS, flags.into_iter().filter(|each| each.1).fold(0, |all, each| all | each.0));
    }

    fn say(&self, word: usize, value: u64) {
        self.memory[word].store(value, Ordering::Relaxed);
    }

    /// The client's life that was met last.
    pub fn life(&self) -> u32 {
        self.end.peer()
    }

    /// The client is there, and makes sense.
    #[inline]
    pub fn is_together(&self) -> bool {
        self.rings.is_some()
    }

    /// The client makes no sense: it is not listened to any more in this life of its.
    pub fn break_off(&mut self) {
        self.rings = None;
    }

    /// The next buffer to receive into.
    #[inline]
    pub fn posted(&mut self) -> Result<Option<Frame>, Corrupt> {
        let Some(rings) = &mut self.rings else { return Ok(None) };
        while let Some(record) = rings.rx_free.pop()? {
            match buffer(&record, self.data) {
                Some(frame) if frame.room as usize + HEADROOM >= RX_BUFFER => return Ok(Some(frame)),
                _ => self.counts.refused += 1,
            }
        }
        Ok(None)
    }

    /// The next frame to send.
    #[inline]
    pub fn to_send(&mut self) -> Result<Option<Frame>, Corrupt> {
        let Some(rings) = &mut self.rings else { return Ok(None) };
        while let Some(record) = rings.tx.pop()? {
            match buffer(&record, self.data).and_then(|frame| outgoing(&record, frame, self.offer)) {
                Some(frame) if (ETHERNET..=self.longest).contains(&frame.length) => return Ok(Some(frame)),
                _ => self.counts.refused += 1,
            }
        }
        Ok(None)
    }

    /// How many received frames the client has room for. An honest one has it for all of its buffers.
    pub fn room_for_received(&mut self) -> Result<u64, Corrupt> {
        self.rings.as_mut().map_or(Ok(0), |rings| rings.rx_done.room())
    }

    /// Passes a received frame on.
    #[inline]
    pub fn received(&mut self, frame: &Frame, checked: bool) -> Result<(), Corrupt> {
        self.counts.received += 1;
        self.rings.as_mut().map_or(Ok(()), |rings| push(&mut rings.rx_done, frame, checked))
    }

    /// How many sent frames the client has room for.
    pub fn room_for_sent(&mut self) -> Result<u64, Corrupt> {
        self.rings.as_mut().map_or(Ok(0), |rings| rings.tx_done.room())
    }

    /// Gives the buffer of a frame back that was sent.
    #[inline]
    pub fn sent(&mut self, frame: &Frame) -> Result<(), Corrupt> {
        self.counts.sent += 1;
        self.rings.as_mut().map_or(Ok(()), |rings| push(&mut rings.tx_done, frame, false))
    }

    /// Shows the client how far this side is. True: ring its bell.
    pub fn publish(&mut self) -> bool {
        let Some(rings) = &mut self.rings else { return false };
        // The places first: who gets a buffer back has room to hand it over again.
        let mut ring = rings.rx_free.publish();
        ring |= rings.tx.publish();
        ring |= rings.rx_done.publish();
        ring | rings.tx_done.publish()
    }

    /// True: no buffer was posted, and the client rings when one is.
    pub fn sleep_posted(&mut self) -> Result<bool, Corrupt> {
        self.rings.as_mut().map_or(Ok(true), |rings| rings.rx_free.sleep())
    }

    /// True: there is nothing to send, and the client rings when there is.
    pub fn sleep_to_send(&mut self) -> Result<bool, Corrupt> {
        self.rings.as_mut().map_or(Ok(true), |rings| rings.tx.sleep())
    }

    /// True: there is no room for received frames, and the client rings when there is.
    pub fn sleep_received(&mut self) -> Result<bool, Corrupt> {
        self.rings.as_mut().map_or(Ok(false), |rings| rings.rx_done.sleep())
    }

    /// True: there is no room for sent frames, and the client rings when there is.
    pub fn sleep_sent(&mut self) -> Result<bool, Corrupt> {
        self.rings.as_mut().map_or(Ok(false), |rings| rings.tx_done.sleep())
    }
}

/// The buffer that a record names, if it lies inside the data.
fn buffer(record: &[u64; RECORD], data: u64) -> Option<Frame> {
    let (offset, bytes) = (record[OFFSET], record[LENGTHS] as u32);
    let inside = offset.checked_add(bytes.into()).is_some_and(|end| end <= data);
    let room = bytes.checked_sub(HEADROOM as u32)?;
    (inside && offset.is_multiple_of(8)).then_some(Frame { offset, room, length: 0, checksum: None })
}

/// The frame that lies in the buffer, if it fits, and the device can do what is asked of it.
fn outgoing(record: &[u64; RECORD], buffer: Frame, offer: Offer) -> Option<Frame> {
    let length = (record[LENGTHS] >> 32) as u32;
    if length > buffer.room {
        return None;
    }
    let checksum = match record[CHECKSUM] {
        0 => None,
        word if offer.contains(Offer::CSUM) => Some(checksum(word, length)?),
        _ => return None,
    };
    Some(Frame { length, checksum, ..buffer })
}

/// A checksum that lies behind the Ethernet header, and inside the frame.
fn checksum(word: u64, length: u32) -> Option<Checksum> {
    let (from, to) = (word as u32, (word >> 32) as u32);
    let end = from.checked_add(to)?.checked_add(2)?;
    if from < ETHERNET || end > length {
        return None;
    }
    Some(Checksum { from: u16::try_from(from).ok()?, to: u16::try_from(to).ok()? })
}

fn push(ring: &mut Producer<RECORD>, frame: &Frame, checked: bool) -> Result<(), Corrupt> {
    let bytes = u64::from(frame.room) + HEADROOM as u64;
    let record = [frame.offset, bytes | u64::from(frame.length) << 32, checked.into(), 0];
    match ring.push(&record) {
        // Full: not without a look at the room before.
        Ok(()) | Err(PushError::Full) => Ok(()),
        Err(PushError::Corrupt) => Err(Corrupt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: u64 = 1 << 16;

    fn record(offset: u64, bytes: u64, length: u64, checksum: u64) -> [u64; RECORD] {
        [offset, bytes | length << 32, checksum, 0]
    }

    #[test]
    fn a_buffer_lies_inside_the_data() {
        for (offset, bytes, fine) in [
            (0, 2048, true),
            (DATA - 2048, 2048, true),
            (DATA - 2040, 2048, false),
            (4, 2048, false),
            (u64::MAX - 7, 2048, false),
            (0, u64::from(u32::MAX), false),
            (0, HEADROOM as u64, true),
            (0, HEADROOM as u64 - 1, false),
        ] {
            assert_eq!(buffer(&record(offset, bytes, 0, 0), DATA).is_some(), fine, "{offset} {bytes}");
        }
    }

    #[test]
    fn a_frame_lies_inside_its_buffer() {
        let buffer = Frame { offset: 0, room: 100, length: 0, checksum: None };
        for (length, fine) in [(0, true), (100, true), (101, false), (u64::from(u32::MAX), false)] {
            let frame = outgoing(&record(0, 116, length, 0), buffer, Offer::empty());
            assert_eq!(frame.is_some(), fine, "{length}");
        }
    }

    #[test]
    fn a_checksum_lies_inside_the_frame_and_is_offered() {
        let buffer = Frame { offset: 0, room: 100, length: 0, checksum: None };
        for (from, to, fine) in
            [(14, 16, true), (34, 24, true), (34, 25, false), (13, 16, false), (u32::MAX, 1u32, false)]
        {
            let record = record(0, 116, 60, u64::from(from) | u64::from(to) << 32);
            assert_eq!(outgoing(&record, buffer, Offer::CSUM).is_some(), fine, "{from} {to}");
            assert_eq!(outgoing(&record, buffer, Offer::GUEST_CSUM), None);
        }
    }
}
