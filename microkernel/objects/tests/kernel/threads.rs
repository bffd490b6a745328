//! Threads: configuring, stopping, registers, faults, kicks.

use abi::message::fault;
use abi::table::method;
use abi::{Error, Kind, MsgInfo, Registers, Rights, Syscall, USER_TOP};
use objects::tcb::State;

use crate::world::{Done, World, root};

fn write_registers(w: &World, cap: u32, registers: &Registers, resume: u64) -> Result<(), Error> {
    for (at, word) in registers.to_words().into_iter().enumerate() {
        w.buffer(w.root).set_word(at, word);
    }
    w.invoke(cap, method::Tcb::write_registers, &[resume]).map(|_| ())
}

fn read_registers(w: &World, cap: u32) -> Result<Registers, Error> {
    w.invoke(cap, method::Tcb::read_registers, &[])?;
    Ok(Registers::from_words(&core::array::from_fn(|at| w.buffer(w.root).word(at))))
}

fn status(w: &World, cap: u32) -> u64 {
    w.invoke(cap, method::Tcb::status, &[]).unwrap()[0]
}

#[test]
fn registers_are_written_and_read_back() {
    let w = World::new();
    let (cap, _) = w.passive();
    w.invoke(cap, method::Tcb::suspend, &[]).unwrap();
    let registers =
        Registers { rip: 0x40_1000, rsp: 0x7000, rflags: 0x202, rax: 1, r: [8; 8], ..Registers::default() };
    assert_eq!(write_registers(&w, cap, &registers, 0), Ok(()));
    assert_eq!(read_registers(&w, cap), Ok(registers));
    assert_eq!(status(&w, cap), 0);
    assert_eq!(write_registers(&w, cap, &registers, 1), Ok(()));
    assert_eq!(status(&w, cap), 1);
    assert_eq!(write_registers(&w, cap, &registers, 1), Err(Error::Busy));
    assert_eq!(read_registers(&w, cap), Err(Error::Busy));
}

#[test]
fn registers_that_the_processor_would_fault_on_are_refused_and_nothing_happens() {
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let (cap, _, tcb) = w.active_on(0);
    w.recv(tcb, endpoint);
    let bad = [
        Registers { rip: USER_TOP, ..Registers::default() },
        Registers { fs_base: 1 << 47, ..Registers::default() },
        Registers { gs_base: 1 << 63, ..Registers::default() },
    ];
    for registers in &bad {
        for resume in [0, 1] {
            assert_eq!(write_registers(&w, cap, registers, resume), Err(Error::InvalidArgument));
            assert_eq!(tcb.state.get(), State::Receiving, "the wait was broken off");
        }
    }
    assert_eq!(write_registers(&w, cap, &Registers::default(), 2), Err(Error::InvalidArgument));
    let flags = Registers { rflags: u64::MAX, ..Registers::default() };
    assert_eq!(write_registers(&w, cap, &flags, 0), Ok(()));
    // No I/O privilege, no nested task, no virtual-8086 mode; interrupts on.
    assert_eq!(tcb.context.rflags.get() & (3 << 12 | 1 << 14 | 1 << 17 | 1 << 9), 1 << 9);
}

#[test]
fn another_buffer_leaves_the_entries_of_its_library_as_they_are() {
    let w = World::new();
    let (cap, tcb) = w.passive();
    w.invoke(cap, method::Tcb::suspend, &[]).unwrap();
    let buffer = |w: &World| {
        let frame = u64::from(w.make(Kind::Frame, 12));
        w.invoke(cap, method::Tcb::configure, &[0, 0, frame, 0]).unwrap();
        frame as u32
    };
    buffer(&w);
    w.invoke(cap, method::Tcb::set_foreign, &[0x1000, 0x2000]).unwrap();
    let last = buffer(&w);
    assert_eq!((tcb.foreign_entry.get(), tcb.kick_entry.get()), (0x1000, 0x2000));
    // Without a buffer nothing can enter.
    w.delete(last);
    assert_eq!((tcb.foreign_entry.get(), tcb.kick_entry.get(), tcb.buffer.get()), (0, 0, 0));
}

#[test]
fn a_thread_that_could_run_is_not_configured() {
    let w = World::new();
    let (cap, _) = w.passive();
    assert_eq!(w.invoke(cap, method::Tcb::configure, &[2, 0, 0, 0]), Err(Error::Busy));
    w.invoke(cap, method::Tcb::suspend, &[]).unwrap();
    let frame = u64::from(w.make(Kind::Frame, 12));
    let configure =
        |buffer, offset| w.invoke(cap, method::Tcb::configure, &[0, 0, buffer, offset]).map(|_| ());
    assert_eq!(configure(frame, 512), Err(Error::InvalidArgument));
    assert_eq!(configure(frame, 4096), Err(Error::OutOfRange));
    assert_eq!(configure(frame, 1 << 63), Err(Error::OutOfRange));
    assert_eq!(configure(frame, 3072), Ok(()));
    let read_only = u64::from(w.mint(frame as u32, Rights::READ, 0).unwrap());
    assert_eq!(configure(read_only, 0), Err(Error::NoRights));
    assert_eq!(configure(2, 0), Err(Error::WrongKind));
}

#[test]
fn a_new_thread_lacks_what_it_needs() {
    let w = World::new();
    let cap = w.make(Kind::Tcb, 0);
    assert_eq!(w.invoke(cap, method::Tcb::resume, &[]), Err(Error::NotConfigured));
    assert_eq!(write_registers(&w, cap, &Registers::default(), 1), Err(Error::NotConfigured));
    assert_eq!(w.invoke(cap, method::Tcb::set_foreign, &[0x1000, 0]), Err(Error::NotConfigured));
    assert_eq!(w.invoke(cap, method::Tcb::kick, &[]), Err(Error::NotConfigured));
    w.invoke(root::TCB, method::Tcb::configure, &[]).unwrap_err();
}

#[test]
fn a_suspended_wait_ends_with_cancelled() {
    for kind in [Kind::Endpoint, Kind::Notification] {
        let w = World::new();
        let object = w.make(kind, 0);
        let (cap, _, tcb) = w.active_on(0);
        if kind == Kind::Endpoint {
            w.recv(tcb, object)
        } else {
            w.wait(tcb, object)
        };
        assert_eq!(status(&w, cap), 2);
        w.invoke(cap, method::Tcb::suspend, &[]).unwrap();
        w.invoke(cap, method::Tcb::resume, &[]).unwrap();
        assert_eq!(w.word(tcb), Err(Error::Cancelled));
    }
}

#[test]
fn a_fault_reaches_its_handler_and_the_answer_resumes() {
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let badged = w.mint(endpoint, Rights::ALL, 9).unwrap();
    let (cap, _, tcb) = w.active_on(0);
    w.invoke(cap, method::Tcb::set_fault_handler, &[u64::from(badged)]).unwrap();
    w.run(tcb);
    tcb.context.rip.set(0x1234);
    tcb.context.rax.set(77);
    w.fault(0, [14, 6, 0xdead_0000]);
    let Done::With(Ok(message)) = w.recv(w.root, endpoint) else { panic!("no fault message") };
    assert_eq!((message.badge, message.info), (9, MsgInfo::plain(fault::LABEL)));
    assert_eq!(message.words[..4], [14, 6, 0x1234, 0xdead_0000]);
    w.reply(w.root, 0);
    assert_eq!((tcb.state.get(), tcb.context.rax.get(), tcb.context.rip.get()), (State::Ready, 77, 0x1234));
}

#[test]
fn a_fault_whose_handler_dies_strikes_again() {
    let w = World::new();
    let endpoint = w.make(Kind::Endpoint, 0);
    let (cap, _, tcb) = w.active_on(0);
    let (handler_cap, _, handler) = w.active_on(0);
    w.invoke(cap, method::Tcb::set_fault_handler, &[u64::from(endpoint)]).unwrap();
    w.recv(handler, endpoint);
    w.run(tcb);
    tcb.context.rip.set(0x1234);
    w.fault(0, [14, 6, 0xdead_0000]);
    assert_eq!(tcb.state.get(), State::FaultAnswer);
    w.delete(handler_cap);
    assert_eq!((tcb.state.get(), tcb.context.rip.get()), (State::Ready, 0x1234));
}

#[test]
fn a_fault_without_a_handler_stops_the_thread() {
    let w = World::new();
    let (cap, _, tcb) = w.active_on(0);
    w.run(tcb);
    w.fault(0, [14, 6, 0]);
    assert_eq!(status(&w, cap), 0);
    assert_eq!(w.cpus[0].thread(), w.root);
}

/// A thread that makes a system call that is not the kernel's, and its handler's Endpoint.
fn foreign(w: &World) -> (u32, objects::Ref<objects::Tcb>, u32) {
    let endpoint = w.make(Kind::Endpoint, 0);
    let (cap, _, tcb) = w.active_on(0);
    w.invoke(cap, method::Tcb::set_fault_handler, &[u64::from(endpoint)]).unwrap();
    w.run(tcb);
    tcb.context.rip.set(0x1000);
    tcb.context.rax.set(39);
    tcb.context.rdx.set(55);
    assert!(!w.trap(0));
    assert_eq!(tcb.state.get(), State::Faulting);
    (cap, tcb, endpoint)
}

#[test]
fn a_foreign_call_without_a_library_is_a_fault() {
    let w = World::new();
    let (_, tcb, endpoint) = foreign(&w);
    let Done::With(Ok(message)) = w.recv(w.root, endpoint) else { panic!("no fault message") };
    assert_eq!(message.words[..3], [fault::FOREIGN_CALL, 39, 0x1002]);
    w.reply(w.root, 0);
    assert_eq!((tcb.context.rip.get(), tcb.context.rax.get(), tcb.context.rdx.get()), (0x1002, 39, 55));
}

#[test]
fn a_foreign_call_survives_being_suspended() {
    let w = World::new();
    let (cap, tcb, _) = foreign(&w);
    w.invoke(cap, method::Tcb::suspend, &[]).unwrap();
    assert_eq!((tcb.context.rax.get(), tcb.context.rdx.get()), (39, 55));
    // Resumed without a word from its handler, it makes the call again.
    assert_eq!(tcb.context.rip.get(), 0x1000);
}

#[test]
fn a_foreign_call_whose_handler_dies_is_made_again() {
    let w = World::new();
    let (_, tcb, endpoint) = foreign(&w);
    let (handler_cap, _, handler) = w.active_on(0);
    w.recv(handler, endpoint);
    w.delete(handler_cap);
    assert_eq!(tcb.state.get(), State::Ready);
    assert_eq!((tcb.context.rip.get(), tcb.context.rax.get()), (0x1000, 39));
}

#[test]
fn a_kick_enters_user_code_or_leaves_word() {
    let w = World::new();
    let (cap, _, tcb) = w.active_on(0);
    w.invoke(cap, method::Tcb::set_foreign, &[0x2000, 0x3000]).unwrap();
    w.run(tcb);
    tcb.context.rip.set(0x1000);
    tcb.interrupted.set(true);
    let kick = || w.invoke(cap, method::Tcb::kick, &[]).unwrap();
    w.run(w.root);
    kick();
    let buffer = w.buffer(tcb);
    assert_eq!((tcb.context.rip.get(), buffer.kick_address(), buffer.inside()), (0x3000, 0x1000, 1));
    kick();
    assert_eq!((tcb.context.rip.get(), buffer.kick_pending()), (0x3000, 1));
    for bad in [[USER_TOP, 0], [0, USER_TOP]] {
        assert_eq!(w.invoke(cap, method::Tcb::set_foreign, &bad), Err(Error::InvalidArgument));
    }
}

#[test]
fn dispatch_has_exactly_the_methods_of_the_table() {
    let listed: Vec<u64> = abi::table::METHODS.iter().map(|call| u64::from(call.number)).collect();
    let handled: Vec<u64> =
        (0..0x1_0000).filter(|&number| objects::Kernel::<crate::machine::Fake>::has_method(number)).collect();
    assert_eq!(handled, {
        let mut sorted = listed;
        sorted.sort_unstable();
        sorted
    });
}

#[test]
fn invoke_refuses_what_is_not_there() {
    let w = World::new();
    let free = w.free_slot();
    assert_eq!(w.invoke(free, method::Tcb::status, &[]), Err(Error::NoCapability));
    for slot in [0, 1, 512, u32::MAX] {
        assert_eq!(w.invoke(slot, method::Tcb::status, &[]), Err(Error::NoCapability));
    }
    assert_eq!(w.invoke(root::TCB, 0x5ff, &[]), Err(Error::NoSuchMethod));
    assert_eq!(w.invoke(root::TCB, method::Frame::physical, &[]), Err(Error::WrongKind));
    let read = w.mint(root::TCB, Rights::READ, 0).unwrap();
    assert_eq!(w.invoke(read, method::Tcb::suspend, &[]), Err(Error::NoRights));
    let wide = Syscall::invoke;
    let done =
        w.syscall(w.root, wide, u64::from(root::TCB) | 1 << 32, u64::from(method::Tcb::status), [0; 8]);
    assert_eq!(done, Done::With(Err(Error::NoCapability)));
    let number = u64::from(method::Tcb::status) | 1 << 32;
    assert_eq!(
        w.syscall(w.root, wide, u64::from(root::TCB), number, [0; 8]),
        Done::With(Err(Error::NoSuchMethod))
    );
}

#[test]
fn a_bound_notification_ends_a_receive() {
    let w = World::new();
    let (endpoint, notification) = (w.make(Kind::Endpoint, 0), w.make(Kind::Notification, 0));
    let badged = w.mint(notification, Rights::ALL, 6).unwrap();
    let (cap, _, tcb) = w.active_on(0);
    let bind = || w.invoke(cap, method::Tcb::bind_notification, &[u64::from(notification)]).map(|_| ());
    assert_eq!(bind(), Ok(()));
    assert_eq!(bind(), Err(Error::Busy));
    w.recv(tcb, endpoint);
    w.signal(w.root, badged);
    let message = w.result(tcb).unwrap();
    assert!(message.info.is_notified());
    assert_eq!(message.words[0], 6);
    w.signal(w.root, badged);
    assert!(matches!(w.recv(tcb, endpoint), Done::With(Ok(message)) if message.info.is_notified()));
    w.invoke(cap, method::Tcb::unbind_notification, &[]).unwrap();
    w.recv(tcb, endpoint);
    w.signal(w.root, badged);
    assert_eq!(tcb.state.get(), State::Receiving);
    // Bits that are there already end a receive at the moment of binding.
    assert_eq!(bind(), Ok(()));
    assert_eq!(w.word(tcb), Ok(6));
}
