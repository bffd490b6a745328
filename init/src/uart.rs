//! The serial line: a 16550 (National Semiconductor PC16550D data sheet), driven by interrupts.
//!
//! What is to be sent waits in a queue while the transmitter is busy, so that nobody waits for the line. Its
//! interrupt is edge-triggered: [`Uart::interrupt`] leaves no cause standing, so that the next one makes an edge.

extern crate alloc;

use alloc::collections::VecDeque;

/// The device's registers.
pub trait Registers {
    /// Reads register `number` (0 to 7).
    fn read(&mut self, number: u8) -> u8;
    /// Writes register `number` (0 to 7).
    fn write(&mut self, number: u8, value: u8);
}

const DATA: u8 = 0;
const INTERRUPT_ENABLE: u8 = 1;
/// Read: what interrupts; reading it takes back the transmitter's interrupt. Write: FIFO control.
const INTERRUPT_ID: u8 = 2;
const LINE_CONTROL: u8 = 3;
const MODEM_CONTROL: u8 = 4;
const LINE_STATUS: u8 = 5;

const RECEIVED: u8 = 1;
const TRANSMITTER_EMPTY: u8 = 2;
const STATUS_RECEIVED: u8 = 1;
const STATUS_TRANSMITTER_EMPTY: u8 = 0x20;
const DIVISOR_ACCESS: u8 = 0x80;
const EIGHT_BITS: u8 = 3;
/// FIFOs on; an interrupt at 14 bytes, or when none has followed for the time of four. (QEMU hands over no more
/// bytes at a time than would raise it.)
const FIFO_ON: u8 = 0xc1;
/// Terminal ready, request to send, and OUT2, which lets interrupts out.
const MODEM_READY: u8 = 0xb;
/// Bytes that an empty transmitter takes.
const FIFO: usize = 16;
/// Bytes that may wait before [`Uart::has_room`] says no.
const LIMIT: usize = 16 * 1024;

/// A serial line.
#[derive(Debug)]
pub struct Uart<R> {
    registers: R,
    waiting: VecDeque<u8>,
    listening: bool,
    lost: u64,
}

impl<R: Registers> Uart<R> {
    /// Sets the device up: 115,200 baud, 8 bits, no parity, FIFOs and the receiver's interrupt on.
    pub fn new(mut registers: R) -> Uart<R> {
        registers.write(INTERRUPT_ENABLE, 0);
        registers.write(LINE_CONTROL, DIVISOR_ACCESS | EIGHT_BITS);
        registers.write(DATA, 1);
        registers.write(INTERRUPT_ENABLE, 0);
        registers.write(LINE_CONTROL, EIGHT_BITS);
        registers.write(INTERRUPT_ID, FIFO_ON);
        registers.write(MODEM_CONTROL, MODEM_READY);
        registers.write(INTERRUPT_ENABLE, RECEIVED);
        Uart { registers, waiting: VecDeque::new(), listening: true, lost: 0 }
    }

    /// Sends `bytes`, now or when the line is free.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.waiting.try_reserve(bytes.len()).is_ok() {
            self.waiting.extend(bytes);
        } else {
            self.lost = self.lost.saturating_add(bytes.len() as u64);
        }
        self.go_on();
    }

    /// Whether the line keeps up; who can wait sends only then.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < LIMIT
    }

    /// Bytes that memory did not suffice for.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The next byte received.
    pub fn receive(&mut self) -> Option<u8> {
        let there = self.listening && self.registers.read(LINE_STATUS) & STATUS_RECEIVED != 0;
        there.then(|| self.registers.read(DATA))
    }

    /// Whether to receive. While not, what the other side sends waits on its side.
    pub fn listen(&mut self, listening: bool) {
        if self.listening != listening {
            self.listening = listening;
            self.enable();
        }
    }

    /// Does what an interrupt asks for; then [`Self::receive`] is to be called until it has nothing.
    pub fn interrupt(&mut self) {
        self.registers.read(INTERRUPT_ID);
        self.go_on();
    }

    fn go_on(&mut self) {
        while !self.waiting.is_empty() && self.registers.read(LINE_STATUS) & STATUS_TRANSMITTER_EMPTY != 0 {
            for _ in 0..FIFO {
                let Some(byte) = self.waiting.pop_front() else { break };
                self.registers.write(DATA, byte);
            }
        }
        self.enable();
    }

    fn enable(&mut self) {
        let receiver = if self.listening { RECEIVED } else { 0 };
        let transmitter = if self.waiting.is_empty() { 0 } else { TRANSMITTER_EMPTY };
        self.registers.write(INTERRUPT_ENABLE, receiver | transmitter);
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// A line whose other side takes bytes only when it is told to.
    #[derive(Debug, Default)]
    struct Line {
        sent: Vec<u8>,
        in_transmitter: usize,
        to_receive: VecDeque<u8>,
        enabled: u8,
        divisor_access: bool,
    }

    impl Registers for Line {
        fn read(&mut self, number: u8) -> u8 {
            match number {
                DATA => self.to_receive.pop_front().expect("read only when there is something"),
                LINE_STATUS => {
                    u8::from(!self.to_receive.is_empty()) | u8::from(self.in_transmitter == 0) << 5
                }
                _ => 0,
            }
        }

        fn write(&mut self, number: u8, value: u8) {
            match number {
                DATA if !self.divisor_access => {
                    assert!(self.in_transmitter < FIFO, "the transmitter takes {FIFO} bytes");
                    self.in_transmitter += 1;
                    self.sent.push(value);
                }
                INTERRUPT_ENABLE => self.enabled = value,
                LINE_CONTROL => self.divisor_access = value & DIVISOR_ACCESS != 0,
                _ => {}
            }
        }
    }

    #[test]
    fn what_the_line_does_not_take_at_once_follows_by_interrupt_in_order() {
        let mut uart = Uart::new(Line::default());
        let bytes: Vec<u8> = (0..100).collect();
        uart.send(&bytes);
        assert_eq!(uart.registers.sent.len(), FIFO);
        while uart.registers.enabled & TRANSMITTER_EMPTY != 0 {
            uart.registers.in_transmitter = 0;
            uart.interrupt();
        }
        assert_eq!(uart.registers.sent, bytes);
        assert_eq!(uart.registers.enabled, RECEIVED);
    }

    #[test]
    fn a_line_that_does_not_keep_up_has_no_room() {
        let mut uart = Uart::new(Line::default());
        uart.send(&[0; LIMIT]);
        assert!(uart.has_room());
        uart.send(&[0; FIFO]);
        assert!(!uart.has_room());
    }

    #[test]
    fn it_receives_while_it_listens() {
        let mut uart = Uart::new(Line::default());
        uart.registers.to_receive.extend([1, 2]);
        assert_eq!(uart.receive(), Some(1));
        uart.listen(false);
        assert_eq!((uart.receive(), uart.registers.enabled), (None, 0));
        uart.listen(true);
        assert_eq!((uart.receive(), uart.receive(), uart.registers.enabled), (Some(2), None, RECEIVED));
    }
}
