//! Threads of a component.
//!
//! A thread is a Tcb, a SchedContext and one Frame with its stack and IPC buffer, all out of the component's
//! memory. To give it processor time takes a SchedControl, so a component can have threads if the manifest
//! gives it one.

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::object::PAGE_SIZE;
use abi::{CPtr, IpcBuffer, Kind, MapFlags, Registers};
use ipc::{SchedContext, SchedControl, Tcb};
use proto::start::{THREADS, names};

use crate::alloc::AllocError;
use crate::lock::{self, Mutex};
use crate::{env, memory};

/// Threads beside the main one that a component can have at a time.
pub const MAX_THREADS: u64 = 256;

/// What a thread's part of the address space takes: unmapped memory, its stack, its IPC buffer.
const EXTENT: u64 = 1 << 20;
/// Where its Frame ends in that part.
const TOP: u64 = EXTENT / 2;

/// The name of the capability for processor time, as in the manifest.
pub const SCHED_CONTROL: &str = "sched-control";

/// Why there is no thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadError {
    /// The component has no SchedControl.
    NotAllowed,
    /// There are [`MAX_THREADS`] already.
    TooMany,
    /// Something it needs could not be had.
    Alloc(AllocError),
}

impl From<AllocError> for ThreadError {
    fn from(error: AllocError) -> ThreadError {
        ThreadError::Alloc(error)
    }
}

impl From<abi::Error> for ThreadError {
    fn from(error: abi::Error) -> ThreadError {
        ThreadError::Alloc(error.into())
    }
}

impl core::fmt::Display for ThreadError {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        match self {
            ThreadError::NotAllowed => {
                f.write_str("the manifest does not give this component `sched-control`")
            }
            ThreadError::TooMany => f.write_str("too many threads"),
            ThreadError::Alloc(error) => error.fmt(f),
        }
    }
}

/// What a thread is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    /// The CPU it runs on.
    pub cpu: u64,
    /// Its priority, 0 (lowest) to the SchedControl's ceiling.
    pub priority: u64,
    /// TSC ticks it may run in every period; equal to `period`, it takes turns with others of its priority.
    pub budget: u64,
    /// TSC ticks of a period; 0 means ten milliseconds, for budget, too.
    pub period: u64,
    /// log2 of the bytes of its stack and IPC buffer, 13 to 19.
    pub stack_bits: u32,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder { cpu: 0, priority: 100, budget: 0, period: 0, stack_bits: 16 }
    }
}

/// What belongs to a thread, as long as it is.
#[derive(Debug)]
struct Parts {
    tcb: Tcb,
    context: CPtr,
    frame: CPtr,
    done: CPtr,
    place: Place,
}

/// A thread that can be waited for. Dropped instead, the thread goes on and keeps what it has.
#[derive(Debug)]
#[must_use = "a thread that is not joined keeps its memory"]
pub struct JoinHandle<T> {
    parts: Parts,
    result: Arc<Mutex<Option<T>>>,
}

/// Starts a thread like the default one.
pub fn spawn<T: Send + 'static>(
    main: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, ThreadError> {
    Builder::default().spawn(main)
}

impl Builder {
    /// Starts a thread.
    pub fn spawn<T: Send + 'static>(
        self,
        main: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, ThreadError> {
        let control = SchedControl(env::capability(SCHED_CONTROL).ok_or(ThreadError::NotAllowed)?);
        if !lock::has_sleep() {
            lock::sleep_on(memory::make(Kind::Notification, 0)?);
        }
        let result = Arc::new(Mutex::new(None));
        let parts = Parts::new(self.stack_bits)?;
        let kept = Arc::clone(&result);
        let body = Box::new(move || *kept.lock() = Some(main()));
        let beginning = Box::into_raw(Box::new(Beginning { body, tcb: parts.tcb, done: parts.done }));
        if let Err(error) = parts.start(self, control, beginning) {
            // SAFETY: the thread did not start, so the box is still this function's.
            drop(unsafe { Box::from_raw(beginning) });
            parts.end()?;
            return Err(error.into());
        }
        Ok(JoinHandle { parts, result })
    }
}

impl<T> JoinHandle<T> {
    /// The thread's Tcb.
    pub fn tcb(&self) -> Tcb {
        self.parts.tcb
    }

    /// Waits for the thread's end, takes back what it had, and gives what its function returned.
    pub fn join(self) -> Result<T, ThreadError> {
        ipc::wait(self.parts.done)?;
        let result = self.result.lock().take();
        self.parts.end()?;
        // Whoever signals `done` without having been the thread is none this module started.
        result.ok_or(ThreadError::Alloc(AllocError::NotAllocated))
    }
}

impl Parts {
    fn new(stack_bits: u32) -> Result<Parts, ThreadError> {
        let place = Place::take()?;
        let mut made = [CPtr::NULL; 4];
        match Self::make(&mut made, stack_bits.clamp(13, 19), place.top()) {
            Ok(()) => {
                let [tcb, context, frame, done] = made;
                Ok(Parts { tcb: Tcb(tcb), context, frame, done, place })
            }
            Err(error) => {
                for object in made.into_iter().rev().filter(|&object| object != CPtr::NULL) {
                    memory::destroy(object)?;
                }
                Err(error.into())
            }
        }
    }

    fn make(made: &mut [CPtr; 4], stack_bits: u32, top: u64) -> Result<(), AllocError> {
        let kinds =
            [(Kind::Tcb, 0), (Kind::SchedContext, 0), (Kind::Frame, stack_bits), (Kind::Notification, 0)];
        for (place, (kind, bits)) in made.iter_mut().zip(kinds) {
            *place = memory::make(kind, bits)?;
        }
        let size = 1 << stack_bits;
        memory::map(made[2], top - size, 0, size / PAGE_SIZE, MapFlags::WRITE)
    }

    fn start(
        &self,
        like: Builder,
        control: SchedControl,
        beginning: *mut Beginning,
    ) -> Result<(), AllocError> {
        let size = 1u64 << like.stack_bits.clamp(13, 19);
        let (top, buffer) = (self.place.top(), size_of::<IpcBuffer>() as u64);
        self.tcb.configure(memory::cnode()?.0, memory::vspace()?.0, self.frame, size - buffer)?;
        self.tcb.set_fault_handler(env::required(names::FAULT))?;
        let ten_milliseconds = env::tsc_hz() / 100;
        let (budget, period) = match like.period {
            0 => (ten_milliseconds, ten_milliseconds),
            period => (like.budget, period),
        };
        control.configure(self.context, like.cpu, budget, period, 0)?;
        control.set_priority(self.tcb.0, like.priority)?;
        SchedContext(self.context).bind(self.tcb.0)?;
        let registers = Registers {
            rip: enter as *const () as u64,
            // As after a call: the stack is aligned to 16 where the return address would lie.
            rsp: top - buffer - 8,
            rdi: beginning as u64,
            gs_base: top - buffer,
            ..Registers::default()
        };
        write_registers(self.tcb, &registers, true)?;
        Ok(())
    }

    /// Takes everything back. The thread is not running, or about to stop for good.
    fn end(self) -> Result<(), AllocError> {
        memory::destroy(self.tcb.0)?;
        memory::destroy(self.context)?;
        memory::destroy(self.frame)?;
        memory::destroy(self.done)?;
        Ok(())
    }
}

/// Sets a thread's registers, through the caller's IPC buffer.
pub fn write_registers(tcb: Tcb, registers: &Registers, resume: bool) -> Result<(), abi::Error> {
    for (word, value) in ipc::buffer().words.iter().zip(registers.to_words()) {
        word.set(value);
    }
    tcb.write_registers(u64::from(resume))
}

/// A thread's registers, through the caller's IPC buffer.
pub fn read_registers(tcb: Tcb) -> Result<Registers, abi::Error> {
    tcb.read_registers()?;
    let words = core::array::from_fn(|at| ipc::buffer().words[at].get());
    Ok(Registers::from_words(&words))
}

/// A thread's function.
type Body = Box<dyn FnOnce() + Send>;

/// What a thread begins with.
struct Beginning {
    body: Body,
    tcb: Tcb,
    done: CPtr,
}

/// Where a thread begins.
extern "C" fn enter(beginning: *mut Beginning) -> ! {
    // SAFETY: `Builder::spawn` made it of a box, gave it to this thread alone, and does not touch it again.
    let Beginning { body, tcb, done } = *unsafe { Box::from_raw(beginning) };
    body();
    // From the signal on whoever joins may destroy the thread; until then it stands still.
    let _ = ipc::signal(done);
    loop {
        let _ = tcb.suspend();
    }
}

/// A thread's part of the address space.
#[derive(Debug)]
struct Place(u64);

static PLACES: [AtomicU64; (MAX_THREADS / 64) as usize] = [const { AtomicU64::new(0) }; 4];

impl Place {
    fn take() -> Result<Place, ThreadError> {
        for (at, places) in PLACES.iter().enumerate() {
            let taken = places.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |taken| {
                (taken != u64::MAX).then(|| taken | (taken + 1))
            });
            if let Ok(before) = taken {
                return Ok(Place(at as u64 * 64 + u64::from(before.trailing_ones())));
            }
        }
        Err(ThreadError::TooMany)
    }

    /// The end of the Frame.
    fn top(&self) -> u64 {
        THREADS + self.0 * EXTENT + TOP
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PLACES[(self.0 / 64) as usize].fetch_and(!(1 << (self.0 % 64)), Ordering::AcqRel);
    }
}
