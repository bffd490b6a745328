//! The log, on a port of its own: all of it, from the first byte that is kept, once.

use super::carrier::Carrier;
use super::port::Port;

/// Bytes that are passed on at a time.
const PIECE: usize = 512;
/// Pieces of a turn. A driver that takes and brings bytes without end does not keep init from the rest of its work.
const MOST_PIECES: usize = 64;

/// The port, and how far the log has gone out.
pub struct LogPort<C> {
    port: C,
    next: u64,
    /// A turn was not enough.
    has_more: bool,
}

impl<C: Carrier> LogPort<C> {
    /// Returns a port that nothing has gone out by.
    pub fn new(port: C) -> LogPort<C> {
        LogPort { port, next: 0, has_more: false }
    }

    /// Passes on what was logged since the last time, as far as the port has room, and moves what is on its way. `log`
    /// tells the log from a byte on, or from the oldest that is kept: the number of that byte, and all from there.
    pub fn turn<I: Iterator<Item = u8>>(&mut self, log: impl Fn(u64) -> (u64, I)) {
        let sent_all = (0..MOST_PIECES).any(|_| !self.send_piece(&log));
        self.port.turn();
        // Nobody says anything here; it is taken all the same, so that the other end sees room.
        let taken_all = (0..MOST_PIECES).any(|_| self.port.receive(&mut [0; PIECE]) == 0);
        self.has_more = !(sent_all && taken_all);
    }

    /// Passes on a piece. Returns false if there is none, or no room.
    fn send_piece<I: Iterator<Item = u8>>(&mut self, log: impl Fn(u64) -> (u64, I)) -> bool {
        if !self.port.has_room() {
            return false;
        }
        let (first, bytes) = log(self.next);
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
}

impl LogPort<Port> {
    /// See [`Port::accused`].
    pub fn accused(&mut self) -> Option<usize> {
        self.port.accused()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::console::carrier::Endless;

    const ALL: usize = MOST_PIECES * PIECE;

    /// The byte of a log at `at`.
    fn byte(at: u64) -> u8 {
        (at % 251) as u8
    }

    /// A log of the first `length` bytes.
    fn log(length: u64) -> impl Fn(u64) -> (u64, std::vec::IntoIter<u8>) {
        move |from| (from, (from..length).map(byte).collect::<Vec<_>>().into_iter())
    }

    fn port(room: usize, brings: &[u8]) -> LogPort<Endless> {
        LogPort::new(Endless { room, brings: brings.into(), ..Endless::default() })
    }

    #[test]
    fn a_log_that_always_has_more_and_a_driver_that_always_brings_more_end_a_turn() {
        let mut port = port(usize::MAX, b"noise");
        for turn in 1..=3 {
            port.turn(|from| (from, (from..).map(byte)));
            assert_eq!((port.port.sent.len(), port.port.brought), (turn * ALL, turn * ALL));
            assert_eq!(port.deadline(), Some(0), "there is more, at once");
        }
        assert!((0..).map(byte).zip(&port.port.sent).all(|(wanted, sent)| wanted == *sent));
    }

    #[test]
    fn what_fits_into_a_turn_goes_out_once_and_nothing_is_due() {
        let mut port = port(usize::MAX, b"");
        port.turn(log(1000));
        assert_eq!(port.deadline(), None);
        port.turn(log(1000));
        port.turn(log(1700));
        assert_eq!(port.port.sent, (0..1700).map(byte).collect::<Vec<_>>());
        assert_eq!(port.deadline(), None);
    }

    #[test]
    fn a_port_without_room_is_sent_nothing_and_is_no_reason_for_another_turn() {
        let mut port = port(PIECE, b"");
        port.turn(|from| (from, (from..).map(byte)));
        assert_eq!((port.port.sent.len(), port.deadline()), (PIECE, None));
        port.port.room = usize::MAX;
        port.turn(log(2 * PIECE as u64));
        assert_eq!(port.port.sent.len(), 2 * PIECE);
    }

    #[test]
    fn what_the_log_no_longer_keeps_is_passed_over() {
        let mut port = port(usize::MAX, b"");
        port.turn(|from| (from.max(700), (from.max(700)..900).map(byte)));
        port.turn(log(1000));
        assert_eq!(port.port.sent, (700..1000).map(byte).collect::<Vec<_>>());
    }
}
