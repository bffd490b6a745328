//! The bench: builds each test's sandbox, watches over it, judges, and takes everything back.
//!
//! It runs above all threads of tests, on CPU 0, and hears their faults. A thread that ends faults, too, at an
//! instruction that the bench knows ([`crate::world::finish`]).

#![allow(
    clippy::result_large_err,
    reason = "a failure carries its text; there is one at a time, and no heap"
)]

use core::fmt;

use abi::message::fault;
use abi::object::PAGE_SIZE;
use abi::{CPtr, Error, Kind, MapFlags, Registers, Rights};
use ipc::{CNode, Message, SchedContext, Tcb, Untyped, VSpace};
use proto::component::panic::{MAGIC, MAX_MESSAGE};
use rt::alloc::AllocError;
use rt::inventory::Inventory;
use rt::memory;

use crate::arena;
use crate::program::Program;
use crate::resources::Resources;
use crate::table::Run;
use crate::world::{self, PRIORITY, SLOT_BITS, SPACE_BITS, Setup, slots};

/// The bench's own priority: above every thread of a test but those that ask for the last ones.
const BENCH_PRIORITY: u64 = 250;
/// How often the bench looks at a test, once in a second, before it gives it up. Looks are counted, not time, as in
/// [`World::until`](crate::world::World::until).
const LIMIT_SECONDS: u64 = 600;

/// How tests are to be run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// TSC ticks are instructions.
    pub icount: bool,
    /// The long versions are wanted.
    pub long: bool,
}

/// The bench.
#[derive(Debug)]
pub struct Bench {
    resources: Resources,
    options: Options,
    program: Program,
    arena: CPtr,
    endpoint: CPtr,
    /// Slots for what belongs to the sandbox.
    cnode: CPtr,
    vspace: CPtr,
    tcb: CPtr,
    context: CPtr,
    spare: CPtr,
    inventory: Inventory,
    longest: Longest,
    /// The longest time of the latest test.
    latest: u64,
}

/// The longest time with interrupts off: ticks, the kernel's word for where, and in which test.
#[derive(Clone, Copy, Debug, Default)]
pub struct Longest {
    /// TSC ticks.
    pub ticks: u64,
    /// Number of the system call, or vector.
    pub place: u64,
    /// The row of the table.
    pub row: u32,
}

/// Why a test failed.
#[derive(Clone)]
pub struct Failure {
    text: heapless_text::Text,
}

/// A short text without a heap.
mod heapless_text {
    use core::fmt;

    /// Up to 700 bytes; what is beyond is cut.
    #[derive(Clone)]
    pub struct Text {
        bytes: [u8; 700],
        used: usize,
    }

    impl Text {
        pub const fn new() -> Text {
            Text { bytes: [0; 700], used: 0 }
        }

        /// Appends as much as fits.
        pub fn add(&mut self, text: fmt::Arguments) {
            fmt::write(self, text).expect("a text is cut, not refused");
        }

        pub fn as_str(&self) -> &str {
            let bytes = &self.bytes[..self.used];
            core::str::from_utf8(bytes)
                .unwrap_or_else(|cut| core::str::from_utf8(&bytes[..cut.valid_up_to()]).unwrap_or_default())
        }
    }

    impl fmt::Write for Text {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = &mut self.bytes[self.used..];
            let length = text.len().min(room.len());
            room[..length].copy_from_slice(&text.as_bytes()[..length]);
            self.used += length;
            Ok(())
        }
    }
}

impl Failure {
    fn new(text: fmt::Arguments) -> Failure {
        let mut failure = Failure { text: heapless_text::Text::new() };
        failure.text.add(text);
        failure
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.text.as_str())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(format_args!("the sandbox could not be set up: {}", error.name()))
    }
}

impl Bench {
    /// Sets the bench up.
    pub fn new(resources: Resources, options: Options) -> Result<Bench, AllocError> {
        let arena = memory::make(Kind::Frame, arena::BITS)?;
        memory::map(arena, arena::ADDRESS, 0, (1 << arena::BITS) / PAGE_SIZE, MapFlags::WRITE)?;
        let slot = || memory::with(|objects| objects.take_slot());
        let mut bench = Bench {
            resources,
            options,
            program: Program::copy()?,
            arena,
            endpoint: memory::make(Kind::Endpoint, 0)?,
            cnode: slot()?,
            vspace: slot()?,
            tcb: slot()?,
            context: slot()?,
            spare: slot()?,
            inventory: Inventory::default(),
            longest: Longest::default(),
            latest: 0,
        };
        resources.sched_control.set_priority(resources.tcb.0, BENCH_PRIORITY)?;
        bench.inventory = Inventory::of(resources.cnode)?;
        // No promise covers the time of that look, nor of what other components did before.
        resources.system.latency()?;
        Ok(bench)
    }

    /// What the program was given.
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// The longest time with interrupts off so far.
    pub fn longest(&self) -> Longest {
        self.longest
    }

    /// The longest time with interrupts off in the latest test.
    pub fn latest(&self) -> u64 {
        self.latest
    }

    /// Runs a test in a sandbox of its own; `row` is its number.
    pub fn run(&mut self, run: Run, row: u32) -> Result<(), Failure> {
        // SAFETY: the last test's threads are gone with its sandbox.
        unsafe { arena::clear() };
        let result = self.build(run).map_err(Failure::from).and_then(|()| self.watch());
        let clean = self.take_apart(row);
        result.and(clean)
    }

    fn build(&self, run: Run) -> Result<(), Error> {
        let Resources { untyped, untyped_bits, cnode, .. } = self.resources;
        let all = Untyped(untyped);
        let own = |kind, bits: u32, slot: CPtr| all.retype(kind, u64::from(bits), cnode.0, slot.0.into(), 1);
        own(Kind::CNode, SLOT_BITS, self.cnode)?;
        all.retype(Kind::Notification, 0, self.cnode, slots::JOIN.into(), 1)?;
        own(Kind::VSpace, SPACE_BITS, self.vspace)?;
        own(Kind::Tcb, 0, self.tcb)?;
        own(Kind::SchedContext, 0, self.context)?;
        // Last, as it fills the second half.
        all.retype(Kind::Untyped, u64::from(untyped_bits - 1), self.cnode, slots::UNTYPED.into(), 1)?;
        self.give()?;
        let vspace = VSpace(self.vspace);
        world::furnish(vspace, &self.program, self.program.frame, self.arena)?;
        let setup = Setup {
            run,
            cpus: self.resources.cpus,
            tsc_hz: self.resources.tsc_hz,
            icount: self.options.icount,
            long: self.options.long,
            untyped_bits: untyped_bits - 1,
            program: self.program,
        };
        // SAFETY: the place is the bench's until the test's thread starts, which then only reads it.
        unsafe { arena::setup().write(setup) };
        self.start()
    }

    /// Fills the test's CSpace with what it shares with the program.
    fn give(&self) -> Result<(), Error> {
        let r = &self.resources;
        let shared = [
            (slots::CNODE, Some(self.cnode), Rights::ALL),
            (slots::VSPACE, Some(self.vspace), Rights::ALL),
            (slots::TCB, Some(self.tcb), Rights::ALL),
            (slots::SCHED_CONTEXT, Some(self.context), Rights::ALL),
            (slots::SCHED_CONTROL, Some(r.sched_control.0), Rights::ALL),
            (slots::IRQ_CONTROL, Some(r.irq_control.0), Rights::ALL),
            (slots::IO_PORT, Some(r.io_port.0), Rights::ALL),
            (slots::SYSTEM, Some(r.system.0), Rights::ALL),
            (slots::ARENA, Some(self.arena), Rights::READ.or(Rights::WRITE)),
            (slots::PROGRAM, Some(self.program.frame), Rights::ALL),
            (slots::BENCH, Some(self.endpoint), Rights::WRITE.or(Rights::GRANT)),
            (slots::KERNEL_LOG, r.kernel_log, Rights::READ),
            (slots::TRACE, r.trace, Rights::READ),
            (slots::IO_CONTROL, r.io_control, Rights::ALL),
        ];
        for (slot, from, rights) in shared {
            if let Some(from) = from {
                CNode(self.cnode).mint(slot.into(), r.cnode.0, from.0.into(), rights, 0)?;
            }
        }
        if let Some(device) = r.device {
            let bits = r.cnode.describe(device.0.into())?.bits;
            Untyped(device).retype(Kind::Untyped, bits.min(31), self.cnode, slots::DEVICE.into(), 1)?;
        }
        Ok(())
    }

    /// Starts the test's first thread.
    fn start(&self) -> Result<(), Error> {
        let (tcb, control) = (Tcb(self.tcb), self.resources.sched_control);
        tcb.configure(self.cnode, self.vspace, self.arena, arena::buffer_offset(0))?;
        let own = self.resources.cnode;
        own.mint(self.spare.0.into(), own.0, self.endpoint.0.into(), Rights::ALL, 1)?;
        tcb.set_fault_handler(self.spare)?;
        let turn = self.resources.tsc_hz / 100;
        control.configure(self.context, 0, turn, turn, 0)?;
        control.set_priority(self.tcb, PRIORITY)?;
        SchedContext(self.context).bind(self.tcb)?;
        rt::thread::write_registers(tcb, &world::first_registers(), true)
    }

    /// Hears the test's threads, until the first one has ended, one has faulted, or time is up.
    fn watch(&self) -> Result<(), Failure> {
        /// An answer that leaves a faulted thread stopped.
        const STOP: u32 = 1;
        let second = || rt::clock::now() + self.resources.tsc_hz;
        let mut looks = 0;
        let mut heard = ipc::recv_until(self.endpoint, CPtr::NULL, second());
        loop {
            if heard.as_ref().err() == Some(&Error::TimedOut) && looks < LIMIT_SECONDS {
                looks += 1;
                heard = ipc::recv_until(self.endpoint, CPtr::NULL, second());
                continue;
            }
            let received = heard.map_err(|error| self.hung(error))?;
            let ended = received.message.words[fault::RIP] == world::finish as *const () as u64;
            match (ended, received.badge) {
                (true, 1) => return Ok(()),
                (true, _) => {
                    heard = ipc::reply_recv_until(self.endpoint, Message::new(STOP), second());
                }
                (false, badge) => return Err(self.fault(badge as usize - 1, &received.message.words)),
            }
        }
    }

    fn hung(&self, error: Error) -> Failure {
        // SAFETY-free reading: the registers of a thread that could run are those of a stopped one.
        let registers = Tcb(self.tcb).suspend().and_then(|()| rt::thread::read_registers(Tcb(self.tcb)));
        let rip = registers.map_or(0, |registers| registers.rip);
        Failure::new(format_args!(
            "it did not end within {LIMIT_SECONDS} s ({}); its first thread is at {rip:#x}",
            error.name()
        ))
    }

    /// What is to be said about a thread that faulted.
    fn fault(&self, index: usize, words: &[u64; 8]) -> Failure {
        let registers = self.registers(index).unwrap_or_default();
        if registers.rax == MAGIC {
            return Failure::new(format_args!("{}", panic_message(&registers)));
        }
        let [kind, code, rip, address, ..] = *words;
        let mut text = heapless_text::Text::new();
        let name = fault::name(kind);
        text.add(format_args!("thread {index}: {name} (code {code:#x}) at {rip:#x}, address {address:#x};"));
        let names = [
            "rip", "rsp", "rflags", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10",
            "r11", "r12", "r13", "r14", "r15", "fs", "gs",
        ];
        for (name, value) in names.iter().zip(registers.to_words()) {
            text.add(format_args!(" {name}={value:#x}"));
        }
        Failure { text }
    }

    /// The registers of a stopped thread.
    fn registers(&self, index: usize) -> Result<Registers, Error> {
        if index == 0 {
            return rt::thread::read_registers(Tcb(self.tcb));
        }
        let slot = arena::thread(index).tcb.load(core::sync::atomic::Ordering::SeqCst);
        let cnode = self.resources.cnode;
        cnode.delete(self.spare.0.into())?;
        cnode.copy(self.spare.0.into(), self.cnode, slot)?;
        rt::thread::read_registers(Tcb(self.spare))
    }

    /// Takes the sandbox back, and looks whether all of it came back.
    fn take_apart(&mut self, row: u32) -> Result<(), Failure> {
        let Resources { untyped, untyped_bits, cnode, system, .. } = self.resources;
        cnode.revoke(untyped.0.into())?;
        cnode.delete(self.spare.0.into())?;
        if let Some(device) = self.resources.device {
            cnode.revoke(device.0.into())?;
        }
        let free = cnode.describe(untyped.0.into())?.free;
        if free != 1 << untyped_bits {
            return Err(Failure::new(format_args!(
                "memory is lost: {free} bytes are free of 2^{untyped_bits}"
            )));
        }
        let [ticks, place] = system.latency()?;
        self.latest = ticks;
        if ticks > self.longest.ticks {
            self.longest = Longest { ticks, place, row };
        }
        system.verify()?;
        system.latency()?;
        match self.inventory.changed(cnode)? {
            None => Ok(()),
            Some((slot, was, is)) => Err(Failure::new(format_args!(
                "a capability is left behind: slot {slot} was {was:?} before the test and is {is:?} after it"
            ))),
        }
    }
}

/// The message of a thread that panicked, which lies on its stack in the arena.
fn panic_message(registers: &Registers) -> &'static str {
    let (start, size) = (registers.rdi, (registers.rsi as usize).min(MAX_MESSAGE));
    let inside = (arena::ADDRESS..arena::ADDRESS + (1 << arena::BITS) - MAX_MESSAGE as u64).contains(&start);
    let constant = (proto::start::PROGRAM..proto::start::PROGRAM_END).contains(&start);
    if !inside && !constant {
        return "a panic without a message";
    }
    // SAFETY: in the arena or among the program's constants, which are mapped here at the same addresses; the
    // thread that wrote it stands still.
    let bytes = unsafe { core::slice::from_raw_parts(start as *const u8, size) };
    core::str::from_utf8(bytes).unwrap_or("a panic with a message that is not UTF-8")
}
