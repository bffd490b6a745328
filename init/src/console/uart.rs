//! A serial line of init's own, driven by interrupts.
//!
//! What is to be sent waits in memory while the transmitter is busy, so that init waits for no line.

extern crate alloc;

use alloc::collections::VecDeque;

use uart::{Gone, Line, Registers};

/// Bytes that may wait before [`Uart::has_room`] says no.
const LIMIT: usize = 16 * 1024;

/// A serial line.
#[derive(Debug)]
pub struct Uart<R> {
    line: Line<R>,
    waiting: VecDeque<u8>,
    listening: bool,
}

impl<R: Registers> Uart<R> {
    /// Sets the device up, with the receiver's interrupt on.
    pub fn open(registers: R) -> Result<Uart<R>, Gone> {
        let mut uart = Uart { line: Line::open(registers)?, waiting: VecDeque::new(), listening: true };
        uart.enable();
        Ok(uart)
    }

    /// Sends `bytes`, now or when the line is free. What memory does not suffice for is lost.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.waiting.try_reserve(bytes.len()).is_ok() {
            self.waiting.extend(bytes);
        }
        self.go_on();
    }

    /// Whether the line keeps up; who can wait sends only then.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < LIMIT
    }

    /// The next byte received.
    pub fn receive(&mut self) -> Option<u8> {
        let mut byte = [0];
        let there = self.listening && self.line.receive(&mut byte) == Ok(1);
        there.then_some(byte[0])
    }

    /// Whether to receive. While not, what the other side sends waits on its side.
    pub fn listen(&mut self, listening: bool) {
        self.listening = listening;
        self.enable();
    }

    /// Does what an interrupt asks for; then [`Self::receive`] is to be called until it has nothing.
    pub fn interrupt(&mut self) {
        self.line.interrupt();
        self.go_on();
    }

    fn go_on(&mut self) {
        loop {
            let (first, _) = self.waiting.as_slices();
            match self.line.send(first) {
                Ok(0) => break,
                Ok(sent) => drop(self.waiting.drain(..sent)),
                // Nothing that could be sent to it would ever arrive.
                Err(Gone) => self.waiting.clear(),
            }
        }
        self.enable();
    }

    fn enable(&mut self) {
        self.line.listen(self.listening, !self.waiting.is_empty(), false);
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use uart::FIFO;
    use uart::fake::Fake;

    use super::*;

    fn open(fake: &Fake) -> Uart<Fake> {
        Uart::open(fake.clone()).expect("a good line")
    }

    #[test]
    fn what_the_line_does_not_take_at_once_follows_by_interrupt_in_order() {
        let fake = Fake::default();
        let mut uart = open(&fake);
        let bytes: Vec<u8> = (0..100).collect();
        uart.send(&bytes);
        while fake.wants_to_send() {
            fake.drain();
            uart.interrupt();
        }
        assert_eq!(fake.sent(), bytes);
        assert!(fake.listens());
    }

    #[test]
    fn a_line_that_does_not_keep_up_has_no_room() {
        let mut uart = open(&Fake::default());
        uart.send(&[0; LIMIT]);
        assert!(uart.has_room());
        uart.send(&[0; FIFO]);
        assert!(!uart.has_room());
    }

    #[test]
    fn it_receives_while_it_listens() {
        let fake = Fake::default();
        let mut uart = open(&fake);
        fake.0.borrow_mut().to_receive.extend([1, 2]);
        assert_eq!(uart.receive(), Some(1));
        uart.listen(false);
        assert_eq!((uart.receive(), fake.listens()), (None, false));
        uart.listen(true);
        assert_eq!((uart.receive(), uart.receive(), fake.listens()), (Some(2), None, true));
    }

    #[test]
    fn nothing_waits_for_a_line_that_is_gone() {
        let fake = Fake::default();
        assert!(Uart::open(fake.clone()).is_ok());
        let mut uart = open(&fake);
        fake.0.borrow_mut().gone = true;
        uart.send(&[0; 2 * LIMIT]);
        assert!(uart.has_room());
        assert_eq!(uart.receive(), None);
        assert!(Uart::open(fake).is_err());
    }
}
