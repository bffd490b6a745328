//! Building a component, and taking it apart.
//!
//! Everything a component consists of is made from its transient Untyped, so that one revoke takes it back. init
//! keeps the capabilities that own the objects in its own CSpace; into the component's go exactly those that its
//! manifest entry names, and those that every component has over itself (`proto::start::names`).

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use abi::object::PAGE_SIZE;
use abi::{CPtr, Error, Kind, MapFlags, Registers, Rights};
use ipc::{CNode, SchedContext, Tcb, Untyped, VSpace};
use proto::start::{self, BLOCK, BLOCK_SIZE, IPC_BUFFER, LIVES, Named, ORDERS, STACK_TOP, STATUS, Start};
use rt::alloc::AllocError;
use rt::memory;

use crate::build::contents::fill;
use crate::build::cspace::Given;
use crate::build::durable::Durable;
use crate::build::elf::{Program, Segment};
use crate::build::equipment::Equipment;
use crate::build::error::BuildError;
use crate::build::image::{self, Image};
use crate::build::plan::{Plan, Role};
use crate::machine::{CNODE, Machine, SCHED_CONTROL};
use crate::manifest::{Budget, Entry, Time};

/// Bit of a badge that only fault handlers have; the rest is the component's number.
pub const FAULT_BADGE: u64 = 1 << 32;

/// What a component is built from.
pub struct Order<'o> {
    /// Its manifest entry.
    pub entry: &'o Entry<'static>,
    /// Its name.
    pub name: &'static str,
    /// Its program.
    pub code: Code<'o>,
    /// Its arguments, each ended by NUL.
    pub arguments: &'o str,
    /// Its number, which init's Endpoint badges its messages with.
    pub number: u32,
    /// The Endpoint that init serves.
    pub endpoint: CPtr,
    /// What outlives components.
    pub durable: &'o Durable,
    /// What there is of devices.
    pub devices: &'o Equipment,
    /// Its durable memory, if it has some: an Untyped in init's CSpace, which comes back there.
    pub untyped: Option<CPtr>,
    /// Its place in the manifest.
    pub place: usize,
    /// Which life of it this is.
    pub life: u32,
}

/// A program to build a component from.
pub enum Code<'o> {
    /// Loaded for this life.
    File(Box<Program<'o>>),
    /// Loaded before, but for what it writes to.
    Image(&'static Image),
}

impl<'o> Code<'o> {
    fn program(&self) -> &Program<'o> {
        match self {
            Code::File(program) => program,
            Code::Image(image) => &image.program,
        }
    }

    fn image(&self) -> Option<&'static Image> {
        match self {
            Code::File(_) => None,
            Code::Image(image) => Some(image),
        }
    }
}

/// What a component consists of, as far as init needs to name it.
#[derive(Debug)]
pub struct Parts {
    /// Its CSpace.
    pub cnode: CNode,
    /// log2 of the slots in it.
    pub slot_bits: u8,
    /// Its address space.
    pub vspace: VSpace,
    /// Its main thread.
    pub tcb: Tcb,
    /// That thread's processor time.
    pub context: SchedContext,
    /// The Notification that tells it to ask init again.
    pub ready: CPtr,
    /// log2 of the bytes of its transient memory.
    pub memory_bits: u32,
    /// All of its memory but the durable one.
    pub(super) transient: CPtr,
    /// Slots of init's CSpace that what was made from it fills.
    slots: Vec<CPtr>,
    /// Where init keeps the durable Untyped, and where the component has it.
    pub(super) durable: Option<(CPtr, u32)>,
    /// The Untyped of device memory that the component's was made from.
    pub(super) device_memory: Option<CPtr>,
    /// The image that its program is, if its pages are shared between lives.
    image: Option<&'static Image>,
    /// The capabilities that it has by name.
    pub names: Names,
}

/// Names of capabilities, and the slots they are in.
type Names = heapless::Vec<(String, u32), { start::MAX_CAPABILITIES }>;

impl Parts {
    /// Builds a component and starts it.
    pub fn build(machine: &Machine, order: &Order) -> Result<Parts, BuildError> {
        if order.entry.cpu >= machine.cpus {
            return Err(BuildError::Cpu(order.entry.cpu));
        }
        let bits = memory_bits(order.entry.memory, machine.memory);
        let (program, image) = (order.code.program(), order.code.image());
        let own = |segment: &Segment| image.is_none() || !image::is_shared(segment);
        let plan = Plan::new(bits, program, own, order.entry.stack, order.entry.slot_bits)
            .map_err(|too_small| BuildError::Budget(too_small.0))?;
        let mut parts = Parts::empty(memory::with(|objects| objects.take_memory(bits))?, order.entry, image);
        parts.memory_bits = bits;
        let mut builder = Builder { machine, order, program, parts: &mut parts };
        match builder.run(&plan) {
            Ok(()) => Ok(parts),
            Err(error) => {
                parts.take_apart()?;
                Err(error)
            }
        }
    }

    fn empty(transient: CPtr, entry: &Entry, image: Option<&'static Image>) -> Parts {
        let null = CPtr::NULL;
        Parts {
            cnode: CNode(null),
            slot_bits: entry.slot_bits,
            vspace: VSpace(null),
            tcb: Tcb(null),
            context: SchedContext(null),
            ready: null,
            memory_bits: 0,
            transient,
            slots: Vec::new(),
            durable: None,
            device_memory: None,
            image,
            names: Names::new(),
        }
    }

    /// Destroys the component: every object of it, all memory but the durable one.
    pub fn take_apart(self) -> Result<(), AllocError> {
        if let Some((kept, slot)) = self.durable {
            // A component that no longer has its durable memory where it got it has lost it.
            let _ = CNODE.relocate(u64::from(kept.0), self.cnode.0, u64::from(slot));
        }
        if let Some(device_memory) = self.device_memory {
            CNODE.revoke(u64::from(device_memory.0))?;
        }
        memory::with(|objects| {
            objects.return_memory(self.transient)?;
            self.slots.iter().try_for_each(|&slot| objects.return_slot(slot))
        })
    }

    /// The slots of init's CSpace where Frames are that the component has mapped.
    pub fn frames(&self) -> impl Iterator<Item = CPtr> {
        self.slots.iter().copied().chain(self.image.into_iter().flat_map(Image::frames))
    }
}

/// log2 of a memory budget, on a machine that had `all` bytes.
fn memory_bits(budget: Budget, all: u64) -> u32 {
    match budget {
        Budget::Bits(bits) => bits,
        Budget::Half => {
            let half = all.max(1 << 20).ilog2() - 1;
            let largest = memory::with(|objects| Ok(objects.largest())).ok().flatten();
            largest.map_or(half, |largest| largest.min(half))
        }
    }
}

/// A component in the making.
pub(super) struct Builder<'b, 'o> {
    pub(super) machine: &'b Machine,
    pub(super) order: &'b Order<'o>,
    pub(super) program: &'b Program<'o>,
    pub(super) parts: &'b mut Parts,
}

impl Builder<'_, '_> {
    fn run(&mut self, plan: &Plan) -> Result<(), BuildError> {
        let mut pages = CPtr::NULL;
        let mut records = CPtr::NULL;
        for piece in &plan.pieces {
            let made = self.make(piece.kind, piece.bits)?;
            match piece.role {
                Role::CNode => self.parts.cnode = CNode(made),
                Role::VSpace => self.parts.vspace = VSpace(made),
                Role::Tcb => self.parts.tcb = Tcb(made),
                Role::SchedContext => self.parts.context = SchedContext(made),
                Role::Ready => self.parts.ready = made,
                Role::Pages => pages = made,
                Role::Records => records = made,
                Role::Stack(_) | Role::Segment(..) => {}
            }
        }
        // The order of making follows from sizes, so what is mapped where waits until there is an address space.
        for (at, piece) in plan.pieces.iter().enumerate() {
            let (frame, frame_pages) = (self.parts.slots[at], (1 << piece.bits) / PAGE_SIZE);
            match piece.role {
                Role::Stack(page) => {
                    let address = STACK_TOP - self.order.entry.stack + page * PAGE_SIZE;
                    self.parts.vspace.map(frame, address, 0, frame_pages, MapFlags::WRITE)?;
                }
                Role::Segment(index, page) => self.load(index, page, frame, frame_pages)?,
                _ => {}
            }
        }
        if let Some(image) = self.parts.image {
            image.map(self.parts.vspace)?;
        }
        let given = self.give(plan, records)?;
        self.write_start_block(&given, pages)?;
        self.start(pages)
    }

    /// Makes an object from the transient memory into a slot of init's.
    fn make(&mut self, kind: Kind, bits: u32) -> Result<CPtr, BuildError> {
        self.parts.slots.try_reserve(1).map_err(|_| AllocError::NoMemory)?;
        let slot = memory::with(|objects| objects.take_slot())?;
        self.parts.slots.push(slot);
        Untyped(self.parts.transient).retype(kind, u64::from(bits), CNODE.0, u64::from(slot.0), 1)?;
        Ok(slot)
    }

    /// Fills and maps the part of segment `index` from `page` on.
    fn load(&self, index: usize, page: u64, frame: CPtr, pages: u64) -> Result<(), BuildError> {
        let segment = &self.program.segments[index];
        if let Some((offset, data)) = segment.part(page, pages) {
            fill(frame, offset, data)?;
        }
        let address = segment.address + page * PAGE_SIZE;
        Ok(self.parts.vspace.map(frame, address, 0, pages, segment.flags)?)
    }

    fn write_start_block(&self, given: &Given, pages: CPtr) -> Result<(), BuildError> {
        let capabilities = self.parts.names.iter().map(|(name, slot)| Named { name, slot: *slot });
        let start = Start {
            name: self.order.name,
            arguments: self.order.arguments,
            cpus: self.machine.cpus,
            tsc_hz: self.machine.tsc_hz,
            slot_bits: self.parts.slot_bits,
            first_free: given.next,
            stack: self.order.entry.stack as u32,
            capabilities: capabilities.collect(),
            untypeds: given.untypeds.clone(),
            records: given.records,
            place: self.order.place as u16,
            life: self.order.life,
            state: given.state,
            channels: given.channels.clone(),
            device: given.device.clone(),
        };
        let mut block = [0; BLOCK_SIZE];
        start.write(&mut block).map_err(|_| BuildError::Arguments)?;
        fill(pages, 0, &block)
    }

    fn start(&self, pages: CPtr) -> Result<(), BuildError> {
        let Parts { cnode, vspace, tcb, context, .. } = *self.parts;
        vspace.map(pages, BLOCK, 0, 1, MapFlags::READ)?;
        vspace.map(pages, IPC_BUFFER, PAGE_SIZE, 1, MapFlags::WRITE)?;
        vspace.map(self.order.durable.lives.frame, LIVES, 0, 1, MapFlags::READ)?;
        if let Some(kept) = self.order.durable.kept(self.order.place) {
            vspace.map(kept.orders.frame, ORDERS, 0, 1, MapFlags::READ)?;
            vspace.map(kept.status.frame, STATUS, 0, 1, MapFlags::WRITE)?;
        }
        self.borrowing(cnode.0, self.cspace_rights(), 0, |cspace| {
            tcb.configure(cspace, vspace.0, pages, PAGE_SIZE)
        })?;
        let (rights, badge) = (Rights::WRITE.or(Rights::GRANT), u64::from(self.order.number) | FAULT_BADGE);
        self.borrowing(self.order.endpoint, rights, badge, |handler| tcb.set_fault_handler(handler))?;
        let entry = self.order.entry;
        let time = entry.time.unwrap_or(Time { budget: 10_000, period: 10_000, strict: false });
        let (budget, period) = (self.machine.ticks(time.budget), self.machine.ticks(time.period));
        SCHED_CONTROL
            .configure(context.0, u64::from(entry.cpu), budget, period, u64::from(time.strict))
            .map_err(|_| BuildError::Time)?;
        SCHED_CONTROL.set_priority(tcb.0, u64::from(entry.priority))?;
        context.bind(tcb.0)?;
        let registers = Registers {
            rip: self.program.entry,
            rsp: STACK_TOP,
            gs_base: IPC_BUFFER,
            ..Registers::default()
        };
        Ok(rt::thread::write_registers(tcb, &registers, true)?)
    }

    /// Uses a capability minted from `from` for as long as `act` takes: a thread keeps one of its own, derived from it.
    fn borrowing(
        &self,
        from: CPtr,
        rights: Rights,
        badge: u64,
        act: impl FnOnce(CPtr) -> Result<(), Error>,
    ) -> Result<(), BuildError> {
        let slot = memory::with(|objects| objects.take_slot())?;
        let place = u64::from(slot.0);
        let acted = CNODE.mint(place, CNODE.0, u64::from(from.0), rights, badge).and_then(|()| act(slot));
        let deleted = CNODE.delete(place);
        memory::with(|objects| objects.return_slot(slot))?;
        acted?;
        Ok(deleted?)
    }
}
