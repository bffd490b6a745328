//! The component's own memory, slots and address space: what [`crate::alloc`] does, for this component.
//!
//! Set up at the first use, out of the start block; init sets it up itself.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::object::PAGE_SIZE;
use abi::{CPtr, Error, Kind, MapFlags};
use ipc::{CNode, Untyped, VSpace};
use proto::start::{FREE, RECORDS, names};

use crate::alloc::{AllocError, Kernel, Objects, Record};
use crate::env;
use crate::lock::Mutex;

const _: () = assert!(size_of::<Record>() == 16, "as proto::start::records_bits has it");

/// log2 of the memory that an address space is given first when it has used up its own: 16 KiB. Each time it is
/// twice as much, as the kernel takes only a few donations.
const DONATION: u32 = 14;

/// The kernel, acting on the component's own CNode.
#[derive(Debug)]
pub struct OwnCSpace(CNode);

impl Kernel for OwnCSpace {
    fn retype(&mut self, untyped: u32, kind: Kind, bits: u32, slot: u32) -> Result<(), Error> {
        Untyped(CPtr(untyped)).retype(kind, u64::from(bits), self.0.0, u64::from(slot), 1)
    }

    fn revoke(&mut self, untyped: u32) -> Result<(), Error> {
        self.0.revoke(u64::from(untyped))
    }
}

/// The component's allocator of objects.
pub type OwnObjects = Objects<'static, OwnCSpace>;

struct Own {
    objects: OwnObjects,
    vspace: VSpace,
    cnode: CNode,
    donations: u32,
}

static OWN: Mutex<Option<Own>> = Mutex::new(None);

fn with_own<R>(act: impl FnOnce(&mut Own) -> Result<R, AllocError>) -> Result<R, AllocError> {
    let mut own = OWN.lock();
    match &mut *own {
        Some(own) => act(own),
        none => act(none.insert(from_start_block()?)),
    }
}

/// Lets `act` use the component's allocator. It must not allocate from the heap, which stands on
/// this: that panics where the heap has to grow.
pub fn with<R>(act: impl FnOnce(&mut OwnObjects) -> Result<R, AllocError>) -> Result<R, AllocError> {
    with_own(|own| act(&mut own.objects))
}

/// The component's CNode.
pub fn cnode() -> Result<CNode, AllocError> {
    with_own(|own| Ok(own.cnode))
}

/// The component's address space.
pub fn vspace() -> Result<VSpace, AllocError> {
    with_own(|own| Ok(own.vspace))
}

/// Makes an object.
pub fn make(kind: Kind, bits: u32) -> Result<CPtr, AllocError> {
    with(|objects| objects.make(kind, bits))
}

/// Destroys an object that [`make`] made.
pub fn destroy(object: CPtr) -> Result<(), AllocError> {
    with(|objects| objects.destroy(object))
}

/// Maps `pages` of `frame` into the component's address space; one that has no memory left for tables is given
/// some out of the component's.
pub fn map(frame: CPtr, address: u64, offset: u64, pages: u64, flags: MapFlags) -> Result<(), AllocError> {
    with_own(|own| own.map(frame, address, offset, pages, flags))
}

/// Maps all of a Frame of 2^`bits` bytes as words that others may change at any time, for good: where rings
/// and the like lie. A Frame of 2 MiB and more is mapped by large pages.
pub fn map_words(frame: CPtr, bits: u32) -> Result<&'static [AtomicU64], AllocError> {
    let address = take_addresses(bits);
    map_words_at(frame, bits, address)
}

/// The same at `address`, a multiple of the Frame's size behind `proto::start::FREE`, where what lies in the Frame
/// may point to itself. [`map_words`] counts upwards from there: stay out of its way.
pub fn map_words_at(frame: CPtr, bits: u32, address: u64) -> Result<&'static [AtomicU64], AllocError> {
    let size = 1u64 << bits;
    let large = if bits >= LARGE_BITS { MapFlags::LARGE } else { MapFlags::READ };
    map(frame, address, 0, size / PAGE_SIZE, MapFlags::WRITE.or(large))?;
    // SAFETY: just mapped there, writable and as large; atomics may be changed from anywhere. It stays mapped as long
    // as the Frame lives, which who destroys it answers for.
    Ok(unsafe { core::slice::from_raw_parts(address as *const AtomicU64, (1usize << bits) / 8) })
}

/// The same of a Frame that may only be read.
pub fn map_words_to_read(frame: CPtr, bits: u32) -> Result<&'static [AtomicU64], AllocError> {
    let address = take_addresses(bits);
    map(frame, address, 0, (1u64 << bits) / PAGE_SIZE, MapFlags::READ)?;
    // SAFETY: as in `map_words_at`, but for writing, of which a store would be a fault and nothing worse.
    Ok(unsafe { core::slice::from_raw_parts(address as *const AtomicU64, (1usize << bits) / 8) })
}

/// Maps all of a Frame of 2^`bits` bytes of a device's registers, for good: where they begin.
pub fn map_registers(frame: CPtr, bits: u32) -> Result<*mut u8, AllocError> {
    let address = take_addresses(bits);
    let large = if bits >= LARGE_BITS { MapFlags::LARGE } else { MapFlags::READ };
    let flags = MapFlags::WRITE.or(MapFlags::UNCACHED).or(large);
    map(frame, address, 0, (1u64 << bits) / PAGE_SIZE, flags)?;
    Ok(core::ptr::with_exposed_provenance_mut(address as usize))
}

/// log2 of the size of large pages.
const LARGE_BITS: u32 = 21;

/// Addresses for 2^`bits` bytes that nobody else uses, at a multiple of that.
fn take_addresses(bits: u32) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(FREE);
    let size = 1u64 << bits;
    let after = |next: u64| next.next_multiple_of(size) + size;
    // The closure always gives a value.
    let next = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| Some(after(next)));
    after(next.unwrap_or(FREE)) - size
}

/// Unmaps `pages` from `address` on, of the component's address space.
pub fn unmap(address: u64, pages: u64) -> Result<(), AllocError> {
    with_own(|own| Ok(own.vspace.unmap(address, pages)?))
}

/// Maps new memory, cleared and writable, from `address` on, for good; says how many pages it got to.
pub(crate) fn map_new(address: u64, pages: u64) -> u64 {
    with_own(|own| {
        let mut done = 0;
        while let Some(left) = core::num::NonZeroU64::new(pages - done) {
            match own.map_frame(address + done * PAGE_SIZE, left.ilog2()) {
                Ok(mapped) => done += mapped,
                Err(_) => break,
            }
        }
        Ok(done)
    })
    .unwrap_or(0)
}

impl Own {
    /// Maps a new Frame of 2^`bits` pages, or as much smaller as memory has it in one piece; its pages.
    fn map_frame(&mut self, address: u64, bits: u32) -> Result<u64, AllocError> {
        let page_bits = PAGE_SIZE.ilog2();
        let bits = (0..=bits).rev().find(|bits| self.objects.largest() >= Some(bits + page_bits));
        let bits = bits.ok_or(AllocError::NoMemory)?;
        let frame = self.objects.make(Kind::Frame, bits + page_bits)?;
        match self.map(frame, address, 0, 1 << bits, MapFlags::WRITE) {
            Ok(()) => Ok(1 << bits),
            Err(error) => {
                self.objects.destroy(frame)?;
                Err(error)
            }
        }
    }

    fn map(
        &mut self,
        frame: CPtr,
        address: u64,
        offset: u64,
        pages: u64,
        flags: MapFlags,
    ) -> Result<(), AllocError> {
        loop {
            match self.vspace.map(frame, address, offset, pages, flags) {
                // What is given to an address space stays with it: its slot is not used again either.
                Err(Error::OutOfTables) => {
                    self.vspace.donate(self.objects.take_memory(DONATION + self.donations)?)?;
                    self.donations += 1;
                }
                result => return Ok(result?),
            }
        }
    }
}

fn from_start_block() -> Result<Own, AllocError> {
    let cnode = CNode(env::required(names::CNODE));
    let vspace = VSpace(env::required(names::VSPACE));
    let (slot_bits, first_free) = env::slots();
    let (untypeds, memory) = env::untypeds();
    let bits = u32::from(memory.bits);
    Untyped(CPtr(memory.slot)).retype(Kind::Frame, u64::from(bits), cnode.0, u64::from(first_free), 1)?;
    vspace.map(CPtr(first_free), RECORDS, 0, (1 << bits) / PAGE_SIZE, MapFlags::WRITE)?;
    let count = (1usize << slot_bits).min((1 << bits) / size_of::<Record>());
    // SAFETY: the Frame just mapped there is cleared, which makes valid records, is as large, and is used by
    // nothing else.
    let records = unsafe { core::slice::from_raw_parts_mut(RECORDS as *mut Record, count) };
    let mut objects = Objects::new(OwnCSpace(cnode), records);
    for untyped in untypeds {
        objects.add_memory(untyped.slot, u32::from(untyped.bits))?;
    }
    objects.add_slots(first_free + 1);
    Ok(Own { objects, vspace, cnode, donations: 0 })
}

/// Sets up init's allocator, which has no start block: an empty one for `cnode` and `vspace`, to be filled
/// by [`with`]. Everything else in this crate that needs a start block ends in a crash from here on.
pub fn set_up_root(cnode: CNode, vspace: VSpace, records: &'static mut [Record]) {
    env::is_root();
    *OWN.lock() = Some(Own { objects: Objects::new(OwnCSpace(cnode), records), vspace, cnode, donations: 0 });
}
