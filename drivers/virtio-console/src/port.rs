//! One port's queues: bytes that come in, in buffers of this driver; bytes that go out, one buffer of them at a time, so
//! that it is plain what the device has taken and in which order.

use core::sync::atomic::{AtomicU8, Ordering};

use heapless::Deque;
use virtio::queue::Full;
use virtio::{BeginError, DeviceError, Dma, DmaMemory, Queue, Registers, Segment, Transport};

use crate::console::vectors;

/// Buffers to receive into, and bytes of each.
const BUFFERS: usize = 8;
const BUFFER: usize = 1024;
/// Bytes that go out at a time.
pub const OUT: usize = 4096;

/// Two queues of a port, and their memory.
#[derive(Debug)]
pub struct Port<'m> {
    rx: Queue<'m, BUFFERS>,
    tx: Queue<'m, BUFFERS>,
    /// Their numbers.
    numbers: [u16; 2],
    memory: DmaMemory<'m>,
    out: DmaMemory<'m>,
    /// By the queue's name of the request: which buffer it is.
    posted: [u16; BUFFERS],
    /// Buffers with bytes in them, and how many; of the first, so many were taken already.
    filled: Deque<(u16, u32), BUFFERS>,
    taken: u32,
    /// Bytes that the device is sending, and that it has sent when nobody had asked yet.
    sending: Option<u32>,
    sent: Option<u32>,
}

impl<'m> Port<'m> {
    /// Port number `port`, with buffers that the device sees after [`Self::notify`].
    pub fn new<R: Registers>(
        transport: &mut Transport<R>,
        dma: &mut impl Dma<'m>,
        port: u16,
        features: u64,
    ) -> Result<Port<'m>, BeginError> {
        // Behind the first port's queues come the two for control (VirtIO 1.2, 5.3.2).
        let rx = if port == 0 { 0 } else { 2 + 2 * port };
        let numbers = [rx, rx + 1];
        let mut queue = |number| -> Result<Queue<'m, BUFFERS>, BeginError> {
            let size = transport.queue_size(number, BUFFERS as u16)?;
            let queue = Queue::new(dma, size, 1, features)?;
            transport.set_up_queue(number, queue.layout(), Some(vectors::QUEUES))?;
            Ok(queue)
        };
        let (rx, tx) = (queue(numbers[0])?, queue(numbers[1])?);
        let mut port = Port {
            rx,
            tx,
            numbers,
            memory: dma.allocate(BUFFERS * BUFFER)?,
            out: dma.allocate(OUT)?,
            posted: [0; BUFFERS],
            filled: Deque::new(),
            taken: 0,
            sending: None,
            sent: None,
        };
        // A queue shorter than there are buffers takes as many as it has room for.
        let _ = (0..BUFFERS as u16).try_for_each(|buffer| port.post(buffer));
        Ok(port)
    }

    fn post(&mut self, buffer: u16) -> Result<(), Full> {
        let address = self.memory.address() + u64::from(buffer) * BUFFER as u64;
        let name = self.rx.add(1, core::iter::once(Segment::writable(address, BUFFER as u32)))?;
        self.posted[usize::from(name)] = buffer;
        Ok(())
    }

    /// Takes back what the device has used. To be called for ports that are nobody's, too: otherwise the driver would
    /// never sleep again.
    pub fn look(&mut self) -> Result<(), DeviceError> {
        while let Some(used) = self.rx.pop()? {
            let buffer = self.posted[usize::from(used.token)];
            if used.length == 0 {
                // There is room for the one that has just come back; likewise below.
                let _ = self.post(buffer);
            } else {
                // As many places as buffers.
                let _ = self.filled.push_back((buffer, used.length));
            }
        }
        if self.tx.pop()?.is_some() {
            self.sent = self.sending.take();
        }
        Ok(())
    }

    /// Bytes have come in.
    pub fn has_received(&self) -> bool {
        !self.filled.is_empty()
    }

    /// Copies out bytes that have come in, without taking them; gives the part that was filled.
    pub fn peek<'t>(&self, to: &'t mut [u8]) -> &'t [u8] {
        let Some((buffer, length)) = self.filled.front() else { return &[] };
        let first = usize::from(*buffer) * BUFFER;
        let bytes = &self.memory.u8s()[first..][self.taken as usize..*length as usize];
        load(bytes, to)
    }

    /// Takes so many of the bytes that were looked at.
    pub fn take(&mut self, count: usize) {
        let Some((buffer, length)) = self.filled.front().copied() else { return };
        self.taken += count as u32;
        if self.taken >= length {
            self.taken = 0;
            self.filled.pop_front();
            let _ = self.post(buffer);
        }
    }

    /// What has come in is nobody's.
    pub fn discard(&mut self) {
        self.taken = 0;
        while let Some((buffer, _)) = self.filled.pop_front() {
            let _ = self.post(buffer);
        }
    }

    /// The device is sending.
    pub fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// Gives the device bytes to send, at most [`OUT`]; none are on their way.
    pub fn send(&mut self, bytes: &[u8]) {
        let length = bytes.len().min(OUT);
        if length == 0 || self.is_sending() {
            return;
        }
        store(&bytes[..length], self.out.u8s());
        let segment = Segment::readable(self.out.address(), length as u32);
        if self.tx.add(1, core::iter::once(segment)).is_ok() {
            self.sending = Some(length as u32);
        }
    }

    /// How many bytes the device has taken, if it has taken some. Said once.
    pub fn sent(&mut self) -> Option<u32> {
        self.sent.take()
    }

    /// Shows the device what it was given.
    pub fn notify<R: Registers>(&mut self, transport: &Transport<R>) {
        for (queue, number) in [&mut self.rx, &mut self.tx].into_iter().zip(self.numbers) {
            if queue.publish() {
                transport.kick(number);
            }
        }
    }

    /// Asks for no interrupts while the driver is awake.
    pub fn awake(&mut self) {
        self.rx.awake();
        self.tx.awake();
    }

    /// Asks to be interrupted when bytes come in or were sent. True: nothing has happened yet.
    pub fn sleep(&mut self) -> bool {
        let received = self.rx.sleep();
        self.tx.sleep() && received
    }
}

/// Copies bytes out of shared memory; gives the part that was filled.
pub(crate) fn load<'t>(from: &[AtomicU8], to: &'t mut [u8]) -> &'t [u8] {
    let count = from.len().min(to.len());
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.load(Ordering::Relaxed);
    }
    &to[..count]
}

/// Copies bytes into shared memory.
pub(crate) fn store(from: &[u8], to: &[AtomicU8]) {
    for (from, to) in from.iter().zip(to) {
        to.store(*from, Ordering::Relaxed);
    }
}
