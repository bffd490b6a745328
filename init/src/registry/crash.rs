//! What is known of a crash: registers, backtrace, the message of a panic.
//!
//! The component is dead when this is asked, but still whole: its threads, its memory and its mappings are where
//! they were. init looks into its memory page by page, through the Frames that are mapped there, and believes
//! nothing that it finds.

extern crate alloc;

use abi::message::fault;
use abi::object::{FIRST_SLOT, PAGE_SIZE};
use abi::{CPtr, Kind, MapFlags, Registers};
use ipc::Tcb;
use proto::component::panic::{MAGIC, MAX_MESSAGE};
use proto::control::Cause;
use proto::host::Crash;
use rt::alloc::AllocError;
use rt::memory;

use crate::build::component::Parts;
use crate::log;
use crate::machine::{CNODE, PEEK};

/// Return addresses in a record.
const DEPTH: usize = 16;
/// Vectors (SDM vol. 3, table 6-1): of the invalid-opcode exception, which a panic raises, and of the page fault.
const INVALID_OPCODE: u64 = 6;
const PAGE_FAULT: u64 = 14;

/// A crash.
#[derive(Debug)]
pub struct Record {
    /// Why the life ended.
    pub cause: Cause,
    /// What happened, in words.
    pub what: &'static str,
    /// A panic's message.
    pub message: heapless::String<MAX_MESSAGE>,
    /// The faulting address of a page fault.
    pub address: u64,
    /// The thread's registers; of one that is not found only those of the fault message.
    pub registers: Registers,
    /// Return addresses, innermost first, ended by the first zero.
    pub backtrace: [u64; DEPTH],
}

impl Record {
    /// Looks at a component of which a thread has faulted, as `words` of the fault message say.
    pub fn examine(parts: &Parts, words: &[u64; 8]) -> Record {
        let kind = words[fault::KIND];
        let registers = faulting_thread(parts, words).unwrap_or(Registers {
            rip: words[fault::RIP],
            rsp: words[fault::RSP],
            rflags: words[fault::RFLAGS],
            ..Registers::default()
        });
        let panicked = kind == INVALID_OPCODE && registers.rax == MAGIC;
        let mut message = heapless::String::new();
        if panicked {
            read_text(parts, registers.rdi, registers.rsi, &mut message);
        }
        Record {
            cause: if kind == fault::BUDGET { Cause::Budget } else { Cause::Fault },
            what: if panicked { "panic" } else { fault::name(kind) },
            message,
            address: if kind == PAGE_FAULT { words[fault::ADDRESS] } else { 0 },
            registers,
            backtrace: backtrace(parts, registers.rbp),
        }
    }

    /// Looks at a component that is to end for another reason than a fault of a thread, and stands still.
    pub fn of_halted(parts: &Parts, cause: Cause) -> Record {
        let registers = rt::thread::read_registers(parts.tcb).unwrap_or_default();
        let backtrace = backtrace(parts, registers.rbp);
        Record { registers, backtrace, ..Record::of_ended(cause) }
    }

    /// Of a component of which there is nothing to look at.
    pub fn of_ended(cause: Cause) -> Record {
        Record {
            cause,
            what: cause.name(),
            message: heapless::String::new(),
            address: 0,
            registers: Registers::default(),
            backtrace: [0; DEPTH],
        }
    }

    /// For the host.
    pub fn for_host<'r>(&'r self, component: &'r str) -> Crash<'r> {
        let words = self.registers.to_words();
        Crash {
            component,
            what: self.what,
            message: &self.message,
            address: self.address,
            registers: core::array::from_fn(|at| words[at]),
            backtrace: self.backtrace,
        }
    }

    /// Writes it to the log.
    pub fn log(&self, component: &str) {
        let r = &self.registers;
        if self.message.is_empty() {
            log!("{component}: {} at {:#x}, rip {:#x}", self.what, self.address, r.rip);
        } else {
            log!("{component}: {}: {}", self.what, self.message);
        }
        log!("  rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}", r.rax, r.rbx, r.rcx, r.rdx);
        log!("  rsi {:016x} rdi {:016x} rbp {:016x} rsp {:016x}", r.rsi, r.rdi, r.rbp, r.rsp);
        let [r8, r9, r10, r11, r12, r13, r14, r15] = r.r;
        log!("  r8  {r8:016x} r9  {r9:016x} r10 {r10:016x} r11 {r11:016x}");
        log!("  r12 {r12:016x} r13 {r13:016x} r14 {r14:016x} r15 {r15:016x}");
        log!("  rip {:016x} rflags {:x}", r.rip, r.rflags);
        for address in self.backtrace.iter().take_while(|&&address| address != 0) {
            log!("  called from {address:#x}");
        }
    }
}

/// The registers of the thread that stands where the fault message says: the main one, or another one that the
/// component made itself.
fn faulting_thread(parts: &Parts, words: &[u64; 8]) -> Option<Registers> {
    let stands_there = |tcb: Tcb| {
        let registers = rt::thread::read_registers(tcb).ok()?;
        (registers.rip == words[fault::RIP] && registers.rsp == words[fault::RSP]).then_some(registers)
    };
    stands_there(parts.tcb).or_else(|| {
        own(parts, Kind::Tcb)
            .find_map(|(slot, _)| borrowed(parts, slot, |tcb| Ok(stands_there(Tcb(tcb)))).ok().flatten())
    })
}

/// The capabilities of a kind in the component's CSpace: slot and identity.
fn own(parts: &Parts, kind: Kind) -> impl Iterator<Item = (u64, ipc::Identity)> {
    let cnode = parts.cnode;
    let slots = u64::from(FIRST_SLOT)..1 << parts.slot_bits;
    slots
        .filter_map(move |slot| Some((slot, cnode.describe(slot).ok()?)))
        .filter(move |(_, is)| is.kind == kind)
}

/// Uses a capability of the component's for a moment.
fn borrowed<R>(
    parts: &Parts,
    slot: u64,
    act: impl FnOnce(CPtr) -> Result<R, AllocError>,
) -> Result<R, AllocError> {
    let here = memory::with(|objects| objects.take_slot())?;
    let result = match CNODE.copy(u64::from(here.0), parts.cnode.0, slot) {
        Ok(()) => act(here),
        Err(error) => Err(error.into()),
    };
    CNODE.delete(u64::from(here.0))?;
    memory::with(|objects| objects.return_slot(here))?;
    result
}

/// Walks the chain of frame pointers (System V ABI, 3.2.2): at each lie the next one and a return address.
fn backtrace(parts: &Parts, mut frame: u64) -> [u64; DEPTH] {
    let mut addresses = [0; DEPTH];
    for address in &mut addresses {
        let mut words = [0; 16];
        if !frame.is_multiple_of(8) || read(parts, frame, &mut words) < words.len() {
            break;
        }
        let (next, returns_to) = words.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or(0);
        *address = word(returns_to);
        // Outer frames lie higher: a chain that turns back is none.
        if word(next) <= frame {
            break;
        }
        frame = word(next);
    }
    addresses
}

fn read_text(parts: &Parts, address: u64, length: u64, text: &mut heapless::String<MAX_MESSAGE>) {
    let mut bytes = [0; MAX_MESSAGE];
    let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_MESSAGE);
    let found = read(parts, address, &mut bytes[..wanted]);
    for c in alloc::string::String::from_utf8_lossy(&bytes[..found]).chars() {
        // Full is full: the rest is cut.
        let _ = text.push(if c.is_control() { ' ' } else { c });
    }
}

/// Reads bytes of the component's memory: how many could be read.
fn read(parts: &Parts, address: u64, bytes: &mut [u8]) -> usize {
    let mut done = 0;
    while done < bytes.len() {
        let Some(at) = address.checked_add(done as u64) else { break };
        let in_page = (at % PAGE_SIZE) as usize;
        let length = (bytes.len() - done).min(PAGE_SIZE as usize - in_page);
        let piece = &mut bytes[done..done + length];
        if read_in_page(parts, at, piece).is_none() {
            break;
        }
        done += length;
    }
    done
}

/// Reads bytes that lie in one page.
fn read_in_page(parts: &Parts, address: u64, bytes: &mut [u8]) -> Option<()> {
    let page = address / PAGE_SIZE * PAGE_SIZE;
    let [_, physical, size] = parts.vspace.query(page).ok()?;
    // Of a large page, the small one in it.
    let physical = physical + (page & (size.max(PAGE_SIZE) - 1));
    let mut look = |frame: CPtr, offset: u64| {
        memory::map(frame, PEEK, offset, 1, MapFlags::READ)?;
        let from = PEEK + address % PAGE_SIZE;
        // SAFETY: just mapped there, and the bytes lie in the page. Other threads of the component could still
        // write there: a volatile read of each byte gets something, and nothing is concluded from it.
        let read = |at: usize| unsafe { core::ptr::read_volatile((from as *const u8).wrapping_add(at)) };
        bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = read(at));
        memory::unmap(PEEK, 1)
    };
    for slot in parts.frames() {
        if let Some(offset) = offset_in(CNODE.describe(u64::from(slot.0)).ok()?, physical) {
            return look(slot, offset).ok();
        }
    }
    let mut frames = own(parts, Kind::Frame);
    let (slot, offset) = frames.find_map(|(slot, is)| Some((slot, offset_in(is, physical)?)))?;
    borrowed(parts, slot, |frame| look(frame, offset)).ok()
}

/// Where in a Frame a physical address lies. (The identity of a Frame is its own one, with its size above.)
fn offset_in(frame: ipc::Identity, physical: u64) -> Option<u64> {
    if frame.kind != Kind::Frame {
        return None;
    }
    let start = frame.identity & ((1 << 56) - 1);
    physical.checked_sub(start).filter(|offset| offset >> frame.bits == 0)
}
