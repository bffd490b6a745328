//! The log, on a port of its own: all of it, from the first byte that is kept, once.

use crate::console::port::Port;
use crate::machine::Machine;

/// Bytes that are passed on at a time.
const PIECE: usize = 512;

/// The port, and how far the log has gone out.
pub struct LogPort {
    port: Port,
    next: u64,
}

impl LogPort {
    /// A port that nothing has gone out by.
    pub fn new(port: Port) -> LogPort {
        LogPort { port, next: 0 }
    }

    /// Passes on what was logged since the last time, as far as the port has room, and moves what is on its way.
    pub fn turn(&mut self, machine: &Machine) {
        while self.port.has_room() {
            let (first, bytes) = machine.log_from(self.next);
            let piece: heapless::Vec<u8, PIECE> = bytes.take(PIECE).collect();
            if piece.is_empty() {
                break;
            }
            self.next = first + piece.len() as u64;
            self.port.send(&piece);
        }
        self.port.turn();
        // Nobody says anything here; it is taken all the same, so that the other end sees room.
        while self.port.receive(&mut [0; PIECE]) > 0 {}
    }

    /// See [`Port::deadline`].
    pub fn deadline(&self) -> Option<u64> {
        self.port.deadline()
    }

    /// See [`Port::accused`].
    pub fn accused(&mut self) -> Option<usize> {
        self.port.accused()
    }
}
