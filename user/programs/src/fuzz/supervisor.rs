//! Builds worlds, watches over the fuzzing thread, and looks whether everything is whole.
//!
//! It runs above all threads of worlds, in a CSpace and an address space to which no world has a capability.
//! A thread of the lowest priority tells it when the fuzzing thread has not moved for a while; a deadline
//! when even that one does not run.

use core::cell::Cell;

use abi::message::fault;
use abi::object::PAGE_SIZE;
use abi::{CPtr, Kind, MapFlags};
use ipc::{IrqControl, Message, SchedControl, System, Tcb, Untyped};
use proto::component::panic::MAGIC;
use proto::start::names;
use rt::alloc::AllocError;
use rt::inventory::Inventory;
use rt::{env, memory};

use crate::arena::{self, control, get, set};
use crate::program::Program;
use crate::random::Random;
use crate::report;
use crate::sandbox;
use crate::world::{self, Means};

/// Calls between two looks at the kernel's invariants.
const INTERVAL: u64 = 10_000;
/// Calls that a world lasts, at most.
const LIFE: u64 = 2_000;
/// Violations after which there is no use in going on.
const ENOUGH: u64 = 20;
/// A free part of the address space.
const WINDOW: u64 = proto::start::FREE + (1 << 30);
/// Where memory lies that no world has a capability to.
const WITNESS: u64 = proto::start::FREE + (2 << 30);
const WITNESS_BITS: u32 = 14;

/// Labels of answers to faults: the thread goes on, or stays as it is.
const RESUME: u32 = 0;
/// See [`RESUME`].
const STAY: u32 = 1;

/// States that `Tcb.status` tells.
const INACTIVE: u64 = 0;
/// See [`INACTIVE`].
const BLOCKED: u64 = 2;

/// How the fuzzer was kept from its work, for the report.
#[derive(Debug, Default)]
struct Tally {
    worlds: u64,
    faults: u64,
    breaks: u64,
    restarts: u64,
    checks: u64,
}

struct Supervisor {
    means: Means,
    system: System,
    /// The thread that looks out for standstill waits for this before it does.
    go: CPtr,
    seed: u64,
    calls: u64,
    /// At the start: the program's capabilities, its filled slots, what init has left.
    capabilities: Inventory,
    filled: u64,
    inventory: [u64; 2],
    world_end: u64,
    next_check: u64,
    violations: u64,
    /// The call and the time at which the fuzzing thread was last seen to have moved.
    moved: (u64, u64),
    /// The call at which it was last helped, and how often.
    helped: (u64, u64),
    /// Other threads that have faulted: bit n for thread n.
    fallen: u64,
    tally: Tally,
}

/// What becomes of the world.
#[derive(PartialEq, Eq)]
enum Verdict {
    Keep,
    Replace,
}

/// Issues `calls` calls of a seed's sequence; how many violations there were.
pub fn run(seed: u64, calls: u64) -> Result<u64, AllocError> {
    let start = rt::clock::now();
    let mut supervisor = Supervisor::new(seed, calls)?;
    while supervisor.violations < ENOUGH && get(&control().issued) < calls {
        supervisor.world()?;
    }
    supervisor.final_check()?;
    report::counts();
    let Tally { worlds, faults, breaks, restarts, checks } = supervisor.tally;
    let noise = get(&control().noise);
    rt::println!("worlds {worlds}, faults {faults}, waits broken off {breaks}");
    rt::println!("other threads: actions {noise}, begun anew {restarts}");
    let seconds = rt::clock::to_microseconds(rt::clock::now() - start) / 1_000_000;
    rt::println!("invariants checked {checks} times, {seconds} s");
    let violations = supervisor.violations;
    rt::println!("fuzz: {} calls, {violations} violations", get(&control().issued));
    Ok(violations)
}

/// Tells of a standstill: the fuzzing thread has issued no call while this thread of lowest priority ran.
fn look_out(standstill: CPtr, go: CPtr, patience: u64) -> ! {
    let control = control();
    loop {
        let issued = get(&control.issued);
        let end = rt::clock::now() + patience;
        while rt::clock::now() < end && get(&control.issued) == issued {
            core::hint::spin_loop();
        }
        if get(&control.issued) == issued {
            let _ = ipc::signal(standstill);
            let _ = ipc::wait(go);
        }
    }
}

/// The largest Untyped the program has is as large as this, and worlds need no more.
fn world_memory() -> Result<CPtr, AllocError> {
    memory::with(|objects| objects.take_memory(world::BITS + 1))
}

impl Supervisor {
    fn new(seed: u64, calls: u64) -> Result<Supervisor, AllocError> {
        let arena = memory::make(Kind::Frame, arena::BITS)?;
        memory::map(arena, arena::ADDRESS, 0, (1 << arena::BITS) / PAGE_SIZE, MapFlags::WRITE)?;
        let witness = memory::make(Kind::Frame, WITNESS_BITS)?;
        memory::map(witness, WITNESS, 0, (1 << WITNESS_BITS) / PAGE_SIZE, MapFlags::WRITE)?;
        write_witness();
        let memory = Untyped(world_memory()?);
        let slot = || memory::with(|objects| objects.take_slot());
        let slots = || -> Result<[CPtr; 7], AllocError> {
            let mut slots = [CPtr::NULL; 7];
            for place in &mut slots {
                *place = slot()?;
            }
            Ok(slots)
        };
        let means = Means {
            own: memory::cnode()?,
            memory,
            untyped: slot()?,
            made_cspace: slot()?,
            cspace: slot()?,
            spaces: [slot()?, slot()?],
            threads: slots()?,
            contexts: slots()?,
            spare: slot()?,
            endpoint: memory::make(Kind::Endpoint, 0)?,
            program: Program::copy(WINDOW)?,
            arena,
            shared: memory::make(Kind::Frame, 21)?,
            sched_control: SchedControl(env::required("sched-control")),
            irq_control: IrqControl(env::required("irq-control")),
            io_control: env::capability("io-control"),
            io_port: env::required("ports-0x80"),
            system: env::required("system"),
            tsc_hz: env::tsc_hz(),
            cpus: u64::from(env::cpus()),
        };
        let (go, standstill) = (memory::make(Kind::Notification, 0)?, memory::make(Kind::Notification, 0)?);
        Tcb(env::required(names::TCB)).bind_notification(standstill)?;
        let control = control();
        set(&control.seed, seed);
        set(&control.cpus, means.cpus);
        set(&control.microsecond, (means.tsc_hz / 1_000_000).max(1));
        // On one CPU nothing can happen any more when this thread runs; on more something may yet.
        let patience = if means.cpus == 1 { 0 } else { rt::clock::microseconds(30) };
        let lowest = rt::thread::Builder { priority: 0, ..Default::default() };
        let watch = lowest.spawn(move || look_out(standstill, go, patience));
        // It never ends.
        core::mem::forget(watch.map_err(|_| AllocError::NoMemory)?);
        let system = System(means.system);
        let mut supervisor = Supervisor {
            means,
            system,
            go,
            seed,
            calls,
            capabilities: Inventory::default(),
            filled: 0,
            inventory: [0; 2],
            world_end: 0,
            next_check: INTERVAL,
            violations: 0,
            moved: (0, 0),
            helped: (0, 0),
            fallen: 0,
            tally: Tally::default(),
        };
        // So that the address space has all the tables that this takes, before anything is counted.
        supervisor.memory_is_clear()?;
        supervisor.filled = supervisor.filled_slots();
        supervisor.inventory = rt::io::inventory().unwrap_or_default();
        supervisor.capabilities = Inventory::of(supervisor.means.own)?;
        Ok(supervisor)
    }

    /// The number of capabilities in the program's own CSpace.
    fn filled_slots(&self) -> u64 {
        let filled = |&slot: &u64| self.means.own.describe(slot).is_ok_and(|found| found.kind != Kind::Null);
        (0..1 << env::slots().0).filter(filled).count() as u64
    }

    fn violation(&mut self, what: core::fmt::Arguments) {
        self.violations += 1;
        rt::println!("fuzz: VIOLATION before call {}: {what}", get(&control().issued));
    }

    /// Builds a world, watches it, and takes it apart.
    fn world(&mut self) -> Result<(), AllocError> {
        let first = get(&control().issued);
        self.tally.worlds += 1;
        self.world_end = first + LIFE;
        self.set_limit();
        self.fallen = 0;
        self.moved = (first, rt::clock::now());
        self.helped = (first, 0);
        let random = Random::new(!self.seed, first);
        // Tracing takes the fast path out of service; the kernel is to be whole with it and without.
        self.system.trace(if first % 4 == 3 { u64::from(first as u8) } else { 0 })?;
        if let Err(error) = self.means.build(random) {
            self.violation(format_args!("a world cannot be built: {}", error.name()));
        } else {
            self.watch();
        }
        self.take_apart()
    }

    /// Hears what happens, until the world is used up.
    fn watch(&mut self) {
        let tick = rt::clock::microseconds(2000);
        let mut look = rt::clock::now() + tick;
        loop {
            let verdict = match ipc::recv_until(self.means.endpoint, CPtr::NULL, look) {
                Ok(received) if received.notified().is_some() => self.standstill(true),
                Ok(received) if received.badge == 1 => self.fault(&received.message.words),
                Ok(received) => {
                    self.other_fault(received.badge, received.message.words[fault::KIND]);
                    // However many there are of these, they do not put off the next look.
                    if rt::clock::now() < look {
                        continue;
                    }
                    self.standstill(false)
                }
                Err(_) => self.standstill(false),
            };
            if verdict == Verdict::Replace {
                return;
            }
            look = rt::clock::now() + tick;
        }
    }

    /// One of the other threads faulted. It is always answered: left without an answer, it would run into its
    /// fault again at the next receive, and so on for as long as its SchedContext has time, which can be for
    /// ever: neither the fuzzing thread nor the one that looks out for standstill would get to run.
    fn other_fault(&mut self, badge: u64, kind: u64) {
        let label = if kind == fault::BUDGET { RESUME } else { STAY };
        if label == STAY {
            self.fallen |= 1 << (badge - 1);
        }
        // (Refused if the world has broken off its wait meanwhile.)
        let _ = ipc::reply(Message::new(label));
    }

    /// The fuzzing thread faulted.
    fn fault(&mut self, words: &[u64; 8]) -> Verdict {
        self.tally.faults += 1;
        let rip = words[fault::RIP];
        if rip == sandbox::pause as *const () as u64 {
            return self.paused();
        }
        let tcb = Tcb(self.means.threads[0]);
        if let Ok(registers) = rt::thread::read_registers(tcb)
            && registers.rax == MAGIC
        {
            self.violation(format_args!("the fuzzing thread panicked at {rip:#x}"));
            return Verdict::Replace;
        }
        self.begin_anew()
    }

    /// The fuzzing thread has stopped by itself.
    fn paused(&mut self) -> Verdict {
        if get(&control().wrong) != 0 {
            report::wrong();
            self.violations += 1;
            set(&control().wrong, 0);
        }
        let issued = get(&control().issued);
        if issued >= self.next_check {
            self.next_check += INTERVAL;
            self.tally.checks += 1;
            if let Err(error) = self.system.verify() {
                self.violation(format_args!("System.verify is refused: {}", error.name()));
            }
            if issued.is_multiple_of(10 * INTERVAL) {
                rt::println!("fuzz: {issued} calls, {} worlds", self.tally.worlds);
            }
        }
        if issued >= self.world_end || issued >= self.calls || self.violations >= ENOUGH {
            return Verdict::Replace;
        }
        self.set_limit();
        self.begin_anew()
    }

    fn set_limit(&self) {
        set(&control().limit, self.world_end.min(self.next_check).min(self.calls));
    }

    /// Lets the fuzzing thread go on with the next call.
    fn begin_anew(&mut self) -> Verdict {
        if self.is_beyond_help() || self.means.restart(0, 0).is_err() {
            return Verdict::Replace;
        }
        Verdict::Keep
    }

    /// Whether helping has not helped.
    fn is_beyond_help(&mut self) -> bool {
        let issued = get(&control().issued);
        if self.helped.0 != issued {
            self.helped = (issued, 0);
        }
        self.helped.1 += 1;
        self.helped.1 > 2
    }

    /// Nothing seems to go on any more.
    fn standstill(&mut self, told: bool) -> Verdict {
        let verdict = self.look_after();
        // One of the other threads is helped along, too.
        let other = Tcb(self.means.threads[1 + (self.tally.breaks % world::RUNNING as u64) as usize]);
        if let Ok([BLOCKED, ..]) = other.status() {
            let _ = other.suspend().and_then(|()| other.resume());
        }
        for index in (1..arena::THREADS).filter(|index| self.fallen >> index & 1 == 1) {
            // A thread that is gone, or that somebody runs already, stays as it is.
            if self.means.restart(index, get(&control().noise)).is_ok() {
                self.tally.restarts += 1;
            }
        }
        self.fallen = 0;
        if told {
            let _ = ipc::signal(self.go);
        }
        verdict
    }

    fn look_after(&mut self) -> Verdict {
        let (issued, now) = (get(&control().issued), rt::clock::now());
        if self.moved.0 != issued {
            self.moved = (issued, now);
        }
        if issued >= get(&control().limit) {
            // It cannot say so itself any more.
            return Verdict::Replace;
        }
        let tcb = Tcb(self.means.threads[0]);
        match tcb.status() {
            Err(_) => Verdict::Replace,
            Ok([INACTIVE, ..]) if self.helped.0 != issued => self.begin_anew(),
            Ok([INACTIVE, ..]) => Verdict::Replace,
            Ok([BLOCKED, ..]) => {
                self.tally.breaks += 1;
                if self.is_beyond_help() || tcb.suspend().is_err() || tcb.resume().is_err() {
                    return Verdict::Replace;
                }
                Verdict::Keep
            }
            Ok(_) if now - self.moved.1 > rt::clock::microseconds(10_000) => Verdict::Replace,
            Ok(_) => Verdict::Keep,
        }
    }

    /// Takes the world apart, and looks whether all of it comes back.
    fn take_apart(&mut self) -> Result<(), AllocError> {
        self.means.take_apart()?;
        self.means.own.delete(u64::from(self.means.spare.0))?;
        let free = self.means.own.describe(u64::from(self.means.memory.0.0))?.free;
        if free != 1 << (world::BITS + 1) {
            self.violation(format_args!("memory is lost: {free} bytes are free"));
        }
        if !witness_is_whole() {
            self.violation(format_args!("memory changed that no world has a capability to"));
            write_witness();
        }
        self.memory_is_clear()?;
        if get(&control().issued).is_multiple_of(INTERVAL) {
            self.check()?;
        }
        Ok(())
    }

    /// What the last world wrote into its Frames is not to be found in new ones.
    fn memory_is_clear(&mut self) -> Result<(), AllocError> {
        let Means { own, memory, untyped, spare, .. } = self.means;
        memory.retype(Kind::Untyped, world::BITS.into(), own.0, untyped.0.into(), 1)?;
        Untyped(untyped).retype(Kind::Frame, 12, own.0, spare.0.into(), 1)?;
        if !was_clear(spare)? {
            self.violation(format_args!("new memory is not clear"));
        }
        Ok(own.revoke(memory.0.0.into())?)
    }

    /// Looks at the kernel's invariants while there is no world, and whether anything was left behind.
    fn check(&mut self) -> Result<(), AllocError> {
        self.tally.checks += 1;
        self.system.verify()?;
        if let Some((slot, was, is)) = self.capabilities.changed(self.means.own)? {
            self.violation(format_args!("a capability is left: slot {slot} was {was:?} and is {is:?}"));
        }
        Ok(())
    }

    /// What remains to be looked at once.
    fn final_check(&mut self) -> Result<(), AllocError> {
        self.check()?;
        let (filled, inventory) = (self.filled_slots(), rt::io::inventory().unwrap_or_default());
        if (filled, inventory) != (self.filled, self.inventory) {
            let before = (self.filled, self.inventory);
            self.violation(format_args!(
                "slots or memory are lost: {before:?} became {:?}",
                (filled, inventory)
            ));
        }
        Ok(())
    }
}

/// Whether a Frame of a page is clear; it is not any more afterwards.
fn was_clear(frame: CPtr) -> Result<bool, AllocError> {
    memory::map(frame, WINDOW, 0, 1, MapFlags::WRITE)?;
    let clear = words(WINDOW, PAGE_SIZE).all(|word| word.get() == 0);
    words(WINDOW, PAGE_SIZE).for_each(|word| word.set(0xa5a5_a5a5_a5a5_a5a5));
    memory::unmap(WINDOW, 1)?;
    Ok(clear)
}

/// The words of mapped memory that nothing else in this program uses.
fn words(address: u64, bytes: u64) -> impl Iterator<Item = &'static Cell<u64>> {
    // SAFETY: both callers' ranges are mapped, aligned, and theirs alone.
    (0..bytes / 8).map(move |at| unsafe { &*((address + 8 * at) as *const Cell<u64>) })
}

fn witness_words() -> impl Iterator<Item = (u64, &'static Cell<u64>)> {
    (0..).map(|at: u64| !at.wrapping_mul(0x9e37_79b9_7f4a_7c15)).zip(words(WITNESS, 1 << WITNESS_BITS))
}

fn write_witness() {
    witness_words().for_each(|(value, word)| word.set(value));
}

fn witness_is_whole() -> bool {
    witness_words().all(|(value, word)| word.get() == value)
}
