//! The slow path's entry: which system call, which method.

use abi::message::fault;
use abi::table::method;
use abi::trace::Event;
use abi::{Error, Kind, Rights, Syscall};

use crate::cpu::Cpu;
use crate::endpoint::Sending;
use crate::kernel::{Kernel, Step, Stop};
use crate::machine::Machine;
use crate::memory::Ref;
use crate::slot::{Flags, Slot};
use crate::tcb::Tcb;

/// A method: takes its arguments from the thread's registers, checks them, acts, and leaves its results there.
type MethodFn<M> = fn(&Kernel<M>, &Cpu, Ref<Tcb>, Ref<Slot>) -> Step<()>;

/// A row of the table of methods: the rights it needs, the function, its words of result.
macro_rules! row {
    ($rights:expr, $function:ident, $results:literal) => {
        ($rights, |kernel, here, me, slot| {
            let words = kernel.$function(here, me, slot, me.words())?;
            for (register, word) in me.context.words.iter().zip(words).take($results) {
                register.set(word);
            }
            Ok(())
        })
    };
}

/// Bytes of the SYSCALL instruction: a call that gave way goes back to it.
pub(crate) const SYSCALL_LENGTH: u64 = 2;

/// Whether a method makes a new capability, if only in a thread's or interrupt's own slot.
fn derives(number: u64) -> bool {
    const DERIVING: [u32; 8] = [
        method::Untyped::retype,
        method::CNode::mint,
        method::CNode::copy,
        method::Tcb::configure,
        method::Tcb::set_fault_handler,
        method::IrqControl::handler,
        method::IrqControl::msi,
        method::IrqHandler::bind,
    ];
    DERIVING.iter().any(|&method| u64::from(method) == number)
}

impl<M: Machine> Kernel<M> {
    /// The current thread made a system call that the fast path did not take; its registers are saved. True: it
    /// gave way, and interrupts should have their turn.
    #[inline(always)]
    pub fn syscall(&self, here: &Cpu) -> bool {
        let me = here.thread();
        me.interrupted.set(false);
        let number = me.context.rax.get();
        // (The entry code leads most of these past here.)
        match Syscall::from_number(number as u32) {
            Some(Syscall::yield_now) => self.yield_call(here),
            Some(Syscall::signal) => self.signal_call(here, me.context.rdx.get()),
            Some(Syscall::wait) if me.info().0 == 0 => self.wait_call(here, me.context.rdx.get()),
            _ => return self.general_call(here, me, number),
        }
        false
    }

    #[inline(always)]
    fn general_call(&self, here: &Cpu, me: Ref<Tcb>, number: u64) -> bool {
        self.enter(here);
        self.trace(here, Event::Syscall, number, me.context.rdx.get());
        let result = match Syscall::from_number(number as u32) {
            Some(which) => self.perform(here, me, which),
            None => {
                self.fault(here, [fault::FOREIGN_CALL, number, 0]);
                Err(Stop::Blocked)
            }
        };
        // A thread that has deleted itself is not written to.
        let alive = here.current.get() == Some(me);
        match result {
            Err(Stop::Refused(error)) if alive => me.finish(error as u64),
            Err(Stop::Preempted) if alive => {
                me.context.rip.set(me.context.rip.get().wrapping_sub(SYSCALL_LENGTH));
                self.give_way(here);
            }
            _ => {}
        }
        self.schedule(here);
        result == Err(Stop::Preempted)
    }

    fn perform(&self, here: &Cpu, me: Ref<Tcb>, which: Syscall) -> Step<()> {
        match which {
            Syscall::call => self.send(here, me, Sending::Call),
            Syscall::reply_recv => self.reply_recv(here, me),
            Syscall::send => self.send(here, me, Sending::Send).map(|()| me.finish(0)),
            Syscall::recv => self.recv(here, me, true),
            Syscall::try_send => self.send(here, me, Sending::Try).map(|()| me.finish(0)),
            Syscall::try_recv => self.recv(here, me, false),
            Syscall::reply => self.reply(here, me).map(|()| me.finish(0)),
            Syscall::wait => self.wait(here, me, true),
            Syscall::poll => self.wait(here, me, false),
            // (`syscall` has done these.)
            Syscall::signal | Syscall::yield_now | Syscall::nop => {
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
        self.check_info(me)?;
        if me.info().caps() > 0 {
            self.pace(here);
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
            self.pace(here);
        }
        Ok(self.answer(here, me, Ref::of(&me.get().reply))?)
    }

    fn invoke(&self, here: &Cpu, me: Ref<Tcb>) -> Step<()> {
        let number = me.context.rsi.get();
        if derives(number) {
            // Before anything is looked up: what a revocation takes now is found gone.
            self.pace(here);
        }
        let slot = self.slot(me, me.context.rdx.get())?;
        if slot.is_empty() || slot.flags().contains(Flags::DYING) {
            return Err(Error::NoCapability.into());
        }
        let Some((rights, method)) = Self::method(number) else {
            return Err(Error::NoSuchMethod.into());
        };
        if slot.kind.get() as u64 != number >> 8 {
            return Err(Error::WrongKind.into());
        }
        if !slot.rights.get().has(rights) {
            return Err(Error::NoRights.into());
        }
        method(self, here, me, slot)?;
        me.finish(0);
        Ok(())
    }

    /// The rights a method needs, and what does it.
    #[rustfmt::skip]
    fn method(number: u64) -> Option<(Rights, MethodFn<M>)> {
        const ANY: Rights = Rights::NONE;
        const READ: Rights = Rights::READ;
        const WRITE: Rights = Rights::WRITE;
        let found: (Rights, MethodFn<M>) = match u32::try_from(number).ok()? {
            method::Untyped::retype => row!(WRITE, untyped_retype, 0),
            method::CNode::mint => row!(WRITE, cnode_mint, 0),
            method::CNode::copy => row!(WRITE, cnode_copy, 0),
            method::CNode::relocate => row!(WRITE, cnode_relocate, 0),
            method::CNode::delete => row!(WRITE, cnode_delete, 0),
            method::CNode::revoke => row!(WRITE, cnode_revoke, 0),
            method::CNode::identify => row!(ANY, cnode_identify, 6),
            method::VSpace::map => row!(WRITE, vspace_map, 0),
            method::VSpace::unmap => row!(WRITE, vspace_unmap, 0),
            method::VSpace::protect => row!(WRITE, vspace_protect, 0),
            method::VSpace::donate => row!(WRITE, vspace_donate, 0),
            method::VSpace::query => row!(ANY, vspace_query, 3),
            method::Frame::physical => row!(ANY, frame_physical, 1),
            method::Tcb::configure => row!(WRITE, tcb_configure, 0),
            method::Tcb::set_fault_handler => row!(WRITE, tcb_set_fault_handler, 0),
            method::Tcb::write_registers => row!(WRITE, tcb_write_registers, 0),
            method::Tcb::read_registers => row!(READ, tcb_read_registers, 0),
            method::Tcb::resume => row!(WRITE, tcb_resume, 0),
            method::Tcb::suspend => row!(WRITE, tcb_suspend, 0),
            method::Tcb::bind_notification => row!(WRITE, tcb_bind_notification, 0),
            method::Tcb::unbind_notification => row!(WRITE, tcb_unbind_notification, 0),
            method::Tcb::set_foreign => row!(WRITE, tcb_set_foreign, 0),
            method::Tcb::kick => row!(WRITE, tcb_kick, 0),
            method::Tcb::status => row!(ANY, tcb_status, 3),
            method::SchedContext::bind => row!(WRITE, context_bind, 0),
            method::SchedContext::unbind => row!(WRITE, context_unbind, 0),
            method::SchedContext::consumed => row!(READ, context_consumed, 1),
            method::IrqControl::handler => row!(WRITE, irq_handler, 0),
            method::IrqControl::msi => row!(WRITE, irq_msi, 2),
            method::IrqHandler::bind => row!(WRITE, irq_bind, 0),
            method::IrqHandler::ack => row!(WRITE, irq_ack, 0),
            method::IrqHandler::unbind => row!(WRITE, irq_unbind, 0),
            method::IoPort::read => row!(READ, port_read, 1),
            method::IoPort::write => row!(WRITE, port_write, 0),
            method::SchedControl::configure => row!(WRITE, control_configure, 0),
            method::SchedControl::set_priority => row!(WRITE, control_set_priority, 0),
            method::System::log => row!(WRITE, system_log, 0),
            method::System::trace => row!(WRITE, system_trace, 0),
            method::System::latency => row!(READ, system_latency, 2),
            method::System::shutdown => row!(WRITE, system_shutdown, 0),
            method::System::verify => row!(READ, system_verify, 1),
            _ => return None,
        };
        Some(found)
    }

    /// Whether a method of this number exists (for the test that holds this table against the interface's).
    pub fn has_method(number: u64) -> bool {
        Self::method(number).is_some() && Kind::from_word(number >> 8).is_some()
    }
}
