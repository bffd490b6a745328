//! System calls: as a thread, as the root thread commonly makes them, and of messages.

use abi::message::REGISTER_WORDS;
use abi::{Error, Kind, MsgInfo, Rights, Syscall};
use objects::memory::Buffer;
use objects::tcb::State;
use objects::{Ref, Tcb};

use super::{Done, Message, PRIORITY, TURN, World, root};

impl World {
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
}
