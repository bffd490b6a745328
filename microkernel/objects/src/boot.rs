//! The first objects: init with its CSpace, address space and thread, and an Untyped for all other memory.

use abi::boot::{
    self, BOOT_INFO_ADDRESS, BOOT_INFO_SIZE, BootInfo, INIT_CNODE_BITS, INIT_IPC_BUFFER, INIT_STACK_SIZE,
    INIT_STACK_TOP, UntypedInfo, slots,
};
use abi::object::object_bits;
use abi::{Kind, MapFlags, PAGE_SIZE, Rights};
pub use firmware::Region;

use crate::cpu::Cpu;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::memory::{Ref, align_up, pages_to_bytes};
use crate::sched_context::SchedContext;
use crate::slot::{Capability, Flags, Slot};
use crate::tcb::{Tcb, slots as thread_slots};
use crate::tree;

/// log2 of the bytes of init's VSpace.
const INIT_VSPACE_BITS: u32 = 20;
/// Priority init starts with.
const INIT_PRIORITY: u8 = 200;

/// What the machine hands over.
#[derive(Clone, Copy, Debug)]
pub struct Handover<'a> {
    /// Free memory.
    pub memory: &'a [Region],
    /// Device memory.
    pub devices: &'a [Region],
    /// The boot archive (not page-aligned), empty if there is none.
    pub archive: Region,
    /// Frames for init to read: the kernel's log and the trace rings (page-aligned powers of two).
    pub log: Region,
    /// See `log`.
    pub trace: Region,
    /// init's program, an image ([`boot::IMAGE_MAGIC`]).
    pub init: &'a [u8],
    /// What else init is told: everything but memory, archive Frames and counts.
    pub info: BootInfo,
}

/// Why the system cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// There is not enough memory for init.
    OutOfMemory,
    /// init's image is damaged, or maps what it must not.
    BadProgram,
}

type Booted<T> = Result<T, BootError>;

/// init in the making: its CNode, and what is left of the memory that the boot takes from, the largest region.
struct Making {
    cnode: Ref<Slot>,
    free: Region,
}

/// Takes 2^`bits` bytes, aligned, from the start of `free`.
fn take(free: &mut Region, bits: u32) -> Booted<u64> {
    let start = align_up(free.start, bits).ok_or(BootError::OutOfMemory)?;
    let end = start.checked_add(1 << bits).filter(|&end| end <= free.end).ok_or(BootError::OutOfMemory)?;
    free.start = end;
    Ok(start)
}

/// Splits a region into naturally aligned powers of two, at least a page.
pub fn split(region: Region, mut each: impl FnMut(u64, u32)) {
    let mut at = region.start;
    while at < region.end {
        let size_bits = 63u32.saturating_sub(region.end.saturating_sub(at).leading_zeros());
        let bits = at.trailing_zeros().min(size_bits).min(47);
        if bits < 12 {
            return;
        }
        each(at, bits);
        at = at.saturating_add(1 << bits);
    }
}

/// Takes the next word off init's image.
fn word(image: &mut &[u8]) -> Booted<u64> {
    let (word, rest) = image.split_first_chunk().ok_or(BootError::BadProgram)?;
    *image = rest;
    Ok(u64::from_le_bytes(*word))
}

impl<M: Machine> Kernel<M> {
    /// Makes init, and leaves it ready on the CPU `here`.
    pub fn boot(&self, here: &Cpu, handover: &Handover<'_>) -> Booted<()> {
        let largest = handover.memory.iter().max_by_key(|region| region.size());
        let taken_from = *largest.ok_or(BootError::OutOfMemory)?;
        let mut free = taken_from;
        let cnode = self.boot_cnode(&mut free)?;
        let new = &mut Making { cnode, free };
        let vspace = self.boot_object(new, Some(slots::VSPACE), Kind::VSpace, INIT_VSPACE_BITS)?;
        let tcb = self.boot_object(new, Some(slots::TCB), Kind::Tcb, 0)?;
        let context = self.boot_object(new, Some(slots::SCHED_CONTEXT), Kind::SchedContext, 0)?;
        self.boot_controls(cnode)?;
        let entry = self.boot_program(new, vspace, handover.init)?;
        let stack = self.boot_object(new, None, Kind::Frame, INIT_STACK_SIZE.trailing_zeros())?;
        self.boot_map(vspace, stack, INIT_STACK_TOP.saturating_sub(INIT_STACK_SIZE))?;
        let bits = BOOT_INFO_SIZE.trailing_zeros();
        let info = self.boot_object(new, Some(slots::BOOT_INFO), Kind::Frame, bits)?;
        self.boot_map(vspace, info, BOOT_INFO_ADDRESS)?;
        self.boot_thread(here, [cnode, vspace, tcb, context, info], entry)?;
        for (at, region) in [(slots::KERNEL_LOG, handover.log), (slots::TRACE, handover.trace)] {
            self.boot_window(cnode, at, region.start, region.size().trailing_zeros())?;
        }
        self.boot_info(new, info, handover, taken_from)
    }

    fn boot_slot(&self, cnode: Ref<Slot>, at: u32) -> Booted<Ref<Slot>> {
        self.slot_at(cnode.object.get(), u64::from(at)).ok_or(BootError::OutOfMemory)
    }

    /// init's CNode, with itself in its slot.
    fn boot_cnode(&self, free: &mut Region) -> Booted<Ref<Slot>> {
        let physical = self.boot_memory(free, Kind::CNode, INIT_CNODE_BITS)?;
        let slot = self.slot_at(self.memory.address(physical), u64::from(slots::CNODE));
        let slot = slot.ok_or(BootError::OutOfMemory)?;
        self.create(Ref::of(&self.universe), slot, Kind::CNode, INIT_CNODE_BITS as u8, physical);
        Ok(slot)
    }

    /// Cleared memory for an object.
    fn boot_memory(&self, free: &mut Region, kind: Kind, bits: u32) -> Booted<u64> {
        let bits = object_bits(kind, bits).ok_or(BootError::OutOfMemory)?;
        let physical = take(free, bits)?;
        self.memory.clear(physical, 1 << bits);
        Ok(physical)
    }

    /// An object in slot `at` of init's CNode; without a slot of its own it lies in a corner of the CNode that is
    /// never handed out.
    fn boot_object(&self, new: &mut Making, at: Option<u32>, kind: Kind, bits: u32) -> Booted<Ref<Slot>> {
        let physical = self.boot_memory(&mut new.free, kind, bits)?;
        let slot = match at {
            Some(at) => self.boot_slot(new.cnode, at)?,
            None => self.next_image_slot(new.cnode)?,
        };
        let bits = abi::object::fixed_bits(kind).unwrap_or(bits);
        self.create(Ref::of(&self.universe), slot, kind, bits as u8, physical);
        Ok(slot)
    }

    /// Empty slots after IO_CONTROL hold the Frames of init's program and stack.
    fn next_image_slot(&self, cnode: Ref<Slot>) -> Booted<Ref<Slot>> {
        (slots::IO_CONTROL.saturating_add(1)..slots::UNTYPED)
            .filter_map(|at| self.slot_at(cnode.object.get(), u64::from(at)))
            .find(|slot| slot.is_empty())
            .ok_or(BootError::OutOfMemory)
    }

    fn boot_controls(&self, cnode: Ref<Slot>) -> Booted<()> {
        let controls = [
            (slots::SCHED_CONTROL, Kind::SchedControl, 255),
            (slots::IRQ_CONTROL, Kind::IrqControl, 0),
            (slots::IO_PORT, Kind::IoPort, crate::io_port::ALL_PORTS),
            (slots::SYSTEM, Kind::System, 0),
            (slots::IO_CONTROL, Kind::IoControl, 0),
        ];
        let has_iommu = self.machine.io_levels() > 0;
        for (at, kind, badge) in
            controls.into_iter().filter(|&(_, kind, _)| has_iommu || kind != Kind::IoControl)
        {
            let mut capability = Capability::whole(kind, 0);
            capability.badge = badge;
            let slot = self.boot_slot(cnode, at)?;
            slot.fill(capability);
            tree::insert(Ref::of(&self.universe), slot);
        }
        Ok(())
    }

    fn boot_map(&self, vspace: Ref<Slot>, frame: Ref<Slot>, address: u64) -> Booted<()> {
        self.map_whole(vspace, frame, address, frame.size() / PAGE_SIZE, MapFlags::WRITE)
            .map_err(|_| BootError::BadProgram)
    }

    /// Loads init's program ([`boot::IMAGE_MAGIC`]), each segment into a Frame of its own. Returns its entry address.
    fn boot_program(&self, new: &mut Making, vspace: Ref<Slot>, mut image: &[u8]) -> Booted<u64> {
        const BAD: BootError = BootError::BadProgram;
        if word(&mut image)? != boot::IMAGE_MAGIC {
            return Err(BAD);
        }
        let entry = word(&mut image)?;
        for _ in 0..word(&mut image)? {
            let (address, pages) = (word(&mut image)?, word(&mut image)?);
            let (flags, size) = (MapFlags(word(&mut image)?), word(&mut image)?);
            let (data, rest) = image.split_at_checked(size as usize).ok_or(BAD)?;
            image = rest;
            let bytes = pages_to_bytes(pages).filter(|&bytes| size <= bytes).ok_or(BAD)?;
            let bits = bytes.next_power_of_two().trailing_zeros().max(12);
            let frame = self.boot_object(new, None, Kind::Frame, bits)?;
            self.memory.write(frame.object.get(), data);
            self.map_whole(vspace, frame, address, pages, flags).map_err(|_| BAD)?;
        }
        Ok(entry)
    }

    fn boot_thread(&self, here: &Cpu, objects: [Ref<Slot>; 5], entry: u64) -> Booted<()> {
        let [cnode, vspace, tcb, context, info] = objects;
        let thread = self.tcb_in(tcb).map_err(|_| BootError::OutOfMemory)?;
        let context = self.context_in(context).map_err(|_| BootError::OutOfMemory)?;
        let parts =
            [(thread_slots::CSPACE, cnode), (thread_slots::VSPACE, vspace), (thread_slots::BUFFER, info)];
        for (index, from) in parts {
            let Some(slot) = thread.slot(index) else { continue };
            self.keep(from, slot);
        }
        thread.cspace.set(cnode.object.get());
        thread.cspace_slots.set(cnode.size());
        thread.cr3.set(self.vspace_root(vspace));
        thread.has_vspace.set(true);
        let buffer = INIT_IPC_BUFFER.saturating_sub(BOOT_INFO_ADDRESS);
        thread.buffer.set(self.memory.address(info.object.get().saturating_add(buffer)));
        let registers = abi::Registers { rip: entry, rsp: INIT_STACK_TOP, ..abi::Registers::default() };
        thread.set_registers(&registers).map_err(|_| BootError::BadProgram)?;
        thread.priority.set(INIT_PRIORITY);
        self.boot_context(context, thread);
        self.ready(here, thread);
        Ok(())
    }

    /// init runs in turns of 10 ms on CPU 0.
    fn boot_context(&self, context: Ref<SchedContext>, tcb: Ref<Tcb>) {
        let turn = (self.tsc_hz.get() / 100).max(crate::sched_context::MIN_BUDGET);
        context.budget.set(turn);
        context.period.set(turn);
        context.left.set(turn);
        context.tcb.set(Some(tcb));
        tcb.sched_context.set(Some(context));
        tcb.runs_on.set(Some(context));
    }

    /// A Frame, for reading, of memory that the kernel keeps or that the boot loader has filled.
    fn boot_window(&self, cnode: Ref<Slot>, at: u32, start: u64, bits: u32) -> Booted<()> {
        let slot = self.boot_slot(cnode, at)?;
        self.create(Ref::of(&self.universe), slot, Kind::Frame, bits as u8, start);
        slot.rights.set(Rights::READ);
        Ok(())
    }

    /// Hands out what is left: archive Frames, Untypeds; and tells init.
    fn boot_info(&self, new: &Making, to: Ref<Slot>, handover: &Handover, taken_from: Region) -> Booted<()> {
        let cnode = new.cnode;
        let mut info = handover.info;
        info.magic = boot::MAGIC;
        info.cpus = self.cpu_count() as u64;
        info.tsc_hz = self.tsc_hz.get();
        self.boot_archive(cnode, handover.archive, &mut info)?;
        let mut count = 0u32;
        let mut add = |region: Region, device: bool| {
            split(region, |physical, bits| {
                let Some(entry) = info.untyped.get_mut(count as usize) else { return };
                let Ok(slot) = self.boot_slot(cnode, slots::UNTYPED.saturating_add(count)) else { return };
                *entry = UntypedInfo { physical, bits, device: u32::from(device) };
                self.create(Ref::of(&self.universe), slot, Kind::Untyped, bits as u8, physical);
                if device {
                    slot.mark(Flags::DEVICE);
                }
                count = count.saturating_add(1);
            });
        };
        add(new.free, false);
        for &region in handover.memory.iter().filter(|&&region| region != taken_from) {
            add(region, false);
        }
        for &region in handover.devices {
            add(region, true);
        }
        info.untyped_count = u64::from(count);
        self.memory.write_info(to.object.get(), &info);
        Ok(())
    }

    fn boot_archive(&self, cnode: Ref<Slot>, archive: Region, info: &mut BootInfo) -> Booted<()> {
        if archive.is_empty() {
            return Ok(());
        }
        let pages = archive.pages_around();
        info.archive_size = archive.size();
        info.archive_offset = archive.start.saturating_sub(pages.start);
        let mut count = 0u32;
        split(pages, |physical, bits| {
            let Some(entry) = info.archive_frame_bits.get_mut(count as usize) else { return };
            if self.boot_window(cnode, slots::ARCHIVE.saturating_add(count), physical, bits).is_ok() {
                *entry = bits as u8;
                count = count.saturating_add(1);
            }
        });
        info.archive_frames = u64::from(count);
        Ok(())
    }
}
