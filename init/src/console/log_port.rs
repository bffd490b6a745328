//! The log, on a port of its own: all of it, from the first byte that is kept, once.

use super::port::Port;
use crate::machine::Machine;

/// Bytes that are passed on at a time.
const PIECE: usize = 512;
/// Pieces of a turn. A driver that takes and brings bytes without end does not keep init from the rest of its work.
const MOST_PIECES: usize = 64;

/// The port, and how far the log has gone out.
pub struct LogPort {
    port: Port,
    next: u64,
    /// A turn was not enough.
    has_more: bool,
}

impl LogPort {
    /// Returns a port that nothing has gone out by.
    pub fn new(port: Port) -> LogPort {
        LogPort { port, next: 0, has_more: false }
    }

    /// Passes on what was logged since the last time, as far as the port has room, and moves what is on its way.
    pub fn turn(&mut self, machine: &Machine) {
        let sent_all = (0..MOST_PIECES).any(|_| !self.send_piece(machine));
        self.port.turn();
        // Nobody says anything here; it is taken all the same, so that the other end sees room.
        let taken_all = (0..MOST_PIECES).any(|_| self.port.receive(&mut [0; PIECE]) == 0);
        self.has_more = !(sent_all && taken_all);
    }

    /// Passes on a piece. Returns false if there is none, or no room.
    fn send_piece(&mut self, machine: &Machine) -> bool {
        if !self.port.has_room() {
            return false;
        }
        let (first, bytes) = machine.log_from(self.next);
        let piece: heapless::Vec<u8, PIECE> = bytes.take(PIECE).collect();
        if piece.is_empty() {
            return false;
        }
        self.next = first + piece.len() as u64;
        self.port.send(&piece);
        true
    }

    /// Returns when to call [`Self::turn`] at the latest.
    pub fn deadline(&self) -> Option<u64> {
        if self.has_more { Some(0) } else { self.port.deadline() }
    }

    /// See [`Port::accused`].
    pub fn accused(&mut self) -> Option<usize> {
        self.port.accused()
    }
}
