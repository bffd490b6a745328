//! The device.

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
const SCRATCH: u8 = 7;

/// Bits of interrupt enable.
const RECEIVED: u8 = 1;
const TRANSMITTER_EMPTY: u8 = 2;
/// Bits of line status.
const HAS_DATA: u8 = 1;
const CAN_TAKE: u8 = 0x20;
/// Line control.
const DIVISOR_ACCESS: u8 = 0x80;
const EIGHT_BITS: u8 = 3;
/// FIFOs on; an interrupt at 14 bytes, or when none has followed for the time of four. What is in them stays: the last life
/// of who drives it has said that it was sent.
const FIFO_ON: u8 = 0xc1;
/// Terminal ready, request to send, and OUT2, which lets interrupts out.
const MODEM_READY: u8 = 0xb;
/// What no status can be: all ones are read where there is no device.
const NOBODY: u8 = 0xff;

/// Bytes that an empty transmitter takes.
pub const FIFO: usize = 16;

/// There is no such device, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl core::fmt::Display for Gone {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        f.write_str("there is no 16550, or not any more")
    }
}

/// A serial line.
#[derive(Debug)]
pub struct Line<R> {
    registers: R,
    /// What interrupt enable holds.
    enabled: u8,
}

impl<R: Registers> Line<R> {
    /// Sets the device up: 115,200 baud, 8 bits, no parity, FIFOs on, all interrupts off.
    pub fn open(mut registers: R) -> Result<Line<R>, Gone> {
        registers.write(INTERRUPT_ENABLE, 0);
        for probe in [0x5a, 0xa5] {
            registers.write(SCRATCH, probe);
            if registers.read(SCRATCH) != probe {
                return Err(Gone);
            }
        }
        registers.write(LINE_CONTROL, DIVISOR_ACCESS | EIGHT_BITS);
        registers.write(DATA, 1);
        registers.write(INTERRUPT_ENABLE, 0);
        registers.write(LINE_CONTROL, EIGHT_BITS);
        registers.write(INTERRUPT_ID, FIFO_ON);
        registers.write(MODEM_CONTROL, MODEM_READY);
        let mut line = Line { registers, enabled: 0 };
        line.status().map(|_| line)
    }

    fn status(&mut self) -> Result<u8, Gone> {
        let status = self.registers.read(LINE_STATUS);
        if status == NOBODY { Err(Gone) } else { Ok(status) }
    }

    /// Sends the first of `bytes`, as many as the device takes now.
    pub fn send(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        if bytes.is_empty() || self.status()? & CAN_TAKE == 0 {
            return Ok(0);
        }
        let now = bytes.len().min(FIFO);
        for byte in &bytes[..now] {
            self.registers.write(DATA, *byte);
        }
        Ok(now)
    }

    /// Receives what has come, as much as `bytes` holds; how much.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Result<usize, Gone> {
        for (count, byte) in bytes.iter_mut().enumerate() {
            if self.status()? & HAS_DATA == 0 {
                return Ok(count);
            }
            *byte = self.registers.read(DATA);
        }
        Ok(bytes.len())
    }

    /// Says what to interrupt for: bytes that come, a transmitter that can take more. With `again` a cause that stands
    /// already interrupts once more.
    pub fn listen(&mut self, received: bool, can_take: bool, again: bool) {
        let receiver = if received { RECEIVED } else { 0 };
        let transmitter = if can_take { TRANSMITTER_EMPTY } else { 0 };
        let wanted = receiver | transmitter;
        if again {
            // Off and on again makes a new edge.
            self.registers.write(INTERRUPT_ENABLE, 0);
        }
        if again || wanted != self.enabled {
            self.registers.write(INTERRUPT_ENABLE, wanted);
            self.enabled = wanted;
        }
    }

    /// Takes back the transmitter's interrupt.
    pub fn interrupt(&mut self) {
        self.registers.read(INTERRUPT_ID);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    #[test]
    fn a_line_that_is_not_there_is_noticed() {
        let fake = Fake::default();
        fake.0.borrow_mut().gone = true;
        assert_eq!(Line::open(fake).map(|_| ()), Err(Gone));
    }

    #[test]
    fn it_sends_what_the_transmitter_takes_and_no_more() {
        let fake = Fake::default();
        let mut line = Line::open(fake.clone()).expect("a good line");
        assert_eq!(line.send(&[7; FIFO + 1]), Ok(FIFO));
        assert_eq!(line.send(&[8]), Ok(0));
        fake.drain();
        assert_eq!(line.send(&[8]), Ok(1));
        assert_eq!(fake.sent(), [[7; FIFO].as_slice(), &[8]].concat());
    }

    #[test]
    fn what_is_on_its_way_stays_there_when_another_life_opens_the_line() {
        let fake = Fake::default();
        let mut line = Line::open(fake.clone()).expect("a good line");
        assert_eq!(line.send(b"sent"), Ok(4));
        fake.0.borrow_mut().to_receive.extend(b"came");
        let mut next = Line::open(fake.clone()).expect("a good line");
        let mut place = [0; FIFO];
        assert_eq!(next.receive(&mut place), Ok(4));
        assert_eq!(&place[..4], b"came");
        assert_eq!(fake.sent(), b"sent");
    }

    #[test]
    fn it_interrupts_for_what_it_was_told_to() {
        let fake = Fake::default();
        let mut line = Line::open(fake.clone()).expect("a good line");
        assert_eq!((fake.listens(), fake.wants_to_send()), (false, false));
        line.listen(true, false, false);
        assert_eq!((fake.listens(), fake.wants_to_send()), (true, false));
        line.listen(false, true, true);
        assert_eq!((fake.listens(), fake.wants_to_send()), (false, true));
    }
}
