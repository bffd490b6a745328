//! The client in a component: its channel, the driver's bell, and init, who hears of a driver that is wrong.

use abi::Error;
use proto::life::bell;
use rt::alloc::AllocError;
use rt::{channel, control, env, life};

use crate::client::{Client, Counts, LONGEST, Link, Update, Wrong};

/// A connection to the driver of a network device.
#[derive(Debug)]
pub struct Connection {
    end: channel::End,
    client: Client<'static>,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug)]
pub enum OpenError {
    /// The manifest gives this component no channel of that name.
    NoChannel,
    /// Its memory cannot be mapped.
    Map(AllocError),
    /// Its Frames are too small.
    TooSmall,
}

impl core::fmt::Display for OpenError {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        match self {
            OpenError::NoChannel => {
                f.write_str("the manifest gives this program no channel to a network driver")
            }
            OpenError::Map(error) => write!(f, "the channel cannot be mapped: {error}"),
            OpenError::TooSmall => f.write_str("the channel's memory is too small for a buffer each way"),
        }
    }
}

impl Connection {
    /// The connection on the channel called `name`.
    pub fn open(name: &str) -> Result<Connection, OpenError> {
        let end = channel::client(name).map_err(OpenError::Map)?.ok_or(OpenError::NoChannel)?;
        let client = Client::new(end.rings, end.data, env::life()).map_err(|_| OpenError::TooSmall)?;
        Ok(Connection { end, client })
    }

    /// The bit of the component's bell that the driver rings.
    pub fn bit(&self) -> u8 {
        self.end.bit
    }

    /// Meets the driver, whichever life it is in, and hands it what waits. To be called after each wait.
    /// [`Update::Begun`]: frames may have been lost just now.
    pub fn turn(&mut self) -> Update {
        let found = self.client.update(self.end.peer_life());
        if matches!(found, Ok(Update::Apart | Update::Begun)) {
            self.end.ring_bell();
        }
        self.flush();
        self.unless_wrong(found).unwrap_or(Update::Same)
    }

    /// Hands the driver what waits.
    pub fn flush(&mut self) {
        let flushed = self.client.flush();
        if self.unless_wrong(flushed) == Some(true) {
            self.end.ring_bell();
        }
    }

    /// What is known of the device. None: no driver has said anything yet.
    pub fn link(&mut self) -> Option<Link> {
        self.client.link()
    }

    /// There is a driver.
    pub fn is_together(&self) -> bool {
        self.client.is_together()
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.client.counts()
    }

    /// Copies out the next frame that has arrived, if there is one.
    pub fn receive<'p>(&mut self, place: &'p mut [u8; LONGEST]) -> Option<&'p [u8]> {
        let received = self.client.receive();
        let frame = self.unless_wrong(received)??;
        let bytes = self.client.copy_out(&frame, place);
        self.client.give_back(frame);
        Some(bytes)
    }

    /// Sends a frame; it goes out at the next [`Self::flush`] or [`Self::turn`]. False: all buffers are under way.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        let room = self.client.room();
        let Some(Some(room)) = self.unless_wrong(room) else { return false };
        let length = self.client.copy_in(&room, frame);
        self.client.send(room, length, None);
        true
    }

    /// Whether [`Self::send`] has a buffer.
    pub fn has_room(&mut self) -> bool {
        let room = self.client.room();
        match self.unless_wrong(room) {
            Some(Some(room)) => {
                self.client.discard(room);
                true
            }
            _ => false,
        }
    }

    /// True: there is nothing to receive (and, if `for_room`, no room to send), and the component's bell is rung
    /// when there is. For who waits for more than this connection.
    pub fn sleep(&mut self, for_room: bool) -> bool {
        let asleep = self.client.sleep(for_room);
        // A wrong driver rings no more; its next life does.
        self.unless_wrong(asleep).unwrap_or(true)
    }

    /// Waits until there is something to do on this connection, or until `deadline` (TSC ticks), and answers init's
    /// heartbeats. For who waits for nothing else: other bits of the bell are lost.
    pub fn wait(&mut self, for_room: bool, deadline: u64) {
        if !self.sleep(for_room) {
            return;
        }
        match ipc::wait_until(life::bell(), deadline) {
            Ok(bits) if bits & 1 << bell::ORDERS != 0 => life::beat(),
            Ok(_) | Err(Error::TimedOut) => {}
            Err(error) => panic!("the component's bell cannot be waited for: {error:?}"),
        }
    }

    /// The full interface, for zero-copy use.
    pub fn client(&mut self) -> &mut Client<'static> {
        &mut self.client
    }

    /// What is not wrong. What is wrong in a life that goes on, init is told of.
    pub fn unless_wrong<T>(&mut self, result: Result<T, Wrong>) -> Option<T> {
        let wrong = match result {
            Ok(value) => return Some(value),
            Err(wrong) => wrong,
        };
        match self.client.update(self.end.peer_life()) {
            Ok(Update::Same) => {
                // init ends the driver; where it does not, it knows better.
                let _ = control::report(self.end.peer as u64, wrong as u64);
            }
            // It was the beginning of its next life that looked wrong.
            Ok(Update::Apart | Update::Begun) | Err(_) => self.end.ring_bell(),
        }
        None
    }
}
