//! Each operation on one CPU beside each other one on another CPU: first on objects of its own, then on the same ones.
//!
//! Two workers run one operation each until both have done enough rounds. What they do is counted on both ends. With
//! private objects, all threads of a worker are on its CPU. With shared ones, each CPU has a server of the same
//! objects, a worker's partner is on the other CPU, and what stops, kicks or re-prioritises threads does so to the other
//! worker.

use core::sync::atomic::Ordering::SeqCst;

use abi::message::fault;
use abi::{CPtr, Error, Kind, MapFlags, MsgInfo, Rights};
use ipc::{Message, Received, Untyped, VSpace};

use crate::arena;
use crate::row;
use crate::stops::{STRUCK, forget_kicks, kick, kicked};
use crate::subject::{BREAKPOINT, HERE, INVALID_OPCODE, address};
use crate::table::{Need, Test};
use crate::world::{
    CNODE, Must, PRIORITY, SCHED_CONTROL, Slot, Thread, VSPACE, World, count, finish, give_way, now,
};

/// Rounds that both workers do at least.
const ROUNDS: u64 = 25;
/// Priority of what answers workers.
const ABOVE: u64 = 120;
/// Label of a message that is answered, and of one that is not.
const QUESTION: u32 = 1;
const NEWS: u32 = 2;
/// log2 of the memory of what a worker makes.
const MEMORY_BITS: u32 = 12;

/// What a worker does, with whoever is on the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Call,
    Send,
    Signal,
    Poll,
    Yield,
    Fault,
    Deadline,
    Budget,
    Map,
    Stop,
    Priority,
    Kick,
    Make,
}

use Operation::{Budget, Call, Deadline, Fault, Kick, Make, Map, Poll, Priority, Send, Signal, Stop, Yield};

const ALL: [Operation; 13] =
    [Call, Send, Signal, Poll, Yield, Fault, Deadline, Budget, Map, Stop, Priority, Kick, Make];

/// The tests of an operation.
macro_rules! tests {
    ($($operation:ident: $private:ident, $shared:ident, $promise:literal;)*) => {
        $(
            fn $private(w: &mut World) {
                meet_all(w, $operation, false);
            }

            fn $shared(w: &mut World) {
                meet_all(w, $operation, true);
            }
        )*

        /// The tests of this area.
        pub const TESTS: &[Test] = &[$(
            row!("smp_table", $private, concat!($promise, ", beside each operation on another CPU"), Need::Cpus(2)),
            row!("smp_table", $shared, concat!($promise, ", beside each operation on another CPU on the same objects"), Need::Cpus(2)),
        )*];
    };
}

tests! {
    Call: call_on_private_objects, call_on_shared_objects, "every call is heard once and has its own answer";
    Send: send_on_private_objects, send_on_shared_objects, "every message sent is heard once";
    Signal: signal_and_wait_on_private_objects, signal_and_wait_on_shared_objects, "every signal ends one wait";
    Poll: poll_on_private_objects, poll_on_shared_objects, "every signal is polled once";
    Yield: yield_on_private_objects, yield_on_shared_objects, "a thread that yields lets another one run";
    Fault: fault_on_private_objects, fault_on_shared_objects, "every fault is heard and answered";
    Deadline: deadline_on_private_objects, deadline_on_shared_objects, "no wait ends before its deadline, and none takes a signal with it";
    Budget: budget_on_private_objects, budget_on_shared_objects, "every end of a budget is heard and answered";
    Map: map_and_unmap_on_private_objects, map_and_unmap_on_shared_objects, "a page that is mapped has what was written to it";
    Stop: suspend_and_resume_on_private_objects, suspend_and_resume_on_shared_objects, "a thread that is stopped and resumed goes on";
    Priority: set_priority_on_private_objects, set_priority_on_shared_objects, "a thread whose priority changes goes on";
    Kick: kick_on_private_objects, kick_on_shared_objects, "a thread that is kicked goes on, and enters its library once for each kick";
    Make: retype_and_delete_on_private_objects, retype_and_delete_on_shared_objects, "an Endpoint that is deleted lets its receiver go, and its memory is free";
}

/// Counters of a side: two shared words each.
#[derive(Clone, Copy, Debug)]
enum Count {
    /// Rounds done.
    Rounds,
    /// Messages sent, the latest one heard, and those heard again.
    Sent,
    Latest,
    Repeated,
    /// Waits that a suspend broke off.
    Cancelled,
    /// Signals sent and heard.
    Signalled,
    Acknowledged,
    /// Breakpoints met and heard.
    Met,
    Heard,
    /// Ends of the budget heard.
    Spent,
    /// Turns of the partner.
    Turns,
    /// Endpoints made, and those whose end the partner saw.
    Made,
    Gone,
    /// Kicks that redirected their thread.
    Kicked,
}

/// Number of counters.
const COUNTS: usize = 14;

impl Count {
    fn word(self, side: usize) -> usize {
        2 * self as usize + side
    }

    fn get(self, side: usize) -> u64 {
        arena::get(self.word(side))
    }

    fn up(self, side: usize) -> u64 {
        arena::add(self.word(side), 1) + 1
    }
}

fn both_are_through() -> bool {
    (0..2).all(|side| Count::Rounds.get(side) >= ROUNDS)
}

impl Operation {
    /// Returns true if it acts on another thread whatever that does.
    fn is_on_threads(self) -> bool {
        matches!(self, Stop | Priority | Kick)
    }
}

/// A worker's view of its objects.
#[derive(Clone, Copy, Debug)]
struct Side {
    number: usize,
    /// Where its messages and faults go, by a badged capability.
    endpoint: CPtr,
    /// What it signals, by a badged capability, and what is signalled back.
    notification: CPtr,
    back: CPtr,
    /// What nobody signals.
    never: CPtr,
    /// Starts its partner.
    go: CPtr,
    space: VSpace,
    frame: CPtr,
    memory: Untyped,
    /// Two slots for what it makes.
    made: CPtr,
    /// The Endpoint that it derives from.
    origin: CPtr,
    /// Ticks of a short wait.
    step: u64,
}

/// Whom a worker acts on, and the counter that shows the target's progress.
#[derive(Clone, Copy, Debug)]
struct Target {
    thread: Thread,
    progress: (Count, usize),
}

/// Answers messages and faults of both sides.
fn serve(endpoint: CPtr) {
    let mut answer = Message::new(0);
    loop {
        let received = ipc::reply_recv(endpoint, answer).must("a message");
        answer = hear(&received);
    }
}

fn hear(received: &Received) -> Message {
    let side = received.badge as usize - 1;
    let words = received.message.words;
    match received.message.info.label() {
        QUESTION | NEWS => {
            accept(side, words[0]);
            Message::of(QUESTION, [!words[0]])
        }
        fault::LABEL => {
            assert_eq!(received.message.info, MsgInfo::plain(fault::LABEL));
            hear_fault(side, words[fault::KIND], words[fault::RIP])
        }
        label => panic!("side {side} sent a message with label {label:#x}"),
    }
}

/// Counts message `number`: the next one, or one that is sent again because a suspend broke its call off.
fn accept(side: usize, number: u64) {
    let latest = arena::word(Count::Latest.word(side));
    if latest.compare_exchange(number - 1, number, SeqCst, SeqCst).is_err() {
        let latest = latest.load(SeqCst);
        assert!(latest >= number, "side {side}: message {number} follows {latest}");
        Count::Repeated.up(side);
    }
}

fn hear_fault(side: usize, kind: u64, rip: u64) -> Message {
    match kind {
        BREAKPOINT => Count::Heard.up(side),
        fault::BUDGET => Count::Spent.up(side),
        // It has ended, and stays stopped.
        INVALID_OPCODE if rip == finish as *const () as u64 => return Message::new(1),
        kind => panic!("side {side} has met a {} at {rip:#x}", fault::name(kind)),
    };
    Message::new(0)
}

/// Hears the signals of both sides, and signals back.
fn acknowledge(notification: CPtr, back: [CPtr; 2]) {
    loop {
        let bits = ipc::wait(notification).must("a signal");
        assert_eq!(bits & !3, 0, "bits that nobody signals");
        for (side, back) in back.into_iter().enumerate().filter(|(side, _)| bits & 1 << side != 0) {
            Count::Acknowledged.up(side);
            ipc::signal(back).must("a signal back");
        }
    }
}

impl Side {
    /// Works until both sides are through.
    fn work(&self, operation: Operation, target: Target) {
        while !both_are_through() {
            self.round(operation, target);
            Count::Rounds.up(self.number);
        }
    }

    fn round(&self, operation: Operation, target: Target) {
        match operation {
            Call => self.exchange(|number| {
                let answer = ipc::call(self.endpoint, Message::of(QUESTION, [number]))?;
                assert_eq!(answer, Message::of(QUESTION, [!number]));
                Ok(())
            }),
            Send => self.exchange(|number| ipc::send(self.endpoint, Message::of(NEWS, [number]))),
            Signal => self.signal(|| ipc::wait(self.back)),
            Poll => self.signal(|| {
                give_way();
                ipc::poll(self.back)
            }),
            Deadline => {
                self.wait_in_vain();
                self.signal(|| ipc::wait_until(self.back, now() + self.step));
            }
            Yield => self.while_still(Count::Turns, ipc::yield_now),
            Budget => self.while_still(Count::Spent, core::hint::spin_loop),
            Fault => {
                let met = Count::Met.up(self.number);
                // SAFETY: the server lets the thread go on behind it.
                unsafe { core::arch::asm!("int3") };
                assert!(Count::Heard.get(self.number) >= met, "nobody has heard of a breakpoint");
            }
            Map => self.map(),
            Stop | Priority | Kick => self.act(operation, target),
            Make => self.make(),
        }
    }

    /// Sends the next message, again if a suspend broke that off.
    fn exchange(&self, send: impl Fn(u64) -> Result<(), Error>) {
        let number = Count::Sent.up(self.number);
        while let Err(error) = send(number) {
            self.cancelled(error);
        }
    }

    fn cancelled(&self, error: Error) {
        assert_eq!(error, Error::Cancelled);
        Count::Cancelled.up(self.number);
    }

    /// Signals, and takes the signal back by `take`, which is repeated until it has one.
    fn signal(&self, take: impl Fn() -> Result<u64, Error>) {
        let signalled = Count::Signalled.up(self.number);
        ipc::signal(self.notification).must("a signal");
        self.take(take);
        assert_eq!(Count::Acknowledged.get(self.number), signalled);
    }

    fn take(&self, take: impl Fn() -> Result<u64, Error>) {
        loop {
            match take() {
                Ok(bits) => return assert_eq!(bits, 1),
                Err(Error::WouldBlock | Error::TimedOut) => {}
                Err(error) => self.cancelled(error),
            }
        }
    }

    fn wait_in_vain(&self) {
        let end = now() + self.step;
        match ipc::wait_until(self.never, end) {
            Err(Error::TimedOut) => assert!(now() >= end, "early"),
            Err(error) => self.cancelled(error),
            Ok(bits) => panic!("bits that nobody signals: {bits:#x}"),
        }
    }

    /// Repeats `act` until a counter of this side has gone on.
    fn while_still(&self, count: Count, act: impl Fn()) {
        let seen = count.get(self.number);
        while count.get(self.number) == seen && !both_are_through() {
            act();
        }
    }

    fn map(&self) {
        let place = HERE + (self.number as u64) * 0x20_0000;
        let word = (place + 8 * self.number as u64) as *mut u64;
        let round = Count::Rounds.get(self.number);
        self.space.map(self.frame, place, 0, 1, MapFlags::WRITE).must("a map");
        // SAFETY: a word of this side's own in a page that it has just mapped.
        let found = unsafe { word.read_volatile() };
        assert_eq!(found & 0xffff_ffff, round, "what was written in the last round");
        // SAFETY: as above.
        unsafe { word.write_volatile(round + 1) };
        self.space.unmap(place, 1).must("an unmap");
    }

    /// Acts on the target once, at another point of each of its rounds.
    fn act(&self, operation: Operation, target: Target) {
        let (count, side) = target.progress;
        let (seen, round) = (count.get(side), Count::Rounds.get(self.number));
        for _ in 0..round * 37 % 500 {
            core::hint::spin_loop();
        }
        let thread = target.thread;
        match operation {
            Stop => {
                thread.tcb.suspend().must("a stop");
                thread.tcb.resume().must("letting it run");
            }
            Priority => SCHED_CONTROL.set_priority(thread.tcb.0, PRIORITY + round % 10).must("a priority"),
            _ => {
                if kick(&thread) {
                    Count::Kicked.up(self.number);
                }
            }
        }
        while count.get(side) == seen && !both_are_through() {
            give_way();
        }
    }

    /// Makes an Endpoint, and deletes it while the partner receives there, or is about to.
    fn make(&self) {
        let made = self.made.into_slot();
        self.memory.retype(Kind::Endpoint, 0, CNODE.0, made, 1).must("an Endpoint");
        let count = Count::Made.up(self.number);
        ipc::signal(self.go).must("starting the partner");
        CNODE.mint(made + 1, CNODE.0, self.origin.into_slot(), Rights::ALL, count).must("a mint");
        CNODE.delete(made + 1).must("a delete");
        if count.is_multiple_of(2) {
            CNODE.delete(made).must("a delete");
        }
        CNODE.revoke(self.memory.0.into_slot()).must("a revoke");
        self.take(|| ipc::wait(self.back));
        assert_eq!(Count::Gone.get(self.number), count);
        assert_eq!(CNODE.describe(self.memory.0.into_slot()).must("a look").free, 1 << MEMORY_BITS);
    }

    /// What the partner does.
    fn assist(&self, operation: Operation) {
        loop {
            match operation {
                Make => {
                    assert_eq!(ipc::wait(self.go).must("the next Endpoint"), 1);
                    match ipc::recv(self.made, CPtr::NULL) {
                        Err(Error::Cancelled | Error::NoCapability) => Count::Gone.up(self.number),
                        other => panic!("of an Endpoint that is deleted: {other:?}"),
                    };
                    ipc::signal(self.back).must("a signal back");
                }
                Yield => {
                    Count::Turns.up(self.number);
                    ipc::yield_now();
                }
                _ => self.take_turns(),
            }
            if operation != Make && both_are_through() {
                return;
            }
        }
    }

    /// Runs and waits in turn, so that it can be met in either state.
    fn take_turns(&self) {
        Count::Turns.up(self.number);
        for _ in 0..4 {
            ipc::yield_now();
        }
        match ipc::wait_until(self.never, now() + self.step) {
            Err(Error::TimedOut | Error::Cancelled) => {}
            other => panic!("a wait in vain ended with {other:?}"),
        }
    }
}

/// The threads and objects of a row.
#[derive(Clone, Copy, Debug)]
struct Stage {
    shared: bool,
    sides: [Side; 2],
    workers: [Thread; 2],
    /// Workers that run out of budget.
    spenders: [Thread; 2],
    partners: [Thread; 2],
}

impl Stage {
    fn new(w: &mut World, shared: bool) -> Stage {
        let cpus = [0, w.cpus() - 1];
        let back = [w.notification(), w.notification()];
        let ends: [CPtr; 4] = core::array::from_fn(|at| match at % 2 {
            0 => w.endpoint(),
            _ => w.notification(),
        });
        let [never, also_never] = [w.notification(), w.notification()];
        let frame = w.frame(1);
        let sides = [0, 1].map(|number| {
            let own = if shared { 0 } else { number };
            let [origin, notification] = [ends[2 * own], ends[2 * own + 1]];
            w.thread().cpu(cpus[number]).priority(ABOVE).start(move || serve(origin));
            w.thread().cpu(cpus[number]).priority(ABOVE).start(move || acknowledge(notification, back));
            Side {
                number,
                endpoint: w.mint(origin, Rights::ALL, number as u64 + 1),
                notification: w.mint(notification, Rights::ALL, 1 << number),
                back: back[number],
                never: if own == 0 { never } else { also_never },
                go: w.notification(),
                space: if shared { VSPACE } else { w.space() },
                frame: if own == number && !shared { w.frame(1) } else { frame },
                memory: Untyped(w.make_sized(Kind::Untyped, MEMORY_BITS)),
                made: w.slots(2),
                origin,
                step: w.microseconds(5),
            }
        });
        let budget = w.microseconds(100);
        let thread = |w: &mut World, side: &Side| {
            let Side { endpoint, space, number, .. } = *side;
            let worker = w.thread().cpu(cpus[number]).space(space).faults_to(endpoint).prepare();
            let spender = w.thread().cpu(cpus[number]).space(space).faults_to(endpoint);
            let spender = spender.budget(budget, 2 * budget).fault_when_out().prepare();
            let place = if shared { cpus[1 - number] } else { cpus[number] };
            (worker, spender, w.thread().cpu(place).prepare())
        };
        let [one, other] = [thread(w, &sides[0]), thread(w, &sides[1])];
        Stage {
            shared,
            sides,
            workers: [one.0, other.0],
            spenders: [one.1, other.1],
            partners: [one.2, other.2],
        }
    }

    fn worker(&self, operations: [Operation; 2], side: usize) -> Thread {
        if operations[side] == Budget { self.spenders[side] } else { self.workers[side] }
    }

    /// Whom side `side` acts on: its partner, or with shared objects the other worker. Where both act on threads, they
    /// act on one partner, lest they stop each other.
    fn target(&self, operations: [Operation; 2], side: usize) -> Target {
        let other = 1 - side;
        if !self.shared {
            Target { thread: self.partners[side], progress: (Count::Turns, side) }
        } else if operations[other].is_on_threads() {
            Target { thread: self.partners[1], progress: (Count::Turns, 1) }
        } else {
            Target { thread: self.worker(operations, other), progress: (Count::Rounds, other) }
        }
    }

    /// Runs one operation on each side.
    fn meet(&self, w: &World, operations: [Operation; 2]) {
        (0..2 * COUNTS).for_each(|word| arena::set(word, 0));
        self.clear_frames();
        for (side, operation) in operations.into_iter().enumerate() {
            let own = self.sides[side];
            if matches!(operation, Yield | Make) || operation.is_on_threads() {
                ready(&self.partners[side]);
                self.partners[side].run(move || own.assist(operation));
            }
        }
        for (side, operation) in operations.into_iter().enumerate() {
            let own = self.sides[side];
            let target = self.target(operations, side);
            let worker = self.worker(operations, side);
            ready(&worker);
            worker.run(move || own.work(operation, target));
        }
        let through = || (0..2).all(|side| self.worker(operations, side).is_done());
        w.until_or(through, || panic!("{operations:?} stand still: {:?}", Tally::of(0, 1)));
        for side in 0..2 {
            self.worker(operations, side).tcb.suspend().must("a stop");
            self.partners[side].tcb.suspend().must("a stop");
            self.check(operations, side);
        }
    }

    fn clear_frames(&self) {
        for side in &self.sides {
            let place = HERE + 0x40_0000;
            VSPACE.map(side.frame, place, 0, 1, MapFlags::WRITE).must("a map");
            // SAFETY: a page that nobody else has mapped now.
            unsafe { (place as *mut [u64; 2]).write_volatile([0; 2]) };
            VSPACE.unmap(place, 1).must("an unmap");
        }
    }

    /// What a side did is what the other end heard.
    fn check(&self, operations: [Operation; 2], side: usize) {
        let tally = Tally::of(side, side);
        let other = if self.shared { Some(operations[1 - side]) } else { None };
        let [sent, latest, repeated, cancelled] =
            [Count::Sent, Count::Latest, Count::Repeated, Count::Cancelled].map(|count| count.get(side));
        let pairs = [
            (sent, latest),
            (Count::Signalled.get(side), Count::Acknowledged.get(side)),
            (Count::Made.get(side), Count::Gone.get(side)),
        ];
        assert!(pairs.iter().all(|(here, there)| here == there), "{operations:?}: {tally:?}");
        let may_repeat = other == Some(Stop) && operations[side] == Call;
        assert!(repeated <= if may_repeat { cancelled } else { 0 }, "{operations:?}: {tally:?}");
        assert!(cancelled == 0 || other == Some(Stop), "{operations:?}: {tally:?}");
        // (A fault strikes again for whoever was stopped or kicked before its handler answered.)
        let [met, heard] = [Count::Met.get(side), Count::Heard.get(side)];
        let strikes_again = matches!(other, Some(Stop | Kick));
        assert!(heard == met || strikes_again && heard > met, "{operations:?}: {tally:?}");
        if operations[side] == Kick && other.is_none_or(|other| other != Kick) {
            let target = self.target(operations, side).thread;
            let (kicks, struck) = (Count::Kicked.get(side), target.buffer().user[STRUCK].get());
            // (The last one may have come when the target was through.)
            assert!(
                struck == kicks || struck + 1 == kicks,
                "{operations:?}: {struck} of {kicks} kicks struck"
            );
        }
    }
}

/// Makes a thread that does not run as it was at first.
fn ready(thread: &Thread) {
    thread.tcb.suspend().must("a stop");
    thread.tcb.set_foreign(0, address(kicked)).must("a kick entry");
    SCHED_CONTROL.set_priority(thread.tcb.0, PRIORITY).must("a priority");
    forget_kicks(thread);
}

/// All counters of some sides, for people.
#[derive(Debug)]
#[expect(dead_code, reason = "printed where a test fails")]
struct Tally([[u64; COUNTS]; 2]);

impl Tally {
    fn of(first: usize, second: usize) -> Tally {
        Tally([first, second].map(|side| core::array::from_fn(|count| arena::get(2 * count + side))))
    }
}

fn meet_all(w: &mut World, operation: Operation, shared: bool) {
    let stage = Stage::new(w, shared);
    for other in ALL {
        stage.meet(w, [operation, other]);
    }
    count();
}
