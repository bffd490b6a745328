//! The kernel's log: lines to the debug port COM1 and into the ring that init maps.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use abi::boot::{KernelLog, LOG_BYTES};
use spin::Mutex;
use x86_64::instructions::port::Port;

const COM1: u16 = 0x3f8;
/// Bytes that the port takes at once, when it has none left.
const FIFO: u64 = 16;
/// Polls of the line status after which the port is behind: what it has not taken waits in the ring, and is tried with
/// one poll at each line from then on.
const PATIENCE: u32 = 100_000;

/// The ring, on pages of its own.
#[repr(align(32768))]
struct LogFrame(KernelLog);

static LOG: LogFrame =
    LogFrame(KernelLog { written: AtomicU64::new(0), text: [const { AtomicU8::new(0) }; LOG_BYTES] });

/// Held while a line is written, so that lines of different CPUs do not mix.
static LINE: Mutex<()> = Mutex::new(());
/// How much of the log the port has taken; never less than there is where there is no port.
static SENT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Physical address of the ring ([`KernelLog`], aligned to its 32 KiB).
pub fn frame() -> u64 {
    (&raw const LOG as u64).wrapping_sub(super::layout::KERNEL_BASE)
}

/// Writes a line of the kernel's own to the log.
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => { $crate::machine::log::line(format_args!($($argument)*)) };
}

/// Sets the port to 115,200 baud, 8 bits, no parity, no interrupts, FIFO on (16550 data sheet).
pub fn init() {
    for (register, value) in [(1u16, 0u8), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 3)] {
        write_port(COM1.wrapping_add(register), value);
    }
    if read_port(COM1.wrapping_add(5)) != 0xff {
        SENT.store(0, Ordering::Relaxed);
    }
}

/// Writes `kernel: ` and the text as one line.
pub fn line(text: fmt::Arguments) {
    let _line = LINE.lock();
    let _cannot_fail = writeln!(Writer, "kernel: {text}");
}

/// Writes bytes as they are: text that a program gave.
pub fn text(bytes: &[u8]) {
    let _line = LINE.lock();
    put(bytes);
}

/// The log without its lock: for the panic screen alone, once the other CPUs stand still.
pub struct Writer;

impl Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        put(text.as_bytes());
        Ok(())
    }
}

fn put(bytes: &[u8]) {
    let mut at = LOG.0.written.load(Ordering::Relaxed);
    let patience = if SENT.load(Ordering::Relaxed) < at { 1 } else { PATIENCE };
    for &byte in bytes {
        if let Some(place) = LOG.0.text.get(at as usize % LOG_BYTES) {
            place.store(byte, Ordering::Relaxed);
        }
        at = at.wrapping_add(1);
    }
    LOG.0.written.store(at, Ordering::Release);
    send(patience);
}

/// Gives the port what it has not taken yet, as far as it takes it: within so many polls for each FIFO full.
pub fn send(patience: u32) {
    const FIFO_EMPTY: u8 = 0x20;
    let ready = || (0..patience).any(|_| read_port(COM1.wrapping_add(5)) & FIFO_EMPTY != 0);
    let written = LOG.0.written.load(Ordering::Relaxed);
    let mut sent = SENT.load(Ordering::Relaxed).max(written.saturating_sub(LOG_BYTES as u64));
    while sent < written && ready() {
        let end = written.min(sent.wrapping_add(FIFO));
        let bytes = (sent..end).filter_map(|at| LOG.0.text.get(at as usize % LOG_BYTES));
        bytes.for_each(|byte| write_port(COM1, byte.load(Ordering::Relaxed)));
        sent = end;
    }
    SENT.store(sent, Ordering::Relaxed);
}

fn read_port(port: u16) -> u8 {
    // SAFETY: COM1's registers have no effect on memory; only this module uses them.
    unsafe { Port::new(port).read() }
}

fn write_port(port: u16, value: u8) {
    // SAFETY: as for `read_port`.
    unsafe { Port::new(port).write(value) }
}
