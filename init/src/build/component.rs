//! Building a component, and taking it apart.
//!
//! Everything a component consists of is made from its transient Untyped, so that one revoke takes it back. init
//! keeps the capabilities that own the objects in its own CSpace; into the component's go exactly those that its
//! manifest entry names, and those that every component has over itself (`proto::start::names`).

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use abi::boot::slots;
use abi::object::{FIRST_SLOT, PAGE_SIZE};
use abi::{CPtr, Error, Kind, MapFlags, Registers, Rights};
use ipc::{CNode, IrqControl, SchedContext, Tcb, Untyped, VSpace};
use proto::life::bell;
use proto::pci;
use proto::principal::{self, Principal};
use proto::start::{
    self, BLOCK, BLOCK_SIZE, IPC_BUFFER, LIVES, Memory, Named, ORDERS, STACK_TOP, STATUS, Start, names,
};
use rt::alloc::AllocError;
use rt::memory;

use crate::build::durable::{Durable, End};
use crate::build::elf::{BadProgram, Program, Segment};
use crate::build::equipment::{self, Equipment};
use crate::build::image::{self, Image};
use crate::build::plan::{Plan, Role};
use crate::machine::{CNODE, FILL, Machine, SCHED_CONTROL};
use crate::manifest::{Budget, Entry, Right, Time};

/// Bit of a badge that only fault handlers have; the rest is the component's number.
pub const FAULT_BADGE: u64 = 1 << 32;

/// The highest priority that a component with `sched-control` can give: below init's own.
const CEILING: u64 = 254;

/// The first of the slots in which `pci` gets registers of devices, two for each driver in the manifest: the only component
/// with something at fixed places.
pub const BUS_SLOTS: u32 = FIRST_SLOT;

/// What a component gets of memory that it shares with another.
const READ_WRITE: Rights = Rights(Rights::READ.0 | Rights::WRITE.0);

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
    transient: CPtr,
    /// Slots of init's CSpace that what was made from it fills.
    slots: Vec<CPtr>,
    /// Where init keeps the durable Untyped, and where the component has it.
    durable: Option<(CPtr, u32)>,
    /// The Untyped of device memory that the component's was made from.
    device_memory: Option<CPtr>,
    /// The image that its program is, if its pages are shared between lives.
    image: Option<&'static Image>,
    /// The capabilities that it has by name.
    pub names: Names,
}

/// Names of capabilities, and the slots they are in.
type Names = heapless::Vec<(String, u32), { start::MAX_CAPABILITIES }>;

/// Why a component was not built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// Its program is none.
    Program(BadProgram),
    /// Its memory budget is too small: bytes it needs before it runs.
    Budget(u64),
    /// The arguments are too long.
    Arguments,
    /// Its CPU does not run.
    Cpu(u32),
    /// Its budget of processor time is refused.
    Time,
    /// Something it is to have could not be had: what, and why.
    Grant(&'static str, Error),
    /// init is short of something.
    Alloc(AllocError),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            BuildError::Program(bad) => write!(f, "its program cannot be loaded: {bad}"),
            BuildError::Budget(needed) => {
                write!(f, "its memory budget is too small: it needs {} KiB to start", needed.div_ceil(1024))
            }
            BuildError::Arguments => f.write_str("the arguments are too long"),
            BuildError::Cpu(cpu) => write!(f, "the machine has no CPU {cpu}"),
            BuildError::Time => f.write_str("the kernel refuses its budget of processor time"),
            BuildError::Grant(what, error) => {
                write!(f, "it cannot be given {what}:{}", error.meaning().trim_end_matches('.'))
            }
            BuildError::Alloc(error) => write!(f, "{error}"),
        }
    }
}

impl From<AllocError> for BuildError {
    fn from(error: AllocError) -> BuildError {
        BuildError::Alloc(error)
    }
}

impl From<Error> for BuildError {
    fn from(error: Error) -> BuildError {
        BuildError::Alloc(AllocError::Kernel(error))
    }
}

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
struct Builder<'b, 'o> {
    machine: &'b Machine,
    order: &'b Order<'o>,
    program: &'b Program<'o>,
    parts: &'b mut Parts,
}

/// What has been put into the component's CSpace.
struct Given {
    next: u32,
    state: Option<Memory>,
    device: Option<start::Device>,
    channels: heapless::Vec<start::Channel<'static>, { start::MAX_CHANNELS }>,
    untypeds: heapless::Vec<Memory, { start::MAX_UNTYPEDS }>,
    records: Memory,
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

    /// Fills the component's CSpace.
    fn give(&mut self, plan: &Plan, records: CPtr) -> Result<Given, BuildError> {
        let mut given = Given {
            next: FIRST_SLOT,
            state: None,
            device: None,
            channels: heapless::Vec::new(),
            untypeds: heapless::Vec::new(),
            records: Memory { slot: 0, bits: start::records_bits(self.parts.slot_bits) },
        };
        self.give_bus(&mut given)?;
        self.give_own(&mut given)?;
        self.give_rights(&mut given)?;
        self.give_endpoints(&mut given)?;
        self.give_durable(&mut given)?;
        self.give_kept(&mut given)?;
        self.give_device(&mut given)?;
        for &bits in &plan.untypeds {
            let slot = self.next(&mut given)?;
            let place = u64::from(slot);
            let transient = Untyped(self.parts.transient);
            transient.retype(Kind::Untyped, u64::from(bits), self.parts.cnode.0, place, 1)?;
            // There are as many places as the plan can have.
            let _ = given.untypeds.push(Memory { slot, bits: bits as u8 });
        }
        given.records.slot = self.next(&mut given)?;
        self.parts.cnode.relocate(u64::from(given.records.slot), CNODE.0, u64::from(records.0))?;
        Ok(given)
    }

    fn give_own(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let (number, endpoint) = (u64::from(self.order.number), self.order.endpoint);
        let to_init = Rights::WRITE.or(Rights::GRANT);
        self.mint(given, names::CNODE, self.parts.cnode.0, self.cspace_rights(), 0)?;
        self.mint(given, names::VSPACE, self.parts.vspace.0, Rights::ALL, 0)?;
        self.mint(given, names::TCB, self.parts.tcb.0, Rights::ALL, 0)?;
        self.mint(given, names::INIT, endpoint, to_init, number)?;
        self.mint(given, names::FAULT, endpoint, to_init, number | FAULT_BADGE)?;
        self.mint(given, names::READY, self.parts.ready, Rights::READ, 0)?;
        Ok(())
    }

    fn give_device_memory(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let name = Right::DeviceMemory.name();
        let refused = |error| BuildError::Grant(name, error);
        let (from, bits) = self.machine.device_memory.ok_or(refused(Error::Unavailable))?;
        let slot = self.next(given)?;
        let cnode = self.parts.cnode.0;
        // Refused while another component has it.
        Untyped(from).retype(Kind::Untyped, u64::from(bits), cnode, u64::from(slot), 1).map_err(refused)?;
        self.parts.device_memory = Some(from);
        self.name(name, slot)
    }

    fn give_rights(&mut self, given: &mut Given) -> Result<(), BuildError> {
        for right in &self.order.entry.holds {
            let (from, badge) = match right {
                Right::SchedControl => (slots::SCHED_CONTROL, CEILING),
                Right::IrqControl => (slots::IRQ_CONTROL, 0),
                Right::IoControl => {
                    let there = CNODE.describe(u64::from(slots::IO_CONTROL))?.kind == Kind::IoControl;
                    if !there {
                        continue;
                    }
                    (slots::IO_CONTROL, 0)
                }
                Right::IoPorts => (slots::IO_PORT, 0),
                Right::System => (slots::SYSTEM, 0),
                Right::Trace => {
                    self.mint(given, right.name(), CPtr(slots::TRACE), Rights::READ, 0)?;
                    continue;
                }
                Right::DeviceMemory => {
                    self.give_device_memory(given)?;
                    continue;
                }
                // Not capabilities: init knows by the number who may ask.
                Right::Inventory | Right::Control | Right::Supervise | Right::Pci => continue,
            };
            self.mint(given, right.name(), CPtr(from), Rights::ALL, badge)?;
        }
        for &(first, last) in &self.order.entry.ports {
            let badge = u64::from(first) | u64::from(last) << 16;
            let name = alloc::format!("ports-{first:#x}");
            self.mint(given, &name, CPtr(slots::IO_PORT), Rights::ALL, badge)?;
        }
        for &irq in &self.order.entry.irqs {
            let slot = self.next(given)?;
            let (control, cpu) = (IrqControl(CPtr(slots::IRQ_CONTROL)), u64::from(self.order.entry.cpu));
            control
                .handler(self.parts.cnode.0, u64::from(slot), u64::from(irq), cpu, 0)
                .map_err(|error| BuildError::Grant("its interrupt", error))?;
            self.name(&alloc::format!("irq-{irq}"), slot)?;
        }
        self.give_bells_of_irqs(given)
    }

    /// The right to have an interrupt ring the component's own bell, with the bit of the first, second, ... vector of a
    /// device.
    fn give_bells_of_irqs(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let Some(kept) = self.order.durable.kept(self.order.place) else { return Ok(()) };
        for (number, irq) in self.order.entry.irqs.iter().take(8).enumerate() {
            let name = alloc::format!("irq-{irq}-bell");
            self.mint(given, &name, kept.bell, Rights::WRITE, 1 << (usize::from(bell::IRQ) + number))?;
        }
        Ok(())
    }

    fn give_endpoints(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let entry = self.order.entry;
        for &(name, endpoint) in self.order.durable.served() {
            if entry.serves.contains(&name) {
                self.mint(given, name, endpoint, Rights::READ, 0)?;
            }
            if entry.calls.contains(&name) {
                self.give_call(given, name, endpoint)?;
            }
        }
        Ok(())
    }

    /// The right to call a server: as the client that the component is in this life; and, if it has a state Frame, as
    /// the one that the state Frame makes it over all of its lives (`proto::principal`).
    fn give_call(&mut self, given: &mut Given, name: &str, endpoint: CPtr) -> Result<(), BuildError> {
        let (order, rights) = (self.order, Rights::WRITE.or(Rights::GRANT));
        // The manifest has fewer components than there are places.
        let place = order.place as u16;
        let badge = match order.entry.is_supervised() {
            true => Principal::of_component(place, order.life).badge(),
            false => principal::stranger(order.number),
        };
        self.mint(given, name, endpoint, rights, badge)?;
        let durable = order.entry.state.and_then(|_| principal::durable_name(name));
        if let Some(durable) = durable {
            self.mint(given, &durable, endpoint, rights, Principal::of_state(place, 0).badge())?;
        }
        Ok(())
    }

    fn give_durable(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let Some(kept) = self.order.untyped else { return Ok(()) };
        let slot = self.next(given)?;
        self.parts.cnode.relocate(u64::from(slot), CNODE.0, u64::from(kept.0))?;
        self.parts.durable = Some((kept, slot));
        self.name(names::DURABLE, slot)
    }

    /// What a supervised component has beside: its bell, its state, its ends of channels.
    fn give_kept(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let durable = self.order.durable;
        let Some(kept) = durable.kept(self.order.place) else { return Ok(()) };
        self.mint(given, names::BELL, kept.bell, Rights::READ, 0)?;
        if let Some((frame, bits)) = kept.state {
            let slot = self.mint(given, names::STATE, frame, READ_WRITE, 0)?;
            given.state = Some(Memory { slot, bits: bits as u8 });
        }
        for end in durable.ends(self.order.place) {
            self.give_end(given, &end)?;
        }
        Ok(())
    }

    /// What `pci` has beside.
    fn give_bus(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let devices = self.order.devices;
        let Some(bus) = devices.bus.as_ref().filter(|bus| bus.place == self.order.place) else {
            return Ok(());
        };
        given.next = BUS_SLOTS + 2 * devices.drivers.len() as u32;
        if given.next >> self.parts.slot_bits != 0 {
            return Err(AllocError::NoSlots.into());
        }
        for (at, driver) in devices.drivers.iter().enumerate() {
            if let Some(resources) = &driver.resources {
                equipment::give_frames(self.parts.cnode, resources, at)?;
            }
        }
        if let Some((ecam, _)) = bus.ecam {
            self.mint(given, pci::names::ECAM, ecam, READ_WRITE, 0)?;
        }
        self.mint(given, pci::names::TABLE, bus.table.frame, READ_WRITE, 0)?;
        self.mint(given, pci::names::ORDERS, bus.orders.frame, Rights::READ, 0)?;
        self.mint(given, pci::names::INIT_BELL, bus.signal, Rights::WRITE, 0)?;
        Ok(())
    }

    /// What a driver has beside: its device.
    fn give_device(&mut self, given: &mut Given) -> Result<(), BuildError> {
        let Some(resources) = self.order.devices.resources(self.order.place) else { return Ok(()) };
        let function = &resources.function;
        let mut device = start::Device {
            address: function.address,
            identity: function.identity,
            bars: heapless::Vec::new(),
            regions: function.regions.clone(),
            vectors: heapless::Vec::new(),
            io_space: None,
        };
        for &(index, frame, bits) in &resources.frames {
            // Who could write the table could have the device send any message.
            if function.msix != Some(index) {
                let slot = self.mint_unnamed(given, frame, READ_WRITE, 0)?;
                let frame = Memory { slot, bits: bits as u8 };
                device.bars.push(start::Bar { index, frame }).map_err(|_| AllocError::NoSlots)?;
            }
        }
        for vector in &resources.vectors {
            let slot = self.mint_unnamed(given, vector.handler, Rights::WRITE, 0)?;
            device.vectors.push(slot).map_err(|_| AllocError::NoSlots)?;
        }
        if let Some(space) = resources.space {
            device.io_space = Some(self.mint_unnamed(given, space, READ_WRITE, 0)?);
        }
        given.device = Some(device);
        Ok(())
    }

    fn give_end(&mut self, given: &mut Given, end: &End) -> Result<(), BuildError> {
        let rings = self.mint_unnamed(given, end.rings, READ_WRITE, 0)?;
        let data = self.mint_unnamed(given, end.data, READ_WRITE, 0)?;
        let signal = self.mint_unnamed(given, end.peer_bell, Rights::WRITE, 1 << end.peer_bit)?;
        let channel = start::Channel {
            name: end.wire.name,
            peer: end.peer as u16,
            client: end.is_client,
            rings: Memory { slot: rings, bits: end.wire.rings as u8 },
            data: Memory { slot: data, bits: end.wire.data as u8 },
            signal,
            bit: end.bit,
        };
        given.channels.push(channel).map_err(|_| AllocError::NoSlots.into())
    }

    fn next(&self, given: &mut Given) -> Result<u32, BuildError> {
        let slot = given.next;
        if slot >> self.parts.slot_bits != 0 {
            return Err(AllocError::NoSlots.into());
        }
        given.next += 1;
        Ok(slot)
    }

    fn name(&mut self, name: &str, slot: u32) -> Result<(), BuildError> {
        self.parts.names.push((name.into(), slot)).map_err(|_| AllocError::NoSlots.into())
    }

    /// Gives the component a capability derived from init's `from`, under `name`.
    fn mint(
        &mut self,
        given: &mut Given,
        name: &str,
        from: CPtr,
        rights: Rights,
        badge: u64,
    ) -> Result<u32, BuildError> {
        let slot = self.mint_unnamed(given, from, rights, badge)?;
        self.name(name, slot)?;
        Ok(slot)
    }

    fn mint_unnamed(
        &self,
        given: &mut Given,
        from: CPtr,
        rights: Rights,
        badge: u64,
    ) -> Result<u32, BuildError> {
        let slot = self.next(given)?;
        self.parts.cnode.mint(u64::from(slot), CNODE.0, u64::from(from.0), rights, badge)?;
        Ok(slot)
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

    /// What the component may do with its CSpace.
    fn cspace_rights(&self) -> Rights {
        let hidden = if self.order.entry.sees_physical() { Rights::NONE } else { Rights::PHYSICAL };
        Rights::ALL.without(hidden)
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

/// Writes `data` into `frame`, from byte `offset` on.
pub fn fill(frame: CPtr, offset: u64, data: &[u8]) -> Result<(), BuildError> {
    let pages = (offset + data.len() as u64).div_ceil(PAGE_SIZE);
    memory::map(frame, FILL, 0, pages, MapFlags::WRITE)?;
    // SAFETY: just mapped there, writable, with room for `offset` and `data`; nothing else of init's lies there
    // and no component that could write to the Frame runs yet.
    let place = unsafe { core::slice::from_raw_parts_mut((FILL + offset) as *mut u8, data.len()) };
    place.copy_from_slice(data);
    Ok(memory::unmap(FILL, pages)?)
}

/// Pages of a Frame that are cleared at a time.
const CLEARED: u64 = 512;

/// Clears a Frame of 2^`bits` bytes.
pub fn clear(frame: CPtr, bits: u32) -> Result<(), BuildError> {
    let pages = (1u64 << bits) / PAGE_SIZE;
    for first in (0..pages).step_by(CLEARED as usize) {
        let count = (pages - first).min(CLEARED);
        memory::map(frame, FILL, first, count, MapFlags::WRITE)?;
        // SAFETY: just mapped there, writable, so many pages; nothing else of init's lies there, and the component that
        // could write to the Frame is dead.
        let place = unsafe { core::slice::from_raw_parts_mut(FILL as *mut u8, (count * PAGE_SIZE) as usize) };
        place.fill(0);
        memory::unmap(FILL, count)?;
    }
    Ok(())
}
