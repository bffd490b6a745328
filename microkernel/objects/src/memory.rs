//! Object memory: the one file of this crate with `unsafe`.
//!
//! Kernel objects lie in physical memory that the kernel sees through one window at a fixed offset (on the
//! host: a byte array). A [`Ref`] names one by its address there. That dereferencing it is sound rests on
//! three rules, which the whole crate keeps:
//!
//! 1. A Ref to an object is made only where `retype` has just cleared memory for it ([`Memory::object`]), or
//!    read from a capability or object that held it.
//! 2. Deleting an object first removes every Ref to it (the capabilities derived from it, the threads that
//!    wait on it, the cached fields of threads); `Kernel::verify` checks it.
//! 3. Objects are made of Cells and plain words for which any bit pattern that occurs is valid, all zero in
//!    particular; they are shared, never borrowed mutably, and only by the CPU that holds the kernel lock.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroU64;
use core::ops::Deref;
use core::sync::atomic::AtomicU32;

use abi::PAGE_SIZE;
use abi::message::IpcBuffer;

/// A type that lives in object memory.
///
/// # Safety
/// All zero must be a valid value, every field must be a Cell or immutable, and it must not need dropping.
pub unsafe trait Object {}

/// The address of an object: what a pointer would be, but without a lifetime.
#[repr(transparent)]
pub struct Ref<T>(NonZeroU64, PhantomData<*const T>);

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Ref<T> {}

impl<T> PartialEq for Ref<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Ref<T> {}

impl<T> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl<T: Object> Ref<T> {
    /// The object at `address` (rule 1: the caller has it from a capability or object that names it).
    pub const fn at(address: u64) -> Option<Ref<T>> {
        match NonZeroU64::new(address) {
            Some(address) => Some(Ref(address, PhantomData)),
            None => None,
        }
    }

    /// Its address in the window.
    pub const fn address(self) -> u64 {
        self.0.get()
    }

    /// The object, for a lifetime that does not depend on the Ref's.
    pub fn get<'a>(self) -> &'a T {
        // SAFETY: the three rules above: the object exists, is made of Cells, and the kernel lock is held.
        unsafe { &*(self.0.get() as *const T) }
    }

    /// The address of an object that is at hand.
    pub fn address_of(object: &T) -> u64 {
        core::ptr::from_ref(object).addr() as u64
    }

    /// The Ref of an object that is at hand (one embedded in another, or static).
    pub fn of(object: &T) -> Ref<T> {
        // A reference is never null; its address stays valid as long as the object does (rule 2).
        match NonZeroU64::new(core::ptr::from_ref(object).addr() as u64) {
            Some(address) => Ref(address, PhantomData),
            None => unreachable!("a reference is not null"),
        }
    }
}

impl<T: Object> Deref for Ref<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.get()
    }
}

/// An object as cleared memory has it.
pub const fn zeroed<T: Object>() -> T {
    // SAFETY: all zero is valid for an Object.
    unsafe { core::mem::zeroed() }
}

/// A page table: 512 entries.
pub type Table = [Cell<u64>; 512];

// SAFETY: Cells of words.
unsafe impl Object for Table {}
// SAFETY: Cells of words and of enums whose zero is a variant.
unsafe impl Object for crate::slot::Slot {}
// SAFETY: as above.
unsafe impl Object for crate::tcb::Tcb {}
// SAFETY: as above.
unsafe impl Object for crate::delete::Graves {}
// SAFETY: as above.
unsafe impl Object for crate::sched_context::SchedContext {}
// SAFETY: as above.
unsafe impl Object for crate::endpoint::Endpoint {}
// SAFETY: as above.
unsafe impl Object for crate::notification::Notification {}
// SAFETY: as above.
unsafe impl Object for crate::reply::Reply {}
// SAFETY: as above.
unsafe impl Object for crate::space::Space {}
// SAFETY: as above.
unsafe impl Object for crate::mapping::Record {}
// SAFETY: as above.
unsafe impl Object for crate::irq::IrqHandler {}
// SAFETY: Cells, and threads and queues made of them.
unsafe impl Object for crate::cpu::Cpu {}
// SAFETY: atomics.
unsafe impl Object for abi::trace::Ring {}
// SAFETY: atomics.
unsafe impl<const N: usize, const P: u32> Object for crate::locks::Locks<AtomicU32, N, P> {}
// SAFETY: atomics.
unsafe impl Object for crate::locks::Mailbox<AtomicU32> {}

/// The window: physical memory at a fixed offset.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    offset: u64,
}

impl Memory {
    /// The window in which physical address p is at address `offset + p`.
    ///
    /// # Safety
    /// All memory that is ever handed to the kernel as Untyped (devices apart) must be mapped there, readable
    /// and writable, and used by nothing else.
    pub const unsafe fn new(offset: u64) -> Memory {
        Memory { offset }
    }

    /// Where the window shows physical address `physical`.
    pub const fn address(self, physical: u64) -> u64 {
        self.offset.wrapping_add(physical)
    }

    /// The physical address of what the window shows at `address`.
    pub const fn physical(self, address: u64) -> u64 {
        address.wrapping_sub(self.offset)
    }

    /// The object in memory at `physical` that has been cleared for it.
    pub fn object<T: Object>(self, physical: u64) -> Option<Ref<T>> {
        Ref::at(self.address(physical))
    }

    /// Clears `size` bytes from `physical` on: memory that belongs to no object.
    pub fn clear(self, physical: u64, size: u64) {
        // SAFETY: the range lies in an Untyped beyond its watermark, or in a VSpace's free pool: nobody else
        // has a reference into it.
        unsafe { core::ptr::write_bytes(self.address(physical) as *mut u8, 0, size as usize) }
    }

    /// Copies `bytes` to `physical`: memory of a Frame that is not mapped yet (the boot image of init).
    pub fn write(self, physical: u64, bytes: &[u8]) {
        let to = self.address(physical) as *mut u8;
        // SAFETY: the Frame was just made by the kernel itself and is large enough, as its only caller checks.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
    }
}

impl Memory {
    /// Writes the boot information to the Frame at `physical`, which is large enough for it.
    pub fn write_info(self, physical: u64, info: &abi::BootInfo) {
        let to = self.address(physical) as *mut abi::BootInfo;
        // SAFETY: the Frame of BOOT_INFO_SIZE was made and cleared by the boot, and nothing runs yet.
        unsafe { to.write(*info) }
    }
}

const _: () = assert!(core::mem::size_of::<abi::BootInfo>() as u64 + 4096 <= abi::boot::BOOT_INFO_SIZE);

/// A thread's IPC buffer as the kernel sees it: user memory, so every word may change at any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer(NonZeroU64);

macro_rules! buffer_field {
    ($(#[doc = $doc:literal])+ $get:ident, $set:ident, $($field:tt).+, $type:ty) => {
        $(#[doc = $doc])+
        pub fn $get(self) -> $type {
            let from = self.field(core::mem::offset_of!(IpcBuffer, $($field).+)) as *const $type;
            // SAFETY: the buffer is a whole, aligned IpcBuffer in a Frame that the Tcb's capability keeps.
            unsafe { from.read_volatile() }
        }

        $(#[doc = $doc])+
        pub fn $set(self, value: $type) {
            let to = self.field(core::mem::offset_of!(IpcBuffer, $($field).+)) as *mut $type;
            // SAFETY: as for reading.
            unsafe { to.write_volatile(value) }
        }
    };
}

impl Buffer {
    /// The buffer at `address` of the window: aligned, and within a Frame that the caller keeps.
    pub const fn at(address: u64) -> Option<Buffer> {
        match NonZeroU64::new(address) {
            Some(address) => Some(Buffer(address)),
            None => None,
        }
    }

    /// Its address in the window.
    pub const fn address(self) -> u64 {
        self.0.get()
    }

    fn field(self, offset: usize) -> u64 {
        self.0.get().wrapping_add(offset as u64)
    }

    /// Word `at` of the message; beyond the buffer 0.
    pub fn word(self, at: usize) -> u64 {
        if at >= abi::message::BUFFER_WORDS {
            return 0;
        }
        let from = self.field(at.wrapping_mul(8)) as *const u64;
        // SAFETY: within the buffer (checked above; `words` is its first field), as for the fields below.
        unsafe { from.read_volatile() }
    }

    /// Sets word `at`; beyond the buffer nothing.
    pub fn set_word(self, at: usize, value: u64) {
        if at >= abi::message::BUFFER_WORDS {
            return;
        }
        let to = self.field(at.wrapping_mul(8)) as *mut u64;
        // SAFETY: within the buffer, as above.
        unsafe { to.write_volatile(value) }
    }

    /// Copies the first `words` words to the buffer `to`.
    pub fn copy_words(self, to: Buffer, words: usize) {
        let words = words.min(abi::message::BUFFER_WORDS);
        // SAFETY: both are whole IpcBuffers; `copy` allows that they are the same.
        unsafe { core::ptr::copy(self.0.get() as *const u64, to.0.get() as *mut u64, words) }
    }

    buffer_field!(/// Capability pointers sent along.
        caps, set_caps, caps, [u32; 4]);
    buffer_field!(/// Where to receive capabilities.
        receive_slots, set_receive_slots, receive_slots, [u32; 4]);
    buffer_field!(/// When a receive ends.
        deadline, set_deadline, deadline, u64);
    buffer_field!(/// Whether the thread is inside its foreign-call library.
        inside, set_inside, foreign.inside, u64);
    buffer_field!(/// Whether a kick came meanwhile.
        kick_pending, set_kick_pending, foreign.kick_pending, u64);
    buffer_field!(/// Where the kick struck.
        kick_address, set_kick_address, foreign.kick_address, u64);
    buffer_field!(/// The flags there.
        kick_flags, set_kick_flags, foreign.kick_flags, u64);
    buffer_field!(/// Where the foreign call returns to.
        return_address, set_return_address, foreign.return_address, u64);
    buffer_field!(/// The flags there.
        return_flags, set_return_flags, foreign.return_flags, u64);
}

/// Rounds `value` up to a multiple of 2^`bits`; `None` when that overflows.
pub const fn align_up(value: u64, bits: u32) -> Option<u64> {
    let mask = (1u64 << bits).wrapping_sub(1);
    match value.checked_add(mask) {
        Some(sum) => Some(sum & !mask),
        None => None,
    }
}

/// Pages to bytes, or `None` beyond any address space.
pub const fn pages_to_bytes(pages: u64) -> Option<u64> {
    if pages > 1 << 36 { None } else { Some(pages.wrapping_mul(PAGE_SIZE)) }
}
