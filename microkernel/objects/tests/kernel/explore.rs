//! Every interleaving of a client, a server and one who interferes, over one Endpoint, one Reply and one
//! Notification. A step is a system call; states that were seen are not entered again.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use abi::table::method;
use abi::{Error, Kind, MsgInfo, Syscall};
use objects::tcb::State;
use objects::{Cpu, Kernel, Ref, Tcb};

use crate::machine::{Fake, MAX_CPUS};
use crate::world::{Done, Size, TURN, World, root};

/// What a thread does in a step. The parts are named by their slots in [`Parts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Call,
    Send,
    Recv,
    RecvWith,
    /// Answers by its own Reply what it received last.
    Reply,
    /// Answers by the Reply object.
    Answer,
    ReplyRecv,
    Signal,
    Wait,
    Delete(Part),
    Revoke(Part),
    Suspend(Part),
    Resume(Part),
    Unbind(Part),
    Bind(Part, Part),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Endpoint,
    Badged,
    Reply,
    Notification,
    Client,
    ClientBudget,
    Server,
    ServerBudget,
    VSpace,
    All,
}

/// How the threads are placed.
#[derive(Clone, Copy, Debug)]
struct Setting {
    /// The server has a SchedContext of its own.
    active: bool,
    /// On another CPU than the client.
    apart: bool,
    /// It has the Notification bound to it.
    bound: bool,
    fast: bool,
}

/// What has come of a thread's steps: statuses and first words.
type Outcomes = Vec<(u64, u64)>;

#[derive(Clone, Hash)]
struct Story {
    next: usize,
    outcomes: Outcomes,
    /// The last word it received in a message.
    received: u64,
}

struct Memory {
    bytes: Vec<u8>,
    words: Vec<u64>,
    stories: Vec<Story>,
}

impl Memory {
    /// A number for the state. (Two states with one number would hide one of them: one in 2^64.)
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.words, &self.stories).hash(&mut hasher);
        self.bytes.chunks_exact(8).fold(hasher.finish(), |digest, bytes| {
            let word = u64::from_le_bytes(bytes.try_into().unwrap());
            (digest ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        })
    }
}

struct Exploration {
    w: World,
    threads: Vec<Ref<Tcb>>,
    programs: Vec<Vec<Act>>,
    stories: Vec<Story>,
    slots: Vec<(Part, u32)>,
    /// All that the kernel writes to: address and length.
    areas: Vec<(u64, usize)>,
    seen: HashSet<u64>,
    ends: usize,
    /// The threads that stepped, up to here.
    path: Vec<usize>,
}

impl Exploration {
    fn new(setting: Setting, client: &[Act], server: &[Act], other: &[Act]) -> Exploration {
        let cpus = 1 + usize::from(setting.apart);
        let w = World::of_size(Size { cpus, slots: 6, untyped: 17 });
        w.try_make(root::UNTYPED, Kind::VSpace, 14, root::VSPACE).unwrap();
        let all = w.make(Kind::Untyped, 15);
        let endpoint = w.make_from(all, Kind::Endpoint, 0);
        let badged = w.mint(endpoint, abi::Rights::ALL, 9).unwrap();
        let reply = w.make_from(all, Kind::Reply, 0);
        let notification = w.make_from(all, Kind::Notification, 0);
        let (client_cap, client_tcb) = w.passive_from(all);
        let client_budget = w.budget_from(all, 0, TURN, TURN);
        w.bind(client_budget, client_cap);
        let (server_cap, server_tcb) = w.passive_from(all);
        let server_budget = w.budget_from(all, usize::from(setting.apart), TURN, TURN);
        w.bind(server_budget, server_cap);
        if setting.bound {
            let args = [u64::from(notification)];
            w.invoke(server_cap, method::Tcb::bind_notification, &args).unwrap();
        }
        let slots = vec![
            (Part::Endpoint, endpoint),
            (Part::Badged, badged),
            (Part::Reply, reply),
            (Part::Notification, notification),
            (Part::Client, client_cap),
            (Part::ClientBudget, client_budget),
            (Part::Server, server_cap),
            (Part::ServerBudget, server_budget),
            (Part::VSpace, root::VSPACE),
            (Part::All, all),
        ];
        w.fast.set(setting.fast);
        let area = |address: *const u8, length| (address.addr() as u64, length);
        // Of the memory only what is in use: nothing is made while exploring.
        let untyped = w.slot(root::UNTYPED);
        let start = w.memory.address(untyped.object.get());
        let areas = vec![
            (w.window.0, 32 << 10),
            (start, untyped.badge.get() as usize),
            area(w.cpus.as_ptr().cast(), size_of_val(w.cpus)),
            area(core::ptr::from_ref(w.kernel).cast(), size_of::<Kernel<Fake>>()),
        ];
        let threads = vec![client_tcb, server_tcb, w.root];
        let story = Story { next: 0, outcomes: Vec::new(), received: 0 };
        let mut exploration = Exploration {
            w,
            threads,
            programs: vec![client.to_vec(), server.to_vec(), other.to_vec()],
            stories: vec![story; 3],
            slots,
            areas,
            seen: HashSet::new(),
            ends: 0,
            path: Vec::new(),
        };
        if !setting.active {
            // A passive server comes to its first receive on a budget that it then loses.
            exploration.step(1);
            exploration.w.invoke(server_budget, method::SchedContext::unbind, &[]).unwrap();
        }
        exploration
    }

    fn slot(&self, part: Part) -> u64 {
        u64::from(self.slots.iter().find(|&&(other, _)| other == part).unwrap().1)
    }

    // Going back.

    fn remember(&self) -> Memory {
        let mut bytes = Vec::new();
        for &(address, length) in &self.areas {
            // SAFETY: memory of this world, plain words, not in use now.
            bytes.extend_from_slice(unsafe { core::slice::from_raw_parts(address as *const u8, length) });
        }
        let m = self.w.machine;
        let mut words = vec![m.now.get(), m.pokes.get(), m.halted.get()];
        (0..MAX_CPUS).for_each(|cpu| words.extend([m.timers[cpu].get(), m.roots[cpu].get()]));
        Memory { bytes, words, stories: self.stories.clone() }
    }

    fn go_back(&mut self, memory: &Memory) {
        let mut from = 0;
        for &(address, length) in &self.areas {
            let to = address as *mut u8;
            let bytes = &memory.bytes[from..from + length];
            // SAFETY: as for reading; what is written back was there before, Cells of plain words.
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, length) };
            from += length;
        }
        let m = self.w.machine;
        m.now.set(memory.words[0]);
        m.pokes.set(memory.words[1]);
        m.halted.set(memory.words[2]);
        for cpu in 0..MAX_CPUS {
            m.timers[cpu].set(memory.words[3 + 2 * cpu]);
            m.roots[cpu].set(memory.words[4 + 2 * cpu]);
        }
        self.stories.clone_from(&memory.stories);
    }

    // Going on.

    fn act(&self, at: usize, act: Act) -> (Syscall, u64, u64, [u64; 8]) {
        let word = |word| [word, 0, 0, 0, 0, 0, 0, 0];
        let story = &self.stories[at];
        let own = 100 * (at as u64 + 1) + story.next as u64;
        let of = |part| self.slot(part);
        let invoke = |cap, number: u32, argument| (Syscall::invoke, cap, u64::from(number), word(argument));
        let cnode = u64::from(root::CNODE);
        match act {
            Act::Call => (Syscall::call, of(Part::Badged), 0, word(own)),
            Act::Send => (Syscall::send, of(Part::Badged), 0, word(own)),
            Act::Recv => (Syscall::recv, of(Part::Endpoint), 0, word(0)),
            Act::RecvWith => (Syscall::recv, of(Part::Endpoint) | of(Part::Reply) << 32, 0, word(0)),
            Act::Reply => (Syscall::reply, 0, 0, word(story.received + 1000)),
            Act::Answer => (Syscall::send, of(Part::Reply), 0, word(story.received + 1000)),
            Act::ReplyRecv => (Syscall::reply_recv, of(Part::Endpoint), 0, word(story.received + 1000)),
            Act::Signal => (Syscall::signal, of(Part::Notification), 0, word(0)),
            Act::Wait => (Syscall::wait, of(Part::Notification), 0, word(0)),
            Act::Delete(part) => invoke(cnode, method::CNode::delete, of(part)),
            Act::Revoke(part) => invoke(cnode, method::CNode::revoke, of(part)),
            Act::Suspend(part) => invoke(of(part), method::Tcb::suspend, 0),
            Act::Resume(part) => invoke(of(part), method::Tcb::resume, 0),
            Act::Unbind(part) => invoke(of(part), method::SchedContext::unbind, 0),
            Act::Bind(context, tcb) => invoke(of(context), method::SchedContext::bind, of(tcb)),
        }
    }

    /// Whether a thread is there and could make a step.
    fn is_able(&self, at: usize) -> bool {
        let tcb = self.threads[at];
        let current = self.w.cpus.iter().any(|cpu: &Cpu| cpu.current.get() == Some(tcb));
        self.lives(at) && tcb.state.get() == State::Ready && (current || tcb.runs_on.get().is_some())
    }

    fn lives(&self, at: usize) -> bool {
        let part = [Part::Client, Part::Server][at.min(1)];
        at == 2 || !self.w.slot(self.slot(part) as u32).is_empty()
    }

    fn step(&mut self, at: usize) {
        self.finish(at);
        let act = self.programs[at][self.stories[at].next];
        let (which, cap, info, words) = self.act(at, act);
        self.stories[at].next += 1;
        let tcb = self.threads[at];
        let done = self.w.syscall(tcb, which, cap, info, words);
        if at == 2 {
            assert_ne!(done, Done::Blocked, "the root thread waits");
        }
    }

    /// Notes what the last step of a thread that is back came to.
    fn finish(&mut self, at: usize) {
        let (tcb, story) = (self.threads[at], &mut self.stories[at]);
        if story.outcomes.len() == story.next {
            return;
        }
        let act = self.programs[at][story.next - 1];
        let (status, word) = (tcb.context.rax.get(), tcb.words()[0]);
        let receives = matches!(act, Act::Recv | Act::RecvWith | Act::ReplyRecv);
        if receives && status == 0 && !MsgInfo(tcb.context.rsi.get()).is_notified() {
            story.received = word;
        }
        story.outcomes.push((status, word));
    }

    fn visit(&mut self) {
        let memory = self.remember();
        if !self.seen.insert(memory.digest()) {
            return;
        }
        let able: Vec<usize> = (0..3)
            .filter(|&at| self.stories[at].next < self.programs[at].len() && self.is_able(at))
            .collect();
        if able.is_empty() {
            self.check_end();
        }
        for at in able {
            self.path.push(at);
            self.step(at);
            self.visit();
            self.path.pop();
            self.go_back(&memory);
        }
    }

    /// Nobody goes on: whoever waits has a reason, and nothing was lost or came twice.
    fn check_end(&mut self) {
        self.ends += 1;
        for at in 0..3 {
            let tcb = self.threads[at];
            if !self.lives(at) {
                continue;
            }
            // (That waits are not passed over is among the invariants.)
            match tcb.state.get() {
                State::Ready if !self.is_able(at) => {
                    assert_eq!(tcb.sched_context.get(), None, "thread {at} could run")
                }
                State::Ready => self.finish(at),
                State::Answer => {
                    let reply: Ref<objects::reply::Reply> = Ref::at(tcb.blocked_on.get()).unwrap();
                    assert_eq!(reply.caller.get(), Some(tcb));
                }
                State::Throttled => panic!("no time has passed"),
                _ => {}
            }
        }
        self.check_messages();
    }

    fn check_messages(&self) {
        let received: Vec<u64> = self.programs[1]
            .iter()
            .zip(&self.stories[1].outcomes)
            .filter(|(act, outcome)| {
                matches!(act, Act::Recv | Act::RecvWith | Act::ReplyRecv)
                    && outcome.0 == 0
                    && outcome.1 >= 100
            })
            .map(|(_, outcome)| outcome.1)
            .collect();
        let once: HashSet<u64> = received.iter().copied().collect();
        assert_eq!(once.len(), received.len(), "a message was delivered twice");
        for (step, (act, &(status, word))) in
            self.programs[0].iter().zip(&self.stories[0].outcomes).enumerate()
        {
            let sent = 100 + step as u64;
            let gone = [Error::PeerDied, Error::Cancelled, Error::NoCapability];
            match act {
                Act::Call if status == 0 => assert_eq!(word, sent + 1000, "another call's answer"),
                Act::Call | Act::Send | Act::Signal | Act::Wait => assert!(
                    status == 0 || gone.iter().any(|&error| error as u64 == status),
                    "{act:?} ended with {status}"
                ),
                _ => {}
            }
        }
    }
}

const CLIENTS: [&[Act]; 4] =
    [&[Act::Call, Act::Call], &[Act::Send, Act::Call], &[Act::Signal, Act::Call], &[Act::Call, Act::Signal]];

const SERVERS: [&[Act]; 6] = [
    &[Act::Recv, Act::Reply, Act::Recv, Act::Reply],
    &[Act::Recv, Act::ReplyRecv, Act::ReplyRecv],
    &[Act::RecvWith, Act::Answer, Act::RecvWith, Act::Answer],
    &[Act::Recv, Act::RecvWith, Act::Reply, Act::Answer],
    &[Act::RecvWith, Act::Recv, Act::Answer, Act::ReplyRecv],
    &[Act::Recv, Act::Wait, Act::Reply],
];

const OTHERS: [&[Act]; 18] = [
    &[Act::Delete(Part::Endpoint)],
    &[Act::Revoke(Part::Endpoint), Act::Signal],
    &[Act::Delete(Part::Reply), Act::Signal],
    &[Act::Delete(Part::Notification)],
    &[Act::Delete(Part::Client)],
    &[Act::Delete(Part::Server)],
    &[Act::Delete(Part::ClientBudget), Act::Signal],
    &[Act::Delete(Part::ServerBudget), Act::Signal],
    &[Act::Suspend(Part::Client), Act::Resume(Part::Client)],
    &[Act::Suspend(Part::Server), Act::Resume(Part::Server)],
    &[Act::Unbind(Part::ClientBudget), Act::Bind(Part::ClientBudget, Part::Client)],
    &[Act::Unbind(Part::ServerBudget), Act::Bind(Part::ServerBudget, Part::Server)],
    &[Act::Unbind(Part::ClientBudget), Act::Bind(Part::ClientBudget, Part::Server)],
    &[Act::Delete(Part::VSpace)],
    &[Act::Revoke(Part::All)],
    &[Act::Signal, Act::Signal, Act::Delete(Part::Server)],
    &[Act::Suspend(Part::Client), Act::Delete(Part::Server), Act::Resume(Part::Client)],
    &[Act::Suspend(Part::Server), Act::Delete(Part::ClientBudget), Act::Resume(Part::Server)],
];

/// Explores all programs with `setting`; how many states and ends there were.
fn explore(setting: Setting) -> (usize, usize) {
    let (mut states, mut ends) = (0, 0);
    for client in CLIENTS {
        for server in SERVERS {
            for other in OTHERS {
                let mut exploration = Exploration::new(setting, client, server, other);
                let failed =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| exploration.visit())).is_err();
                if failed {
                    let steps: Vec<usize> = exploration.stories.iter().map(|story| story.next).collect();
                    panic!(
                        "{setting:?} {client:?} {server:?} {other:?} after {:?} (steps {steps:?})",
                        exploration.path
                    );
                }
                states += exploration.seen.len();
                ends += exploration.ends;
            }
        }
    }
    println!("{setting:?}: {states} states, {ends} ends");
    (states, ends)
}

fn settings(active: bool, apart: bool) -> [Setting; 4] {
    [(false, false), (false, true), (true, false), (true, true)].map(|(bound, fast)| Setting {
        active,
        apart,
        bound,
        fast,
    })
}

#[test]
fn no_interleaving_with_an_active_server_goes_wrong() {
    for setting in settings(true, false) {
        assert!(explore(setting).0 > 10_000);
    }
}

#[test]
fn no_interleaving_with_a_passive_server_goes_wrong() {
    for setting in settings(false, false) {
        assert!(explore(setting).0 > 5_000);
    }
}

#[test]
fn no_interleaving_with_a_server_on_another_cpu_goes_wrong() {
    for setting in settings(true, true) {
        assert!(explore(setting).0 > 10_000);
    }
}
