//! The device, and what it has given.

use core::sync::atomic::Ordering;

use virtio::{BeginError, DeviceError, DeviceType, Dma, DmaMemory, Queue, Registers, Segment, Transport};
use virtio_drivers::transport::Transport as _;

/// MSI-X vectors, as init and `pci` set them up.
pub mod vectors {
    /// The device has given something.
    pub const QUEUE: u16 = 0;
    /// How many there are.
    pub const COUNT: u16 = 1;
}

/// The only queue (VirtIO 1.2, 5.4.2).
const REQUESTS: u16 = 0;
/// Bytes asked for at a time.
pub const BUFFER: usize = 1024;
/// Answers without a single byte, one after the other, that a device may give (VirtIO 1.2, 5.4.6.2: at least one byte
/// each time).
const MOST_EMPTY: u32 = 64;

/// An entropy device.
#[derive(Debug)]
pub struct Entropy<'m, R> {
    transport: Transport<R>,
    queue: Queue<'m, 1>,
    buffer: DmaMemory<'m>,
    /// What is to be given out: `bytes[given..there]`; the rest is 0.
    bytes: [u8; BUFFER],
    given: usize,
    there: usize,
    /// Answers without a byte, up to now.
    empty: u32,
}

impl<'m, R: Registers> Entropy<'m, R> {
    /// Resets the device and sets it up.
    pub fn open(mut transport: Transport<R>, dma: &mut impl Dma<'m>) -> Result<Entropy<'m, R>, BeginError> {
        if transport.device_type() != DeviceType::EntropySource {
            return Err(DeviceError::WrongType(transport.device_type() as u16).into());
        }
        let features = transport.negotiate(0)?;
        let size = transport.queue_size(REQUESTS, 1)?;
        let queue = Queue::new(dma, size, 1, features)?;
        let buffer = dma.allocate(BUFFER)?;
        transport.set_up_queue(REQUESTS, queue.layout(), Some(vectors::QUEUE))?;
        transport.start()?;
        let mut new = Entropy { transport, queue, buffer, bytes: [0; BUFFER], given: 0, there: 0, empty: 0 };
        new.ask();
        Ok(new)
    }

    /// Fills `to`, all of it or, if there is not so much yet, nothing; says whether.
    pub fn take(&mut self, to: &mut [u8]) -> Result<bool, DeviceError> {
        if to.len() > self.there - self.given {
            self.look()?;
        }
        if to.len() > self.there - self.given {
            return Ok(false);
        }
        let from = &mut self.bytes[self.given..self.given + to.len()];
        to.copy_from_slice(from);
        from.fill(0);
        self.given += to.len();
        Ok(true)
    }

    /// Takes what the device has given, and asks it for more. To be called when it interrupts.
    pub fn look(&mut self) -> Result<(), DeviceError> {
        self.transport.check()?;
        loop {
            // What is left moves to the front; the device's next buffer goes behind it.
            self.bytes.copy_within(self.given..self.there, 0);
            (self.there, self.given) = (self.there - self.given, 0);
            self.bytes[self.there..].fill(0);
            // A full store leaves the next buffer where it is.
            if self.there == BUFFER {
                return Ok(());
            }
            let Some(used) = self.queue.pop()? else {
                if self.queue.sleep() {
                    return Ok(());
                }
                continue;
            };
            self.copy(used.length as usize)?;
            self.ask();
        }
    }

    /// Takes the first `length` bytes of the buffer, as many as there is room for.
    fn copy(&mut self, length: usize) -> Result<(), DeviceError> {
        self.empty = if length == 0 { self.empty + 1 } else { 0 };
        if self.empty > MOST_EMPTY {
            return Err(DeviceError::Empty);
        }
        let room = self.bytes[self.there..].iter_mut();
        let mut count = 0;
        for (to, from) in room.zip(self.buffer.u8s().iter().take(length)) {
            *to = from.load(Ordering::Relaxed);
            count += 1;
        }
        self.there += count;
        Ok(())
    }

    /// Has the device fill the buffer.
    fn ask(&mut self) {
        // What a device claims to have written and did not is at least not what it gave before.
        self.buffer.u8s().iter().for_each(|byte| byte.store(0, Ordering::Relaxed));
        let segment = Segment::writable(self.buffer.address(), BUFFER as u32);
        // There is room: the queue holds one request, and the device has none.
        if self.queue.add(1, core::iter::once(segment)).is_ok() && self.queue.publish() {
            self.transport.kick(REQUESTS);
        }
    }
}
