//! The device's registers.

use core::fmt;

use proto::edu::BUFFER;

const IDENTIFICATION: u32 = 0x00;
const LIVENESS: u32 = 0x04;
const INTERRUPT_STATUS: u32 = 0x24;
const INTERRUPT_ACKNOWLEDGE: u32 = 0x64;
const SOURCE: u32 = 0x80;
const DESTINATION: u32 = 0x88;
const COUNT: u32 = 0x90;
const COMMAND: u32 = 0x98;

/// The lowest byte of the identification; the others are its version.
const EDU: u32 = 0xed;
/// Where the device has its buffer, in addresses of its own.
const BUFFER_ADDRESS: u64 = 0x4_0000;
/// Bits of the command: it copies (and begins, when written), from its buffer, and interrupts at the end.
const COPY: u32 = 1;
const FROM_BUFFER: u32 = 2;
const INTERRUPT: u32 = 4;
/// What it gives back of liveness is the inverse of this.
const PROBE: u32 = 0x5ca1_ab1e;
/// A read that nobody answers.
const NOBODY: u32 = u32::MAX;

/// The registers.
pub trait Registers {
    /// Reads four bytes.
    fn read(&mut self, offset: u32) -> u32;
    /// Writes four bytes.
    fn write(&mut self, offset: u32, value: u32);
    /// Writes eight bytes, which is how addresses are written.
    fn write64(&mut self, offset: u32, value: u64);
}

/// Why there is no working with the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is none, or it is gone.
    NoEdu,
    /// It copies already.
    Busy,
    /// It has no buffer for so many bytes.
    Length,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::NoEdu => "there is no edu device in these registers",
            Failure::Busy => "the device copies already",
            Failure::Length => "the device has no buffer for so many bytes",
        })
    }
}

/// What the device is to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// So many bytes at this address into its buffer.
    Load(u64, u64),
    /// So many bytes of its buffer to this address.
    Store(u64, u64),
}

/// The device.
#[derive(Debug)]
pub struct Edu<R> {
    registers: R,
    interrupts: u64,
}

impl<R: Registers> Edu<R> {
    /// The device in these registers, if it is one.
    pub fn open(mut registers: R) -> Result<Edu<R>, Failure> {
        registers.write(LIVENESS, PROBE);
        let alive = registers.read(LIVENESS) == !PROBE;
        let is_edu = registers.read(IDENTIFICATION) & 0xff == EDU;
        if alive && is_edu { Ok(Edu { registers, interrupts: 0 }) } else { Err(Failure::NoEdu) }
    }

    /// Begins to copy. The device takes its time, and interrupts when it is done.
    pub fn copy(&mut self, what: Copy) -> Result<(), Failure> {
        let (source, destination, count, direction) = match what {
            Copy::Load(address, count) => (address, BUFFER_ADDRESS, count, 0),
            Copy::Store(address, count) => (BUFFER_ADDRESS, address, count, FROM_BUFFER),
        };
        // QEMU ends itself if its device is told to leave the buffer.
        if !(1..=BUFFER).contains(&count) {
            return Err(Failure::Length);
        }
        if self.copies()? {
            return Err(Failure::Busy);
        }
        self.registers.write64(SOURCE, source);
        self.registers.write64(DESTINATION, destination);
        self.registers.write64(COUNT, count);
        self.registers.write64(COMMAND, u64::from(COPY | INTERRUPT | direction));
        Ok(())
    }

    /// Whether it copies.
    pub fn copies(&mut self) -> Result<bool, Failure> {
        match self.registers.read(COMMAND) {
            NOBODY => Err(Failure::NoEdu),
            command => Ok(command & COPY != 0),
        }
    }

    /// Does what an interrupt asks for.
    pub fn interrupt(&mut self) -> Result<(), Failure> {
        match self.registers.read(INTERRUPT_STATUS) {
            NOBODY => Err(Failure::NoEdu),
            status => {
                self.registers.write(INTERRUPT_ACKNOWLEDGE, status);
                self.interrupts += u64::from(status != 0);
                Ok(())
            }
        }
    }

    /// Interrupts up to now.
    pub fn interrupts(&self) -> u64 {
        self.interrupts
    }
}
