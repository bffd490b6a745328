//! A whole system on the host: memory, CPUs, a kernel, and a root thread that holds all of it.
//!
//! What the kernel's entry code does on a real machine (microkernel/src/entry.rs, asm/fastpath.s) is done here
//! by [`World::syscall`], [`World::interrupt`] and the like, step for step.

use std::cell::Cell;

use abi::message::REGISTER_WORDS;
use abi::{CPtr, Error, Kind, MsgInfo, Rights, Syscall};
use objects::endpoint::Endpoint;
use objects::memory::{Buffer, Memory, Table};
use objects::sched_context::SchedContext;
use objects::slot::{Capability, Flags};
use objects::tcb::{State, slots as thread_slots};
use objects::{Cpu, Kernel, Ref, Slot, Tcb, tree};

use crate::machine::{self, Fake};

/// Physical address of the first byte of memory.
pub const MEMORY_START: u64 = 1 << 32;
/// Physical address of the device memory, which is not there.
pub const DEVICE_START: u64 = 1 << 40;
/// log2 of its bytes.
pub const DEVICE_BITS: u8 = 32;
/// Ticks of a turn.
pub const TURN: u64 = 10_000;
/// The priority threads start with.
pub const PRIORITY: u8 = 100;

/// Slots of the root thread's CSpace that are filled at first.
pub mod root {
    pub const CNODE: u32 = 2;
    pub const UNTYPED: u32 = 3;
    pub const TCB: u32 = 4;
    pub const CONTEXT: u32 = 5;
    pub const SCHED_CONTROL: u32 = 6;
    pub const IRQ_CONTROL: u32 = 7;
    pub const IO_PORT: u32 = 8;
    pub const SYSTEM: u32 = 9;
    pub const DEVICE: u32 = 10;
    pub const VSPACE: u32 = 11;
    pub const BUFFER: u32 = 12;
    pub const IO_CONTROL: u32 = 13;
    /// The first that is free.
    pub const FREE: u32 = 14;
}

/// A page of memory.
#[repr(C, align(4096))]
struct Page([Cell<u8>; 4096]);

/// How a system is made.
#[derive(Clone, Copy)]
pub struct Size {
    pub cpus: usize,
    /// log2 of the root thread's CSpace.
    pub slots: u32,
    /// log2 of the bytes of its Untyped.
    pub untyped: u32,
}

/// What a system call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It ended.
    With(Result<Message, Error>),
    /// The thread waits, or is no more.
    Blocked,
}

/// What a thread finds in its registers after a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub badge: u64,
    pub info: MsgInfo,
    pub words: [u64; REGISTER_WORDS],
}

/// A system.
pub struct World {
    pub kernel: &'static Kernel<Fake>,
    pub machine: &'static machine::State,
    pub cpus: &'static [Cpu],
    pub memory: Memory,
    /// Window addresses of the first and after the last byte of memory.
    pub window: (u64, u64),
    pub root: Ref<Tcb>,
    cnode: u64,
    next_slot: Cell<u32>,
    /// Whether the fast path is tried first.
    pub fast: Cell<bool>,
}

impl World {
    /// A system with one CPU and room for everything.
    pub fn new() -> World {
        World::with_cpus(1)
    }

    pub fn with_cpus(cpus: usize) -> World {
        World::of_size(Size { cpus, slots: 9, untyped: 22 })
    }

    pub fn of_size(size: Size) -> World {
        let pages = 2 * (1usize << (size.untyped - 12));
        let arena = Box::leak(Box::<[Page]>::new_uninit_slice(pages));
        for page in arena.iter_mut() {
            // Old content that nobody must ever see.
            page.write(Page([const { Cell::new(0xa5) }; 4096]));
        }
        let start = arena.as_ptr().addr() as u64;
        // SAFETY: the arena lives as long as the kernel (see `drop`), which alone uses it.
        let memory = unsafe { Memory::new(start.wrapping_sub(MEMORY_START)) };
        let machine = Box::leak(Box::new(machine::State::new()));
        let cpus: Vec<Cpu> = (0..size.cpus).map(|_| objects::memory::zeroed()).collect();
        let cpus = Box::leak(cpus.into_boxed_slice());
        let kernel = Box::leak(Box::new(Kernel::new(Fake(machine), memory, cpus)));
        kernel.tsc_hz.set(1_000_000_000);
        let window = (start, start + (pages as u64) * 4096);
        World::found(kernel, machine, cpus, memory, window, size)
    }

    /// Makes the root thread by hand, as `Kernel::boot` does in earnest.
    fn found(
        kernel: &'static Kernel<Fake>,
        machine: &'static machine::State,
        cpus: &'static [Cpu],
        memory: Memory,
        window: (u64, u64),
        size: Size,
    ) -> World {
        let untyped = MEMORY_START + (1 << size.untyped);
        let mut next = MEMORY_START;
        let mut take = |bits: u32| {
            let at = next.next_multiple_of(1 << bits);
            next = at + (1 << bits);
            assert!(next <= untyped);
            memory.clear(at, 1 << bits);
            at
        };
        let kernel_root = take(12);
        machine.kernel_root.set(kernel_root);
        kernel.root.set(kernel_root);
        kernel.kernel_entries[0].set(0xaaaa_0001);
        kernel.kernel_entries[1].set(0xbbbb_0001);
        kernel.start_cpus(size.cpus);
        for cpu in cpus {
            machine.load_root_on(cpu.number.get(), kernel_root);
        }
        let cnode_at = memory.address(take(size.slots + 6));
        let slot = |at: u32| Ref::<Slot>::at(cnode_at + 64 * u64::from(at)).unwrap();
        let fill = |at: u32, capability: Capability| {
            slot(at).fill(capability);
            tree::insert(Ref::of(&kernel.universe), slot(at));
        };
        let owner =
            |kind, at, bits: u8| Capability { bits, flags: Flags::OWNER, ..Capability::whole(kind, at) };
        fill(root::CNODE, owner(Kind::CNode, cnode_at, size.slots as u8));
        let memory_cap = Capability { bits: size.untyped as u8, ..Capability::whole(Kind::Untyped, untyped) };
        fill(root::UNTYPED, memory_cap);
        let device = Capability::whole(Kind::Untyped, DEVICE_START);
        fill(root::DEVICE, Capability { bits: DEVICE_BITS, flags: Flags::DEVICE, ..device });
        let tcb: Ref<Tcb> = memory.object(take(11)).unwrap();
        Tcb::init(tcb, kernel_root);
        fill(root::TCB, owner(Kind::Tcb, tcb.address(), 11));
        let context: Ref<SchedContext> = memory.object(take(7)).unwrap();
        fill(root::CONTEXT, owner(Kind::SchedContext, context.address(), 7));
        for (at, kind, badge) in [
            (root::SCHED_CONTROL, Kind::SchedControl, 255),
            (root::IRQ_CONTROL, Kind::IrqControl, 0),
            (root::IO_PORT, Kind::IoPort, objects::io_port::ALL_PORTS),
            (root::SYSTEM, Kind::System, 0),
            (root::IO_CONTROL, Kind::IoControl, 0),
        ] {
            fill(at, Capability { badge, ..Capability::whole(kind, 0) });
        }
        let buffer = take(12);
        fill(root::BUFFER, owner(Kind::Frame, buffer, 12));
        for (index, from) in [(thread_slots::CSPACE, root::CNODE), (thread_slots::BUFFER, root::BUFFER)] {
            let own = tcb.slot(index).unwrap();
            let mut capability = slot(from).capability();
            capability.flags = Flags::empty();
            own.fill(capability);
            tree::insert(slot(from), own);
        }
        tcb.cspace.set(cnode_at);
        tcb.cspace_slots.set(1 << size.slots);
        tcb.buffer.set(memory.address(buffer));
        tcb.priority.set(PRIORITY);
        for cell in [&context.budget, &context.period, &context.left] {
            cell.set(TURN);
        }
        context.tcb.set(Some(tcb));
        tcb.sched_context.set(Some(context));
        tcb.runs_on.set(Some(context));
        let world = World {
            kernel,
            machine,
            cpus,
            memory,
            window,
            root: tcb,
            cnode: cnode_at,
            next_slot: Cell::new(root::FREE),
            fast: Cell::new(false),
        };
        kernel.ready(&cpus[0], tcb);
        world.look(0);
        assert_eq!(cpus[0].thread(), tcb);
        kernel.verify();
        world
    }

    // What the root thread's CSpace holds.

    /// A slot of the root thread's CSpace.
    pub fn slot(&self, cptr: u32) -> Ref<Slot> {
        Ref::at(self.cnode + 64 * u64::from(cptr)).unwrap()
    }

    /// A slot of the CNode in slot `cnode`.
    pub fn slot_of(&self, cnode: u32, at: u64) -> Ref<Slot> {
        self.kernel.slot_at(self.slot(cnode).object.get(), at).unwrap()
    }

    /// An empty slot that was never handed out before.
    pub fn free_slot(&self) -> u32 {
        self.free_slots(1)
    }

    /// The first of `count` such.
    pub fn free_slots(&self, count: u32) -> u32 {
        let first = self.next_slot.get();
        self.next_slot.set(first + count);
        first
    }

    pub fn tcb(&self, cptr: u32) -> Ref<Tcb> {
        assert_eq!(self.slot(cptr).kind.get(), Kind::Tcb);
        Ref::at(self.slot(cptr).object.get()).unwrap()
    }

    pub fn endpoint(&self, cptr: u32) -> Ref<Endpoint> {
        Ref::at(self.slot(cptr).object.get()).unwrap()
    }

    pub fn context(&self, cptr: u32) -> Ref<SchedContext> {
        Ref::at(self.slot(cptr).object.get()).unwrap()
    }

    // Entries to the kernel.

    /// What every entry ends with.
    fn leave(&self, here: &Cpu) {
        self.leave_from(here, here.root.get());
    }

    /// The same where the root table `root` is the one loaded.
    pub fn leave_from(&self, here: &Cpu, root: u64) {
        let (number, wanted) = (here.number.get(), here.thread().cr3.get());
        if root != wanted {
            self.machine.load_root_on(number, wanted);
        }
        assert_eq!(self.machine.roots[number].get(), wanted, "an address space that is not the thread's");
    }

    /// The CPU takes the lock and finds out whether its thread is still its own.
    fn lock(&self, number: usize) -> (&'static Cpu, bool) {
        let here = &self.cpus[number];
        self.machine.here.set(number);
        self.machine.pokes.set(self.machine.pokes.get() & !(1 << number));
        let abandoned = here.abandoned.replace(false);
        (here, abandoned)
    }

    fn begin(&self, number: usize) -> (&'static Cpu, bool) {
        let (here, abandoned) = self.lock(number);
        let halted = self.machine.halted.get();
        if !abandoned || here.is_idle() {
            self.kernel.enter(here);
            if halted & 1 << number != 0 {
                here.root.set(self.kernel.root.get());
            }
        }
        self.machine.halted.set(halted & !(1 << number));
        (here, abandoned)
    }

    fn end(&self, here: &Cpu) {
        self.kernel.schedule(here);
        self.leave(here);
    }

    /// The CPU looks at its queues (an IPI).
    pub fn look(&self, cpu: usize) {
        let asked = (self.machine.pokes.get() | self.machine.halted.get()) & 1 << cpu != 0;
        let (here, _) = self.begin(cpu);
        if asked {
            self.kernel.arm(here);
        }
        self.end(here);
    }

    /// Every CPU that was asked to look does so.
    pub fn answer_pokes(&self) {
        let mut looks = 0;
        while let Some(cpu) = self.poked() {
            self.look(cpu);
            looks += 1;
            assert!(looks < 1_000, "CPUs that poke each other for ever");
        }
    }

    pub fn poked(&self) -> Option<usize> {
        let asked = self.machine.pokes.get() | self.machine.halted.get();
        (asked != 0).then(|| asked.trailing_zeros() as usize)
    }

    /// The timer of `cpu` strikes.
    pub fn tick(&self, cpu: usize) {
        let (here, _) = self.begin(cpu);
        self.machine.timers[cpu].set(u64::MAX);
        self.kernel.tick(here);
        self.end(here);
    }

    /// Time goes by; each timer that is due strikes, on its time.
    pub fn pass(&self, ticks: u64) {
        let until = self.machine.now.get() + ticks;
        for strikes in 0.. {
            assert!(strikes < 100_000, "a timer that strikes for ever");
            let due = (0..self.cpus.len()).min_by_key(|&cpu| self.machine.timers[cpu].get()).unwrap();
            let at = self.machine.timers[due].get();
            if at > until {
                break;
            }
            self.machine.now.set(self.machine.now.get().max(at));
            self.tick(due);
            self.answer_pokes();
        }
        self.machine.now.set(until);
    }

    /// A device interrupts `cpu`.
    pub fn interrupt(&self, cpu: usize, vector: u8) {
        let (here, _) = self.begin(cpu);
        self.kernel.interrupt(here, vector);
        self.end(here);
    }

    /// The current thread of `cpu` meets an exception.
    pub fn fault(&self, cpu: usize, what: [u64; 3]) {
        let (here, abandoned) = self.begin(cpu);
        assert!(!here.is_idle(), "a fault on an idle CPU");
        here.thread().interrupted.set(true);
        if !abandoned {
            self.kernel.fault(here, what);
        }
        self.end(here);
    }

    /// The current thread of `cpu` makes the system call that is in its registers. True: it gave way, and the
    /// thread stands before the call again.
    pub fn trap(&self, cpu: usize) -> bool {
        let here = &self.cpus[cpu];
        let me = here.thread();
        assert!(!here.is_idle(), "a system call on an idle CPU");
        me.context.rip.set(me.context.rip.get() + 2);
        if here.abandoned.get() {
            // Another CPU took the thread away while it waited for the lock: the call was never made.
            me.context.rip.set(me.context.rip.get() - 2);
            self.look(cpu);
            return true;
        }
        if self.fast.get() && crate::fastpath::take(self, here) {
            return false;
        }
        self.lock(cpu);
        let gave_way = self.kernel.syscall(here);
        if gave_way {
            if !here.is_idle() {
                self.kernel.enter(here);
                self.kernel.give_way(here);
            }
            here.root.set(self.kernel.root.get());
            self.machine.load_root_on(cpu, self.kernel.root.get());
            self.look(cpu);
        } else {
            self.leave(here);
        }
        gave_way
    }

    /// Makes `tcb` the current thread of its CPU, past its turn; no more urgent thread may be ready.
    pub fn run(&self, tcb: Ref<Tcb>) {
        self.answer_pokes();
        let here = &self.cpus[tcb.cpu()];
        if here.thread() == tcb {
            return;
        }
        assert_eq!(tcb.state.get(), State::Ready, "a thread that cannot run");
        let (here, _) = self.begin(here.number.get());
        self.kernel.give_way(here);
        here.dequeue(tcb);
        here.current.set(Some(tcb));
        self.end(here);
        assert_eq!(here.thread(), tcb, "a thread of higher priority is ready");
    }

    // System calls as a thread.

    /// Sets a thread's registers for a system call.
    pub fn prepare(&self, tcb: Ref<Tcb>, which: Syscall, cap: u64, info: u64, words: [u64; REGISTER_WORDS]) {
        tcb.context.rax.set(u64::from(which.number()));
        tcb.context.rdx.set(cap);
        tcb.context.rsi.set(info);
        tcb.set_words(words);
    }

    /// What a thread finds after its system call.
    pub fn result(&self, tcb: Ref<Tcb>) -> Result<Message, Error> {
        let status = tcb.context.rax.get();
        if status != 0 {
            return Err(Error::from_status(status).unwrap_or_else(|| panic!("status {status:#x}")));
        }
        Ok(Message { badge: tcb.context.rdx.get(), info: MsgInfo(tcb.context.rsi.get()), words: tcb.words() })
    }

    /// `tcb` makes a system call, again and again while it gives way.
    pub fn syscall(
        &self,
        tcb: Ref<Tcb>,
        which: Syscall,
        cap: u64,
        info: u64,
        words: [u64; REGISTER_WORDS],
    ) -> Done {
        self.run(tcb);
        self.prepare(tcb, which, cap, info, words);
        for _ in 0..100_000 {
            if !self.trap(tcb.cpu()) {
                self.answer_pokes();
                crate::invariants::check(self);
                return match tcb.state.get() {
                    State::Ready | State::Throttled => Done::With(self.result(tcb)),
                    _ => Done::Blocked,
                };
            }
            self.kernel.verify();
            if tcb.state.get() != State::Ready {
                return Done::Blocked;
            }
            self.run(tcb);
        }
        panic!("a system call that gives way for ever");
    }

    /// `tcb` calls a method.
    pub fn invoke_as(&self, tcb: Ref<Tcb>, cap: u32, method: u32, args: &[u64]) -> Result<[u64; 8], Error> {
        let mut words = [0; REGISTER_WORDS];
        words[..args.len()].copy_from_slice(args);
        match self.syscall(tcb, Syscall::invoke, u64::from(cap), u64::from(method), words) {
            Done::With(result) => result.map(|message| message.words),
            Done::Blocked => panic!("a method that does not return"),
        }
    }

    /// The root thread calls a method.
    pub fn invoke(&self, cap: u32, method: u32, args: &[u64]) -> Result<[u64; 8], Error> {
        self.invoke_as(self.root, cap, method, args)
    }

    // What the root thread commonly does.

    /// Makes an object from the Untyped `from`.
    pub fn try_make(&self, from: u32, kind: Kind, bits: u64, slot: u32) -> Result<u32, Error> {
        let args = [kind as u64, bits, u64::from(root::CNODE), u64::from(slot), 1];
        self.invoke(from, abi::table::method::Untyped::retype, &args).map(|_| slot)
    }

    pub fn make_from(&self, from: u32, kind: Kind, bits: u64) -> u32 {
        self.try_make(from, kind, bits, self.free_slot()).unwrap()
    }

    pub fn make(&self, kind: Kind, bits: u64) -> u32 {
        self.make_from(root::UNTYPED, kind, bits)
    }

    pub fn mint(&self, from: u32, rights: Rights, badge: u64) -> Result<u32, Error> {
        let to = self.free_slot();
        let args = [u64::from(to), u64::from(root::CNODE), u64::from(from), u64::from(rights.0), badge];
        self.invoke(root::CNODE, abi::table::method::CNode::mint, &args).map(|_| to)
    }

    pub fn delete(&self, slot: u32) {
        self.invoke(root::CNODE, abi::table::method::CNode::delete, &[u64::from(slot)]).unwrap();
    }

    pub fn revoke(&self, slot: u32) {
        self.invoke(root::CNODE, abi::table::method::CNode::revoke, &[u64::from(slot)]).unwrap();
    }

    /// A VSpace that threads can be configured with; nobody looks into it.
    pub fn vspace(&self) -> u32 {
        if self.slot(root::VSPACE).is_empty() {
            self.try_make(root::UNTYPED, Kind::VSpace, 16, root::VSPACE).unwrap();
        }
        root::VSPACE
    }

    /// A thread without a SchedContext that shares the root thread's CSpace, made from `from`.
    pub fn passive_from(&self, from: u32) -> (u32, Ref<Tcb>) {
        let (space, cap, buffer) =
            (self.vspace(), self.make_from(from, Kind::Tcb, 0), self.make_from(from, Kind::Frame, 12));
        let tcb = self.tcb(cap);
        let args = [root::CNODE, space, buffer, 0].map(u64::from);
        self.invoke(cap, abi::table::method::Tcb::configure, &args).unwrap();
        self.set_priority(cap, PRIORITY);
        self.invoke(cap, abi::table::method::Tcb::resume, &[]).unwrap();
        (cap, tcb)
    }

    pub fn passive(&self) -> (u32, Ref<Tcb>) {
        self.passive_from(root::UNTYPED)
    }

    pub fn set_priority(&self, cap: u32, priority: u8) {
        let args = [u64::from(cap), u64::from(priority)];
        self.invoke(root::SCHED_CONTROL, abi::table::method::SchedControl::set_priority, &args).unwrap();
    }

    /// A SchedContext, made from `from`.
    pub fn budget_from(&self, from: u32, cpu: usize, budget: u64, period: u64) -> u32 {
        let cap = self.make_from(from, Kind::SchedContext, 0);
        let args = [u64::from(cap), cpu as u64, budget, period, 0];
        self.invoke(root::SCHED_CONTROL, abi::table::method::SchedControl::configure, &args).unwrap();
        cap
    }

    pub fn bind(&self, context: u32, tcb: u32) {
        self.invoke(context, abi::table::method::SchedContext::bind, &[u64::from(tcb)]).unwrap();
    }

    /// A thread with a SchedContext of its own (in turns) on `cpu`: its capability and the SchedContext's.
    pub fn active_on(&self, cpu: usize) -> (u32, u32, Ref<Tcb>) {
        let (cap, tcb) = self.passive();
        let context = self.budget_from(root::UNTYPED, cpu, TURN, TURN);
        self.bind(context, cap);
        (cap, context, tcb)
    }

    pub fn thread(&self) -> Ref<Tcb> {
        self.active_on(0).2
    }

    /// The thread at a physical address.
    pub fn tcb_at(&self, physical: u64) -> Ref<Tcb> {
        self.memory.object(physical).unwrap()
    }

    /// The IPC buffer of the thread there.
    pub fn buffer_at(&self, physical: u64) -> Buffer {
        self.buffer(self.tcb_at(physical))
    }

    /// The IPC buffer of a thread.
    pub fn buffer(&self, tcb: Ref<Tcb>) -> Buffer {
        tcb.ipc_buffer().unwrap()
    }

    // Messages.

    pub fn call(&self, tcb: Ref<Tcb>, cap: u32, label: u32, word: u64) -> Done {
        self.syscall(tcb, Syscall::call, u64::from(cap), MsgInfo::plain(label).0, [word, 0, 0, 0, 0, 0, 0, 0])
    }

    pub fn send(&self, tcb: Ref<Tcb>, cap: u32, word: u64) -> Done {
        self.syscall(tcb, Syscall::send, u64::from(cap), 0, [word, 0, 0, 0, 0, 0, 0, 0])
    }

    pub fn recv(&self, tcb: Ref<Tcb>, cap: u32) -> Done {
        self.syscall(tcb, Syscall::recv, u64::from(cap), 0, [0; 8])
    }

    /// Receives with the Reply `reply`.
    pub fn recv_with(&self, tcb: Ref<Tcb>, cap: u32, reply: u32) -> Done {
        self.syscall(tcb, Syscall::recv, u64::from(cap) | u64::from(reply) << 32, 0, [0; 8])
    }

    pub fn reply(&self, tcb: Ref<Tcb>, word: u64) -> Done {
        self.syscall(tcb, Syscall::reply, 0, 0, [word, 0, 0, 0, 0, 0, 0, 0])
    }

    pub fn reply_recv(&self, tcb: Ref<Tcb>, cap: u32, word: u64) -> Done {
        self.syscall(tcb, Syscall::reply_recv, u64::from(cap), 0, [word, 0, 0, 0, 0, 0, 0, 0])
    }

    pub fn signal(&self, tcb: Ref<Tcb>, cap: u32) -> Done {
        self.syscall(tcb, Syscall::signal, u64::from(cap), 0, [0; 8])
    }

    pub fn wait(&self, tcb: Ref<Tcb>, cap: u32) -> Done {
        self.syscall(tcb, Syscall::wait, u64::from(cap), 0, [0; 8])
    }

    /// The first word that a finished receive or call brought.
    pub fn word(&self, tcb: Ref<Tcb>) -> Result<u64, Error> {
        assert_eq!(tcb.state.get(), State::Ready, "it still waits");
        self.result(tcb).map(|message| message.words[0])
    }

    // User memory.

    /// The leaf entry for `address` under the root table `root`, as the processor would find it.
    pub fn walk(&self, root: u64, address: u64) -> Option<u64> {
        let mut table = root;
        for level in (0..4).rev() {
            let shift = 12 + 9 * level;
            let found = self.memory.object::<Table>(table)?;
            let entry = found.get()[(address >> shift) as usize & 511].get();
            if entry & 1 == 0 {
                return None;
            }
            if level == 0 || level < 3 && entry & 1 << 7 != 0 {
                let page = address & ((1 << shift) - 1) & !0xfff;
                return Some((entry & !(((1 << shift) - 1) & 0x000f_ffff_ffff_f000)) | page);
            }
            table = entry & 0x000f_ffff_ffff_f000;
        }
        None
    }

    /// The current thread of `cpu` reads at `address`: the entry that its CPU uses, cached or found.
    pub fn touch(&self, cpu: usize, address: u64) -> Option<u64> {
        let page = address & !0xfff;
        if let Some(&entry) = self.machine.tlbs[cpu].borrow().get(&page) {
            return Some(entry);
        }
        let entry = self.walk(self.machine.roots[cpu].get(), page)?;
        self.machine.tlbs[cpu].borrow_mut().insert(page, entry);
        Some(entry)
    }

    /// Every cached translation is still true.
    pub fn check_tlbs(&self) {
        for cpu in 0..self.cpus.len() {
            let root = self.machine.roots[cpu].get();
            for (&page, &entry) in self.machine.tlbs[cpu].borrow().iter() {
                assert_eq!(self.walk(root, page), Some(entry), "CPU {cpu} keeps a stale page {page:#x}");
            }
        }
    }

    /// The device `source` reaches for `address`: the physical address it gets to. What was stopped is told on
    /// CPU 0.
    pub fn dma(&self, source: u16, address: u64, write: bool) -> Option<u64> {
        let reached = self.machine.iommu.reach(self.memory, source, address, write);
        let (here, _) = self.begin(0);
        self.kernel.take_faults(here);
        self.end(here);
        reached
    }

    /// No device is under an IoSpace that is gone, or reaches by the IOMMU's memory what the tables do not have.
    pub fn check_devices(&self, living: &std::collections::BTreeSet<u64>) {
        for space in self.kernel.devices.iter().filter_map(|device| device.space.get()) {
            assert!(living.contains(&(space.address() - abi::PAGE_SIZE)), "a device is under a dead IoSpace");
            assert!(space.is_io());
        }
        self.machine.iommu.check(self.memory);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let pages = (self.window.1 - self.window.0) as usize / 4096;
        let arena = core::ptr::slice_from_raw_parts_mut(self.window.0 as *mut Page, pages);
        // SAFETY: made by Box::leak in `of_size`; with the World goes whoever could name it.
        drop(unsafe { Box::from_raw(arena) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(core::ptr::from_ref(self.kernel).cast_mut()) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(core::ptr::from_ref(self.cpus).cast_mut()) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(core::ptr::from_ref(self.machine).cast_mut()) });
    }
}

/// A capability pointer as an argument.
pub const NONE: u64 = CPtr::NULL.0 as u64;
