//! What a supervised component shares with init: orders, its status, and everyone's lives (`proto::life`).
//!
//! A server calls [`begun`] for each message, ring entry or interrupt that it begins to handle, [`served`] for each
//! request it has answered, [`ready`] once when it can serve, and [`beat`] whenever its bell has told it of
//! `bell::ORDERS`. One thread of the component does so. For supervised components only: others have no such pages.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use abi::CPtr;
use ipc::{Message, Tcb};
use proto::control::Request;
use proto::life::{Injection, WORDS, lives, orders, status};
use proto::start::{LIVES, ORDERS, STATUS, names};

use crate::alloc::AllocError;
use crate::lock::Mutex;
use crate::{clock, env};

/// How the component makes nonsense of its rings.
static CORRUPT: Mutex<Option<fn()>> = Mutex::new(None);
/// It has done so in this life.
static CORRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether init keeps an eye on this component: whether it has what this module is about.
pub fn is_supervised() -> bool {
    env::capability(names::BELL).is_some()
}

/// The component's bell.
pub fn bell() -> CPtr {
    static BELL: AtomicU32 = AtomicU32::new(0);
    match BELL.load(Ordering::Relaxed) {
        0 => {
            let bell = env::required(names::BELL);
            BELL.store(bell.0, Ordering::Relaxed);
            bell
        }
        known => CPtr(known),
    }
}

/// Lets the bell end the main thread's receives, so that one `recv` hears messages and bits.
pub fn bind_bell() -> Result<(), AllocError> {
    Ok(Tcb(env::required(names::TCB)).bind_notification(bell())?)
}

/// Names the function that writes nonsense into the component's rings, for when its orders say so.
pub fn on_corrupt(corrupt: fn()) {
    *CORRUPT.lock() = Some(corrupt);
}

#[inline(always)]
fn page(address: u64) -> &'static [AtomicU64; WORDS] {
    // SAFETY: init maps a page of words there before the component's first instruction, for good, if the component is
    // supervised; for others the use of it faults.
    unsafe { &*(address as *const [AtomicU64; WORDS]) }
}

#[inline(always)]
fn order(word: usize) -> u64 {
    page(ORDERS)[word].load(Ordering::Acquire)
}

#[inline(always)]
fn show(word: usize, value: u64) {
    page(STATUS)[word].store(value, Ordering::Release);
}

#[inline(always)]
fn shown(word: usize) -> u64 {
    page(STATUS)[word].load(Ordering::Relaxed)
}

/// Answers the heartbeat, if init has asked for one, and does what it is ordered to do at once.
#[inline]
pub fn beat() {
    let asked = order(orders::BEAT);
    if asked != shown(status::BEAT) {
        show(status::BEAT, asked);
    }
    if order(orders::INJECTION) != 0 && order(orders::AT_MESSAGE) == 0 {
        inject();
    }
}

/// A message, or whatever else it handles, is begun: counts it, and dies there if that is ordered.
#[inline]
pub fn begun() {
    let messages = shown(status::MESSAGES) + 1;
    show(status::MESSAGES, messages);
    if order(orders::INJECTION) != 0 && order(orders::AT_MESSAGE) <= messages {
        inject();
    }
}

/// Messages begun in this life.
pub fn messages() -> u64 {
    shown(status::MESSAGES)
}

/// A request is answered.
#[inline]
pub fn served() {
    let served = shown(status::SERVED);
    if served == 0 {
        show(status::FIRST_SERVED, clock::now());
    }
    show(status::SERVED, served + 1);
}

/// The component can serve from here on. Who never says so hangs, as init sees it: so before it waits for anybody else.
pub fn ready() {
    show(status::READY, clock::now());
}

/// Which life the component at `place` of the manifest is in, also while it is dead; 0 before its first one.
#[inline]
pub fn life_of(place: usize) -> u32 {
    page(LIVES)[place * lives::STRIDE + lives::LIFE].load(Ordering::Acquire) as u32
}

/// How many lives of the component at `place` have ended by its own fault.
#[inline]
pub fn faults_of(place: usize) -> u64 {
    page(LIVES)[place * lives::STRIDE + lives::FAULTS].load(Ordering::Acquire)
}

/// How often the state Frame of the component at `place` was emptied since boot.
#[inline]
pub fn emptied_of(place: usize) -> u32 {
    page(LIVES)[place * lives::STRIDE + lives::EMPTIED].load(Ordering::Acquire) as u32
}

/// Does to the component what its orders say.
#[cold]
fn inject() {
    match Injection::from_word(order(orders::INJECTION)) {
        Some(Injection::Kill) => kill_me(),
        Some(Injection::Fault) => fault(),
        Some(Injection::Hang) => loop {
            core::hint::spin_loop();
        },
        Some(Injection::Panic) => panic!("ordered to"),
        Some(Injection::Corrupt) => corrupt(),
        // A word that init has half changed, or a newer init's: nothing that can be done.
        None => {}
    }
}

/// Has init kill the component, here.
fn kill_me() -> ! {
    loop {
        // Not answered: the component is gone before.
        let _ = ipc::call(env::required(names::INIT), Message::new(Request::KillMe {}.label()));
    }
}

fn corrupt() {
    if CORRUPTED.swap(true, Ordering::Relaxed) {
        return;
    }
    let corrupt = *CORRUPT.lock();
    match corrupt {
        Some(corrupt) => corrupt(),
        None => panic!("ordered to corrupt its rings, and has none"),
    }
}

/// Below everything that is mapped.
const NOWHERE: u64 = 0x1000;

fn fault() {
    // SAFETY: the read faults, which is the purpose; nothing comes of it.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) NOWHERE => _, options(nostack, readonly)) };
}
