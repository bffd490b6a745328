//! Deadlines: the clocks by which waits end.

use abi::{CPtr, Error};

use crate::arena;
use crate::row;
use crate::table::{Need, Test};
use crate::world::{BLOCKED, IO_PORT, Must, Thread, World, now};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("deadlines", the_tsc_rate_is_right, "TSC ticks in a second, as programs are told, agree with the 8254's clock"),
    row!("deadlines", deadlines_are_kept, "a deadline ends a wait never early, and soon"),
    row!("deadlines", a_timer_interrupts_a_spinning_thread, "a higher thread that waits for a time preempts a spinning one"),
    row!("deadlines", deadlines_end_in_their_order, "waits end in the order of their deadlines, whatever the order they began in"),
    row!("deadlines", equal_deadlines_all_end, "waits with one deadline all end"),
    row!("deadlines", a_deadline_far_off_does_not_end_early, "the latest deadlines there are do not wrap around"),
    row!("deadlines", deadlines_are_kept_on_every_cpu, "each CPU's timer keeps its threads' deadlines", Need::Cpus(2)),
];

/// The 8254's counter of channel 2, which the kernel has left running from 65,535 downwards.
fn pit() -> u16 {
    const CONTROL: u64 = 0x43;
    const CHANNEL_2: u64 = 0x42;
    const LATCH_CHANNEL_2: u64 = 0x80;
    IO_PORT.write(CONTROL, 1, LATCH_CHANNEL_2).must("latching the counter");
    let [low, high] = [(); 2].map(|()| IO_PORT.read(CHANNEL_2, 1).must("a byte of the counter"));
    (high << 8 | low) as u16
}

fn the_tsc_rate_is_right(w: &mut World) {
    /// The 8254's rate.
    const PIT_HZ: u64 = 1_193_182;
    /// Measurements; a busy host spoils some.
    const TRIES: usize = 20;
    let mut rates = [0; TRIES];
    for rate in &mut rates {
        let measure = || {
            let (before, start) = (pit(), now());
            while now() < start + w.milliseconds(5) {
                core::hint::spin_loop();
            }
            (before, start, pit(), now())
        };
        let mut measured = measure();
        // The counter has gone round if the host has paused the CPU for longer.
        while measured.3 - measured.1 > w.milliseconds(50) {
            measured = measure();
        }
        let (before, start, after, end) = measured;
        *rate = (end - start) * PIT_HZ / u64::from(before.wrapping_sub(after)).max(1);
    }
    rates.sort_unstable();
    let told = w.setup.tsc_hz;
    let found = rates[TRIES / 2];
    assert!(found.abs_diff(told) < told / 10, "{told} told, {found} found");
}

fn deadlines_are_kept(w: &mut World) {
    let notification = w.notification();
    for microseconds in [10, 50, 500, 3_000, 12_000, 40_000] {
        w.measured(|| {
            let deadline = now() + w.microseconds(microseconds);
            assert_eq!(ipc::wait_until(notification, deadline), Err(Error::TimedOut));
            let late = now().checked_sub(deadline).unwrap_or_else(|| panic!("{microseconds} us: early"));
            if late < w.milliseconds(4) { Ok(()) } else { Err((microseconds, late)) }
        });
    }
}

fn a_timer_interrupts_a_spinning_thread(w: &mut World) {
    let turn = w.milliseconds(10_000);
    w.thread().priority(60).budget(turn, turn).start(|| {
        loop {
            arena::add(0, 1);
        }
    });
    let waker = w.notification();
    for _ in 0..20 {
        let end = now() + w.microseconds(300);
        assert_eq!(ipc::wait_until(waker, end), Err(Error::TimedOut));
        assert!(now() >= end);
    }
    assert!(arena::get(0) > 0);
}

/// Threads that can wait until deadlines, and the Notification that they wait for in vain.
fn beds<const N: usize>(w: &mut World, cpu: u64) -> ([Thread; N], CPtr) {
    let never = w.notification();
    (core::array::from_fn(|_| w.thread().cpu(cpu).priority(110).prepare()), never)
}

/// Lets the threads wait until their deadlines, told as microseconds from `start`, and then take a number each.
fn lie_down<const N: usize>(w: &World, (beds, never): ([Thread; N], CPtr), start: u64, deadlines: [u64; N]) {
    for (at, (bed, deadline)) in beds.into_iter().zip(deadlines).enumerate() {
        let deadline = start + w.microseconds(deadline);
        bed.run(move || {
            assert_eq!(ipc::wait_until(never, deadline), Err(Error::TimedOut));
            assert!(now() >= deadline, "early");
            let number = arena::add(0, 1);
            arena::set(1 + at, number);
        });
    }
}

/// The same with new threads.
fn sleepers<const N: usize>(w: &mut World, start: u64, deadlines: [u64; N], cpu: u64) -> [Thread; N] {
    let beds = beds(w, cpu);
    lie_down(w, beds, start, deadlines);
    beds.0
}

fn deadlines_end_in_their_order(w: &mut World) {
    const COUNT: u64 = 50;
    // In no order: 7 and 50 have no common divisor.
    let places: [u64; COUNT as usize] = core::array::from_fn(|at| at as u64 * 7 % COUNT);
    let beds = beds(w, 0);
    let mut lead = 50;
    loop {
        arena::set(0, 0);
        let start = now() + w.milliseconds(lead);
        lie_down(w, beds, start, places.map(|place| 500 * place));
        let all_wait = now() < start;
        beds.0.iter().for_each(|thread| w.join(thread));
        if all_wait {
            break;
        }
        // The host was slow: with more time to get ready.
        lead *= 2;
    }
    assert_eq!(core::array::from_fn(|at| arena::get(1 + at)), places);
}

fn equal_deadlines_all_end(w: &mut World) {
    let start = now();
    let threads = sleepers(w, start, [50_000; 40], 0);
    threads.iter().for_each(|thread| w.join(thread));
    assert_eq!(arena::get(0), 40);
}

fn a_deadline_far_off_does_not_end_early(w: &mut World) {
    let hour = w.milliseconds(3_600_000);
    let deadlines = [u64::MAX, u64::MAX - 1, 1 << 63, i64::MAX as u64, now() + hour];
    let waits = deadlines.map(|deadline| {
        let notification = w.notification();
        let thread = w.thread().start(move || assert_eq!(ipc::wait_until(notification, deadline), Ok(1)));
        w.until_blocked(&thread);
        (thread, notification)
    });
    w.sleep(60);
    for (thread, notification) in waits {
        assert_eq!(thread.state(), BLOCKED);
        ipc::signal(notification).must("a signal");
        w.join(&thread);
    }
}

fn deadlines_are_kept_on_every_cpu(w: &mut World) {
    let start = now();
    let mut threads = 0;
    for cpu in 0..w.cpus() {
        for thread in sleepers(w, start, [30_000, 10_000, 20_000], cpu) {
            threads += 1;
            assert_eq!(thread.tcb.status().must("a status")[1], cpu);
        }
    }
    w.until("all deadlines have ended", || arena::get(0) == threads);
    assert!(now() >= start + w.milliseconds(30));
}
