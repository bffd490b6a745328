//! A thread.

use core::cell::Cell;

use abi::message::REGISTER_WORDS;
use abi::{Error, Kind, MsgInfo, Registers, Rights, USER_TOP};

use crate::cpu::Cpu;
use crate::delete::Graves;
use crate::kernel::{Call, Kernel, Outcome, Stop, Words};
use crate::local::Watched;
use crate::machine::Machine;
use crate::memory::{Buffer, Ref};
use crate::notification::Notification;
use crate::reply::Reply;
use crate::sched_context::SchedContext;
use crate::slot::{Home, Slot};
use crate::timer::TimerNode;

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Not to run: new, suspended, or without what it needs.
    Inactive = 0,
    /// Running, or ready and in its CPU's ready queue (if it has a SchedContext to run on).
    Ready = 1,
    /// Waits for a receiver, with a message that asks for no answer.
    Sending = 2,
    /// Waits for a receiver, with a call.
    Calling = 3,
    /// Waits for a receiver, with a fault.
    Faulting = 4,
    /// Waits for the answer to a call.
    Answer = 5,
    /// Waits for the answer to a fault.
    FaultAnswer = 6,
    /// Waits for a message.
    Receiving = 7,
    /// Waits for a Notification.
    Waiting = 8,
    /// Ready, but out of budget until its timer.
    Throttled = 9,
}

/// Bits of [`Tcb::key`] above the CPU number: the fast path leaves such a thread alone.
pub mod key {
    /// The answer to this thread's call has something to it (owed budget, another CPU, no GRANT).
    pub const SLOW_ANSWER: u32 = 0x100;
    /// Its receive has a deadline.
    pub const DEADLINE: u32 = 0x200;
    /// It receives with a Reply that is not its own.
    pub const OTHER_REPLY: u32 = 0x400;
    /// Its call is where a walk along a chain of calls stands (see [`Kernel::approach`]).
    pub const WALKED: u32 = 0x800;
    /// Bits of the CPU number.
    pub const CPU_MASK: u32 = 0xff;
}

/// The integer registers, in the order in which the entry code saves them.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Context {
    /// Instruction pointer.
    pub rip: Cell<u64>,
    /// Stack pointer.
    pub rsp: Cell<u64>,
    /// Flags.
    pub rflags: Cell<u64>,
    /// rbx.
    pub rbx: Cell<u64>,
    /// rbp.
    pub rbp: Cell<u64>,
    /// rax: number of the call, status.
    pub rax: Cell<u64>,
    /// rdx: capability, badge.
    pub rdx: Cell<u64>,
    /// rsi: message info.
    pub rsi: Cell<u64>,
    /// rdi r8 r9 r10 r12 r13 r14 r15: the words of a message.
    pub words: [Cell<u64>; REGISTER_WORDS],
    /// rcx.
    pub rcx: Cell<u64>,
    /// r11.
    pub r11: Cell<u64>,
}

/// Bytes of the vector save area: x87, SSE, header and AVX (SDM vol. 1, 13.4).
pub const VECTOR_AREA: usize = 832;

/// A thread: 2 KiB.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Tcb {
    /// Its own Reply. (First, so that its address is the thread's: the fast path uses that.)
    pub reply: Reply,
    /// Integer registers while it does not run.
    pub context: Context,
    /// FS base while it does not run.
    pub fs_base: Cell<u64>,
    /// GS base while it does not run.
    pub gs_base: Cell<u64>,
    /// Slots of its CSpace: their address and how many (0: no CSpace).
    pub cspace: Cell<u64>,
    /// See `cspace`.
    pub cspace_slots: Cell<u64>,
    /// Physical address of its root table; the kernel's own while it has no VSpace.
    pub cr3: Cell<u64>,
    /// CPU number and [`key`] bits: equal to the CPU number when the fast path may switch to the thread.
    pub key: Watched,
    /// What it is doing.
    pub state: Cell<State>,
    /// Whether `context` is all registers at an interrupt or fault (restored with the vector state by IRET),
    /// or those of a system call (restored by SYSRET).
    pub interrupted: Cell<bool>,
    /// Priority, 0 to 255.
    pub priority: Cell<u8>,
    /// Whether it has a VSpace capability.
    pub has_vspace: Cell<bool>,
    /// Whether its bound Notification may have bits (a hint: the fast path looks only here).
    pub bound_pending: Cell<bool>,
    /// Next in the queue it is in.
    pub queue_next: Cell<Option<Ref<Tcb>>>,
    /// Previous in the queue; stale in the first.
    pub queue_prev: Cell<Option<Ref<Tcb>>>,
    /// The Endpoint, Notification or Reply it waits on, by its address; stale while it does not wait.
    pub blocked_on: Cell<u64>,
    /// Where foreign system calls enter its library; 0 for nowhere.
    pub foreign_entry: Cell<u64>,
    /// Its IPC buffer in the window; 0 for none.
    pub buffer: Cell<u64>,
    /// Where kicks enter its library.
    pub kick_entry: Cell<u64>,
    /// The Reply it receives into; the own one, or one it named.
    pub receive_reply: Cell<Option<Ref<Reply>>>,
    /// Badge of the capability it sends with.
    pub send_badge: Cell<u64>,
    /// Whether that capability has GRANT.
    pub send_grant: Cell<bool>,
    /// Its own SchedContext.
    pub sched_context: Cell<Option<Ref<SchedContext>>>,
    /// The one it runs on: its own or a lent one. In user code (where the CPU knows) its own; stale while it
    /// waits for an answer.
    pub runs_on: Cell<Option<Ref<SchedContext>>>,
    /// The Notification bound to it.
    pub bound: Cell<Option<Ref<Notification>>>,
    /// Deadline of its wait, end of its throttling, or its place among the senders of an Endpoint.
    pub timer: TimerNode,
    /// The graves it has opened and not emptied yet.
    pub graves: Graves,
    /// Kind, error code, address and rip of the latest exception.
    pub fault: [Cell<u64>; 4],
    /// Whether the handler is still to hear of that before the thread runs: not raised yet, or a trap that is not
    /// answered yet. (A trap is reported behind its instruction, and so cannot strike again by itself.)
    pub pending: Cell<bool>,
    /// Its CSpace, VSpace, IPC buffer and fault handler.
    pub slots: [Slot; 4],
    /// Vector registers while it is interrupted; at an offset that XSAVE's alignment wants.
    pub vectors: VectorArea,
}

/// MXCSR's initial value: all exceptions masked, round to nearest.
const INITIAL_MXCSR: u64 = 0x1f80;
/// Which words of an XSAVE area are MXCSR, and the components that are not in their initial state (SDM vol. 1, 13.4).
const MXCSR: usize = 3;
const COMPONENTS: usize = 64;

/// XSAVE area.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct VectorArea(pub [Cell<u64>; VECTOR_AREA / 8]);

impl VectorArea {
    /// What threads start with: all components initial, but MXCSR, which XRSTOR takes from memory all the same (SDM
    /// vol. 1, 13.8.1).
    pub const fn initial() -> VectorArea {
        let mut words = [const { Cell::new(0) }; VECTOR_AREA / 8];
        words[MXCSR] = Cell::new(INITIAL_MXCSR);
        VectorArea(words)
    }

    /// Makes it the same: nothing else in it is looked at.
    pub fn reset(&self) {
        for (at, value) in [(MXCSR, INITIAL_MXCSR), (COMPONENTS, 0)] {
            self.0.get(at).into_iter().for_each(|word| word.set(value));
        }
    }
}

const _: () = assert!(core::mem::size_of::<Tcb>() <= 2048);
const _: () = assert!(core::mem::offset_of!(Tcb, reply) == 0);

/// Indexes of [`Tcb::slots`].
pub mod slots {
    /// CSpace.
    pub const CSPACE: usize = 0;
    /// VSpace.
    pub const VSPACE: usize = 1;
    /// Frame of the IPC buffer.
    pub const BUFFER: usize = 2;
    /// Fault handler.
    pub const FAULT: usize = 3;
}

/// Flags that a thread may have: status flags, TF, DF, AC, ID. IF and the always-one bit are added.
const USER_FLAGS: u64 = 0x24_0dd5;
/// Always set: bit 1 and IF.
const FIXED_FLAGS: u64 = 0x202;

impl Tcb {
    /// Prepares a Tcb in cleared memory. `root` is the kernel's root table.
    pub fn init(this: Ref<Tcb>, root: u64) {
        this.cr3.set(root);
        this.context.rflags.set(FIXED_FLAGS);
        this.reply.server.set(Some(this));
        this.vectors.reset();
        let homes = [Home::ThreadCSpace, Home::ThreadVSpace, Home::ThreadBuffer, Home::ThreadFault];
        for (slot, home) in this.slots.iter().zip(homes) {
            slot.home.set(home);
            slot.extra.set(this.address());
        }
    }

    /// The CPU it runs on.
    pub fn cpu(&self) -> usize {
        (self.key.get() & key::CPU_MASK) as usize
    }

    /// Moves it to `cpu`; it is in no ready queue.
    pub fn set_cpu(&self, cpu: usize) {
        self.key.set(self.key.get() & !key::CPU_MASK | cpu as u32 & key::CPU_MASK);
    }

    /// Sets or clears [`key`] bits.
    pub fn set_key(&self, bit: u32, on: bool) {
        let key = self.key.get();
        self.key.set(if on { key | bit } else { key & !bit });
    }

    /// Its IPC buffer.
    pub fn ipc_buffer(&self) -> Option<Buffer> {
        Buffer::at(self.buffer.get())
    }

    /// Notes that the thread, which has just left user code, met an exception: kind, error code, address. Its CPU does
    /// so before it waits for the kernel lock: from then on others can stop, move and kick the thread.
    pub fn note_exception(&self, [kind, code, address]: [u64; 3]) {
        let words = [kind, code, address, self.context.rip.get()];
        self.fault.iter().zip(words).for_each(|(cell, word)| cell.set(word));
        self.pending.set(true);
    }

    /// Whether it waits in a queue or for an answer.
    pub fn is_blocked(&self) -> bool {
        !matches!(self.state.get(), State::Inactive | State::Ready | State::Throttled)
    }

    /// Whether it is among the senders of the Endpoint in `blocked_on`.
    pub fn waits_to_send(&self) -> bool {
        matches!(self.state.get(), State::Sending | State::Calling | State::Faulting)
    }

    /// The Reply it waits on, if it waits for an answer.
    pub fn awaits(&self) -> Option<Ref<Reply>> {
        matches!(self.state.get(), State::Answer | State::FaultAnswer)
            .then(|| Ref::at(self.blocked_on.get()))
            .flatten()
    }

    /// Whether it waits with a fault.
    pub fn is_faulted(&self) -> bool {
        matches!(self.state.get(), State::Faulting | State::FaultAnswer)
    }

    /// Whether a CPU could come to run it.
    pub fn is_runnable(&self) -> bool {
        matches!(self.state.get(), State::Ready | State::Throttled)
    }

    /// The message info it sends with.
    pub fn info(&self) -> MsgInfo {
        MsgInfo(self.context.rsi.get())
    }

    /// The words in its registers.
    pub fn words(&self) -> [u64; REGISTER_WORDS] {
        self.context.words.each_ref().map(Cell::get)
    }

    /// Sets them.
    pub fn set_words(&self, words: [u64; REGISTER_WORDS]) {
        for (register, word) in self.context.words.iter().zip(words) {
            register.set(word);
        }
    }

    /// Ends its system call with a status; its other registers stay as they are.
    pub fn finish(&self, status: u64) {
        self.context.rax.set(status);
    }

    /// Ends its wait with the bits of a Notification.
    #[inline(always)]
    pub fn finish_with(&self, bits: u64) {
        let [word, ..] = &self.context.words;
        word.set(bits);
        self.finish(0);
    }

    /// Its registers, in the order of [`Registers::to_words`].
    fn register_cells(&self) -> [&Cell<u64>; Registers::WORDS] {
        let (c, fs, gs) = (&self.context, &self.fs_base, &self.gs_base);
        let [di, r8, r9, r10, r12, r13, r14, r15] = c.words.each_ref();
        let [ax, bx, cx, dx, si, bp, r11] = [&c.rax, &c.rbx, &c.rcx, &c.rdx, &c.rsi, &c.rbp, &c.r11];
        let (ip, sp, flags) = (&c.rip, &c.rsp, &c.rflags);
        [ip, sp, flags, ax, bx, cx, dx, si, di, bp, r8, r9, r10, r11, r12, r13, r14, r15, fs, gs]
    }

    /// Refuses addresses that SYSRET, IRET or WRFSBASE would fault on in the kernel.
    pub fn check_registers(registers: &Registers) -> Result<(), Error> {
        let canonical = |address: u64| (address as i64) << 16 >> 16 == address as i64;
        if registers.rip >= USER_TOP || !canonical(registers.fs_base) || !canonical(registers.gs_base) {
            return Err(Error::InvalidArgument);
        }
        Ok(())
    }

    /// Sets them, if they pass [`Tcb::check_registers`].
    pub fn set_registers(&self, registers: &Registers) -> Result<(), Error> {
        Tcb::check_registers(registers)?;
        let registers = Registers { rflags: registers.rflags & USER_FLAGS | FIXED_FLAGS, ..*registers };
        self.register_cells().iter().zip(registers.to_words()).for_each(|(cell, word)| cell.set(word));
        self.interrupted.set(true);
        Ok(())
    }

    /// The slot with this index.
    pub fn slot(&self, index: usize) -> Option<Ref<Slot>> {
        self.slots.get(index).map(Ref::of)
    }

    /// Whether it is told physical addresses.
    pub fn sees_physical(&self) -> bool {
        self.slot(slots::CSPACE).is_some_and(|cspace| cspace.rights.get().has(Rights::PHYSICAL))
    }

    fn is_configured(&self) -> bool {
        self.has_vspace.get()
    }
}

/// Methods on a Tcb.
impl<M: Machine> Kernel<M> {
    /// Brings `tcb` out of user code if another CPU is running it; its saved registers are then true.
    pub fn settle(&self, here: &Cpu, tcb: Ref<Tcb>) {
        let cpu = tcb.cpu();
        if cpu != here.number.get() && self.cpu(cpu).current.get() == Some(tcb) {
            self.machine.halt(cpu);
        }
    }

    /// Stops a thread wherever it is; a wait that is broken off ends with Cancelled once it is resumed.
    pub fn stop_thread(&self, here: &Cpu, tcb: Ref<Tcb>) {
        self.settle(here, tcb);
        if tcb.is_blocked() {
            let faulted = tcb.is_faulted();
            self.unblock(here, tcb);
            if faulted {
                self.repeat_fault(tcb);
            } else {
                tcb.finish(Error::Cancelled as u64);
            }
        } else if tcb.is_runnable() {
            self.unready(here, tcb);
        }
        tcb.state.set(State::Inactive);
    }

    /// Tcb.configure
    pub(crate) fn tcb_configure(&self, by: Call, [cspace, vspace, buffer, offset, ..]: Words) -> Outcome {
        let tcb = self.tcb_in(by.slot)?;
        let lookup = |cptr, kind, rights| {
            if cptr == 0 { Ok(None) } else { self.find(by.me, cptr, kind, rights).map(Some) }
        };
        let cspace = lookup(cspace, Kind::CNode, Rights::WRITE)?;
        let vspace = lookup(vspace, Kind::VSpace, Rights::WRITE)?;
        let buffer = lookup(buffer, Kind::Frame, Rights::READ.or(Rights::WRITE))?;
        if tcb.is_runnable() {
            return Err(Error::Busy.into());
        }
        if let Some(frame) = buffer {
            let size = abi::message::IPC_BUFFER_SIZE as u64;
            if frame.flags().contains(crate::slot::Flags::DEVICE) || !offset.is_multiple_of(size) {
                return Err(Error::InvalidArgument.into());
            }
            if offset >= frame.size() {
                return Err(Error::OutOfRange.into());
            }
        }
        if vspace.is_some() {
            self.approach_call(tcb)?;
        }
        if let Some(cnode) = cspace {
            self.set_thread_slot(by.here, tcb, slots::CSPACE, cnode);
            tcb.cspace.set(cnode.object.get());
            tcb.cspace_slots.set(cnode.size());
        }
        if let Some(space) = vspace {
            self.set_thread_slot(by.here, tcb, slots::VSPACE, space);
            tcb.cr3.set(self.vspace_root(space));
            tcb.has_vspace.set(true);
        }
        if let Some(frame) = buffer {
            // (They go with a buffer, without which nothing foreign can enter; here there is another at once.)
            let entries = [tcb.foreign_entry.get(), tcb.kick_entry.get()];
            self.set_thread_slot(by.here, tcb, slots::BUFFER, frame);
            let [foreign, kick] = entries;
            tcb.foreign_entry.set(foreign);
            tcb.kick_entry.set(kick);
            tcb.buffer.set(self.memory.address(frame.object.get().wrapping_add(offset)));
        }
        Ok([0; 8])
    }

    /// Puts a capability derived from `from` into one of a thread's own slots, in place of what was there.
    fn set_thread_slot(&self, here: &Cpu, tcb: Ref<Tcb>, index: usize, from: Ref<Slot>) {
        let Some(slot) = tcb.slot(index) else { return };
        self.clear_thread_slot(here, slot);
        self.keep(from, slot);
    }

    /// Empties one of a thread's own slots and what the thread keeps of it.
    pub(crate) fn clear_thread_slot(&self, here: &Cpu, slot: Ref<Slot>) {
        let Some(tcb) = Ref::<Tcb>::at(slot.extra.get()) else { return };
        if slot.is_empty() {
            return;
        }
        self.settle(here, tcb);
        match slot.home.get() {
            Home::ThreadCSpace => tcb.cspace_slots.set(0),
            Home::ThreadBuffer => {
                tcb.buffer.set(0);
                tcb.foreign_entry.set(0);
                tcb.kick_entry.set(0);
            }
            Home::ThreadVSpace => {
                self.stop_thread(here, tcb);
                // (What is in vector registers belongs to the domain that it leaves.)
                tcb.vectors.reset();
                tcb.has_vspace.set(false);
                tcb.cr3.set(self.root.get());
                self.leave_space(here, tcb);
            }
            _ => {}
        }
        crate::tree::remove(slot);
        slot.clear();
    }

    /// Tcb.set_fault_handler
    pub(crate) fn tcb_set_fault_handler(&self, by: Call, [endpoint, ..]: Words) -> Outcome {
        let tcb = self.tcb_in(by.slot)?;
        if endpoint == 0 {
            if let Some(old) = tcb.slot(slots::FAULT) {
                self.clear_thread_slot(by.here, old);
            }
            return Ok([0; 8]);
        }
        let handler = self.find(by.me, endpoint, Kind::Endpoint, Rights::WRITE)?;
        self.set_thread_slot(by.here, tcb, slots::FAULT, handler);
        Ok([0; 8])
    }

    /// Tcb.write_registers
    pub(crate) fn tcb_write_registers(&self, by: Call, [resume, ..]: Words) -> Outcome {
        let tcb = self.tcb_in(by.slot)?;
        let buffer = by.me.ipc_buffer().ok_or(Error::NotConfigured)?;
        if resume > 1 {
            return Err(Error::InvalidArgument.into());
        }
        if tcb.is_runnable() || tcb == by.me {
            return Err(Error::Busy.into());
        }
        if resume == 1 && !tcb.is_configured() {
            return Err(Error::NotConfigured.into());
        }
        let words: [u64; Registers::WORDS] = core::array::from_fn(|at| buffer.word(at));
        let registers = Registers::from_words(&words);
        Tcb::check_registers(&registers)?;
        let fault_answer = tcb.state.get() == State::FaultAnswer;
        if !fault_answer || resume == 1 {
            self.approach_call(tcb)?;
            self.stop_thread(by.here, tcb);
        }
        tcb.set_registers(&registers)?;
        // (What it was in a fault with is overwritten, and will not strike again.)
        tcb.fault.iter().for_each(|word| word.set(0));
        tcb.pending.set(false);
        if resume == 1 {
            self.ready(by.here, tcb);
        }
        Ok([0; 8])
    }

    /// Tcb.read_registers
    pub(crate) fn tcb_read_registers(&self, by: Call, _: Words) -> Outcome {
        let tcb = self.tcb_in(by.slot)?;
        let buffer = by.me.ipc_buffer().ok_or(Error::NotConfigured)?;
        if tcb.is_runnable() {
            return Err(Error::Busy.into());
        }
        for (at, cell) in tcb.register_cells().into_iter().enumerate() {
            buffer.set_word(at, cell.get());
        }
        Ok([0; 8])
    }

    /// Tcb.resume
    pub(crate) fn tcb_resume(&self, by: Call, _: Words) -> Outcome {
        let tcb = self.tcb_in(by.slot)?;
        if !tcb.is_configured() {
            return Err(Error::NotConfigured.into());
        }
        if tcb.state.get() == State::Inactive {
            self.ready(by.here, tcb);
        }
        Ok([0; 8])
    }

    /// Tcb.suspend
    pub(crate) fn tcb_suspend(&self, by: Call, _: Words) -> Outcome {
        let tcb = self.tcb_in(by.slot)?;
        if tcb == by.me {
            by.me.finish(0);
            self.stop_thread(by.here, by.me);
            return Err(Stop::Blocked);
        }
        self.approach_call(tcb)?;
        self.stop_thread(by.here, tcb);
        Ok([0; 8])
    }

    /// Tcb.bind_notification
    pub(crate) fn tcb_bind_notification(&self, by: Call, [notification, ..]: Words) -> Outcome {
        let tcb = self.tcb_in(by.slot)?;
        let found = self.find(by.me, notification, Kind::Notification, Rights::READ)?;
        let notification = self.notification_in(found)?;
        if tcb.bound.get().is_some() || notification.bound.get().is_some() {
            return Err(Error::Busy.into());
        }
        self.settle(by.here, tcb);
        tcb.bound.set(Some(notification));
        tcb.bound_pending.set(notification.bits.get() != 0);
        notification.bound.set(Some(tcb));
        if notification.bits.get() != 0 && tcb.state.get() == State::Receiving {
            self.deliver_bound(by.here, notification, tcb);
        }
        Ok([0; 8])
    }

    /// Tcb.unbind_notification
    pub(crate) fn tcb_unbind_notification(&self, by: Call, _: Words) -> Outcome {
        let tcb = self.tcb_in(by.slot)?;
        if let Some(notification) = tcb.bound.get() {
            notification.unbind();
        }
        Ok([0; 8])
    }

    /// Tcb.set_foreign
    pub(crate) fn tcb_set_foreign(&self, by: Call, [entry, kick_entry, ..]: Words) -> Outcome {
        let tcb = self.tcb_in(by.slot)?;
        if entry >= USER_TOP || kick_entry >= USER_TOP {
            return Err(Error::InvalidArgument.into());
        }
        if tcb.ipc_buffer().is_none() {
            return Err(Error::NotConfigured.into());
        }
        self.settle(by.here, tcb);
        tcb.foreign_entry.set(entry);
        tcb.kick_entry.set(kick_entry);
        Ok([0; 8])
    }

    /// Tcb.kick: redirects user code, also where it waits with a fault; a thread in its library, or waiting in
    /// the kernel, which it entered from there, only gets word.
    pub(crate) fn tcb_kick(&self, by: Call, _: Words) -> Outcome {
        let tcb = self.tcb_in(by.slot)?;
        let Some(buffer) = tcb.ipc_buffer() else { return Err(Error::NotConfigured.into()) };
        if tcb.kick_entry.get() == 0 {
            return Err(Error::NotConfigured.into());
        }
        self.settle(by.here, tcb);
        let waits = tcb.is_blocked() && !tcb.is_faulted();
        if tcb == by.me || buffer.inside() != 0 || !tcb.interrupted.get() || waits {
            buffer.set_kick_pending(1);
            return Ok([0; 8]);
        }
        buffer.set_kick_address(tcb.context.rip.get());
        buffer.set_kick_flags(tcb.context.rflags.get());
        buffer.set_inside(1);
        tcb.context.rip.set(tcb.kick_entry.get());
        if tcb.state.get() == State::Faulting && !tcb.pending.get() {
            // Nobody has heard of the fault: it strikes again when the library returns to it. (A trap would not.)
            self.unblock(by.here, tcb);
            self.ready(by.here, tcb);
        }
        Ok([0; 8])
    }

    /// Tcb.status
    pub(crate) fn tcb_status(&self, by: Call, _: Words) -> Outcome {
        let tcb = self.tcb_in(by.slot)?;
        let state = match tcb.state.get() {
            State::Inactive => 0,
            State::Ready => 1,
            State::Throttled => 3,
            _ => 2,
        };
        let calls = matches!(tcb.state.get(), State::Sending | State::Calling | State::Answer);
        Ok([state, tcb.cpu() as u64, u64::from(tcb.priority.get()), u64::from(calls), 0, 0, 0, 0])
    }

    /// Takes a thread that is being deleted out of everything.
    pub(crate) fn destroy_tcb(&self, here: &Cpu, tcb: Ref<Tcb>) {
        self.stop_thread(here, tcb);
        self.drop_reply(here, Ref::of(&tcb.reply));
        if let Some(lent) = self.loan_of(tcb) {
            // The Reply outlives its server, and whoever has it may answer yet.
            self.owe(lent, tcb.runs_on.take());
        }
        if let Some(reply) = tcb.receive_reply.take() {
            reply.server.set(None);
        }
        if let Some(context) = tcb.sched_context.get() {
            self.unbind_context(here, context);
        }
        if let Some(notification) = tcb.bound.get() {
            notification.unbind();
        }
        for slot in &tcb.slots {
            self.clear_thread_slot(here, Ref::of(slot));
        }
        self.leave_space(here, tcb);
        self.bequeath_graves(tcb);
    }

    /// If a CPU still counts `tcb` as its current thread, that CPU turns to its idle thread now: the address
    /// space or the Tcb itself is about to go.
    pub(crate) fn leave_space(&self, here: &Cpu, tcb: Ref<Tcb>) {
        for cpu in self.cpus() {
            if cpu.current.get() == Some(tcb) {
                self.abandon(here, cpu);
            }
        }
    }
}
