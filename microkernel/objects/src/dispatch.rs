//! The slow path's entry: which system call, which method.

use abi::message::fault;
use abi::table::method;
use abi::trace::Event;
use abi::{Error, Kind, Rights, Syscall};

use crate::cpu::Cpu;
use crate::endpoint::Sending;
use crate::kernel::{Kernel, Outcome, Step, Stop};
use crate::machine::Machine;
use crate::memory::Ref;
use crate::slot::{Flags, Slot};
use crate::tcb::Tcb;

/// A method: it checks its arguments, then acts.
type MethodFn<M> = fn(&Kernel<M>, &Cpu, Ref<Tcb>, Ref<Slot>, [u64; 8]) -> Outcome;

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
    pub fn syscall(&self, here: &Cpu) -> bool {
        self.enter(here);
        let me = here.thread();
        me.interrupted.set(false);
        let number = me.context.rax.get();
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
            Syscall::recv => self.recv(here, me),
            Syscall::try_send => self.send(here, me, Sending::Try).map(|()| me.finish(0)),
            Syscall::try_recv => self.receive(here, me, false, 0),
            Syscall::reply => self.reply(here, me).map(|()| me.finish(0)),
            Syscall::signal => self.signal(here, me).map(|()| me.finish(0)),
            Syscall::wait => self.wait(here, me, true),
            Syscall::poll => self.wait(here, me, false),
            Syscall::yield_now => {
                me.finish(0);
                self.yield_now(here);
                Ok(())
            }
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

    fn recv(&self, here: &Cpu, me: Ref<Tcb>) -> Step<()> {
        let info = me.info();
        if !info.is_valid() {
            return Err(Error::InvalidArgument.into());
        }
        let deadline = if info.has_deadline() { me.words().first().map_or(0, |&at| at.max(1)) } else { 0 };
        self.receive(here, me, true, deadline)
    }

    fn reply(&self, here: &Cpu, me: Ref<Tcb>) -> Step<()> {
        self.check_info(me)?;
        if me.info().caps() > 0 {
            self.pace(here);
        }
        Ok(self.answer(here, me, Ref::of(&me.get().reply))?)
    }

    fn invoke(&self, here: &Cpu, me: Ref<Tcb>) -> Step<()> {
        let (number, args) = (me.context.rsi.get(), me.words());
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
        let results = method(self, here, me, slot, args)?;
        // A thread that deleted itself on the way is not written to.
        if here.current.get() == Some(me) {
            me.finish(0);
            me.set_words(results);
        }
        Ok(())
    }

    /// The rights a method needs, and what does it.
    #[rustfmt::skip]
    fn method(number: u64) -> Option<(Rights, MethodFn<M>)> {
        const ANY: Rights = Rights::NONE;
        const READ: Rights = Rights::READ;
        const WRITE: Rights = Rights::WRITE;
        let found: (Rights, MethodFn<M>) = match u32::try_from(number).ok()? {
            method::Untyped::retype => (WRITE, Self::untyped_retype),
            method::CNode::mint => (WRITE, Self::cnode_mint),
            method::CNode::copy => (WRITE, Self::cnode_copy),
            method::CNode::relocate => (WRITE, Self::cnode_relocate),
            method::CNode::delete => (WRITE, Self::cnode_delete),
            method::CNode::revoke => (WRITE, Self::cnode_revoke),
            method::CNode::identify => (ANY, Self::cnode_identify),
            method::VSpace::map => (WRITE, Self::vspace_map),
            method::VSpace::unmap => (WRITE, Self::vspace_unmap),
            method::VSpace::protect => (WRITE, Self::vspace_protect),
            method::VSpace::donate => (WRITE, Self::vspace_donate),
            method::VSpace::query => (ANY, Self::vspace_query),
            method::Frame::physical => (ANY, Self::frame_physical),
            method::Tcb::configure => (WRITE, Self::tcb_configure),
            method::Tcb::set_fault_handler => (WRITE, Self::tcb_set_fault_handler),
            method::Tcb::write_registers => (WRITE, Self::tcb_write_registers),
            method::Tcb::read_registers => (READ, Self::tcb_read_registers),
            method::Tcb::resume => (WRITE, Self::tcb_resume),
            method::Tcb::suspend => (WRITE, Self::tcb_suspend),
            method::Tcb::bind_notification => (WRITE, Self::tcb_bind_notification),
            method::Tcb::unbind_notification => (WRITE, Self::tcb_unbind_notification),
            method::Tcb::set_foreign => (WRITE, Self::tcb_set_foreign),
            method::Tcb::kick => (WRITE, Self::tcb_kick),
            method::Tcb::status => (ANY, Self::tcb_status),
            method::SchedContext::bind => (WRITE, Self::context_bind),
            method::SchedContext::unbind => (WRITE, Self::context_unbind),
            method::SchedContext::consumed => (READ, Self::context_consumed),
            method::IrqControl::handler => (WRITE, Self::irq_handler),
            method::IrqControl::msi => (WRITE, Self::irq_msi),
            method::IrqHandler::bind => (WRITE, Self::irq_bind),
            method::IrqHandler::ack => (WRITE, Self::irq_ack),
            method::IrqHandler::unbind => (WRITE, Self::irq_unbind),
            method::IoPort::read => (READ, Self::port_read),
            method::IoPort::write => (WRITE, Self::port_write),
            method::SchedControl::configure => (WRITE, Self::control_configure),
            method::SchedControl::set_priority => (WRITE, Self::control_set_priority),
            method::System::log => (WRITE, Self::system_log),
            method::System::trace => (WRITE, Self::system_trace),
            method::System::latency => (READ, Self::system_latency),
            method::System::shutdown => (WRITE, Self::system_shutdown),
            method::System::verify => (READ, Self::system_verify),
            _ => return None,
        };
        Some(found)
    }

    /// Whether a method of this number exists (for the test that holds this table against the interface's).
    pub fn has_method(number: u64) -> bool {
        Self::method(number).is_some() && Kind::from_word(number >> 8).is_some()
    }
}
