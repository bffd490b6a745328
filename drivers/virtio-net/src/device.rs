//! The device.
//!
//! A frame is two segments: the device's own header, which lies in this driver's memory, and the frame in the client's
//! buffer. So the client cannot change a header after it was checked, and this driver never reads or writes the client's
//! data: it need not even map it.

use core::sync::atomic::{AtomicU16, Ordering};

use bitflags::bitflags;
use heapless::Vec;
use proto::net::{DEPTH, HEADROOM, RX_BUFFER};
use virtio::queue::Full;
use virtio::transport::Config;
use virtio::{BeginError, DeviceError, Dma, DmaMemory, Queue, Registers, Segment, Transport};

use crate::port::{Checksum, Frame};

bitflags! {
    /// Features of network devices (VirtIO 1.2, 5.1.3) that this driver has a use for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Offer: u64 {
        /// It computes checksums of frames to send.
        const CSUM = 1;
        /// It checks those of received frames, and passes on those that were never computed.
        const GUEST_CSUM = 1 << 1;
        /// It says how large frames may be.
        const MTU = 1 << 3;
        /// It has an address of its own.
        const MAC = 1 << 5;
        /// It says whether there is a link.
        const STATUS = 1 << 16;
    }
}

/// MSI-X vectors, as init and `pci` set them up.
pub mod vectors {
    /// Frames have arrived.
    pub const RECEIVED: u16 = 0;
    /// Frames were sent.
    pub const SENT: u16 = 1;
    /// The configuration has changed.
    pub const CONFIG: u16 = 2;
    /// How many there are.
    pub const COUNT: u16 = 3;
}

/// The queue of buffers to receive into.
pub const RECEIVE: u16 = 0;
/// The queue of frames to send.
pub const TRANSMIT: u16 = 1;

/// Offsets in the device's configuration (VirtIO 1.2, 5.1.4).
mod config {
    pub const MAC: u32 = 0;
    pub const STATUS: u32 = 6;
    pub const MTU: u32 = 10;
    /// Bit of the status.
    pub const LINK_UP: u16 = 1;
}

/// Bytes of the device's header (VirtIO 1.2, 5.1.6), and how far apart they lie.
pub const HEADER: u32 = 12;
const STRIDE: usize = 16;
/// Units of 2 bytes in the header: flags and `gso_type`, `csum_start`, `csum_offset`.
const FLAGS: usize = 0;
const CSUM_START: usize = 3;
const CSUM_OFFSET: usize = 4;
/// Flag: the checksum is to be computed; or, of a received frame, was never computed and needs no check.
const NEEDS_CSUM: u16 = 1;
/// Flag: the device has checked the checksum.
const DATA_VALID: u16 = 1 << 1;

/// Bytes of an Ethernet header.
const ETHERNET: u32 = 14;
/// What a device that does not say has (IEEE Std 802.3, 3.2.7).
const USUAL_MTU: u16 = 1500;
/// Bytes of payload that a buffer to receive into holds in any case.
const MOST_MTU: u16 = (RX_BUFFER - HEADROOM) as u16 - ETHERNET as u16;

/// What the device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Its address.
    pub mac: [u8; 6],
    /// Bytes of a frame's payload, at most.
    pub mtu: u16,
    /// There is a link.
    pub link: bool,
    /// What it does.
    pub offer: Offer,
}

/// What has come into a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A frame; the device vouches for its checksums, if that is set.
    Frame(Frame, bool),
    /// No frame, or one that nobody has agreed to: the buffer can be used again.
    Spoilt(Frame),
}

/// The device.
#[derive(Debug)]
pub struct Nic<'m, R> {
    transport: Transport<R>,
    /// All that were agreed on.
    features: u64,
    properties: Properties,
    rx: Lane<'m>,
    tx: Lane<'m>,
    /// Frames that it has sent.
    sent: u64,
    /// What this driver's address is on a device that has none.
    substitute: [u8; 6],
}

impl<'m, R: Registers> Nic<'m, R> {
    /// Resets the device behind `transport` and begins with it. `substitute` is its address if it has none.
    pub fn new(
        mut transport: Transport<R>,
        dma: &mut impl Dma<'m>,
        substitute: [u8; 6],
    ) -> Result<Nic<'m, R>, BeginError> {
        let (features, properties) = negotiate(&mut transport, substitute)?;
        let rx = Lane::new(&mut transport, dma, RECEIVE, features)?;
        let tx = Lane::new(&mut transport, dma, TRANSMIT, features)?;
        let mut nic = Nic { transport, features, properties, rx, tx, sent: 0, substitute };
        nic.start()?;
        Ok(nic)
    }

    /// Takes everything back that the device has: it is reset, and begins anew. One that is another afterwards is not
    /// gone on with.
    pub fn restart(&mut self) -> Result<(), DeviceError> {
        let (features, properties) = negotiate(&mut self.transport, self.substitute)?;
        if features != self.features {
            return Err(DeviceError::Features(features));
        }
        self.properties = properties;
        for lane in [&mut self.rx, &mut self.tx] {
            if queue_size(&mut self.transport, lane.number)? != lane.queue.layout().size {
                return Err(DeviceError::NoQueue(lane.number));
            }
            lane.clear();
        }
        self.start()
    }

    fn start(&mut self) -> Result<(), DeviceError> {
        self.transport.set_config_vector(vectors::CONFIG)?;
        for (lane, vector) in [(&self.rx, vectors::RECEIVED), (&self.tx, vectors::SENT)] {
            self.transport.set_up_queue(lane.number, lane.queue.layout(), Some(vector))?;
        }
        self.transport.start()
    }

    /// What it is, as last looked.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Looks what has changed of it, after an interrupt for its configuration.
    pub fn look(&mut self) -> Result<(), DeviceError> {
        self.transport.check()?;
        let offer = self.properties.offer;
        self.properties.link = self.transport.config(|config| read_link(config, offer))?;
        Ok(())
    }

    /// Whether it has anything of a client's.
    pub fn is_idle(&self) -> bool {
        self.rx.queue.under_way() == 0 && self.tx.queue.under_way() == 0
    }

    /// Whether it takes another buffer to receive into.
    #[inline]
    pub fn can_post(&self) -> bool {
        self.rx.has_room()
    }

    /// Gives it a buffer to receive into, whose frame begins at `address`. It sees it after [`Self::notify`].
    #[inline]
    pub fn post(&mut self, frame: Frame, address: u64) -> Result<(), Full> {
        self.rx.add(frame, Segment::writable(address, frame.room))
    }

    /// Whether it takes another frame to send.
    #[inline]
    pub fn can_send(&self) -> bool {
        self.tx.has_room()
    }

    /// Gives it a frame to send, which begins at `address`. It sees it after [`Self::notify`].
    #[inline]
    pub fn send(&mut self, frame: Frame, address: u64) -> Result<(), Full> {
        self.tx.add(frame, Segment::readable(address, frame.length))
    }

    /// The next buffer that something has come into.
    #[inline]
    pub fn arrived(&mut self) -> Result<Option<Arrival>, DeviceError> {
        let Some(Returned { header, mut frame, written }) = self.rx.pop()? else { return Ok(None) };
        let flags = self.rx.header_flags(header);
        // Not more than the buffer has room for: the queue has seen to it.
        frame.length = written.saturating_sub(HEADER);
        // Without offloads for segmentation the upper byte, `gso_type`, is 0 (VirtIO 1.2, 5.1.6.4.1).
        if frame.length < ETHERNET || flags >> 8 != 0 {
            return Ok(Some(Arrival::Spoilt(frame)));
        }
        let vouches = self.properties.offer.contains(Offer::GUEST_CSUM);
        Ok(Some(Arrival::Frame(frame, vouches && flags & (NEEDS_CSUM | DATA_VALID) != 0)))
    }

    /// The next frame that was sent.
    #[inline]
    pub fn sent(&mut self) -> Result<Option<Frame>, DeviceError> {
        let Some(Returned { frame, .. }) = self.tx.pop()? else { return Ok(None) };
        self.sent = self.sent.wrapping_add(1);
        Ok(Some(frame))
    }

    /// Whether it has frames that it could send, and how many it has sent.
    pub fn is_sending(&self) -> (bool, u64) {
        (self.properties.link && self.tx.queue.under_way() > 0, self.sent)
    }

    /// Shows the device what it was given, and notifies it where it sleeps: once for each queue.
    pub fn notify(&mut self) {
        for lane in [&mut self.rx, &mut self.tx] {
            if lane.queue.publish() {
                self.transport.kick(lane.number);
            }
        }
    }

    /// Asks for no interrupts while the driver is awake.
    pub fn awake(&mut self) {
        self.rx.queue.awake();
        self.tx.queue.awake();
    }

    /// Asks for an interrupt when a frame arrives; true if none has.
    pub fn sleep_receiving(&mut self) -> bool {
        self.rx.queue.sleep()
    }

    /// Asks for an interrupt when a frame was sent; true if none was.
    pub fn sleep_sending(&mut self) -> bool {
        self.tx.queue.sleep()
    }
}

/// Agrees on features. A device whose frames can be larger than buffers are is not asked for its MTU, which makes it
/// keep to the usual one (VirtIO 1.2, 5.1.4.2).
fn negotiate<R: Registers>(
    transport: &mut Transport<R>,
    substitute: [u8; 6],
) -> Result<(u64, Properties), DeviceError> {
    for wanted in [Offer::all(), Offer::all() - Offer::MTU] {
        let features = transport.negotiate(wanted.bits())?;
        let offer = Offer::from_bits_truncate(features);
        let properties = transport.config(|config| read_properties(config, offer, substitute))?;
        if properties.mtu <= MOST_MTU {
            return Ok((features, properties));
        }
    }
    // The usual one is smaller.
    Err(DeviceError::Configuration)
}

fn read_properties<R: Registers>(
    config: &Config<R>,
    offer: Offer,
    substitute: [u8; 6],
) -> Option<Properties> {
    let mut mac = substitute;
    if offer.contains(Offer::MAC) {
        for (at, byte) in mac.iter_mut().enumerate() {
            *byte = config.u8(config::MAC + at as u32)?;
        }
    }
    let mtu = match offer.contains(Offer::MTU) {
        true => config.u16(config::MTU)?,
        false => USUAL_MTU,
    };
    Some(Properties { mac, mtu, link: read_link(config, offer)?, offer })
}

fn queue_size<R: Registers>(transport: &mut Transport<R>, number: u16) -> Result<u16, DeviceError> {
    transport.queue_size(number, DEPTH as u16)
}

/// A device that does not say is always linked (VirtIO 1.2, 5.1.4.2).
fn read_link<R: Registers>(config: &Config<R>, offer: Offer) -> Option<bool> {
    match offer.contains(Offer::STATUS) {
        true => Some(config.u16(config::STATUS)? & config::LINK_UP != 0),
        false => Some(true),
    }
}

/// A queue with the headers of its frames.
#[derive(Debug)]
struct Lane<'m> {
    number: u16,
    queue: Queue<'m, DEPTH>,
    headers: DmaMemory<'m>,
    /// Headers that are free.
    free: Vec<u16, DEPTH>,
    /// By the queue's name of the request: its header and its buffer.
    under_way: [(u16, Frame); DEPTH],
}

impl<'m> Lane<'m> {
    fn new<R: Registers>(
        transport: &mut Transport<R>,
        dma: &mut impl Dma<'m>,
        number: u16,
        features: u64,
    ) -> Result<Lane<'m>, BeginError> {
        let size = queue_size(transport, number)?;
        let mut lane = Lane {
            number,
            queue: Queue::new(dma, size, 2, features)?,
            headers: dma.allocate(STRIDE * DEPTH)?,
            free: Vec::new(),
            under_way: [(0, Frame::default()); DEPTH],
        };
        lane.clear();
        Ok(lane)
    }

    fn clear(&mut self) {
        self.queue.clear();
        self.free.clear();
        self.free.extend(0..DEPTH as u16);
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.queue.has_room(2)
    }

    /// Gives the device a frame, which is at `segment`: to send, or to be received.
    fn add(&mut self, frame: Frame, segment: Segment) -> Result<(), Full> {
        let header = *self.free.last().ok_or(Full)?;
        if !segment.writable {
            self.write_header(header, frame.checksum);
        }
        let address = self.headers.address() + u64::from(header) * STRIDE as u64;
        let segments = [Segment { address, length: HEADER, ..segment }, segment];
        let name = self.queue.add(segments.len(), segments.into_iter())?;
        self.free.pop();
        self.under_way[usize::from(name)] = (header, frame);
        Ok(())
    }

    /// Takes back what the device has used.
    fn pop(&mut self) -> Result<Option<Returned>, DeviceError> {
        let Some(used) = self.queue.pop()? else { return Ok(None) };
        let (header, frame) = self.under_way[usize::from(used.token)];
        // As many places as headers. Nobody else uses it before the next `add`.
        let _ = self.free.push(header);
        Ok(Some(Returned { header, frame, written: used.length }))
    }

    /// The first unit of a header, which the device has written.
    fn header_flags(&self, header: u16) -> u16 {
        self.units(header)[FLAGS].load(Ordering::Relaxed)
    }

    fn write_header(&self, header: u16, checksum: Option<Checksum>) {
        let mut units = [0; HEADER as usize / 2];
        if let Some(Checksum { from, to }) = checksum {
            (units[FLAGS], units[CSUM_START], units[CSUM_OFFSET]) = (NEEDS_CSUM, from, to);
        }
        for (place, unit) in self.units(header).iter().zip(units) {
            place.store(unit, Ordering::Relaxed);
        }
    }

    fn units(&self, header: u16) -> &'m [AtomicU16] {
        &self.headers.u16s()[usize::from(header) * STRIDE / 2..]
    }
}

/// What the device has given back.
#[derive(Clone, Copy, Debug)]
struct Returned {
    header: u16,
    frame: Frame,
    /// Bytes it says it has written, its header included.
    written: u32,
}
