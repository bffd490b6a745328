//! How a program dies.
//!
//! A panic formats its message into a static buffer and executes `ud2` with the registers that
//! `proto::component::panic` names. The fault goes to init, which reads registers and message, reports both
//! and takes the component down. Nothing is allocated and nothing is called on the way.

use core::arch::asm;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicPtr, Ordering};

use proto::component::panic::{MAGIC, MAX_MESSAGE};

/// What to do with the message of a panic instead of faulting: for init, whose faults nobody hears.
static LAST_WORDS: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// From here on `report` gets the message of a panic.
pub fn report_to(report: fn(&str) -> !) {
    LAST_WORDS.store(report as *mut (), Ordering::Release);
}

/// What the panic handler does.
pub fn panicked(info: &PanicInfo) -> ! {
    let mut message = Message { bytes: [0; MAX_MESSAGE], used: 0 };
    // A message that does not fit is cut; there is no other error.
    let _ = match info.location() {
        Some(at) => write!(message, "{} ({}:{})", info.message(), at.file(), at.line()),
        None => write!(message, "{}", info.message()),
    };
    crash(message.text())
}

/// Ends the component as a crash with this message.
pub fn crash(message: &str) -> ! {
    let report = LAST_WORDS.load(Ordering::Acquire);
    if !report.is_null() {
        // SAFETY: only `report_to` stores here, and what it stores is such a function.
        let report = unsafe { core::mem::transmute::<*mut (), fn(&str) -> !>(report) };
        report(message);
    }
    // SAFETY: the instruction only faults. The thread does not go on: init takes the component down, or, if it
    // should ever resume the thread, it faults again.
    unsafe {
        asm!(
            "2: ud2",
            "jmp 2b",
            in("rax") MAGIC,
            in("rdi") message.as_ptr(),
            in("rsi") message.len(),
            options(noreturn, nostack),
        );
    }
}

/// A message in the making; cut at the end of the buffer.
struct Message {
    bytes: [u8; MAX_MESSAGE],
    used: usize,
}

impl Message {
    fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.used).unwrap_or_default();
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(cut) => core::str::from_utf8(&bytes[..cut.valid_up_to()]).unwrap_or_default(),
        }
    }
}

impl Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.used..];
        let length = text.len().min(room.len());
        room[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.used += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let mut message = Message { bytes: [0; MAX_MESSAGE], used: 0 };
        for _ in 0..MAX_MESSAGE {
            write!(message, "aé").expect("cut, not refused");
        }
        assert!(message.text().len() >= MAX_MESSAGE - 1);
        assert!(message.text().starts_with("aéaé"));
    }
}
