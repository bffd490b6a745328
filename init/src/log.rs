//! init's own words, in the kernel's log.

use core::fmt::{self, Write};

use abi::CPtr;
use abi::boot::slots;
use ipc::{System, buffer, bytes};

/// Writes a line to the kernel's log. It goes through the IPC buffer: whatever a message left there is gone.
#[macro_export]
macro_rules! log {
    ($($text:tt)*) => { $crate::log::line(format_args!($($text)*)) };
}

/// Writes a line: what [`log!`](crate::log!) stands on.
pub fn line(text: fmt::Arguments) {
    let mut line = Line { bytes: [0; bytes::MAX_BYTES], used: 0 };
    // What does not fit is cut, so writing cannot fail.
    let _ = line.write_fmt(text);
    let used = line.used.min(bytes::MAX_BYTES - 1);
    line.bytes[used] = b'\n';
    raw(&line.bytes[..=used]);
}

/// Writes bytes as they are.
pub fn raw(text: &[u8]) {
    for chunk in text.chunks(bytes::MAX_BYTES) {
        bytes::put(&buffer().words, chunk);
        // There is nobody to tell.
        let _ = System(CPtr(slots::SYSTEM)).log(chunk.len() as u64);
    }
}

struct Line {
    bytes: [u8; bytes::MAX_BYTES],
    used: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.used..];
        let length = text.len().min(room.len());
        room[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.used += length;
        Ok(())
    }
}
