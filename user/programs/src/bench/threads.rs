//! System calls, switches, signals, faults, foreign calls, timers.

use alloc::vec::Vec;
use core::arch::{asm, naked_asm};
use core::mem::offset_of;

use abi::message::Foreign;
use abi::{CPtr, IpcBuffer, Kind, MsgInfo};
use ipc::Message;

use crate::meter::{Amount, Samples, now};
use crate::peer::{Entry, Peer, Space, answer_signals, fault_always, slots, spin, wait_always, yield_always};
use crate::resources::Resources;
use crate::{Bench, Failure};

/// Into the kernel and back.
pub fn null(bench: &Bench) -> Result<Samples, Failure> {
    bench.meter.measure(Amount::SHORT, || {
        ipc::nop();
        Ok(())
    })
}

/// Two threads of equal priority.
pub fn yield_pair(bench: &Bench) -> Result<Samples, Failure> {
    let r = &bench.resources;
    Peer::new(r, Space::Other, r.priority, 0)?.start(yield_always)?;
    bench.meter.measure(Amount::SHORT, || {
        ipc::yield_now();
        Ok(())
    })
}

/// A thread in another address space with Notifications to wait for and to signal.
fn signalled(r: &Resources, priority: u64, entry: Entry) -> Result<[CPtr; 2], Failure> {
    let notifications = [r.make(Kind::Notification, 0)?, r.make(Kind::Notification, 0)?];
    let peer = Peer::new(r, Space::Other, priority, 0)?;
    peer.give(r, slots::WAIT, notifications[0])?;
    peer.give(r, slots::SIGNAL, notifications[1])?;
    peer.start(entry)?;
    Ok(notifications)
}

/// The signal returns when the waiter waits again.
pub fn signal_wait(bench: &Bench) -> Result<Samples, Failure> {
    let r = &bench.resources;
    let [there, _] = signalled(r, r.priority + 1, wait_always)?;
    bench.meter.measure(Amount::SHORT, || ipc::signal(there))
}

/// Two threads of equal priority.
pub fn ping_pong(bench: &Bench) -> Result<Samples, Failure> {
    let r = &bench.resources;
    let [there, back] = signalled(r, r.priority, answer_signals)?;
    bench.meter.measure(Amount::SHORT, || {
        ipc::signal(there)?;
        ipc::wait(back)?;
        Ok(())
    })
}

/// The handler is what measures: an answer lets the other thread run into its fault again, and the next
/// message tells of it.
pub fn fault(bench: &Bench) -> Result<Samples, Failure> {
    let r = &bench.resources;
    let endpoint = r.make(Kind::Endpoint, 0)?;
    let peer = Peer::new(r, Space::Other, r.priority, 0)?;
    peer.tcb.set_fault_handler(endpoint)?;
    peer.start(fault_always)?;
    let mut received = ipc::recv(endpoint, CPtr::NULL)?;
    if !received.is_fault() {
        return Err(Failure::Wrong("a message came that is not about a fault"));
    }
    bench.meter.measure(Amount::SHORT, || {
        // Only the label of the answer counts: the words stay where they are.
        let answer = Message { info: MsgInfo::plain(0), ..received.message };
        received = ipc::reply_recv(endpoint, answer)?;
        Ok(())
    })
}

/// What a library does about a call that it knows the answer to: the answer, and back, leaving everything but
/// rax, rcx and r11 as it was, flags and red zone included. (GS points at the IPC buffer here.)
#[unsafe(naked)]
extern "C" fn library() {
    naked_asm!(
        "mov eax, {answer}",
        "mov qword ptr gs:[{inside}], 0",
        "mov rcx, gs:[{kick_pending}]",
        "jrcxz 2f",
        "ud2",
        "2: mov rcx, gs:[{return_address}]",
        "jmp rcx",
        answer = const ANSWER,
        inside = const offset_of!(IpcBuffer, foreign) + offset_of!(Foreign, inside),
        kick_pending = const offset_of!(IpcBuffer, foreign) + offset_of!(Foreign, kick_pending),
        return_address = const offset_of!(IpcBuffer, foreign) + offset_of!(Foreign, return_address),
    )
}

/// What [`library`] answers.
const ANSWER: u32 = 4711;
/// Linux's number of getpid.
const GETPID: u64 = 39;

/// A Linux system call, as Linux programs make it.
#[inline(always)]
fn foreign_call() -> u64 {
    let answer;
    // SAFETY: the thread's library answers it and changes nothing but the registers named.
    unsafe {
        asm!("syscall", inlateout("rax") GETPID => answer, out("rcx") _, out("r11") _, options(nostack));
    }
    answer
}

/// The main thread has a library for as long as it takes.
pub fn bounce(bench: &Bench) -> Result<Samples, Failure> {
    let tcb = bench.resources.tcb;
    tcb.set_foreign(library as extern "C" fn() as usize as u64, 0)?;
    let answered = foreign_call() == u64::from(ANSWER);
    let samples = bench.meter.measure(Amount::SHORT, || {
        foreign_call();
        Ok(())
    });
    tcb.set_foreign(0, 0)?;
    if answered { samples } else { Err(Failure::Wrong("the library was not asked")) }
}

/// A thread waits until a deadline that the local APIC's timer keeps, while another one of lower priority, in
/// another address space, runs: from the deadline to the first instruction after the wait.
pub fn timer(bench: &Bench) -> Result<Samples, Failure> {
    let r = &bench.resources;
    let never = r.make(Kind::Notification, 0)?;
    Peer::new(r, Space::Other, r.priority - 1, 0)?.start(spin)?;
    let ahead = rt::clock::microseconds(100);
    let ticks = (0..200).map(|_| {
        let deadline = now() + ahead;
        match ipc::wait_until(never, deadline) {
            Err(abi::Error::TimedOut) => {
                now().checked_sub(deadline).ok_or(Failure::Wrong("it woke too early"))
            }
            Ok(_) => Err(Failure::Wrong("a signal came that nobody sent")),
            Err(error) => Err(error.into()),
        }
    });
    Ok(Samples { ticks: ticks.collect::<Result<Vec<_>, _>>()?, batch: 1 })
}
