//! A system call as a whole, and the methods by their numbers.

use abi::table::method;
use abi::{Error, Kind, MsgInfo, Rights, Syscall};
use objects::tcb::State;

use super::{Cap, Ended, Model, Object, Registers, Reply, Result};
use crate::world::World;

impl Model {
    /// The system call that is in the caller's registers. `seen` is the status that the kernel returned, for
    /// the few calls that may or may not find room.
    pub fn syscall(&mut self, w: &World, me: Object, seen: u64) {
        let which = Syscall::from_number(self.threads[&me].registers.status as u32).unwrap();
        let ended = match which {
            Syscall::call | Syscall::send | Syscall::try_send => self.send(w, me, which),
            Syscall::reply_recv => self.reply_recv(w, me),
            Syscall::recv => self.recv(w, me),
            Syscall::try_recv if !MsgInfo(self.threads[&me].registers.info).is_valid() => {
                Err(Error::InvalidArgument)
            }
            Syscall::try_recv => self.receive(w, me, false, 0),
            Syscall::reply => {
                self.check_info(me).and_then(|_| self.answer(w, me, me)).map(|()| Ended::With(vec![]))
            }
            Syscall::signal => {
                let found =
                    self.find(me, self.threads[&me].registers.badge, Kind::Notification, Rights::WRITE);
                found.map(|id| {
                    let Cap { object, badge, .. } = self.caps[&id];
                    self.notify(object, badge.max(1));
                    Ended::With(vec![])
                })
            }
            Syscall::wait => self.wait(me, true),
            Syscall::poll => self.wait(me, false),
            Syscall::yield_now | Syscall::nop => Ok(Ended::With(vec![])),
            Syscall::invoke => self.invoke(me, seen),
        };
        if !self.threads.contains_key(&me) {
            return;
        }
        match ended {
            Ok(Ended::With(words)) => {
                self.finish(me, 0);
                self.thread(me).registers.words[..words.len()].copy_from_slice(&words);
            }
            Ok(Ended::Said) => {}
            Err(error) => self.finish(me, error as u64),
        }
    }

    pub(super) fn invoke(&mut self, me: Object, seen: u64) -> Result<Ended> {
        let Registers { badge: cptr, info: number, words: args, .. } = self.threads[&me].registers;
        let id = self.slot(me, cptr)?.ok_or(Error::NoCapability)?;
        let number = u32::try_from(number).map_err(|_| Error::NoSuchMethod)?;
        let known = abi::table::find_method(number).ok_or(Error::NoSuchMethod)?;
        if Some(self.caps[&id].kind) != known.kind {
            return Err(Error::WrongKind);
        }
        let needed = match number {
            method::CNode::identify
            | method::VSpace::query
            | method::Frame::physical
            | method::Tcb::status
            | method::IoControl::status => Rights::NONE,
            method::Tcb::read_registers | method::SchedContext::consumed => Rights::READ,
            _ => Rights::WRITE,
        };
        if !Rights(self.caps[&id].rights).has(needed) {
            return Err(Error::NoRights);
        }
        let object = self.caps[&id].object;
        match number {
            method::Untyped::retype => self.retype(me, id, args).map(|()| Ended::With(vec![])),
            method::CNode::mint | method::CNode::copy | method::CNode::relocate => {
                self.place(me, id, number, args).map(|()| Ended::With(vec![]))
            }
            method::CNode::delete | method::CNode::revoke | method::CNode::identify => {
                self.in_cnode(id, number, args[0])
            }
            method::VSpace::map => self.map(me, object, args, seen).map(|()| Ended::With(vec![])),
            method::VSpace::unmap | method::VSpace::protect => {
                self.change(object, number, args).map(|()| Ended::With(vec![]))
            }
            method::VSpace::donate => self.donate(me, object, args[0]).map(|()| Ended::With(vec![])),
            method::VSpace::query => self.query(object, args[0]).map(Ended::With),
            method::IoSpace::map => self.io_map(me, object, args, seen).map(|()| Ended::With(vec![])),
            method::IoSpace::unmap => {
                Model::io_range(args[0], args[1])?;
                self.change(object, method::VSpace::unmap, args).map(|()| Ended::With(vec![]))
            }
            method::IoSpace::donate => self.donate(me, object, args[0]).map(|()| Ended::With(vec![])),
            method::IoSpace::bind => self.io_bind(me, object, args[0]).map(|()| Ended::With(vec![])),
            // (What is stopped is not told here.)
            method::IoSpace::fault => Ok(Ended::With(vec![0; 4])),
            method::IoControl::attach => self.attach(me, args, seen).map(|()| Ended::With(vec![])),
            method::IoControl::detach => {
                let source = u16::try_from(args[0]).map_err(|_| Error::OutOfRange)?;
                self.devices.remove(&source);
                Ok(Ended::With(vec![]))
            }
            method::IoControl::status => Ok(Ended::With(vec![1, 1])),
            method::Frame::physical => Ok(Ended::With(vec![object])),
            method::SchedContext::bind => {
                let thread = self.find_object(me, args[0], Kind::Tcb, Rights::WRITE)?;
                if !self.configured.contains(&object) {
                    return Err(Error::NotConfigured);
                }
                // On which CPU it is at work is the scheduler's business.
                let works = |reply: &Reply| reply.server == Some(thread) && reply.caller.is_some();
                let waits = matches!(self.threads[&thread].state, State::Answer | State::FaultAnswer);
                let at_work = waits || self.replies.values().any(works);
                let taken = self.contexts[&object].is_some() || self.threads[&thread].context.is_some();
                if taken || at_work && seen == Error::Busy as u64 {
                    return Err(Error::Busy);
                }
                self.contexts.insert(object, Some(thread));
                self.thread(thread).context = Some(object);
                Ok(Ended::With(vec![]))
            }
            method::SchedContext::unbind => {
                self.unbind_context(object);
                Ok(Ended::With(vec![]))
            }
            method::SchedControl::set_priority => {
                let thread = self.find_object(me, args[0], Kind::Tcb, Rights::WRITE)?;
                if args[1] > self.caps[&id].badge {
                    return Err(Error::OutOfRange);
                }
                self.set_priority(thread, args[1]);
                Ok(Ended::With(vec![]))
            }
            method::SchedControl::configure => {
                let context = self.find_object(me, args[0], Kind::SchedContext, Rights::WRITE)?;
                // What it depends on is the scheduler's business.
                if let Some(error) = Error::from_status(seen) {
                    return Err(error);
                }
                self.configured.insert(context);
                Ok(Ended::With(vec![]))
            }
            _ => self.of_thread(me, object, number, args),
        }
    }
}
