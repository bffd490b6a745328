//! Vector registers: kept where they must be, and never passed on.

use abi::message::fault;
use abi::{CPtr, MapFlags, Registers, Syscall};
use ipc::Message;

use crate::arena;
use crate::row;
use crate::subject::HERE;
use crate::table::{Need, Test};
use crate::vector_state::{Call, FOUND_BYTES, State, across, tell_first_state};
use crate::world::{Must, SYSTEM, Thread, VSPACE, World};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("vectors", vector_registers_survive_preemption, "ymm, MXCSR and x87 state of competing threads survive preemption"),
    row!("vectors", vector_registers_survive_preemption_on_every_cpu, "the same on all CPUs at once", Need::Cpus(2)),
    row!("vectors", vector_registers_survive_a_fault, "a fault that is handled leaves the vector state as it was"),
    row!("vectors", a_new_thread_finds_the_initial_vector_state, "a new thread's vector state is initial, whatever ran before"),
    row!("vectors", a_thread_that_changes_its_address_space_finds_the_initial_vector_state, "a thread that is given another VSpace begins there with the initial vector state"),
    row!("vectors", a_call_passes_no_vector_state, "a server of another domain finds the initial vector state, not its caller's, and the caller not the server's"),
    row!("vectors", a_call_of_the_slow_path_passes_no_vector_state, "the same with a message that takes the slow path"),
    row!("vectors", a_traced_call_passes_no_vector_state, "the same with the fast path out of service"),
    row!("vectors", a_switch_after_a_signal_passes_no_vector_state, "a thread that wakes from a wait finds none of the signaller's vector state"),
    row!("vectors", a_fault_handler_finds_no_vector_state, "a fault handler finds none of the faulting thread's vector state"),
    row!("vectors", a_call_between_cpus_passes_no_vector_state, "between CPUs, too, no vector state passes", Need::Cpus(2)),
];

/// Threads of an address space each that spin with a vector state of their own, and must find it afterwards.
fn spin_with_vectors(w: &mut World, cpus: u64) {
    let turn = w.microseconds(200);
    let threads: [Thread; 4] = core::array::from_fn(|at| {
        let space = w.space();
        let cpu = at as u64 % cpus;
        w.thread().cpu(cpu).priority(50).budget(turn, turn).space(space).start(move || {
            for round in 0..20 {
                let state = State::of(16 * at as u64 + round);
                assert_eq!(across(state, Call::spin(100_000)).0, state);
            }
        })
    });
    threads.iter().for_each(|thread| w.join(thread));
}

fn vector_registers_survive_preemption(w: &mut World) {
    spin_with_vectors(w, 1);
}

fn vector_registers_survive_preemption_on_every_cpu(w: &mut World) {
    let cpus = w.cpus();
    spin_with_vectors(w, cpus);
}

/// Number of a system call that is not this kernel's: without a library it is a fault.
const FOREIGN: u64 = 39;

fn foreign() -> Call {
    Call { number: FOREIGN, capability: 0, info: 0, rounds: 0 }
}

fn vector_registers_survive_a_fault(w: &mut World) {
    let faults = w.endpoint();
    let space = w.space();
    w.thread().space(space).start(move || {
        ipc::recv(faults, CPtr::NULL).must("a fault");
        loop {
            across(State::of(77), Call::spin(10));
            let received = ipc::reply_recv(faults, Message::new(0)).must("a fault");
            if received.message.words[fault::KIND] != 3 {
                // Its end.
                ipc::reply(Message::new(1)).must("an answer");
                break;
            }
        }
    });
    let thread = w.thread().faults_to(faults).start(|| {
        let state = State::of(5);
        // A loop of one round, in the midst of which a breakpoint is.
        for _ in 0..20 {
            assert_eq!(across(state, Call::BREAKPOINT).0, state);
        }
    });
    w.join(&thread);
}

fn a_new_thread_finds_the_initial_vector_state(w: &mut World) {
    let frame = w.frame(1);
    const { assert!(FOUND_BYTES <= 4096) };
    VSPACE.map(frame, HERE, 0, 1, MapFlags::WRITE).must("a map");
    across(State::of(3), Call::spin(10));
    let thread = w.thread().prepare();
    let registers = thread.entry(|| ());
    let registers = Registers { rip: tell_first_state as *const () as u64, rdi: HERE, ..registers };
    rt::thread::write_registers(thread.tcb, &registers, true).must("starting it");
    across(State::of(4), Call::spin(10));
    w.until("it is through", || thread.state() == crate::world::INACTIVE);
    // SAFETY: the thread has left a `State` there.
    let found = unsafe { (HERE as *const State).read_volatile() };
    assert_eq!(found, State::INITIAL);
}

fn a_thread_that_changes_its_address_space_finds_the_initial_vector_state(w: &mut World) {
    let (frame, space) = (w.frame(1), w.space());
    for vspace in [VSPACE, space] {
        vspace.map(frame, HERE, 0, 1, MapFlags::WRITE).must("a map");
    }
    let thread = w.thread().priority(90).start(|| {
        loop {
            arena::add(0, 1);
            across(State::of(3), Call::spin(u64::MAX));
        }
    });
    w.until("it runs", || arena::get(0) == 1);
    w.sleep(5);
    thread.tcb.suspend().must("stopping it");
    thread.tcb.configure(CPtr::NULL, space.0, CPtr::NULL, 0).must("another address space");
    let registers = thread.entry(|| ());
    let registers = Registers { rip: tell_first_state as *const () as u64, rdi: HERE, ..registers };
    rt::thread::write_registers(thread.tcb, &registers, true).must("starting it");
    w.until("it is through", || thread.state() == crate::world::INACTIVE);
    // SAFETY: the thread has left a `State` there.
    let found = unsafe { (HERE as *const State).read_volatile() };
    assert_eq!(found, State::INITIAL);
}

/// A server of another domain and a caller, each with a vector state of its own in each call, find the initial
/// one each time. `info` is that of the messages.
fn call_with_vectors(w: &mut World, cpu: u64, info: u64) {
    let endpoint = w.endpoint();
    let space = w.space();
    w.thread().cpu(cpu).space(space).start(move || {
        let (found, _) = across(State::of(9), Call::of(Syscall::recv, endpoint, 0));
        assert_eq!(found, State::INITIAL, "first call");
        loop {
            let (found, status) = across(State::of(10), Call::of(Syscall::reply_recv, endpoint, info));
            assert_eq!((found, status), (State::INITIAL, 0), "further call");
            arena::add(0, 1);
        }
    });
    for round in 0..20 {
        let (found, status) = across(State::of(round), Call::of(Syscall::call, endpoint, info));
        assert_eq!((found, status), (State::INITIAL, 0), "answer");
    }
    w.until("all came", || arena::get(0) >= 19);
}

fn a_call_passes_no_vector_state(w: &mut World) {
    call_with_vectors(w, 0, 5 << 32);
    // With words in the buffer, too.
    arena::set(0, 0);
    call_with_vectors(w, 0, 5 << 32 | 8);
}

fn a_call_of_the_slow_path_passes_no_vector_state(w: &mut World) {
    ipc::buffer().send_caps(&[CPtr::NULL]);
    call_with_vectors(w, 0, 5 << 32 | 1 << 8);
}

fn a_traced_call_passes_no_vector_state(w: &mut World) {
    SYSTEM.trace(1 << abi::trace::Event::Ipc as u64).must("tracing");
    call_with_vectors(w, 0, 5 << 32);
    SYSTEM.trace(0).must("tracing no more");
}

fn a_switch_after_a_signal_passes_no_vector_state(w: &mut World) {
    let [ping, pong] = [w.notification(), w.notification()];
    let space = w.space();
    w.thread().space(space).priority(120).start(move || {
        loop {
            let (found, _) = across(State::of(9), Call::of(Syscall::wait, ping, 0));
            assert_eq!(found, State::INITIAL);
            ipc::signal(pong).must("a pong");
        }
    });
    for round in 0..20 {
        let (found, _) = across(State::of(round), Call::of(Syscall::signal, ping, 0));
        // Back in the signaller, which was switched away from and to.
        assert!(found == State::INITIAL || found == State::of(round), "{found:x?}");
        ipc::wait(pong).must("a pong");
    }
}

fn a_fault_handler_finds_no_vector_state(w: &mut World) {
    let faults = w.endpoint();
    let space = w.space();
    let thread = w.thread().priority(90).faults_to(faults).space(space).prepare();
    thread.run(|| {
        across(State::of(6), foreign());
    });
    let (found, status) = across(State::of(7), Call::of(Syscall::recv, faults, 0));
    assert_eq!((found, status), (State::INITIAL, 0));
}

fn a_call_between_cpus_passes_no_vector_state(w: &mut World) {
    call_with_vectors(w, 1, 5 << 32);
}
