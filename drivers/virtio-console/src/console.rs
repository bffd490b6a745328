//! The device: its ports, and what is said of them on the two queues for control.

use heapless::Vec;
use virtio::queue::Full;
use virtio::transport::MAX_QUEUES;
use virtio::{BeginError, DeviceError, Dma, DmaMemory, Queue, Registers, Segment, Transport};

use crate::control::{self, Event, MAX_NAME, Say};
use crate::port::{self, Port};

/// VIRTIO_CONSOLE_F_MULTIPORT: it has several ports, with names. Demanded.
pub const MULTIPORT: u64 = 1 << 1;
/// Ports that are looked at, at most: as many as there can be queues for.
pub const MAX_PORTS: usize = MAX_QUEUES / 2 - 1;

/// MSI-X vectors, as init and `pci` set them up. QEMU's console has two, however many its ports are.
pub mod vectors {
    /// The configuration has changed.
    pub const CONFIG: u16 = 0;
    /// Something has happened on a queue.
    pub const QUEUES: u16 = 1;
    /// How many there are.
    pub const COUNT: u16 = 2;
}

/// The queue of what the device says, and of what the driver says.
pub const HEAR: u16 = 2;
/// See [`HEAR`].
pub const SAY: u16 = 3;

/// Messages on either queue at a time, and bytes for one of the device's.
const MESSAGES: usize = 16;
const MESSAGE: usize = 128;
const _: () = assert!(control::BYTES + MAX_NAME < MESSAGE);
/// Messages that are heard in one go.
const PATIENCE: usize = 4 * MESSAGES;
/// In the configuration (VirtIO 1.2, 5.3.4).
const MAX_NR_PORTS: u32 = 4;

/// What is wrong with a console that this driver is not for.
pub const NO_PORTS: DeviceError = DeviceError::Lacks("ports with names");

/// A port's name.
pub type Name = Vec<u8, MAX_NAME>;

/// What is known of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// It is there.
    present: bool,
    /// Its name, once the device has said it.
    name: Option<Name>,
    /// Somebody is at its other end.
    host: bool,
    /// It is to be said that the driver is ready for it.
    say_ready: bool,
    use_it: Use,
}

/// Whether a port is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Use {
    #[default]
    No,
    /// It is, and the device is to hear so.
    ToSay,
    /// It is, and the device has heard so.
    Said,
}

impl Known {
    /// Its name, if it is there.
    pub fn name(&self) -> Option<&[u8]> {
        self.name.as_deref().filter(|_| self.present)
    }

    /// Somebody is at its other end.
    pub fn is_open(&self) -> bool {
        self.present && self.host
    }

    /// It is used: the device hears so.
    pub fn open(&mut self) {
        if self.use_it == Use::No {
            self.use_it = Use::ToSay;
        }
    }
}

/// The device.
#[derive(Debug)]
pub struct Console<'m, R> {
    transport: Transport<R>,
    control: Control<'m>,
    /// The ports there can be, by their number.
    pub ports: Vec<(Port<'m>, Known), MAX_PORTS>,
}

impl<'m, R: Registers> Console<'m, R> {
    /// Resets the device behind `transport` and begins with it.
    pub fn new(mut transport: Transport<R>, dma: &mut impl Dma<'m>) -> Result<Console<'m, R>, BeginError> {
        let features = transport.negotiate(MULTIPORT)?;
        if features & MULTIPORT == 0 {
            return Err(NO_PORTS.into());
        }
        let count = transport.config(|config| config.u32(MAX_NR_PORTS))?;
        let queues = usize::from(transport.queues() / 2).saturating_sub(1);
        let count = (count as usize).min(MAX_PORTS).min(queues);
        if count == 0 {
            return Err(NO_PORTS.into());
        }
        transport.set_config_vector(vectors::CONFIG)?;
        let control = Control::new(&mut transport, dma, features)?;
        let mut ports = Vec::new();
        for number in 0..count {
            let port = Port::new(&mut transport, dma, number as u16, features)?;
            // As many places as ports.
            let _ = ports.push((port, Known::default()));
        }
        transport.start()?;
        Ok(Console { transport, control, ports })
    }

    /// Looks how the device is, after an interrupt for its configuration.
    pub fn look(&self) -> Result<(), DeviceError> {
        self.transport.check().map(|_| ())
    }

    /// Hears what the device says of ports. True: something has changed.
    pub fn hear(&mut self) -> Result<bool, DeviceError> {
        let mut changed = false;
        for _ in 0..PATIENCE {
            let mut place = [0; MESSAGE];
            let Some(message) = self.control.hear(&mut place)? else { break };
            match control::parse(message) {
                Some((number, event)) => changed |= self.heard(number, event),
                None => self.control.nonsense += 1,
            }
        }
        Ok(changed)
    }

    fn heard(&mut self, number: u32, event: Event) -> bool {
        let Some((port, known)) = self.ports.get_mut(number as usize) else {
            self.control.nonsense += 1;
            return false;
        };
        match event {
            Event::Added => {
                port.discard();
                *known = Known { present: true, say_ready: true, ..Known::default() };
            }
            Event::Removed => {
                port.discard();
                *known = Known::default();
            }
            Event::Open(open) => known.host = open,
            // A port keeps the first name it has.
            Event::Name(name) if known.name.is_none() => known.name = Name::from_slice(name).ok(),
            Event::Name(_) => {
                self.control.nonsense += 1;
                return false;
            }
            Event::Terminal => return false,
        }
        true
    }

    /// Messages of the device that made no sense.
    pub fn nonsense(&self) -> u64 {
        self.control.nonsense
    }

    /// Says what there is to say, and shows the device all that it was given.
    pub fn notify(&mut self) -> Result<(), DeviceError> {
        self.control.take_back()?;
        // What there is no room for now is said when the device has heard the rest.
        let _ = self.say();
        for (queue, number) in [(&mut self.control.hear, HEAR), (&mut self.control.saying, SAY)] {
            if queue.publish() {
                self.transport.kick(number);
            }
        }
        for (port, _) in &mut self.ports {
            port.notify(&self.transport);
        }
        Ok(())
    }

    fn say(&mut self) -> Result<(), Full> {
        let control = &mut self.control;
        if control.device_ready {
            control.say(0, Say::DeviceReady)?;
            control.device_ready = false;
        }
        for (number, (_, known)) in (0..).zip(&mut self.ports) {
            if known.say_ready {
                control.say(number, Say::PortReady)?;
                known.say_ready = false;
            }
            if known.use_it == Use::ToSay {
                control.say(number, Say::PortOpen)?;
                known.use_it = Use::Said;
            }
        }
        Ok(())
    }

    /// Asks for no interrupts while the driver is awake.
    pub fn awake(&mut self) {
        self.control.hear.awake();
        self.control.saying.awake();
        self.ports.iter_mut().for_each(|(port, _)| port.awake());
    }

    /// Asks to be interrupted when anything happens. True: nothing has happened yet.
    pub fn sleep(&mut self) -> bool {
        let heard = self.control.hear.sleep();
        let said = self.control.saying.sleep();
        let ports = self.ports.iter_mut().fold(true, |all, (port, _)| port.sleep() && all);
        heard && said && ports
    }
}

/// The two queues for control, and their memory.
#[derive(Debug)]
struct Control<'m> {
    hear: Queue<'m, MESSAGES>,
    saying: Queue<'m, MESSAGES>,
    heard: DmaMemory<'m>,
    said: DmaMemory<'m>,
    /// By the queue's name of the request: which piece of `heard` it is.
    posted: [u16; MESSAGES],
    /// Pieces of `said` that are free, and by the queue's name those that are not.
    free: Vec<u16, MESSAGES>,
    pieces: [u16; MESSAGES],
    /// It is still to be said that the driver is ready.
    device_ready: bool,
    nonsense: u64,
}

impl<'m> Control<'m> {
    fn new<R: Registers>(
        transport: &mut Transport<R>,
        dma: &mut impl Dma<'m>,
        features: u64,
    ) -> Result<Control<'m>, BeginError> {
        let mut queue = |number| -> Result<Queue<'m, MESSAGES>, BeginError> {
            let size = transport.queue_size(number, MESSAGES as u16)?;
            let queue = Queue::new(dma, size, 1, features)?;
            transport.set_up_queue(number, queue.layout(), Some(vectors::QUEUES))?;
            Ok(queue)
        };
        let (hear, saying) = (queue(HEAR)?, queue(SAY)?);
        let mut control = Control {
            hear,
            saying,
            heard: dma.allocate(MESSAGES * MESSAGE)?,
            said: dma.allocate(MESSAGES * control::BYTES)?,
            posted: [0; MESSAGES],
            free: (0..MESSAGES as u16).collect(),
            pieces: [0; MESSAGES],
            device_ready: true,
            nonsense: 0,
        };
        // A queue shorter than there are pieces takes as many as it has room for.
        let _ = (0..MESSAGES as u16).try_for_each(|piece| control.post(piece));
        Ok(control)
    }

    fn post(&mut self, piece: u16) -> Result<(), Full> {
        let address = self.heard.address() + u64::from(piece) * MESSAGE as u64;
        let name = self.hear.add(1, core::iter::once(Segment::writable(address, MESSAGE as u32)))?;
        self.posted[usize::from(name)] = piece;
        Ok(())
    }

    /// The next message of the device, copied to `place`.
    fn hear<'p>(&mut self, place: &'p mut [u8; MESSAGE]) -> Result<Option<&'p [u8]>, DeviceError> {
        let Some(used) = self.hear.pop()? else { return Ok(None) };
        let piece = self.posted[usize::from(used.token)];
        let first = usize::from(piece) * MESSAGE;
        // Not more than there was room for: the queue has seen to it.
        let message = port::load(&self.heard.u8s()[first..first + used.length as usize], place);
        // There is room for the one that has just come back.
        let _ = self.post(piece);
        Ok(Some(message))
    }

    fn say(&mut self, port: u32, say: Say) -> Result<(), Full> {
        let piece = *self.free.last().ok_or(Full)?;
        let first = usize::from(piece) * control::BYTES;
        port::store(&control::message(port, say), &self.said.u8s()[first..first + control::BYTES]);
        let segment = Segment::readable(self.said.address() + first as u64, control::BYTES as u32);
        let name = self.saying.add(1, core::iter::once(segment))?;
        self.free.pop();
        self.pieces[usize::from(name)] = piece;
        Ok(())
    }

    /// Takes back what the device has heard.
    fn take_back(&mut self) -> Result<(), DeviceError> {
        while let Some(used) = self.saying.pop()? {
            // As many places as pieces.
            let _ = self.free.push(self.pieces[usize::from(used.token)]);
        }
        Ok(())
    }
}
