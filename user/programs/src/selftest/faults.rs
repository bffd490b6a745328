//! Faults: who hears that a thread did what it cannot, and how it goes on.

use abi::message::fault;
use abi::{CPtr, Error, MapFlags, PAGE_SIZE, Registers, Rights};
use ipc::{Message, VSpace};

use crate::arena;
use crate::row;
use crate::snippets;
use crate::subject::{
    BREAKPOINT, Fault, HERE, INVALID_OPCODE, PAGE_FAULT, Subject, USER, WRITE, address, breakpoint,
    divide_x87, end, read, undefined, write,
};
use crate::table::{Need, Test};
use crate::world::{BLOCKED, INACTIVE, Must, Thread, VSPACE, World, finish, never_ends};

/// The tests of this area.
#[rustfmt::skip]
pub const TESTS: &[Test] = &[
    row!("faults", all_integer_registers_survive_a_fault, "a fault and its resumption change no integer register, FS or GS base"),
    row!("faults", a_pager_maps_the_page_and_the_access_goes_on, "after the handler mapped the page and answered, the access happens as if nothing had been"),
    row!("faults", a_thousand_faults_are_each_heard_and_resumed, "a thread that faults a thousand times is heard and resumed a thousand times"),
    row!("faults", a_handler_sends_the_thread_elsewhere, "write_registers with resume takes a faulted thread on elsewhere, and leaves the handler nobody to answer"),
    row!("faults", registers_written_before_the_answer_are_what_it_resumes, "write_registers without resume changes a faulted thread, and the answer lets it go on from there"),
    row!("faults", an_answer_with_another_label_leaves_the_thread_stopped, "an answer whose label is not 0 leaves the thread stopped until it is started again"),
    row!("faults", without_a_handler_only_the_thread_stops, "a fault without a handler stops its thread, and no other one"),
    row!("faults", a_fault_strikes_again_for_the_next_handler, "when the handler dies with a fault in hand, the fault strikes again and goes to the next handler"),
    row!("faults", a_fault_strikes_again_when_its_reply_is_deleted, "when the Reply that holds a fault is deleted, the fault strikes again"),
    row!("faults", a_fault_that_nobody_has_heard_outlives_its_handlers, "a fault that waits for a handler stays when handlers come and go"),
    row!("faults", a_fault_whose_endpoint_goes_stops_its_thread, "deleting the Endpoint stops the threads whose faults wait there, without a word to them"),
    row!("faults", a_thread_without_its_handler_any_more_stops, "set_fault_handler with nothing in place makes the next fault stop the thread, a new one hears it"),
    row!("faults", a_stop_breaks_off_a_fault_and_it_strikes_again, "a faulted thread that is suspended and resumed faults again with all its registers, and the old answer reaches nobody"),
    row!("faults", a_faulted_thread_can_be_deleted, "a faulted thread can be deleted before and after its fault is heard"),
    row!("faults", faults_are_heard_in_order_with_their_badges, "faults of several threads are heard in the order they happened, each with its own badge"),
    row!("faults", another_thread_answers_by_a_reply_object, "whoever holds the Reply that received a fault resumes the thread"),
    row!("faults", a_handler_that_faults_has_a_handler, "a thread that faults with another one's fault in hand is heard by its own handler, and goes on to answer"),
    row!("faults", a_fault_brings_nothing_but_its_words, "a fault message has no buffer words or capabilities, whatever lies in the thread's IPC buffer"),
    row!("faults", a_handler_in_another_address_space_pages, "a handler in another address space maps pages into that of the thread it serves"),
    row!("faults", a_handler_on_another_cpu_pages, "faults are heard and answered across CPUs", Need::Cpus(2)),
    row!("faults", faults_on_all_cpus_reach_one_handler, "no fault is lost when threads on all CPUs fault at once", Need::Cpus(2)),
];

snippets! {
    /// Reads eight bytes at rdi, and counts.
    read_and_count: "mov rax, [rdi]", "inc rbx";
}

fn all_integer_registers_survive_a_fault(w: &mut World) {
    let subject = Subject::new(w);
    let given = Registers { rdi: HERE, ..subject.registers(read_and_count) };
    subject.run(&given);
    subject.hear();
    assert_eq!(subject.found(), given);
    let frame = w.frame(1);
    VSPACE.map(frame, HERE, 0, 1, MapFlags::READ).must("a page");
    subject.resume();
    assert_eq!(subject.hear().kind, INVALID_OPCODE);
    let found = subject.found();
    let flags = found.rflags;
    assert_eq!(
        found,
        Registers { rip: end(read_and_count), rax: 0, rbx: given.rbx + 1, rflags: flags, ..given }
    );
}

fn a_pager_maps_the_page_and_the_access_goes_on(w: &mut World) {
    let subject = Subject::new(w);
    let pages = 8;
    subject.thread.run(move || {
        for page in 0..pages {
            let place = (HERE + page * PAGE_SIZE + 8 * page) as *mut u64;
            // SAFETY: the pager maps the page for this alone.
            unsafe { place.write_volatile(page + 100) };
            // SAFETY: as above.
            arena::set(page as usize, unsafe { place.read_volatile() });
        }
        arena::set(20, 1);
    });
    let frames = w.frame(pages);
    for page in 0..pages {
        let fault = subject.hear();
        let address = HERE + page * PAGE_SIZE + 8 * page;
        assert_eq!(fault.what(), [PAGE_FAULT, USER | WRITE, address]);
        VSPACE.map(frames, address & !0xfff, page * PAGE_SIZE, 1, MapFlags::WRITE).must("a page");
        subject.resume();
    }
    assert_eq!(subject.hear().rip, finish as *const () as u64);
    assert_eq!(core::array::from_fn(arena::get), [100, 101, 102, 103, 104, 105, 106, 107]);
}

fn a_thousand_faults_are_each_heard_and_resumed(w: &mut World) {
    let subject = Subject::new(w);
    subject.run(&subject.registers(undefined));
    for round in 0..1000 {
        let fault = subject.hear();
        assert_eq!((fault.kind, fault.rip), (INVALID_OPCODE, address(undefined)), "fault {round}");
        subject.resume();
    }
    assert_eq!(subject.hear().kind, INVALID_OPCODE);
}

fn a_handler_sends_the_thread_elsewhere(w: &mut World) {
    let subject = Subject::new(w);
    subject.run(&Registers { rdi: HERE, ..subject.registers(read) });
    assert_eq!(subject.hear().address, HERE);
    let elsewhere = subject.registers(breakpoint);
    rt::thread::write_registers(subject.tcb(), &elsewhere, true).must("taking it elsewhere");
    assert_eq!(ipc::reply(Message::new(0)), Err(Error::NoCaller));
    let fault = subject.hear();
    assert_eq!((fault.kind, fault.rip), (BREAKPOINT, elsewhere.rip + 1));
    assert_eq!(subject.found(), Registers { rip: elsewhere.rip + 1, ..elsewhere });
}

fn registers_written_before_the_answer_are_what_it_resumes(w: &mut World) {
    let subject = Subject::new(w);
    subject.run(&Registers { rdi: HERE, ..subject.registers(read) });
    subject.hear();
    let elsewhere = subject.registers(breakpoint);
    rt::thread::write_registers(subject.tcb(), &elsewhere, false).must("changing it");
    w.sleep(2);
    assert_eq!(subject.thread.state(), BLOCKED, "it waits for the answer all the same");
    assert_eq!(subject.found(), elsewhere);
    subject.resume();
    assert_eq!((subject.hear().kind, subject.found().rax), (BREAKPOINT, elsewhere.rax));
}

fn an_answer_with_another_label_leaves_the_thread_stopped(w: &mut World) {
    let subject = Subject::new(w);
    let registers = subject.registers(undefined);
    for label in [1, fault::LABEL, u32::MAX] {
        subject.run(&registers);
        subject.hear();
        ipc::reply(Message::new(label)).must("an answer");
        assert_eq!(subject.thread.state(), INACTIVE);
        w.sleep(1);
        assert_eq!(subject.thread.state(), INACTIVE);
        assert_eq!(ipc::try_recv(subject.faults, CPtr::NULL).err(), Some(Error::WouldBlock));
        assert_eq!(subject.found(), registers);
    }
    subject.tcb().resume().must("letting it run");
    assert_eq!(subject.hear().kind, INVALID_OPCODE, "started again it faults again");
}

fn without_a_handler_only_the_thread_stops(w: &mut World) {
    let counter = w.thread().priority(90).start(|| {
        loop {
            arena::add(0, 1);
        }
    });
    let thread = w.thread().prepare();
    thread.tcb.set_fault_handler(CPtr::NULL).must("no handler");
    let subject = Subject { thread, faults: CPtr::NULL };
    for what in [undefined, divide_x87, breakpoint] {
        let registers = Registers { rdi: arena::ADDRESS + 8, ..subject.registers(what) };
        subject.run(&registers);
        w.until("it stops", || thread.state() == INACTIVE);
        w.sleep(1);
        assert_eq!(thread.state(), INACTIVE);
        assert_eq!(subject.found().rbx, registers.rbx);
    }
    let counted = arena::get(0);
    w.until("the other thread counts on", || arena::get(0) > counted);
    assert_eq!(counter.state(), crate::world::READY);
}

/// A handler that hears a fault and never answers.
fn deaf_handler(w: &mut World, faults: CPtr, reply: CPtr) -> Thread {
    let never = w.notification();
    w.thread().start(move || {
        let received = ipc::recv(faults, reply).must("a fault");
        arena::set(0, received.message.words[fault::RIP]);
        never_ends(ipc::wait(never));
    })
}

fn a_fault_strikes_again_for_the_next_handler(w: &mut World) {
    let subject = Subject::new(w);
    let registers = Registers { rdi: HERE, ..subject.registers(read) };
    subject.run(&registers);
    for _ in 0..3 {
        let handler = deaf_handler(w, subject.faults, CPtr::NULL);
        w.until("the fault is heard", || arena::get(0) == registers.rip);
        assert_eq!(subject.thread.state(), BLOCKED);
        arena::set(0, 0);
        w.delete(handler.tcb.0);
    }
    assert_eq!(subject.hear().what(), [PAGE_FAULT, USER, HERE]);
    assert_eq!(subject.found(), registers);
}

fn a_fault_strikes_again_when_its_reply_is_deleted(w: &mut World) {
    let subject = Subject::new(w);
    let registers = Registers { rdi: HERE, ..subject.registers(write) };
    subject.run(&registers);
    let reply = w.make(abi::Kind::Reply);
    ipc::recv(subject.faults, reply).must("a fault");
    w.delete(reply);
    assert_eq!(subject.hear().what(), [PAGE_FAULT, USER | WRITE, HERE]);
    // So it does when the handler turns to something else without an answer.
    assert_eq!(subject.hear().what(), [PAGE_FAULT, USER | WRITE, HERE]);
    assert_eq!(subject.found(), registers);
}

fn a_fault_that_nobody_has_heard_outlives_its_handlers(w: &mut World) {
    let subject = Subject::new(w);
    let faults = subject.faults;
    let idle = w.thread().start(move || {
        never_ends(ipc::recv(faults, CPtr::NULL));
    });
    w.until_blocked(&idle);
    w.delete(idle.tcb.0);
    subject.run(&subject.registers(undefined));
    w.until_blocked(&subject.thread);
    let other = w.endpoint();
    let elsewhere = deaf_handler(w, other, CPtr::NULL);
    w.delete(elsewhere.tcb.0);
    assert_eq!(subject.hear().kind, INVALID_OPCODE);
}

fn a_fault_whose_endpoint_goes_stops_its_thread(w: &mut World) {
    let subjects = [(); 3].map(|()| {
        let subject = Subject::new(w);
        subject.run(&subject.registers(undefined));
        w.until_blocked(&subject.thread);
        w.delete(subject.faults);
        subject
    });
    for subject in subjects {
        assert_eq!(subject.thread.state(), INACTIVE);
        assert_eq!(subject.found(), subject.registers(undefined), "its registers tell where it was");
    }
}

fn a_thread_without_its_handler_any_more_stops(w: &mut World) {
    let subject = Subject::new(w);
    subject.run(&subject.registers(undefined));
    subject.hear();
    subject.tcb().set_fault_handler(CPtr::NULL).must("no handler");
    subject.resume();
    w.until("it stops", || subject.thread.state() == INACTIVE);
    let other = w.endpoint();
    let badged = w.mint(other, Rights::WRITE, 5);
    subject.tcb().set_fault_handler(badged).must("another handler");
    subject.tcb().resume().must("letting it run");
    let received = ipc::recv(other, CPtr::NULL).must("a fault");
    assert_eq!((received.badge, Fault::of(&received.message).kind), (5, INVALID_OPCODE));
}

fn a_stop_breaks_off_a_fault_and_it_strikes_again(w: &mut World) {
    let subject = Subject::new(w);
    let registers = Registers { rdi: HERE, ..subject.registers(read) };
    subject.run(&registers);
    // Once while nobody has heard it, then while it is in hand.
    w.until_blocked(&subject.thread);
    for _ in 0..2 {
        subject.tcb().suspend().must("stopping it");
        assert_eq!(subject.thread.state(), INACTIVE);
        assert_eq!(subject.found(), registers);
        assert_eq!(ipc::try_recv(subject.faults, CPtr::NULL).err(), Some(Error::WouldBlock));
        assert_eq!(ipc::reply(Message::new(0)), Err(Error::NoCaller));
        subject.tcb().resume().must("letting it run");
        assert_eq!(subject.hear().what(), [PAGE_FAULT, USER, HERE]);
        assert_eq!(subject.found(), registers);
    }
}

fn a_faulted_thread_can_be_deleted(w: &mut World) {
    let [unheard, heard] = [(); 2].map(|()| {
        let subject = Subject::new(w);
        subject.run(&subject.registers(undefined));
        w.until_blocked(&subject.thread);
        subject
    });
    w.delete(unheard.tcb().0);
    assert_eq!(ipc::try_recv(unheard.faults, CPtr::NULL).err(), Some(Error::WouldBlock));
    heard.hear();
    w.delete(heard.tcb().0);
    assert_eq!(ipc::reply(Message::new(0)), Err(Error::NoCaller));
}

fn faults_are_heard_in_order_with_their_badges(w: &mut World) {
    let faults = w.endpoint();
    for badge in 1..=5 {
        let badged = w.mint(faults, Rights::WRITE, badge);
        let thread = w.thread().faults_to(badged).prepare();
        let subject = Subject { thread, faults };
        subject.run(&Registers { rdi: badge << 32, ..subject.registers(read) });
        w.until_blocked(&thread);
    }
    for badge in 1..=5 {
        let received = ipc::recv(faults, CPtr::NULL).must("a fault");
        assert_eq!((received.badge, received.message.words[fault::ADDRESS]), (badge, badge << 32));
        ipc::reply(Message::new(1)).must("an answer");
    }
}

fn another_thread_answers_by_a_reply_object(w: &mut World) {
    let subject = Subject::new(w);
    let reply = w.make(abi::Kind::Reply);
    subject.run(&Registers { rdi: HERE, ..subject.registers(read) });
    ipc::recv(subject.faults, reply).must("a fault");
    let frame = w.frame(1);
    let pager = w.thread().start(move || {
        VSPACE.map(frame, HERE, 0, 1, MapFlags::READ).must("a page");
        ipc::send(reply, Message::new(0)).must("an answer");
    });
    w.join(&pager);
    assert_eq!(subject.hear().rip, end(read));
}

fn a_handler_that_faults_has_a_handler(w: &mut World) {
    let subject = Subject::new(w);
    subject.run(&Registers { rdi: HERE, ..subject.registers(read) });
    let inner = subject.faults;
    let outer = Subject::new(w);
    outer.thread.run(move || {
        ipc::recv(inner, CPtr::NULL).must("a fault");
        // SAFETY: the page is mapped by who hears of this fault.
        arena::set(0, unsafe { (HERE as *const u64).read_volatile() } + 1);
        ipc::reply(Message::new(0)).must("an answer");
    });
    assert_eq!(outer.hear().what(), [PAGE_FAULT, USER, HERE]);
    assert_eq!(subject.thread.state(), BLOCKED);
    let frame = w.frame(1);
    VSPACE.map(frame, HERE, 0, 1, MapFlags::READ).must("a page");
    outer.resume();
    assert_eq!(outer.hear().rip, finish as *const () as u64);
    assert_eq!((arena::get(0), subject.hear().rip), (1, end(read)));
}

fn a_fault_brings_nothing_but_its_words(w: &mut World) {
    let subject = Subject::new(w);
    let secret = w.endpoint();
    let slot = w.slot();
    subject.thread.buffer().words.iter().for_each(|word| word.set(0x5ec2e7));
    subject.thread.buffer().send_caps(&[secret]);
    // (rsi as the info of a message with everything.)
    let info = abi::MsgInfo::new(9, 64, 3).0;
    subject.run(&Registers { rsi: info, rdi: HERE, ..subject.registers(read) });
    ipc::buffer().words.iter().for_each(|word| word.set(7));
    ipc::buffer().receive_into(&[slot]);
    subject.hear();
    assert!(ipc::buffer().words.iter().all(|word| word.get() == 7));
    let found = crate::world::CNODE.describe(u64::from(slot.0)).must("a look at the slot");
    assert_eq!(found.kind, abi::Kind::Null);
}

/// Lets a handler with this address space and CPU page for a subject with those.
fn pages_between(w: &mut World, handler_space: VSpace, cpus: [u64; 2]) {
    const PAGES: u64 = 4;
    let frames = w.frame(PAGES);
    let subject_space = w.space();
    let subject = Subject::of(w, |thread| thread.space(subject_space).cpu(cpus[0]));
    let faults = subject.faults;
    let handler = w.thread().space(handler_space).cpu(cpus[1]).start(move || {
        for page in 0..PAGES {
            let fault = Fault::of(&ipc::recv(faults, CPtr::NULL).must("a fault").message);
            let address = HERE + page * PAGE_SIZE;
            assert_eq!(fault.what(), [PAGE_FAULT, USER | WRITE, address]);
            subject_space.map(frames, address, page * PAGE_SIZE, 1, MapFlags::WRITE).must("a page");
            ipc::reply(Message::new(0)).must("an answer");
        }
    });
    subject.thread.run(|| {
        for page in 0..PAGES {
            // SAFETY: the handler maps the page for this alone.
            unsafe { ((HERE + page * PAGE_SIZE) as *mut u64).write_volatile(page + 1) };
        }
    });
    w.join(&handler);
    assert_eq!(subject.hear().rip, finish as *const () as u64);
    VSPACE.map(frames, HERE, 0, PAGES, MapFlags::READ).must("a look at the pages");
    for page in 0..PAGES {
        // SAFETY: just mapped.
        assert_eq!(unsafe { ((HERE + page * PAGE_SIZE) as *const u64).read_volatile() }, page + 1);
    }
    VSPACE.unmap(HERE, PAGES).must("an unmap");
}

fn a_handler_in_another_address_space_pages(w: &mut World) {
    let space = w.space();
    pages_between(w, space, [0, 0]);
}

fn a_handler_on_another_cpu_pages(w: &mut World) {
    let space = w.space();
    let other = w.cpus() - 1;
    for cpus in [[0, other], [other, 0], [other, other]] {
        pages_between(w, space, cpus);
    }
}

fn faults_on_all_cpus_reach_one_handler(w: &mut World) {
    const ROUNDS: u64 = 50;
    let faults = w.endpoint();
    let cpus = w.cpus();
    let subjects = 2 * cpus;
    for at in 0..subjects {
        let badged = w.mint(faults, Rights::WRITE, at + 1);
        let thread = w.thread().cpu(at % cpus).faults_to(badged).prepare();
        let subject = Subject { thread, faults };
        subject.run(&subject.registers(undefined));
    }
    let mut heard = [0; 2 * abi::trace::MAX_CPUS];
    while heard[..subjects as usize].iter().any(|&count| count < ROUNDS) {
        // (A fault that does not come is found by the bench.)
        let received = ipc::recv(faults, CPtr::NULL).must("a fault");
        let at = received.badge as usize - 1;
        assert_eq!(received.message.words[fault::RIP], address(undefined));
        heard[at] += 1;
        // Who has had its share stays stopped.
        ipc::reply(Message::new(u32::from(heard[at] == ROUNDS))).must("an answer");
    }
}
