//! What a test finds: its capabilities, and ways to make objects, address spaces, components and threads.
//!
//! All of it is made from the test's own Untyped and lives in its own CSpace, so the bench takes it back with
//! one revoke. A refused set-up panics; a panic of any of its threads fails the test.

use core::fmt;

use abi::{CPtr, Error, IpcBuffer, Kind, MapFlags, Registers, Rights};
use ipc::{CNode, IoControl, IoPort, IrqControl, SchedContext, SchedControl, System, Tcb, Untyped, VSpace};

use crate::arena;
use crate::program::Program;
use crate::table::Run;

/// Slots of a test's CSpace that the bench has filled.
pub mod slots {
    /// The CSpace itself.
    pub const CNODE: u32 = 2;
    /// Memory.
    pub const UNTYPED: u32 = 3;
    /// The test's address space.
    pub const VSPACE: u32 = 4;
    /// The test's thread.
    pub const TCB: u32 = 5;
    /// Its SchedContext.
    pub const SCHED_CONTEXT: u32 = 6;
    /// Over processor time.
    pub const SCHED_CONTROL: u32 = 7;
    /// Over interrupts.
    pub const IRQ_CONTROL: u32 = 8;
    /// All I/O ports.
    pub const IO_PORT: u32 = 9;
    /// The machine.
    pub const SYSTEM: u32 = 10;
    /// The arena's Frame.
    pub const ARENA: u32 = 11;
    /// The Frame of the program's copy.
    pub const PROGRAM: u32 = 12;
    /// The Endpoint where the bench hears faults (right WRITE).
    pub const BENCH: u32 = 13;
    /// Signalled by threads that end.
    pub const JOIN: u32 = 14;
    /// The kernel's log, read-only; empty if the program was not given it.
    pub const KERNEL_LOG: u32 = 15;
    /// The trace rings, likewise.
    pub const TRACE: u32 = 16;
    /// An Untyped of device memory, likewise.
    pub const DEVICE: u32 = 17;
    /// Over the IOMMU, if there is one.
    pub const IO_CONTROL: u32 = 18;
    /// Never filled.
    pub const EMPTY: u32 = 31;
    /// The first slot for the test.
    pub const FREE: u32 = 32;
}

/// log2 of the slots of a test's CSpace.
pub const SLOT_BITS: u32 = 12;
/// log2 of the size of an address space that `World::space` makes.
pub const SPACE_BITS: u32 = 17;
/// Priority of a test's first thread, and of others unless said otherwise.
pub const PRIORITY: u64 = 100;
/// Looks of a wait before it gives up. Looks are counted, not time: where the host has other work, or more virtual CPUs
/// than it runs at once, whoever waits gets to fewer looks, as those that it waits for get less done.
const LOOKS: u64 = 300_000;
/// Microseconds between two looks.
const LOOK: u64 = 200;
/// Tries of a measurement where the host's pauses count as guest time.
const TRIES: usize = 50;
/// The source of a device that is there and sends nothing: the ISA bridge, 00:1f.0.
pub const SILENT: u64 = 0x1f << 3;

/// What the bench tells a test, through the arena.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// What to run.
    pub run: Run,
    /// CPUs that run.
    pub cpus: u64,
    /// TSC ticks in a second.
    pub tsc_hz: u64,
    /// TSC ticks are instructions: time stands still while the host does other things, so what takes time takes
    /// exactly that.
    pub icount: bool,
    /// The long versions are wanted.
    pub long: bool,
    /// log2 of the bytes in the test's Untyped.
    pub untyped_bits: u32,
    /// The program's copy.
    pub program: Program,
}

/// A test's world.
#[derive(Debug)]
pub struct World {
    /// What the bench said.
    pub setup: Setup,
    next_slot: u32,
    threads: usize,
}

/// The test's own CSpace.
pub const CNODE: CNode = CNode(CPtr(slots::CNODE));
/// Its memory.
pub const UNTYPED: Untyped = Untyped(CPtr(slots::UNTYPED));
/// Its address space.
pub const VSPACE: VSpace = VSpace(CPtr(slots::VSPACE));
/// Its own thread.
pub const TCB: Tcb = Tcb(CPtr(slots::TCB));
/// Its own SchedContext.
pub const SCHED_CONTEXT: SchedContext = SchedContext(CPtr(slots::SCHED_CONTEXT));
/// Over processor time.
pub const SCHED_CONTROL: SchedControl = SchedControl(CPtr(slots::SCHED_CONTROL));
/// Over interrupts.
pub const IRQ_CONTROL: IrqControl = IrqControl(CPtr(slots::IRQ_CONTROL));
/// All I/O ports.
pub const IO_PORT: IoPort = IoPort(CPtr(slots::IO_PORT));
/// The machine.
pub const SYSTEM: System = System(CPtr(slots::SYSTEM));
/// Over the IOMMU.
pub const IO_CONTROL: IoControl = IoControl(CPtr(slots::IO_CONTROL));
/// The arena's Frame.
pub const ARENA: CPtr = CPtr(slots::ARENA);
/// A slot that is empty.
pub const EMPTY: CPtr = CPtr(slots::EMPTY);

/// Counts all capabilities there are, and checks the kernel's invariants. How long that takes counts for
/// nothing in the search for the longest time with interrupts off.
pub fn count() -> u64 {
    let count = SYSTEM.verify().must("a count");
    SYSTEM.latency().must("what that took");
    count
}

/// A result that must be a success.
pub trait Must<T> {
    /// The value, or a panic that says what was refused and why.
    fn must(self, what: impl fmt::Display) -> T;
}

impl<T, E: fmt::Debug> Must<T> for Result<T, E> {
    #[track_caller]
    fn must(self, what: impl fmt::Display) -> T {
        match self {
            Ok(value) => value,
            Err(error) => panic!("{what}: {error:?}"),
        }
    }
}

/// Lets a thread that waits for another, spinning, go easy on the kernel's lock: where the host runs fewer CPUs than the
/// guest has, each turn at the lock may cost a turn of the host's scheduler.
pub fn give_way() {
    for _ in 0..100 {
        core::hint::spin_loop();
    }
    ipc::yield_now();
}

/// Panics unless a call succeeded, or was refused with one of `errors`, as it can be where others act on the same
/// objects.
#[track_caller]
pub fn unless<T>(result: Result<T, Error>, errors: &[Error]) {
    if let Err(error) = result {
        assert!(errors.contains(&error), "refused: {error:?}");
    }
}

/// Takes what a call returned that nothing was to end: panics with it.
#[track_caller]
pub fn never_ends<T: fmt::Debug>(returned: Result<T, Error>) -> ! {
    panic!("a call that nothing was to end returned {returned:?}")
}

/// TSC ticks since boot.
pub fn now() -> u64 {
    rt::clock::now()
}

impl World {
    /// As the test finds it.
    pub const fn new(setup: Setup) -> World {
        World { setup, next_slot: slots::FREE, threads: 1 }
    }

    /// CPUs that run.
    pub fn cpus(&self) -> u64 {
        self.setup.cpus
    }

    /// TSC ticks in so many microseconds.
    pub fn microseconds(&self, count: u64) -> u64 {
        (u128::from(count) * u128::from(self.setup.tsc_hz) / 1_000_000) as u64
    }

    /// TSC ticks in so many milliseconds.
    pub fn milliseconds(&self, count: u64) -> u64 {
        self.microseconds(1000 * count)
    }

    /// Lets time pass without using the CPU.
    pub fn sleep(&self, milliseconds: u64) {
        let end = now() + self.milliseconds(milliseconds);
        while now() < end {
            unless(ipc::wait_until(CPtr(slots::JOIN), end), &[Error::TimedOut]);
        }
    }

    /// Looks until `condition` holds; panics after [`LOOKS`] without.
    #[track_caller]
    pub fn until(&self, what: &str, condition: impl FnMut() -> bool) {
        self.until_or(condition, || panic!("waited too long until {what}"));
    }

    /// Looks until `condition` holds; does `otherwise` after [`LOOKS`] without.
    pub fn until_or(&self, mut condition: impl FnMut() -> bool, otherwise: impl FnOnce()) {
        for _ in 0..LOOKS {
            if condition() {
                return;
            }
            let waited = ipc::wait_until(CPtr(slots::JOIN), now() + self.microseconds(LOOK));
            unless(waited, &[Error::TimedOut]);
        }
        otherwise();
    }

    /// Waits for bits of a Notification, looking now and then; panics if none come.
    #[track_caller]
    pub fn bits(&self, notification: CPtr) -> u64 {
        for _ in 0..LOOKS / 50 {
            match ipc::wait_until(notification, now() + self.microseconds(50 * LOOK)) {
                Err(Error::TimedOut) => {}
                bits => return bits.must("bits"),
            }
        }
        panic!("waited too long for bits")
    }

    /// Measures until a measurement is as promised: once where ticks are instructions, else up to [`TRIES`] times, as a
    /// pause of the host's is charged to the thread that runs then. Panics with the last measurement that was not.
    #[track_caller]
    pub fn measured<T: fmt::Debug>(&self, mut measure: impl FnMut() -> Result<(), T>) {
        let tries = if self.setup.icount { 1 } else { TRIES };
        let mut last = None;
        for _ in 0..tries {
            match measure() {
                Ok(()) => return,
                Err(found) => last = Some(found),
            }
        }
        panic!("measured {last:?}, and nothing better in {tries} tries")
    }

    /// An empty slot.
    pub fn slot(&mut self) -> CPtr {
        self.slots(1)
    }

    /// The first of `count` empty slots.
    pub fn slots(&mut self, count: u32) -> CPtr {
        let slot = self.next_slot;
        self.next_slot += count;
        assert!(self.next_slot <= 1 << SLOT_BITS, "the test's CSpace is full");
        CPtr(slot)
    }

    /// Makes an object without a size.
    pub fn make(&mut self, kind: Kind) -> CPtr {
        self.make_sized(kind, 0)
    }

    /// Makes an object of 2^`bits` bytes or slots.
    pub fn make_sized(&mut self, kind: Kind, bits: u32) -> CPtr {
        let slot = self.slot();
        UNTYPED.retype(kind, u64::from(bits), CNODE.0, slot.into_slot(), 1).must("an object");
        slot
    }

    /// Makes an Endpoint.
    pub fn endpoint(&mut self) -> CPtr {
        self.make(Kind::Endpoint)
    }

    /// Makes a Notification.
    pub fn notification(&mut self) -> CPtr {
        self.make(Kind::Notification)
    }

    /// Makes a Frame of `pages` pages, a power of two.
    pub fn frame(&mut self, pages: u64) -> CPtr {
        self.make_sized(Kind::Frame, 12 + pages.ilog2())
    }

    /// Derives a capability.
    pub fn mint(&mut self, from: CPtr, rights: Rights, badge: u64) -> CPtr {
        let slot = self.slot();
        CNODE.mint(slot.into_slot(), CNODE.0, from.into_slot(), rights, badge).must("a mint");
        slot
    }

    /// Deletes the capability in a slot of the test's CSpace.
    pub fn delete(&self, slot: CPtr) {
        CNODE.delete(slot.into_slot()).must("a delete");
    }

    /// Makes an address space with the program and the arena in it.
    pub fn space(&mut self) -> VSpace {
        let vspace = VSpace(self.make_sized(Kind::VSpace, SPACE_BITS));
        self.fill_space(vspace);
        vspace
    }

    /// Maps the program and the arena into a new address space.
    pub fn fill_space(&self, vspace: VSpace) {
        furnish(vspace, &self.setup.program, CPtr(slots::PROGRAM), ARENA).must("furnishing an address space");
    }

    /// Makes a CSpace of 2^`bits` slots.
    pub fn cspace(&mut self, bits: u32) -> CNode {
        CNode(self.make_sized(Kind::CNode, bits))
    }

    /// Copies a capability into another CSpace.
    pub fn give(&self, cnode: CNode, slot: u32, from: CPtr) {
        cnode.copy(u64::from(slot), CNODE.0, from.into_slot()).must("a copy into another CSpace");
    }

    /// A thread to be.
    pub fn thread(&mut self) -> Builder<'_> {
        let cpu = 0;
        let turn = self.milliseconds(10);
        Builder {
            world: self,
            cpu,
            priority: PRIORITY,
            budget: turn,
            period: turn,
            flags: 0,
            passive: false,
            buffer: true,
            memory: UNTYPED,
            vspace: VSPACE,
            cspace: CNODE,
            fault: None,
        }
    }

    /// Waits until a thread's function has returned.
    #[track_caller]
    pub fn join(&self, thread: &Thread) {
        self.until("a thread ends", || thread.is_done());
    }

    /// Waits until a thread is blocked in the kernel.
    #[track_caller]
    pub fn until_blocked(&self, thread: &Thread) {
        self.until("a thread blocks", || thread.state() == BLOCKED);
    }

    /// A thread's registers; it must not be able to run.
    pub fn registers(&self, tcb: Tcb) -> Registers {
        rt::thread::read_registers(tcb).must("reading registers")
    }
}

/// Maps the program's copy and the arena into an address space: Frames by their slots in the caller's CSpace.
pub fn furnish(vspace: VSpace, program: &Program, frame: CPtr, arena: CPtr) -> Result<(), Error> {
    program.map(vspace, frame)?;
    let pages = (1 << arena::BITS) / abi::PAGE_SIZE;
    vspace.map(arena, arena::ADDRESS, 0, pages, MapFlags::WRITE.or(MapFlags::LARGE))
}

/// A slot number as methods want it.
pub trait Slot {
    /// As an argument.
    fn into_slot(self) -> u64;
}

impl Slot for CPtr {
    fn into_slot(self) -> u64 {
        u64::from(self.0)
    }
}

/// States that `Tcb.status` tells.
pub const INACTIVE: u64 = 0;
/// Ready or running.
pub const READY: u64 = 1;
/// Blocked.
pub const BLOCKED: u64 = 2;
/// Out of budget.
pub const THROTTLED: u64 = 3;

/// A thread to be.
#[derive(Debug)]
#[must_use = "nothing runs before it is started"]
pub struct Builder<'w> {
    world: &'w mut World,
    cpu: u64,
    priority: u64,
    budget: u64,
    period: u64,
    flags: u64,
    passive: bool,
    buffer: bool,
    memory: Untyped,
    vspace: VSpace,
    cspace: CNode,
    fault: Option<CPtr>,
}

/// A thread of a test.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// Its Tcb.
    pub tcb: Tcb,
    /// Its SchedContext (of a passive thread: not bound).
    pub context: SchedContext,
    /// Its number.
    pub index: usize,
}

impl Thread {
    /// Whether its function has returned.
    pub fn is_done(&self) -> bool {
        arena::thread(self.index).done.load(core::sync::atomic::Ordering::SeqCst) != 0
    }

    /// Its state, as `Tcb.status` tells it.
    pub fn state(&self) -> u64 {
        self.tcb.status().must("a status")[0]
    }

    /// Its IPC buffer, in the arena.
    pub fn buffer(&self) -> &'static ipc::buffer::Buffer {
        arena::buffer(self.index)
    }
}

impl Builder<'_> {
    /// The CPU it runs on.
    pub fn cpu(self, cpu: u64) -> Self {
        Builder { cpu, ..self }
    }

    /// Its priority.
    pub fn priority(self, priority: u64) -> Self {
        Builder { priority, ..self }
    }

    /// Its budget and period in ticks.
    pub fn budget(self, budget: u64, period: u64) -> Self {
        Builder { budget, period, ..self }
    }

    /// Running out of budget is a fault.
    pub fn fault_when_out(self) -> Self {
        Builder { flags: 1, ..self }
    }

    /// It has no SchedContext of its own.
    pub fn passive(self) -> Self {
        Builder { passive: true, ..self }
    }

    /// It has no IPC buffer as far as the kernel knows.
    pub fn no_buffer(self) -> Self {
        Builder { buffer: false, ..self }
    }

    /// Its Tcb is made of this Untyped; else of the test's.
    pub fn made_of(self, memory: Untyped) -> Self {
        Builder { memory, ..self }
    }

    /// Its address space; else the test's.
    pub fn space(self, vspace: VSpace) -> Self {
        Builder { vspace, ..self }
    }

    /// Its CSpace; else the test's.
    pub fn cspace(self, cspace: CNode) -> Self {
        Builder { cspace, ..self }
    }

    /// Where its faults go (a slot of the test's CSpace); else to the bench, which fails the test.
    pub fn faults_to(self, endpoint: CPtr) -> Self {
        Builder { fault: Some(endpoint), ..self }
    }

    /// Makes it, without starting it.
    pub fn prepare(self) -> Thread {
        let world = self.world;
        let index = world.threads;
        world.threads += 1;
        let tcb = Tcb(world.slot());
        self.memory.retype(Kind::Tcb, 0, CNODE.0, tcb.0.into_slot(), 1).must("a Tcb");
        let context = SchedContext(world.make(Kind::SchedContext));
        arena::thread(index).tcb.store(tcb.0.into_slot(), core::sync::atomic::Ordering::SeqCst);
        let frame = if self.buffer { ARENA } else { CPtr::NULL };
        tcb.configure(self.cspace.0, self.vspace.0, frame, arena::buffer_offset(index)).must("configuring");
        let fault =
            self.fault.unwrap_or_else(|| world.mint(CPtr(slots::BENCH), Rights::ALL, index as u64 + 1));
        tcb.set_fault_handler(fault).must("a fault handler");
        SCHED_CONTROL.configure(context.0, self.cpu, self.budget, self.period, self.flags).must("time");
        SCHED_CONTROL.set_priority(tcb.0, self.priority).must("a priority");
        if !self.passive {
            context.bind(tcb.0).must("binding a SchedContext");
        }
        Thread { tcb, context, index }
    }

    /// Makes it and lets it run `body`.
    pub fn start<F: Fn() + Copy + Send + 'static>(self, body: F) -> Thread {
        let thread = self.prepare();
        thread.run(body);
        thread
    }
}

impl Thread {
    /// Lets it run `body` from the start; it must not be running.
    pub fn run<F: Fn() + Copy + Send + 'static>(&self, body: F) {
        arena::thread(self.index).done.store(0, core::sync::atomic::Ordering::SeqCst);
        let registers = self.entry(body);
        rt::thread::write_registers(self.tcb, &registers, true).must("starting a thread");
    }

    /// The registers with which it would run `body`.
    pub fn entry<F: Fn() + Copy + Send + 'static>(&self, body: F) -> Registers {
        const { assert!(size_of::<F>() as u64 <= arena::CLOSURE && align_of::<F>() <= 16) };
        let place = arena::closure(self.index) as *mut F;
        // SAFETY: the place is this thread's alone, large enough and aligned; the thread does not run yet.
        unsafe { place.write(body) };
        Registers {
            rip: enter::<F> as *const () as u64,
            rsp: arena::stack_top(self.index) - 8,
            rdi: place as u64,
            rsi: self.index as u64,
            gs_base: arena::ADDRESS + arena::buffer_offset(self.index),
            ..Registers::default()
        }
    }
}

/// Where a thread begins.
extern "C" fn enter<F: Fn()>(body: *const F, index: u64) -> ! {
    // SAFETY: `Thread::entry` has put it there for this thread.
    let body = unsafe { &*body };
    body();
    arena::thread(index as usize).done.store(1, core::sync::atomic::Ordering::SeqCst);
    // A thread with another CSpace cannot; who waits for it looks now and then.
    unless(ipc::signal(CPtr(slots::JOIN)), &[Error::NoCapability, Error::WrongKind, Error::NoRights]);
    finish()
}

/// Ends a thread: the bench knows this instruction, and stops whoever faults here.
#[unsafe(naked)]
pub extern "C" fn finish() -> ! {
    core::arch::naked_asm!("ud2")
}

/// Where a test's first thread begins.
pub extern "C" fn enter_test() -> ! {
    // SAFETY: the bench has written it before it started this thread.
    let setup = unsafe { *arena::setup() };
    let mut world = World::new(setup);
    setup.run.perform(&mut world);
    arena::thread(0).done.store(1, core::sync::atomic::Ordering::SeqCst);
    finish()
}

/// The registers a test's first thread starts with.
pub fn first_registers() -> Registers {
    Registers {
        rip: enter_test as *const () as u64,
        rsp: arena::stack_top(0) - 8,
        gs_base: arena::ADDRESS + arena::buffer_offset(0),
        ..Registers::default()
    }
}

const _: () = assert!(size_of::<IpcBuffer>() == 1024);
