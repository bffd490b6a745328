//! What must hold between any two entries, beyond `Kernel::verify`: nothing refers to an object that is gone,
//! and every SchedContext is in one place.

use std::collections::{BTreeMap, BTreeSet};

use abi::Kind;
use objects::endpoint::Endpoint;
use objects::notification::Notification;
use objects::reply::{Loan, Reply};
use objects::sched_context::SchedContext;
use objects::slot::Home;
use objects::tcb::State;
use objects::{Ref, Slot, Tcb, tree};

use crate::world::World;

/// The objects that exist, by address.
#[derive(Default)]
pub struct Living {
    pub threads: BTreeSet<u64>,
    pub contexts: BTreeSet<u64>,
    pub replies: BTreeSet<u64>,
    pub endpoints: BTreeSet<u64>,
    pub notifications: BTreeSet<u64>,
    pub io_spaces: BTreeSet<u64>,
}

impl Living {
    pub fn of(world: &World) -> Living {
        let mut living = Living::default();
        let mut rest = vec![Ref::of(&world.kernel.universe)];
        while let Some(slot) = rest.pop() {
            rest.extend(tree::children(slot));
            if !slot.is_owner() {
                continue;
            }
            let all = match slot.kind.get() {
                Kind::Tcb => &mut living.threads,
                Kind::SchedContext => &mut living.contexts,
                Kind::Reply => &mut living.replies,
                Kind::Endpoint => &mut living.endpoints,
                Kind::Notification => &mut living.notifications,
                Kind::IoSpace => &mut living.io_spaces,
                _ => continue,
            };
            assert!(all.insert(slot.object.get()), "two own one object");
        }
        living.replies.extend(living.threads.iter().map(|&tcb| Ref::of(&at::<Tcb>(tcb).reply).address()));
        living
    }
}

fn at<T: objects::memory::Object>(address: u64) -> &'static T {
    Ref::<T>::at(address).unwrap().get()
}

fn waits_for_answer(tcb: &Tcb) -> bool {
    matches!(tcb.state.get(), State::Answer | State::FaultAnswer)
}

/// Panics if something does not hold.
pub fn check(world: &World) {
    world.kernel.verify();
    let living = Living::of(world);
    for &address in &living.threads {
        check_thread(world, &living, Ref::at(address).unwrap());
    }
    for &address in &living.replies {
        check_reply(&living, Ref::at(address).unwrap());
    }
    for &address in &living.contexts {
        if let Some(tcb) = at::<SchedContext>(address).tcb.get() {
            assert!(living.threads.contains(&tcb.address()), "a SchedContext is bound to a dead thread");
            assert_eq!(tcb.sched_context.get().map(Ref::address), Some(address));
        }
    }
    for &address in &living.endpoints {
        let endpoint: &Endpoint = at(address);
        let senders = in_order(&endpoint.senders);
        assert!(endpoint.receivers.is_empty() || senders.is_empty(), "a sender and a receiver miss");
        for tcb in endpoint.receivers.iter().chain(senders) {
            check_waiter(&living, tcb, address);
        }
    }
    for &address in &living.notifications {
        let notification: &Notification = at(address);
        notification.waiters.iter().for_each(|tcb| check_waiter(&living, tcb, address));
        if let Some(bound) = notification.bound.get() {
            assert!(living.threads.contains(&bound.address()), "a Notification is bound to a dead thread");
            assert_eq!(bound.bound.get().map(Ref::address), Some(address));
            assert_eq!(notification.bits.get() != 0, bound.bound_pending.get(), "the fast path looks amiss");
            let missed = bound.state.get() == State::Receiving && notification.bits.get() != 0;
            assert!(!missed, "a receiver sleeps over its bound Notification");
        }
    }
    check_budgets(world, &living);
    check_timers(world, &living);
    world.check_tlbs();
    world.check_devices(&living.io_spaces);
}

/// The threads of a heap in its order. Panics if one comes before its parent.
pub fn in_order(heap: &objects::timer::Heap) -> Vec<Ref<Tcb>> {
    let (mut found, mut left) = (Vec::new(), Vec::from_iter(heap.get()));
    while let Some(tcb) = left.pop() {
        let parent = tcb.timer.parent.get();
        assert!(parent.is_none_or(|parent| parent.timer.at.get() <= tcb.timer.at.get()));
        left.extend([&tcb.timer.left, &tcb.timer.right].into_iter().filter_map(|child| child.get()));
        found.push(tcb);
    }
    found.sort_by_key(|tcb| tcb.timer.at.get());
    found
}

fn check_waiter(living: &Living, tcb: Ref<Tcb>, on: u64) {
    assert!(living.threads.contains(&tcb.address()), "a dead thread waits");
    assert_eq!(tcb.blocked_on.get(), on, "a thread waits elsewhere");
    assert!(tcb.is_blocked() && !waits_for_answer(&tcb));
}

fn check_thread(world: &World, living: &Living, tcb: Ref<Tcb>) {
    let lives = |reference: Option<u64>, all: &BTreeSet<u64>, what| {
        assert!(reference.is_none_or(|address| all.contains(&address)), "a thread refers to a dead {what}");
    };
    lives(tcb.sched_context.get().map(Ref::address), &living.contexts, "SchedContext");
    lives(tcb.receive_reply.get().map(Ref::address), &living.replies, "Reply");
    lives(tcb.bound.get().map(Ref::address), &living.notifications, "Notification");
    if waits_for_answer(&tcb) {
        lives(Some(tcb.blocked_on.get()), &living.replies, "Reply");
    }
    for (slot, home) in
        tcb.slots.iter().zip([Home::ThreadCSpace, Home::ThreadVSpace, Home::ThreadBuffer, Home::ThreadFault])
    {
        assert_eq!((slot.home.get(), slot.extra.get()), (home, tcb.address()));
    }
    let runs = world.cpus.iter().any(|cpu| cpu.thread() == tcb);
    assert!(!tcb.is_runnable() || runs || !tcb.pending.get(), "a thread is to run past its exception");
    let [cspace, vspace, buffer, _] = &tcb.slots;
    let slots = if cspace.is_empty() { (tcb.cspace.get(), 0) } else { (cspace.object.get(), cspace.size()) };
    assert_eq!((tcb.cspace.get(), tcb.cspace_slots.get()), slots, "a CSpace that is not the thread's");
    let root = if vspace.is_empty() { world.kernel.root.get() } else { physical(world, vspace) };
    assert_eq!((tcb.has_vspace.get(), tcb.cr3.get()), (!vspace.is_empty(), root), "not the thread's VSpace");
    let start = world.memory.address(buffer.object.get());
    let inside = (start..start + buffer.size()).contains(&tcb.buffer.get());
    assert!(
        if buffer.is_empty() { tcb.buffer.get() == 0 } else { inside },
        "an IPC buffer outside its Frame"
    );
    assert!(tcb.buffer.get() != 0 || tcb.foreign_entry.get() == 0, "a library without a buffer");
}

fn physical(world: &World, slot: &Slot) -> u64 {
    world.memory.physical(slot.object.get())
}

fn check_reply(living: &Living, reply: Ref<Reply>) {
    if let Some(server) = reply.server.get() {
        assert!(living.threads.contains(&server.address()), "a Reply refers to a dead server");
        let own = Ref::of(&server.reply) == reply;
        assert!(own || server.receive_reply.get() == Some(reply), "a Reply's server has turned away");
    }
    if let Some(caller) = reply.caller.get() {
        assert!(living.threads.contains(&caller.address()), "a Reply refers to a dead caller");
        assert!(waits_for_answer(&caller), "a caller does not wait");
        assert_eq!(caller.blocked_on.get(), reply.address(), "a caller waits for another answer");
        let simple =
            reply.loan.get() == Loan::Lent && !reply.no_grant.get() && caller.state.get() == State::Answer;
        let fast = caller.key.get() & objects::tcb::key::SLOW_ANSWER == 0;
        assert!(simple || !fast, "the fast path would answer what is not simple");
    } else {
        assert_eq!(reply.owed.get(), None, "a Reply owes to nobody");
        assert_eq!(reply.loan.get(), Loan::Lent, "a loan without a caller");
    }
    if reply.loan.get() == Loan::Lent && reply.caller.get().is_some() {
        let server = reply.server.get().expect("lent to nobody");
        let at_work = server.receive_reply.get().unwrap_or_else(|| Ref::of(&server.reply));
        assert_eq!(at_work, reply, "lent to a server that has turned to another");
    }
    if let Some(owed) = reply.owed.get() {
        assert_eq!(reply.loan.get(), Loan::Owed);
        assert!(living.contexts.contains(&owed.address()), "a Reply owes a dead SchedContext");
    }
}

/// Each SchedContext has one holder at most; who has one of its own is not left without.
fn check_budgets(world: &World, living: &Living) {
    let mut holders: BTreeMap<u64, String> = BTreeMap::new();
    let mut hold = |context: Ref<SchedContext>, who: String| {
        assert!(living.contexts.contains(&context.address()), "{who} runs on a dead SchedContext");
        let bound = context.tcb.get().map(Ref::address);
        assert!(
            bound.is_some_and(|tcb| living.threads.contains(&tcb)),
            "{who} runs on an unbound SchedContext"
        );
        if let Some(other) = holders.insert(context.address(), who.clone()) {
            panic!("{who} and {other} run on one SchedContext");
        }
    };
    for &address in &living.replies {
        if let Some(owed) = at::<Reply>(address).owed.get() {
            hold(owed, format!("reply {address:#x}"));
        }
    }
    for &address in &living.threads {
        let tcb: Ref<Tcb> = Ref::at(address).unwrap();
        let cpu = world.cpus.iter().find(|cpu| cpu.current.get() == Some(tcb));
        let apart = waits_for_answer(&tcb) && at::<Reply>(tcb.blocked_on.get()).loan.get() == Loan::Apart;
        if waits_for_answer(&tcb) && !apart {
            continue;
        }
        let context = cpu.map_or(tcb.runs_on.get(), |cpu| cpu.charged.get());
        match context {
            Some(context) => {
                hold(context, format!("thread {address:#x}"));
                if tcb.is_runnable() {
                    assert_eq!(tcb.cpu(), context.cpu.get(), "a thread runs on the budget of another CPU");
                }
            }
            None => assert_eq!(tcb.sched_context.get(), None, "a thread has lost its SchedContext"),
        }
    }
}

fn check_timers(world: &World, living: &Living) {
    for cpu in world.cpus {
        for (priority, (tcb, at)) in
            cpu.timed_priorities().filter_map(|priority| Some((priority, cpu.first_timer(priority)?)))
        {
            assert!(living.threads.contains(&tcb.address()), "a dead thread has a timer");
            assert_eq!(tcb.priority.get(), priority, "a timer of another priority");
            // (What is due may wait where something more urgent runs.)
            let at = at.max(cpu.deadline.get());
            assert!(cpu.timer_set.get() <= at || world.machine.pokes.get() & 1 << cpu.number.get() != 0);
        }
        let set = cpu.timer_set.get();
        assert_eq!(set, world.machine.timers[cpu.number.get()].get(), "the timer is not set as noted");
        if let Some(context) = cpu.charged.get() {
            let out = cpu.charged_since.get() + context.left.get();
            assert!(set <= out, "a budget runs out unseen");
        }
    }
}
