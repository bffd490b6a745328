//! The client in a component.

use channel::{Peer, Update, World};
use rt::channel::{self as ends, OpenError, Outside};

use crate::client::{Client, Counts, LONGEST, Link};

/// A connection to the driver of a network device.
#[derive(Debug)]
pub struct Connection {
    peer: Peer<Client<'static>, Outside>,
}

impl Connection {
    /// The connection on the channel called `name`.
    pub fn open(name: &str) -> Result<Connection, OpenError> {
        let peer = ends::open(name, |end, life| Client::new(end.rings, end.data, life))?;
        Ok(Connection { peer })
    }

    /// The bit of the component's bell that the driver rings.
    pub fn bit(&self) -> u8 {
        self.peer.world.end.bit
    }

    /// Meets the driver, whichever life it is in, and hands it what waits. To be called after each wait.
    /// [`Update::Begun`]: frames may have been lost just now.
    pub fn turn(&mut self) -> Update {
        self.peer.turn()
    }

    /// Hands the driver what waits.
    pub fn flush(&mut self) {
        self.peer.flush();
    }

    /// What is known of the device. None: no driver has said anything yet.
    pub fn link(&mut self) -> Option<Link> {
        self.peer.client.link()
    }

    /// There is a driver.
    pub fn is_together(&self) -> bool {
        self.peer.client.is_together()
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.peer.client.counts()
    }

    /// Copies out the next frame that has arrived, if there is one.
    pub fn receive<'p>(&mut self, place: &'p mut [u8; LONGEST]) -> Option<&'p [u8]> {
        let frame = self.peer.act(Client::receive)??;
        let bytes = self.peer.client.copy_out(&frame, place);
        self.peer.client.give_back(frame);
        Some(bytes)
    }

    /// Sends a frame; it goes out at the next [`Self::flush`] or [`Self::turn`]. False: all buffers are under way.
    pub fn send(&mut self, frame: &[u8]) -> bool {
        let Some(Some(room)) = self.peer.act(Client::room) else { return false };
        let length = self.peer.client.copy_in(&room, frame);
        self.peer.client.send(room, length, None);
        true
    }

    /// Whether [`Self::send`] has a buffer.
    pub fn has_room(&mut self) -> bool {
        match self.peer.act(Client::room) {
            Some(Some(room)) => {
                self.peer.client.discard(room);
                true
            }
            _ => false,
        }
    }

    /// True: there is nothing to receive (and, if `for_room`, no room to send), and the component's bell is rung
    /// when there is. For who waits for more than this connection.
    pub fn sleep(&mut self, for_room: bool) -> bool {
        // A wrong driver rings no more; its next life does.
        self.peer.act(|client| client.sleep(for_room)).unwrap_or(true)
    }

    /// Waits until there is something to do on this connection, or until `deadline` (TSC ticks), and answers init's
    /// heartbeats. For who waits for nothing else: other bits of the bell are lost.
    pub fn wait(&mut self, for_room: bool, deadline: u64) {
        if self.sleep(for_room) {
            self.peer.world.sleep(Some(deadline));
        }
    }

    /// The full interface, for zero-copy use.
    pub fn peer(&mut self) -> &mut Peer<Client<'static>, Outside> {
        &mut self.peer
    }
}
