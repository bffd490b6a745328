//! What an operation comes to: numbers that choose among what there is.

use abi::table::method;
use abi::{Kind, MsgInfo, Syscall};
use objects::{Ref, Tcb};

use super::{Choice, Run, SLOTS};
use crate::model::{Id, Object, Place};
use crate::world::{PRIORITY, TURN, root};

impl Run {
    /// A thread that may run now: one of the most urgent of a CPU.
    fn actor(&self, choice: u32) -> Option<Object> {
        let cpus = self.w.cpus.len();
        let first = choice as usize % cpus;
        let mut busy = (0..cpus).map(|at| &self.w.cpus[(first + at) % cpus]).filter(|cpu| !cpu.is_idle());
        let cpu = busy.next()?;
        let now = cpu.thread();
        let queued = cpu.queue(now.priority.get()).iter();
        let all: Vec<Ref<Tcb>> = core::iter::once(now).chain(queued).collect();
        Some(self.physical(all[(choice >> 8) as usize % all.len()]))
    }

    /// The slots that `thread` could name, with what is in them.
    fn named(&self, thread: Object) -> impl Iterator<Item = (u64, Id)> {
        let cspace = self.m.threads[&thread].slots[0].map_or(0, |id| self.m.caps[&id].object);
        self.m.slots.range((cspace, 0)..=(cspace, u64::MAX)).map(|(&(_, at), &id)| (at, id))
    }

    fn is_root_own(&self, id: Id) -> bool {
        match self.m.caps[&id].place {
            Place::Slot(cnode, at) => cnode == self.cnode && at < u64::from(root::FREE),
            _ => false,
        }
    }

    /// A capability pointer to something of `kind`; now and then to something else.
    fn pick(&self, me: Object, kind: Kind, choice: u32) -> u64 {
        if choice % 32 == 31 {
            return u64::from(choice >> 5) % 140;
        }
        let guarded = matches!(kind, Kind::Tcb | Kind::SchedContext);
        let fitting =
            |&(_, id): &(u64, Id)| self.m.caps[&id].kind == kind && !(guarded && self.is_root_own(id));
        let count = self.named(me).filter(fitting).count();
        if count == 0 {
            return 0;
        }
        self.named(me).filter(fitting).nth((choice >> 5) as usize % count).map_or(0, |(at, _)| at)
    }

    /// A CNode to name, and a slot in it: filled or empty, never one of the root thread's own.
    fn place(&self, me: Object, filled: bool, choices: [u32; 2]) -> (u64, u64) {
        let cptr = self.pick(me, Kind::CNode, choices[0]);
        let found = self.named(me).find(|&(at, _)| at == cptr).map(|(_, id)| id);
        let Some(cnode) = found.filter(|id| self.m.caps[id].kind == Kind::CNode) else { return (cptr, 2) };
        let (object, slots) = (self.m.caps[&cnode].object, 1u64 << self.m.caps[&cnode].bits);
        let first = if object == self.cnode { u64::from(root::FREE) } else { 2 };
        let at = first + u64::from(choices[1] >> 4) % (slots + 1 - first);
        if choices[1] % 16 == 15 {
            return (cptr, at);
        }
        let fits = |at: &u64| self.m.slots.contains_key(&(object, *at)) == filled;
        (cptr, (at..slots).chain(first..at).find(fits).unwrap_or(at))
    }

    pub(super) fn perform(&mut self, choice: &Choice) {
        let [kind, who, rest @ ..] = *choice;
        self.w.fast.set(who & 0x8000_0000 != 0);
        match kind % 64 {
            62 => return self.time(who, rest),
            63 if rest[3] % 2 == 0 => return self.spawn(rest),
            _ => {}
        }
        let Some(me) = self.actor(who) else { return self.time(who, rest) };
        match kind % 64 {
            0..=8 => self.retype(me, rest),
            9..=20 => self.in_cnodes(me, kind % 64, rest),
            21..=43 => self.message(me, kind % 64, rest),
            44..=49 => {
                let which = [Syscall::signal, Syscall::wait, Syscall::poll][((kind % 64) % 3) as usize];
                let deadline = which == Syscall::wait && rest[1] % 4 == 0;
                let info = if deadline { MsgInfo::DEADLINE } else { 0 };
                let at = self.w.machine.now.get() + u64::from(rest[2] % 20_000);
                let cap = self.pick(me, Kind::Notification, rest[0]);
                self.syscall(me, which, cap, info, [at, 0, 0, 0, 0, 0, 0, 0]);
            }
            50..=54 if rest[4] & 64 != 0 => self.devices(me, kind % 64, rest),
            50..=54 => self.spaces(me, kind % 64, rest),
            _ => self.threads(me, kind % 64, rest),
        }
    }

    /// Time passes, a CPU's timer strikes early, or the thread of a CPU meets a fault.
    fn time(&mut self, who: u32, rest: [u32; 5]) {
        match rest[0] % 4 {
            0 => self.w.tick(who as usize % 2),
            1 => {
                let Some(me) = self.actor(who).filter(|&me| me != self.root) else { return };
                self.w.run(self.w.tcb_at(me));
                let what = [u64::from(rest[1] % 32), u64::from(rest[2]), u64::from(rest[3])];
                self.w.fault(self.w.tcb_at(me).cpu(), what);
                self.m.look(&self.w);
                self.m.fault(&self.w, me, what);
            }
            _ => self.w.pass(u64::from(rest[1] % 15_000)),
        }
        self.settle();
    }

    fn retype(&mut self, me: Object, rest: [u32; 5]) {
        const SIZES: [(Kind, u64); 13] = [
            (Kind::Endpoint, 0),
            (Kind::Endpoint, 0),
            (Kind::Notification, 0),
            (Kind::Reply, 0),
            (Kind::Untyped, 14),
            (Kind::Untyped, 12),
            (Kind::CNode, 3),
            (Kind::Frame, 12),
            (Kind::Frame, 14),
            (Kind::VSpace, 16),
            (Kind::IoSpace, 16),
            (Kind::Tcb, 0),
            (Kind::SchedContext, 0),
        ];
        let (kind, bits) = SIZES[rest[0] as usize % SIZES.len()];
        let untyped = self.pick(me, Kind::Untyped, rest[1]);
        let (cnode, at) = self.place(me, false, [rest[2], rest[3]]);
        let (kind, bits) = if untyped == u64::from(root::DEVICE) && rest[4] % 8 != 0 {
            (Kind::Frame, 21 + u64::from(rest[4] % 2))
        } else {
            (kind, bits + u64::from(rest[4] % 64 == 63) * 40)
        };
        let count = [1, 1, 1, 2, 3, 0][rest[4] as usize % 6];
        self.invoke(me, untyped, method::Untyped::retype, &[kind as u64, bits, cnode, at, count]);
    }

    fn in_cnodes(&mut self, me: Object, kind: u32, rest: [u32; 5]) {
        let number = match kind {
            9..=11 => method::CNode::mint,
            12..=13 => method::CNode::copy,
            14..=15 => method::CNode::relocate,
            16..=17 => method::CNode::delete,
            18 if rest[4] % 4 == 0 => method::CNode::revoke,
            _ => method::CNode::identify,
        };
        let (from_cnode, from) = self.place(me, true, [rest[0], rest[1]]);
        if number & 0xf >= 4 {
            let everything = number == method::CNode::revoke && me == self.root && rest[4] % 64 == 0;
            let (cnode, at) = if everything {
                (u64::from(root::CNODE), u64::from(root::UNTYPED))
            } else {
                (from_cnode, from)
            };
            return self.invoke(me, cnode, number, &[at]);
        }
        let (cnode, to) = self.place(me, false, [rest[2], rest[3]]);
        let rights = if rest[4] % 2 == 0 { 31 } else { u64::from(rest[4] >> 1) % 33 };
        let badge = [0, 0, 0, 5, 200][(rest[4] >> 8) as usize % 5];
        self.invoke(me, cnode, number, &[to, from_cnode, from, rights, badge]);
    }

    fn message(&mut self, me: Object, kind: u32, rest: [u32; 5]) {
        let which = match kind {
            21..=25 => Syscall::call,
            26..=27 => Syscall::send,
            28..=29 => Syscall::try_send,
            30..=34 => Syscall::recv,
            35 => Syscall::try_recv,
            36..=38 => Syscall::reply,
            _ => Syscall::reply_recv,
        };
        let sends_to_reply = matches!(which, Syscall::send | Syscall::try_send) && rest[0] % 3 == 0;
        let wanted = if sends_to_reply { Kind::Reply } else { Kind::Endpoint };
        let mut cap = self.pick(me, wanted, rest[1]);
        if matches!(which, Syscall::recv | Syscall::try_recv | Syscall::reply_recv) && rest[0] % 4 == 0 {
            cap |= self.pick(me, Kind::Reply, rest[2]) << 32;
        }
        let mut info = MsgInfo::plain(rest[3] % 3).0;
        let soon = self.w.machine.now.get() + u64::from(rest[2] % 20_000);
        if self.m.threads[&me].slots[2].is_some() && rest[3] & 64 != 0 {
            info |= u64::from(rest[4] % 5) | (u64::from(rest[4] >> 8) % 4) << MsgInfo::CAPS_SHIFT;
            let buffer = self.w.buffer_at(me);
            let slots = |seed: u32| core::array::from_fn(|at| (seed >> (8 * at)) % (1 << SLOTS));
            let kept: [u32; 4] = slots(rest[4]);
            buffer.set_caps(kept.map(|at| at.max(root::FREE)));
            buffer.set_receive_slots(slots(rest[2]).map(|at: u32| at.max(root::FREE)));
            buffer.set_deadline(soon);
            (0..4).for_each(|at| buffer.set_word(at, u64::from(rest[4]) * 7 + at as u64));
        }
        if rest[3] % 16 == 5 {
            info |= [MsgInfo::DEADLINE, MsgInfo::DEADLINE, MsgInfo::DEADLINE, 1 << 20][rest[4] as usize % 4];
        }
        self.syscall(me, which, cap, info, core::array::from_fn(|at| soon + at as u64));
    }

    fn spaces(&mut self, me: Object, kind: u32, rest: [u32; 5]) {
        let space = self.pick(me, Kind::VSpace, rest[0]);
        // A handful of places, near and far, about the borders of tables.
        let bases = [0, 0x40_0000, 0x3f_e000, 0x60_0000, 1 << 39, abi::USER_TOP - 0x3000];
        let address = bases[rest[1] as usize % 6] + u64::from(rest[1] >> 8) % 4 * 0x1000;
        let pages =
            [1, 1, 2, 3, 0, 512, 4, if kind == 52 { 1024 } else { if rest[4] % 8 == 0 { 1024 } else { 5 } }]
                [(rest[1] >> 16) as usize % 8];
        match kind {
            50..=51 => {
                let frame = self.pick(me, Kind::Frame, rest[2]);
                let flags = [0, 1, 2, 3, 8, 9, 32, 34, 10, 96][rest[3] as usize % 10];
                let offset = [0, 0, 0, 0x1000, 0x2000, 5][(rest[3] >> 8) as usize % 6];
                self.invoke(me, space, method::VSpace::map, &[frame, address, offset, pages, flags]);
            }
            52 => self.invoke(me, space, method::VSpace::unmap, &[address, pages]),
            53 => {
                let flags = [0, 2, 8, 10, 64][rest[3] as usize % 5];
                self.invoke(me, space, method::VSpace::protect, &[address, pages, flags]);
            }
            _ if rest[4] % 8 == 0 => {
                let untyped = self.pick(me, Kind::Untyped, rest[2]);
                if untyped >= u64::from(root::FREE) {
                    self.invoke(me, space, method::VSpace::donate, &[untyped]);
                }
            }
            _ => self.invoke(me, space, method::VSpace::query, &[address]),
        }
    }

    fn devices(&mut self, me: Object, kind: u32, rest: [u32; 5]) {
        let (space, control) =
            (self.pick(me, Kind::IoSpace, rest[0]), self.pick(me, Kind::IoControl, rest[0]));
        let bases = [
            0,
            0x40_0000,
            0x3f_e000,
            0x60_0000,
            abi::object::IO_INTERRUPTS.start,
            abi::object::IO_TOP - 0x3000,
        ];
        let address = bases[rest[1] as usize % 6] + u64::from(rest[1] >> 8) % 4 * 0x1000;
        let pages = [1, 1, 2, 3, 0, 512, 4, 1024][(rest[1] >> 16) as usize % 8];
        let source = [1, 2, 3, 1 << 16][rest[2] as usize % 4];
        match kind {
            50..=51 => {
                let frame = self.pick(me, Kind::Frame, rest[2]);
                let flags = [0, 1, 2, 3, 3, 3, 8, 32][rest[3] as usize % 8];
                let offset = [0, 0, 0, 0x1000, 0x2000, 5][(rest[3] >> 8) as usize % 6];
                self.invoke(me, space, method::IoSpace::map, &[frame, address, offset, pages, flags]);
            }
            52 if rest[3] % 2 == 0 => self.invoke(me, control, method::IoControl::attach, &[space, source]),
            52 => self.dma(address, rest),
            53 => match rest[3] % 8 {
                0 => self.invoke(me, control, method::IoControl::detach, &[source]),
                1 => self.invoke(me, control, method::IoControl::status, &[]),
                2 => self.invoke(me, space, method::IoSpace::fault, &[]),
                3 => {
                    let notification = self.pick(me, Kind::Notification, rest[2]);
                    self.invoke(me, space, method::IoSpace::bind, &[notification]);
                }
                4 => {
                    let untyped = self.pick(me, Kind::Untyped, rest[2]);
                    if untyped >= u64::from(root::FREE) {
                        self.invoke(me, space, method::IoSpace::donate, &[untyped]);
                    }
                }
                _ => self.invoke(me, space, method::IoSpace::unmap, &[address, pages]),
            },
            _ => self.dma(address, rest),
        }
    }

    /// Devices try everything; what the IOMMU remembers of it must be forgotten in time.
    fn dma(&mut self, address: u64, rest: [u32; 5]) {
        for source in 1..4 {
            let write = rest[2] & 1 << source != 0;
            let iommu = &self.w.machine.iommu;
            let reached = iommu.reach(self.w.memory, source, address + 8, write);
            assert_eq!(reached, self.m.reach(source, address + 8, write), "device {source} at {address:#x}");
            iommu.faults.borrow_mut().clear();
        }
    }

    fn threads(&mut self, me: Object, kind: u32, rest: [u32; 5]) {
        let thread = self.pick(me, Kind::Tcb, rest[0]);
        let is_root = |cptr| self.m.slots.get(&(self.cnode, cptr)).is_some_and(|&id| self.is_root_own(id));
        if is_root(thread) {
            return;
        }
        match kind {
            55 | 58 | 60 if rest[4] % 4 < 2 => self.invoke(me, thread, method::Tcb::resume, &[]),
            55 => {
                let some = |kind, choice: u32| if choice % 4 == 0 { 0 } else { self.pick(me, kind, choice) };
                let cspace = some(Kind::CNode, rest[1]);
                let args = [
                    if rest[4] % 2 == 0 { u64::from(root::CNODE) } else { cspace },
                    some(Kind::VSpace, rest[2]),
                    some(Kind::Frame, rest[3]),
                    [0, 1024, 512, 1 << 14][rest[4] as usize % 4],
                ];
                self.invoke(me, thread, method::Tcb::configure, &args);
            }
            56 => {
                let endpoint = if rest[1] % 4 == 0 { 0 } else { self.pick(me, Kind::Endpoint, rest[1]) };
                self.invoke(me, thread, method::Tcb::set_fault_handler, &[endpoint]);
            }
            57 => self.invoke(me, thread, method::Tcb::resume, &[]),
            58 => self.invoke(me, thread, method::Tcb::suspend, &[]),
            59 if rest[1] % 4 == 0 => self.invoke(me, thread, method::Tcb::unbind_notification, &[]),
            59 => {
                let notification = self.pick(me, Kind::Notification, rest[1]);
                self.invoke(me, thread, method::Tcb::bind_notification, &[notification]);
            }
            60 => self.budgets(me, thread, rest),
            _ => {
                let control = self.pick(me, Kind::SchedControl, rest[1]);
                let priority = u64::from(PRIORITY) - 1 + u64::from(rest[2] % 3);
                self.invoke(me, control, method::SchedControl::set_priority, &[thread, priority]);
            }
        }
    }

    fn budgets(&mut self, me: Object, thread: u64, rest: [u32; 5]) {
        let context = self.pick(me, Kind::SchedContext, rest[1]);
        if context == u64::from(root::CONTEXT) {
            return;
        }
        match rest[2] % 4 {
            0 => self.invoke(me, context, method::SchedContext::unbind, &[]),
            1 => {
                let control = self.pick(me, Kind::SchedControl, rest[3]);
                let period = if rest[4] % 2 == 0 { TURN } else { 3 * TURN };
                let args = [context, u64::from(rest[4] >> 8) % 3, TURN, period, 0];
                self.invoke(me, control, method::SchedControl::configure, &args);
            }
            _ => self.invoke(me, context, method::SchedContext::bind, &[thread]),
        }
    }

    /// The root thread makes a thread that can run.
    pub(super) fn spawn(&mut self, rest: [u32; 5]) {
        let runs = self.w.cpus[0].thread();
        if self.m.threads.len() > 7 || runs.priority.get() > self.w.root.priority.get() {
            return;
        }
        let me = self.root;
        let free: Vec<u64> = (u64::from(root::FREE)..1 << SLOTS)
            .filter(|&at| !self.m.slots.contains_key(&(self.cnode, at)))
            .take(4)
            .collect();
        let &[tcb, frame, context, space] = &free[..] else {
            let full = [u64::from(root::FREE) + u64::from(rest[0]) % 100];
            return self.invoke(me, u64::from(root::CNODE), method::CNode::delete, &full);
        };
        let untyped = u64::from(root::UNTYPED);
        let cnode = u64::from(root::CNODE);
        let make = |run: &mut Run, kind: Kind, bits, at| {
            run.invoke(me, untyped, method::Untyped::retype, &[kind as u64, bits, cnode, at, 1]);
        };
        make(self, Kind::Tcb, 0, tcb);
        make(self, Kind::Frame, 12, frame);
        make(self, Kind::SchedContext, 0, context);
        let known = self.named(me).find(|&(_, id)| self.m.caps[&id].kind == Kind::VSpace);
        let space = known.map_or(space, |(at, _)| at);
        if known.is_none() {
            make(self, Kind::VSpace, 16, space);
        }
        self.invoke(me, tcb, method::Tcb::configure, &[cnode, space, frame, 0]);
        let control = u64::from(root::SCHED_CONTROL);
        self.invoke(me, control, method::SchedControl::set_priority, &[tcb, u64::from(PRIORITY)]);
        let cpu = u64::from(rest[1]) % 2;
        self.invoke(me, control, method::SchedControl::configure, &[context, cpu, TURN, TURN, 0]);
        if rest[2] % 4 != 0 {
            self.invoke(me, context, method::SchedContext::bind, &[tcb]);
        }
        self.invoke(me, tcb, method::Tcb::resume, &[]);
    }
}
