//! The slow path's entry: which system call, which method.

use abi::message::fault;
use abi::table::method;
use abi::trace::Event;
use abi::{Error, Kind, Rights, Syscall};

use crate::cpu::Cpu;
use crate::endpoint::Sending;
use crate::kernel::{Call, Kernel, Step, Stop};
use crate::machine::Machine;
use crate::memory::Ref;
use crate::slot::{Flags, Slot};
use crate::tcb::Tcb;

/// A method: takes its arguments from the thread's registers, checks them, acts, and leaves its results there.
type MethodFn<M> = fn(&Kernel<M>, &Cpu, Ref<Tcb>, Ref<Slot>) -> Step<()>;

/// A row of the table of methods.
struct Row<M: Machine> {
    number: u32,
    /// What the capability must allow.
    rights: Rights,
    /// New capabilities that it makes, at most, if only in a thread's or interrupt's own slots.
    derives: u32,
    method: MethodFn<M>,
}

const ANY: Rights = Rights::NONE;
const READ: Rights = Rights::READ;
const WRITE: Rights = Rights::WRITE;
const DERIVES: u32 = 1;
const PLAIN: u32 = 0;

/// A row: number, rights, what it derives, function, words of result.
macro_rules! row {
    ($number:expr, $rights:expr, $derives:expr, $function:ident, $results:literal) => {
        Row {
            number: $number,
            rights: $rights,
            derives: $derives,
            method: |kernel, here, me, slot| {
                let words = kernel.$function(Call { here, me, slot }, me.words())?;
                for (register, word) in me.context.words.iter().zip(words).take($results) {
                    register.set(word);
                }
                Ok(())
            },
        }
    };
}

/// Where the method of this number is in the table; beyond it for a number that is none.
const fn place(number: u64) -> usize {
    if number & !0x1f0f == 0 { (number >> 4 & 0x1f0 | number & 0xf) as usize } else { usize::MAX }
}

/// Bytes of the SYSCALL instruction: a call that gave way goes back to it.
pub(crate) const SYSCALL_LENGTH: u64 = 2;

impl<M: Machine> Kernel<M> {
    /// The current thread made a system call that the fast path did not take; its registers are saved. True: it
    /// gave way, and interrupts should have their turn.
    #[inline(always)]
    pub fn syscall(&self, here: &Cpu) -> bool {
        let me = here.thread();
        self.enter(here);
        let number = me.context.rax.get();
        self.trace(here, Event::Syscall, number, me.context.rdx.get());
        let result = match Syscall::from_number(number as u32) {
            Some(which) => self.perform(here, me, which),
            None => {
                me.note_exception([fault::FOREIGN_CALL, number, 0]);
                self.fault(here);
                Err(Stop::Blocked)
            }
        };
        match result {
            Ok(()) => {}
            Err(Stop::Switched) => return false,
            // (A thread that has deleted itself is not written to.)
            Err(stop) if here.current.get() == Some(me) => match stop {
                Stop::Refused(error) => me.finish(error as u64),
                Stop::Preempted => {
                    me.context.rip.set(me.context.rip.get().wrapping_sub(SYSCALL_LENGTH));
                    self.put_back(here, true);
                }
                Stop::Blocked | Stop::Switched => {}
            },
            Err(_) => {}
        }
        self.schedule(here);
        result == Err(Stop::Preempted)
    }

    #[inline(always)]
    fn perform(&self, here: &Cpu, me: Ref<Tcb>, which: Syscall) -> Step<()> {
        match which {
            Syscall::call => self.send(here, me, Sending::Call),
            Syscall::reply_recv => self.reply_recv(here, me),
            Syscall::send => self.send(here, me, Sending::Send).map(|()| me.finish(0)),
            Syscall::recv => self.recv(here, me, true),
            Syscall::try_send => self.send(here, me, Sending::Try).map(|()| me.finish(0)),
            Syscall::try_recv => self.recv(here, me, false),
            Syscall::reply => self.reply(here, me).map(|()| me.finish(0)),
            Syscall::poll => self.wait(here, me, false),
            // (The entry code leads most of the next three past here.)
            Syscall::yield_now => {
                self.yield_call(here);
                Err(Stop::Switched)
            }
            Syscall::signal => {
                self.signal_call(here, me.context.rdx.get());
                Err(Stop::Switched)
            }
            Syscall::wait if me.info().0 == 0 => {
                self.wait_call(here, me.context.rdx.get());
                Err(Stop::Switched)
            }
            Syscall::wait => self.wait(here, me, true),
            Syscall::nop => {
                me.finish(0);
                Ok(())
            }
            Syscall::invoke => self.invoke(here, me),
        }
    }

    fn check_info(&self, me: Ref<Tcb>) -> Result<(), Error> {
        let info = me.info();
        if !info.is_valid() || !info.is_plain() && me.ipc_buffer().is_none() {
            return Err(Error::InvalidArgument);
        }
        Ok(())
    }

    fn reply_recv(&self, here: &Cpu, me: Ref<Tcb>) -> Step<()> {
        if self.answer_fault_over(here, me) {
            return Err(Stop::Switched);
        }
        self.check_info(me)?;
        if me.info().caps() > 0 {
            self.pace(here, me.info().caps() as u32);
        }
        match self.answer(here, me, Ref::of(&me.get().reply)) {
            Ok(()) | Err(Error::NoCaller) => {}
            Err(error) => return Err(error.into()),
        }
        let deadline =
            if me.info().has_deadline() { me.ipc_buffer().map_or(0, |b| b.deadline().max(1)) } else { 0 };
        self.receive(here, me, true, deadline)
    }

    fn recv(&self, here: &Cpu, me: Ref<Tcb>, block: bool) -> Step<()> {
        let info = me.info();
        if !info.is_valid() {
            return Err(Error::InvalidArgument.into());
        }
        let deadline = if info.has_deadline() { me.words().first().map_or(0, |&at| at.max(1)) } else { 0 };
        self.receive(here, me, block, deadline)
    }

    fn reply(&self, here: &Cpu, me: Ref<Tcb>) -> Step<()> {
        self.check_info(me)?;
        if me.info().caps() > 0 {
            self.pace(here, me.info().caps() as u32);
        }
        Ok(self.answer(here, me, Ref::of(&me.get().reply))?)
    }

    #[inline(always)]
    fn invoke(&self, here: &Cpu, me: Ref<Tcb>) -> Step<()> {
        let number = me.context.rsi.get();
        let row = Self::method(number);
        if let Some(row) = row
            && row.derives > 0
        {
            // Before anything is looked up: what a revocation takes now is found gone.
            self.pace(here, row.derives);
        }
        let slot = self.slot(me, me.context.rdx.get())?;
        if slot.is_empty() || slot.flags().contains(Flags::DYING) {
            return Err(Error::NoCapability.into());
        }
        let Some(row) = row else {
            return Err(Error::NoSuchMethod.into());
        };
        if slot.kind.get() as u64 != number >> 8 {
            return Err(Error::WrongKind.into());
        }
        if !slot.rights.get().has(row.rights) {
            return Err(Error::NoRights.into());
        }
        (row.method)(self, here, me, slot)?;
        me.finish(0);
        Ok(())
    }

    /// The methods.
    #[rustfmt::skip]
    const ROWS: [Row<M>; abi::table::METHODS.len()] = [
        row!(method::Untyped::retype, WRITE, crate::untyped::SHARE, untyped_retype, 0),
        row!(method::CNode::mint, WRITE, DERIVES, cnode_mint, 0),
        row!(method::CNode::copy, WRITE, DERIVES, cnode_copy, 0),
        row!(method::CNode::relocate, WRITE, PLAIN, cnode_relocate, 0),
        row!(method::CNode::delete, WRITE, PLAIN, cnode_delete, 0),
        row!(method::CNode::revoke, WRITE, PLAIN, cnode_revoke, 0),
        row!(method::CNode::identify, ANY, PLAIN, cnode_identify, 6),
        row!(method::VSpace::map, WRITE, PLAIN, vspace_map, 0),
        row!(method::VSpace::unmap, WRITE, PLAIN, vspace_unmap, 0),
        row!(method::VSpace::protect, WRITE, PLAIN, vspace_protect, 0),
        row!(method::VSpace::donate, WRITE, PLAIN, space_donate, 0),
        row!(method::VSpace::query, ANY, PLAIN, vspace_query, 3),
        row!(method::Frame::physical, ANY, PLAIN, frame_physical, 1),
        row!(method::Tcb::configure, WRITE, 3 * DERIVES, tcb_configure, 0),
        row!(method::Tcb::set_fault_handler, WRITE, DERIVES, tcb_set_fault_handler, 0),
        row!(method::Tcb::write_registers, WRITE, PLAIN, tcb_write_registers, 0),
        row!(method::Tcb::read_registers, READ, PLAIN, tcb_read_registers, 0),
        row!(method::Tcb::resume, WRITE, PLAIN, tcb_resume, 0),
        row!(method::Tcb::suspend, WRITE, PLAIN, tcb_suspend, 0),
        row!(method::Tcb::bind_notification, WRITE, PLAIN, tcb_bind_notification, 0),
        row!(method::Tcb::unbind_notification, WRITE, PLAIN, tcb_unbind_notification, 0),
        row!(method::Tcb::set_foreign, WRITE, PLAIN, tcb_set_foreign, 0),
        row!(method::Tcb::kick, WRITE, PLAIN, tcb_kick, 0),
        row!(method::Tcb::status, ANY, PLAIN, tcb_status, 4),
        row!(method::SchedContext::bind, WRITE, PLAIN, context_bind, 0),
        row!(method::SchedContext::unbind, WRITE, PLAIN, context_unbind, 0),
        row!(method::SchedContext::consumed, READ, PLAIN, context_consumed, 1),
        row!(method::IrqControl::handler, WRITE, DERIVES, irq_handler, 0),
        row!(method::IrqControl::msi, WRITE, DERIVES, irq_msi, 2),
        row!(method::IrqHandler::bind, WRITE, DERIVES, irq_bind, 0),
        row!(method::IrqHandler::ack, WRITE, PLAIN, irq_ack, 0),
        row!(method::IrqHandler::unbind, WRITE, PLAIN, irq_unbind, 0),
        row!(method::IoPort::read, READ, PLAIN, port_read, 1),
        row!(method::IoPort::write, WRITE, PLAIN, port_write, 0),
        row!(method::SchedControl::configure, WRITE, PLAIN, control_configure, 0),
        row!(method::SchedControl::set_priority, WRITE, PLAIN, control_set_priority, 0),
        row!(method::System::log, WRITE, PLAIN, system_log, 0),
        row!(method::System::trace, WRITE, PLAIN, system_trace, 0),
        row!(method::System::latency, READ, PLAIN, system_latency, 2),
        row!(method::System::shutdown, WRITE, PLAIN, system_shutdown, 0),
        row!(method::System::verify, READ, PLAIN, system_verify, 1),
        row!(method::IoSpace::map, WRITE, PLAIN, io_map, 0),
        row!(method::IoSpace::unmap, WRITE, PLAIN, io_unmap, 0),
        row!(method::IoSpace::donate, WRITE, PLAIN, space_donate, 0),
        row!(method::IoSpace::bind, WRITE, DERIVES, io_bind, 0),
        row!(method::IoSpace::fault, WRITE, PLAIN, io_fault, 4),
        row!(method::IoControl::attach, WRITE, PLAIN, io_attach, 0),
        row!(method::IoControl::detach, WRITE, PLAIN, io_detach, 0),
        row!(method::IoControl::status, ANY, PLAIN, io_status, 2),
    ];

    /// The same by kind and number, 16 of each: looked up without a search.
    #[allow(clippy::indexing_slicing, reason = "done by the compiler, which says so where it fails")]
    const TABLE: [Option<&'static Row<M>>; 512] = {
        let mut table = [None; 512];
        let mut rest: &'static [Row<M>] = &Self::ROWS;
        while let [row, others @ ..] = rest {
            let place = place(row.number as u64);
            assert!(table[place].is_none(), "two methods have one number");
            table[place] = Some(row);
            rest = others;
        }
        table
    };

    /// The row of the method with this number. (No two numbers have one place.)
    #[inline(always)]
    fn method(number: u64) -> Option<&'static Row<M>> {
        let table = const { &Self::TABLE };
        *table.get(place(number))?
    }

    /// Whether a method of this number exists (for the test that holds this table against the interface's).
    pub fn has_method(number: u64) -> bool {
        Self::method(number).is_some() && Kind::from_word(number >> 8).is_some()
    }
}
