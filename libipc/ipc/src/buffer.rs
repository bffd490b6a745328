//! The calling thread's IPC buffer.
//!
//! The kernel reads and writes it during system calls, so it consists of cells. The runtime maps it, points
//! the thread's GS base at it before the thread's first Rust code, and keeps both until the thread's end.

use core::arch::asm;
use core::cell::Cell;
use core::mem::{offset_of, size_of};

use abi::IpcBuffer;
use abi::message::{BUFFER_WORDS, MAX_CAPS};

use crate::CPtr;

/// [`IpcBuffer`], as the thread it belongs to sees it. Not `Sync`: each thread has its own.
#[derive(Debug)]
#[repr(C, align(1024))]
pub struct Buffer {
    /// Words 8 and on of the message.
    pub words: [Cell<u64>; BUFFER_WORDS],
    caps: [Cell<u32>; 4],
    receive_slots: [Cell<u32>; 4],
    /// When a receive with a deadline ends, in TSC ticks.
    pub deadline: Cell<u64>,
    foreign: [Cell<u64>; 6],
    /// The thread's own data; what each word means is the runtime's affair.
    pub user: [Cell<u64>; 32],
}

const _: () = {
    assert!(size_of::<Buffer>() == size_of::<IpcBuffer>());
    assert!(offset_of!(Buffer, caps) == offset_of!(IpcBuffer, caps));
    assert!(offset_of!(Buffer, receive_slots) == offset_of!(IpcBuffer, receive_slots));
    assert!(offset_of!(Buffer, deadline) == offset_of!(IpcBuffer, deadline));
    assert!(offset_of!(Buffer, user) == offset_of!(IpcBuffer, user));
};

/// Where the calling thread's IPC buffer is: no other thread of the address space has it there.
#[inline(always)]
pub fn address() -> usize {
    let address: usize;
    // SAFETY: reads a register that is open to user code (the kernel turns FSGSBASE on), nothing else.
    unsafe {
        asm!("rdgsbase {}", out(reg) address, options(nomem, nostack, preserves_flags));
    }
    address
}

/// The calling thread's IPC buffer.
#[inline(always)]
pub fn buffer() -> &'static Buffer {
    let address = core::ptr::with_exposed_provenance::<Buffer>(address());
    // SAFETY: the runtime points GS at the thread's IPC buffer before any Rust code of the thread, and unmaps
    // it only when the thread has ended. `Buffer` has the layout of `IpcBuffer` and consists of cells; as it
    // is not `Sync`, the reference stays with the thread.
    unsafe { &*address }
}

impl Buffer {
    /// Names the capabilities that the next message sent takes along.
    pub fn send_caps(&self, caps: &[CPtr]) {
        debug_assert!(caps.len() <= MAX_CAPS);
        for (place, cap) in self.caps.iter().zip(caps) {
            place.set(cap.0);
        }
    }

    /// Names the empty slots where capabilities of the next message received go; they stay named until
    /// changed, so a server sets them anew when one was filled. None: capabilities are left behind.
    pub fn receive_into(&self, slots: &[CPtr]) {
        debug_assert!(slots.len() <= MAX_CAPS);
        let ended = slots.iter().map(|slot| slot.0).chain(core::iter::repeat(0));
        for (place, slot) in self.receive_slots.iter().zip(ended) {
            place.set(slot);
        }
    }
}
