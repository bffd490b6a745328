//! Every documented error of every system call and method, provoked. The table of the interface says which
//! there are; one that is missing here fails the run.

use abi::object::{IO_TOP, USER_TOP};
use abi::table::CallInfo;
use abi::{CPtr, Error, Kind, MapFlags, Rights, Syscall};
use ipc::trap::{NO_WORDS, trap};
use ipc::{IoPort, IoSpace, Message, SchedContext, Tcb, Untyped, VSpace};

use crate::arena;
use crate::table::{Need, Refusal};
use crate::world::{
    CNODE, EMPTY, IO_CONTROL, IO_PORT, IRQ_CONTROL, Must, SCHED_CONTEXT, SCHED_CONTROL, SILENT, SLOT_BITS,
    SYSTEM, Slot, TCB, Thread, UNTYPED, VSPACE, World, never_ends, now, slots,
};

/// The refusal for a documented error.
pub fn find(call: &CallInfo, error: Error) -> Option<&'static Refusal> {
    REFUSALS.iter().find(|refusal| refusal.error == error && is_named(call, refusal.call))
}

/// Whether `name` is this call's: a system call's name, or `Kind.method`.
fn is_named(call: &CallInfo, name: &str) -> bool {
    match call.kind {
        None => call.name == name,
        Some(kind) => name.split_once('.') == Some((kind.name(), call.name)),
    }
}

type Provoked = Result<(), Error>;

const fn refusal(call: &'static str, error: Error, provoke: fn(&mut World) -> Provoked) -> Refusal {
    Refusal { call, error, need: Need::Nothing, provoke }
}

const fn iommu_refusal(call: &'static str, error: Error, provoke: fn(&mut World) -> Provoked) -> Refusal {
    Refusal { call, error, need: Need::Iommu, provoke }
}

use Error::*;

/// The source of a device that no machine of the tests has.
const NOBODY: u64 = 0xf000;

/// A message info with a count that is out of range.
const BAD_INFO: u64 = 65;
/// The first slot beyond the test's CSpace.
const BEYOND: u64 = 1 << SLOT_BITS;
/// An address where nothing is mapped.
const HOLE: u64 = 0x30_0000_0000;
const MESSAGE: Message = Message::new(1);

#[rustfmt::skip]
const REFUSALS: &[Refusal] = &[
    refusal("call", NoCapability, |_| plain(ipc::call(EMPTY, MESSAGE))),
    refusal("call", WrongKind, |_| plain(ipc::call(CNODE.0, MESSAGE))),
    refusal("call", NoRights, |w| { let e = endpoint(w, Rights::READ); plain(ipc::call(e, MESSAGE)) }),
    refusal("call", InvalidArgument, |w| { let e = w.endpoint(); raw(Syscall::call, e, BAD_INFO) }),
    refusal("call", PeerDied, call_to_a_server_that_dies),
    refusal("call", Cancelled, |w| { let e = doomed(w, Kind::Endpoint); plain(ipc::call(e, MESSAGE)) }),
    refusal("reply_recv", NoCapability, |_| plain(ipc::reply_recv(EMPTY, MESSAGE))),
    refusal("reply_recv", WrongKind, |_| plain(ipc::reply_recv(CNODE.0, MESSAGE))),
    refusal("reply_recv", NoRights, |w| { let e = endpoint(w, Rights::WRITE); plain(ipc::reply_recv(e, MESSAGE)) }),
    refusal("reply_recv", InvalidArgument, |w| { let e = w.endpoint(); raw(Syscall::reply_recv, e, BAD_INFO) }),
    refusal("reply_recv", Busy, |w| receive_with_a_reply_in_use(w, Syscall::reply_recv)),
    refusal("reply_recv", TimedOut, |w| { let e = w.endpoint(); plain(ipc::reply_recv_until(e, MESSAGE, now() + 10_000)) }),
    refusal("reply_recv", Cancelled, |w| { let e = doomed(w, Kind::Endpoint); plain(ipc::reply_recv(e, MESSAGE)) }),
    refusal("send", NoCapability, |_| ipc::send(EMPTY, MESSAGE)),
    refusal("send", WrongKind, |_| ipc::send(CNODE.0, MESSAGE)),
    refusal("send", NoRights, |w| { let e = endpoint(w, Rights::READ); ipc::send(e, MESSAGE) }),
    refusal("send", InvalidArgument, |w| { let e = w.endpoint(); raw(Syscall::send, e, BAD_INFO) }),
    refusal("send", NoCaller, |w| { let reply = w.make(Kind::Reply); ipc::send(reply, MESSAGE) }),
    refusal("send", Cancelled, |w| { let e = doomed(w, Kind::Endpoint); ipc::send(e, MESSAGE) }),
    refusal("recv", NoCapability, |_| plain(ipc::recv(EMPTY, CPtr::NULL))),
    refusal("recv", WrongKind, |_| plain(ipc::recv(CNODE.0, CPtr::NULL))),
    refusal("recv", NoRights, |w| { let e = endpoint(w, Rights::WRITE); plain(ipc::recv(e, CPtr::NULL)) }),
    refusal("recv", InvalidArgument, |w| { let e = w.endpoint(); raw(Syscall::recv, e, BAD_INFO) }),
    refusal("recv", Busy, |w| receive_with_a_reply_in_use(w, Syscall::recv)),
    refusal("recv", TimedOut, |w| { let e = w.endpoint(); plain(ipc::recv_until(e, CPtr::NULL, now() + 10_000)) }),
    refusal("recv", Cancelled, |w| { let e = doomed(w, Kind::Endpoint); plain(ipc::recv(e, CPtr::NULL)) }),
    refusal("try_send", NoCapability, |_| ipc::try_send(EMPTY, MESSAGE)),
    refusal("try_send", WrongKind, |_| ipc::try_send(CNODE.0, MESSAGE)),
    refusal("try_send", NoRights, |w| { let e = endpoint(w, Rights::READ); ipc::try_send(e, MESSAGE) }),
    refusal("try_send", InvalidArgument, |w| { let e = w.endpoint(); raw(Syscall::try_send, e, BAD_INFO) }),
    refusal("try_send", NoCaller, |w| { let reply = w.make(Kind::Reply); ipc::try_send(reply, MESSAGE) }),
    refusal("try_send", WouldBlock, |w| { let e = w.endpoint(); ipc::try_send(e, MESSAGE) }),
    refusal("try_recv", NoCapability, |_| plain(ipc::try_recv(EMPTY, CPtr::NULL))),
    refusal("try_recv", WrongKind, |_| plain(ipc::try_recv(CNODE.0, CPtr::NULL))),
    refusal("try_recv", NoRights, |w| { let e = endpoint(w, Rights::WRITE); plain(ipc::try_recv(e, CPtr::NULL)) }),
    refusal("try_recv", InvalidArgument, |w| { let e = w.endpoint(); raw(Syscall::try_recv, e, BAD_INFO) }),
    refusal("try_recv", Busy, |w| receive_with_a_reply_in_use(w, Syscall::try_recv)),
    refusal("try_recv", WouldBlock, |w| { let e = w.endpoint(); plain(ipc::try_recv(e, CPtr::NULL)) }),
    refusal("reply", InvalidArgument, |_| raw(Syscall::reply, CPtr::NULL, BAD_INFO)),
    refusal("reply", NoCaller, |_| ipc::reply(MESSAGE)),
    refusal("signal", NoCapability, |_| ipc::signal(EMPTY)),
    refusal("signal", WrongKind, |_| ipc::signal(CNODE.0)),
    refusal("signal", NoRights, |w| { let n = notification(w, Rights::READ); ipc::signal(n) }),
    refusal("wait", NoCapability, |_| plain(ipc::wait(EMPTY))),
    refusal("wait", WrongKind, |_| plain(ipc::wait(CNODE.0))),
    refusal("wait", NoRights, |w| { let n = notification(w, Rights::WRITE); plain(ipc::wait(n)) }),
    refusal("wait", InvalidArgument, |w| { let n = w.notification(); raw(Syscall::wait, n, 1 << 20) }),
    refusal("wait", TimedOut, |w| { let n = w.notification(); plain(ipc::wait_until(n, now() + 10_000)) }),
    refusal("wait", Cancelled, |w| { let n = doomed(w, Kind::Notification); plain(ipc::wait(n)) }),
    refusal("poll", NoCapability, |_| plain(ipc::poll(EMPTY))),
    refusal("poll", WrongKind, |_| plain(ipc::poll(CNODE.0))),
    refusal("poll", NoRights, |w| { let n = notification(w, Rights::WRITE); plain(ipc::poll(n)) }),
    refusal("poll", WouldBlock, |w| { let n = w.notification(); plain(ipc::poll(n)) }),
    refusal("invoke", NoCapability, |_| Tcb(EMPTY).suspend()),
    refusal("invoke", WrongKind, |_| Tcb(CNODE.0).suspend()),
    refusal("invoke", NoRights, |w| { let tcb = w.mint(TCB.0, Rights::READ, 0); Tcb(tcb).suspend() }),
    refusal("invoke", NoSuchMethod, |_| plain(ipc::methods::invoke(TCB.0, 0x5ff, []))),

    refusal("Untyped.retype", InvalidArgument, |w| { let slot = w.slot(); plain(ipc::methods::invoke(UNTYPED.0, 0x101, [99, 0, CNODE.0.into_slot(), slot.into_slot(), 1])) }),
    refusal("Untyped.retype", OutOfRange, |_| UNTYPED.retype(Kind::Endpoint, 0, CNODE.0, BEYOND, 1)),
    refusal("Untyped.retype", SlotOccupied, |_| UNTYPED.retype(Kind::Endpoint, 0, CNODE.0, slots::TCB.into(), 1)),
    refusal("Untyped.retype", OutOfMemory, |w| { let (slot, bits) = (w.slot(), w.setup.untyped_bits); UNTYPED.retype(Kind::Untyped, (bits + 1).into(), CNODE.0, slot.into_slot(), 1) }),

    refusal("CNode.mint", OutOfRange, |_| CNODE.mint(BEYOND, CNODE.0, slots::TCB.into(), Rights::ALL, 0)),
    refusal("CNode.mint", SlotOccupied, |_| CNODE.mint(slots::CNODE.into(), CNODE.0, slots::TCB.into(), Rights::ALL, 0)),
    refusal("CNode.mint", InvalidArgument, |w| { let slot = w.slot(); CNODE.mint(slot.into_slot(), CNODE.0, slots::TCB.into(), Rights(Rights::ALL.0 + 1), 0) }),
    refusal("CNode.mint", Busy, |w| { let slot = w.slot(); CNODE.mint(slot.into_slot(), CNODE.0, slots::UNTYPED.into(), Rights::ALL, 0) }),
    refusal("CNode.copy", OutOfRange, |_| CNODE.copy(BEYOND, CNODE.0, slots::TCB.into())),
    refusal("CNode.copy", SlotOccupied, |_| CNODE.copy(slots::CNODE.into(), CNODE.0, slots::TCB.into())),
    refusal("CNode.copy", Busy, |w| { let slot = w.slot(); CNODE.copy(slot.into_slot(), CNODE.0, slots::UNTYPED.into()) }),
    refusal("CNode.relocate", OutOfRange, |_| CNODE.relocate(BEYOND, CNODE.0, slots::TCB.into())),
    refusal("CNode.relocate", SlotOccupied, |_| CNODE.relocate(slots::CNODE.into(), CNODE.0, slots::TCB.into())),
    refusal("CNode.delete", OutOfRange, |_| CNODE.delete(BEYOND)),
    refusal("CNode.revoke", OutOfRange, |_| CNODE.revoke(1)),
    refusal("CNode.revoke", NoCapability, |_| CNODE.revoke(slots::EMPTY.into())),
    refusal("CNode.identify", OutOfRange, |_| plain(CNODE.identify(0))),

    refusal("VSpace.map", InvalidArgument, |w| { let f = w.frame(1); VSPACE.map(f, HOLE, 0, 1, MapFlags::WRITE.or(MapFlags::EXECUTE)) }),
    refusal("VSpace.map", OutOfRange, |w| { let f = w.frame(1); VSPACE.map(f, HOLE, 4096, 1, MapFlags::READ) }),
    refusal("VSpace.map", AlreadyMapped, |w| { let f = w.frame(1); VSPACE.map(f, arena::ADDRESS, 0, 1, MapFlags::READ) }),
    refusal("VSpace.map", OutOfTables, |w| { let (f, v) = (w.frame(1), small_space(w)); v.map(f, HOLE, 0, 1, MapFlags::READ) }),
    refusal("VSpace.unmap", InvalidArgument, |_| VSPACE.unmap(HOLE + 1, 1)),
    refusal("VSpace.unmap", OutOfRange, |_| VSPACE.unmap(USER_TOP, 1)),
    refusal("VSpace.protect", InvalidArgument, |_| VSPACE.protect(arena::ADDRESS, 512, MapFlags::WRITE.or(MapFlags::EXECUTE))),
    refusal("VSpace.protect", OutOfRange, |_| VSPACE.protect(USER_TOP - 4096, 2, MapFlags::READ)),
    refusal("VSpace.protect", NoRights, |w| { let f = w.frame(1); let f = w.mint(f, Rights::READ, 0); VSPACE.map(f, HOLE, 0, 1, MapFlags::READ).must("a map"); VSPACE.protect(HOLE, 1, MapFlags::WRITE) }),
    refusal("VSpace.donate", InvalidArgument, |w| { let u = w.make_sized(Kind::Untyped, 12); VSPACE.donate(u) }),
    refusal("VSpace.donate", Busy, |w| { let u = w.make_sized(Kind::Untyped, 14); make_from(w, u); VSPACE.donate(u) }),
    refusal("VSpace.donate", OutOfRange, donate_until_refused),
    refusal("VSpace.query", OutOfRange, |_| plain(VSPACE.query(USER_TOP))),
    refusal("VSpace.query", NotMapped, |_| plain(VSPACE.query(HOLE))),

    refusal("Tcb.configure", InvalidArgument, |w| { let (t, f) = (new_tcb(w), w.frame(1)); t.configure(CPtr::NULL, CPtr::NULL, f, 8) }),
    refusal("Tcb.configure", OutOfRange, |w| { let (t, f) = (new_tcb(w), w.frame(1)); t.configure(CPtr::NULL, CPtr::NULL, f, 4096) }),
    refusal("Tcb.configure", Busy, |_| TCB.configure(CNODE.0, CPtr::NULL, CPtr::NULL, 0)),
    refusal("Tcb.write_registers", NotConfigured, |w| new_tcb(w).write_registers(1)),
    refusal("Tcb.write_registers", InvalidArgument, |w| new_tcb(w).write_registers(2)),
    refusal("Tcb.write_registers", Busy, |_| TCB.write_registers(0)),
    refusal("Tcb.read_registers", NotConfigured, |w| without_buffer(w, |other| other.read_registers())),
    refusal("Tcb.read_registers", Busy, |_| TCB.read_registers()),
    refusal("Tcb.resume", NotConfigured, |w| new_tcb(w).resume()),
    refusal("Tcb.bind_notification", Busy, |w| { let [a, b] = [w.notification(), w.notification()]; TCB.bind_notification(a).must("the first"); TCB.bind_notification(b) }),
    refusal("Tcb.set_foreign", InvalidArgument, |_| TCB.set_foreign(USER_TOP, 0)),
    refusal("Tcb.set_foreign", NotConfigured, |w| new_tcb(w).set_foreign(0x40_0000, 0)),
    refusal("Tcb.kick", NotConfigured, |_| TCB.kick()),

    refusal("SchedContext.bind", Busy, |w| { let t = new_tcb(w); SCHED_CONTEXT.bind(t.0) }),

    refusal("SchedContext.bind", NotConfigured, |w| { let (t, c) = (new_tcb(w), w.make(Kind::SchedContext)); SchedContext(c).bind(t.0) }),

    refusal("IrqControl.handler", OutOfRange, |w| { let slot = w.slot(); IRQ_CONTROL.handler(CNODE.0, slot.into_slot(), 100_000, 0, 0) }),
    refusal("IrqControl.handler", SlotOccupied, |_| IRQ_CONTROL.handler(CNODE.0, slots::TCB.into(), 11, 0, 0)),
    refusal("IrqControl.handler", InvalidArgument, |w| { let slot = w.slot(); IRQ_CONTROL.handler(CNODE.0, slot.into_slot(), 11, 99, 0) }),
    refusal("IrqControl.handler", Busy, |w| { let [a, b] = [w.slot(), w.slot()]; IRQ_CONTROL.handler(CNODE.0, a.into_slot(), 11, 0, 0).must("the first"); IRQ_CONTROL.handler(CNODE.0, b.into_slot(), 11, 0, 0) }),
    refusal("IrqControl.handler", Unavailable, |w| { take_all_vectors(w); let slot = w.slot(); IRQ_CONTROL.handler(CNODE.0, slot.into_slot(), 11, 0, 0) }),
    refusal("IrqControl.msi", OutOfRange, |_| plain(IRQ_CONTROL.msi(CNODE.0, BEYOND, 0, SILENT))),
    refusal("IrqControl.msi", SlotOccupied, |_| plain(IRQ_CONTROL.msi(CNODE.0, slots::TCB.into(), 0, SILENT))),
    refusal("IrqControl.msi", InvalidArgument, |w| { let slot = w.slot(); plain(IRQ_CONTROL.msi(CNODE.0, slot.into_slot(), 99, SILENT)) }),
    refusal("IrqControl.msi", Unavailable, |w| { take_all_vectors(w); let slot = w.slot(); plain(IRQ_CONTROL.msi(CNODE.0, slot.into_slot(), 0, SILENT)) }),

    refusal("IoPort.read", OutOfRange, |w| plain(narrow_port(w).read(0x72, 1))),
    refusal("IoPort.read", InvalidArgument, |_| plain(IO_PORT.read(0x70, 3))),
    refusal("IoPort.write", OutOfRange, |w| narrow_port(w).write(0x6f, 1, 0)),
    refusal("IoPort.write", InvalidArgument, |_| IO_PORT.write(0x80, 8, 0)),

    refusal("SchedControl.configure", InvalidArgument, |w| { let c = w.make(Kind::SchedContext); SCHED_CONTROL.configure(c, 0, 200_000, 100_000, 0) }),
    refusal("SchedControl.configure", OutOfRange, |w| { let c = w.make(Kind::SchedContext); SCHED_CONTROL.configure(c, w.cpus(), 100_000, 100_000, 0) }),
    refusal("SchedControl.configure", Busy, |w| { let t = spinner(w); SCHED_CONTROL.configure(t.context.0, 0, 100_000, 100_000, 0) }),
    refusal("SchedControl.set_priority", OutOfRange, |_| SCHED_CONTROL.set_priority(TCB.0, 256)),

    refusal("System.log", OutOfRange, |_| SYSTEM.log(513)),
    refusal("IoSpace.map", InvalidArgument, |w| { let (space, frame) = (io_space(w), w.frame(1)); space.map(frame, 1, 0, 1, MapFlags::READ) }),
    refusal("IoSpace.map", OutOfRange, |w| { let (space, frame) = (io_space(w), w.frame(1)); space.map(frame, IO_TOP, 0, 1, MapFlags::READ) }),
    refusal("IoSpace.map", AlreadyMapped, |w| { let (space, frame) = (io_space(w), w.frame(1)); space.map(frame, 0, 0, 1, MapFlags::READ)?; space.map(frame, 0, 0, 1, MapFlags::READ) }),
    refusal("IoSpace.map", OutOfTables, |w| { let (space, frame) = (closed_io_space(w), w.frame(1)); space.map(frame, 0, 0, 1, MapFlags::READ) }),
    refusal("IoSpace.unmap", InvalidArgument, |w| io_space(w).unmap(1, 1)),
    refusal("IoSpace.unmap", OutOfRange, |w| io_space(w).unmap(IO_TOP, 1)),
    refusal("IoSpace.donate", InvalidArgument, |w| { let space = io_space(w); let untyped = w.make_sized(Kind::Untyped, 12); space.donate(untyped) }),
    refusal("IoSpace.donate", Busy, |w| { let space = io_space(w); let untyped = w.make_sized(Kind::Untyped, 14); make_from(w, untyped); space.donate(untyped) }),
    refusal("IoSpace.donate", OutOfRange, |w| { let space = io_space(w); (0..17).try_for_each(|_| { let untyped = w.make_sized(Kind::Untyped, 13); space.donate(untyped) }) }),
    iommu_refusal("IoControl.attach", OutOfRange, |w| { let space = io_space(w); IO_CONTROL.attach(space.0, 1 << 16) }),
    iommu_refusal("IoControl.attach", Busy, |w| { let space = io_space(w); IO_CONTROL.attach(space.0, NOBODY)?; IO_CONTROL.attach(space.0, NOBODY) }),
    iommu_refusal("IoControl.attach", OutOfTables, |w| { let space = closed_io_space(w); IO_CONTROL.attach(space.0, NOBODY) }),
    iommu_refusal("IoControl.attach", Unavailable, |w| { let space = io_space(w); (NOBODY..).try_for_each(|source| IO_CONTROL.attach(space.0, source)) }),
    iommu_refusal("IoControl.detach", OutOfRange, |_| IO_CONTROL.detach(1 << 16)),
    refusal("System.log", NotConfigured, |w| without_buffer(w, |_| SYSTEM.log(1))),
];

fn plain<T>(result: Result<T, Error>) -> Provoked {
    result.map(|_| ())
}

/// A system call with a message info of this value.
fn raw(number: Syscall, capability: CPtr, info: u64) -> Provoked {
    plain(trap(number, capability.into_slot(), info, NO_WORDS).checked())
}

fn endpoint(w: &mut World, rights: Rights) -> CPtr {
    let whole = w.endpoint();
    w.mint(whole, rights, 0)
}

fn notification(w: &mut World, rights: Rights) -> CPtr {
    let whole = w.notification();
    w.mint(whole, rights, 0)
}

fn new_tcb(w: &mut World) -> Tcb {
    Tcb(w.make(Kind::Tcb))
}

/// An object that another thread deletes as soon as this one waits.
fn doomed(w: &mut World, kind: Kind) -> CPtr {
    let object = w.make(kind);
    w.thread().priority(50).start(move || CNODE.delete(object.into_slot()).must("deleting"));
    object
}

fn call_to_a_server_that_dies(w: &mut World) -> Provoked {
    let endpoint = w.endpoint();
    let server = w.thread().start(move || {
        ipc::recv(endpoint, CPtr::NULL).must("a call");
        assert_eq!(ipc::wait(endpoint), Err(Error::WrongKind));
        loop {
            ipc::yield_now();
        }
    });
    w.until_blocked(&server);
    w.thread().priority(99).start(move || CNODE.delete(server.tcb.0.into_slot()).must("deleting the server"));
    SCHED_CONTROL.set_priority(server.tcb.0, 98).must("a lower priority");
    plain(ipc::call(endpoint, MESSAGE))
}

fn receive_with_a_reply_in_use(w: &mut World, number: Syscall) -> Provoked {
    let [first, second, reply] = [w.endpoint(), w.endpoint(), w.make(Kind::Reply)];
    let other = w.thread().start(move || {
        never_ends(ipc::recv(first, reply));
    });
    w.until_blocked(&other);
    let names = second.into_slot() | reply.into_slot() << 32;
    // A message waits, so that nothing but the Reply is in the way.
    let sender = w.thread().start(move || {
        never_ends(ipc::send(second, MESSAGE));
    });
    w.until_blocked(&sender);
    plain(trap(number, names, 0, NO_WORDS).checked())
}

/// An address space without memory for tables.
fn small_space(w: &mut World) -> VSpace {
    VSpace(w.make_sized(Kind::VSpace, 14))
}

fn io_space(w: &mut World) -> IoSpace {
    IoSpace(w.make_sized(Kind::IoSpace, 16))
}

/// An IoSpace whose memory is taken away again.
fn closed_io_space(w: &mut World) -> IoSpace {
    let outer = w.make_sized(Kind::Untyped, 14);
    let (space, slot) = (IoSpace(w.make_sized(Kind::IoSpace, 14)), w.slot());
    Untyped(outer).retype(Kind::Untyped, 13, CNODE.0, slot.into_slot(), 1).must("memory");
    space.donate(slot).must("donating");
    CNODE.revoke(outer.into_slot()).must("taking it back");
    space
}

/// Makes something from an Untyped.
fn make_from(w: &mut World, untyped: CPtr) {
    let slot = w.slot();
    Untyped(untyped).retype(Kind::Endpoint, 0, CNODE.0, slot.into_slot(), 1).must("an Endpoint");
}

fn donate_until_refused(w: &mut World) -> Provoked {
    let space = small_space(w);
    for _ in 0..100 {
        let untyped = w.make_sized(Kind::Untyped, 13);
        space.donate(untyped)?;
    }
    Ok(())
}

/// Lets a thread without an IPC buffer do something; `act` gets a Tcb that does not run.
fn without_buffer(w: &mut World, act: fn(Tcb) -> Provoked) -> Provoked {
    let other = new_tcb(w);
    let thread = w.thread().no_buffer().start(move || {
        arena::set(0, act(other).err().map_or(0, |error| error as u64));
    });
    w.join(&thread);
    Error::from_status(arena::get(0)).map_or(Ok(()), Err)
}

/// A thread of lower priority that would run for ever.
fn spinner(w: &mut World) -> Thread {
    w.thread().priority(50).start(|| {
        loop {
            core::hint::spin_loop();
        }
    })
}

fn take_all_vectors(w: &mut World) {
    for _ in 0..1000 {
        let slot = w.slot();
        match IRQ_CONTROL.msi(CNODE.0, slot.into_slot(), 0, SILENT) {
            Ok(_) => {}
            Err(Unavailable) => return,
            Err(error) => panic!("a vector: {error:?}"),
        }
    }
    panic!("vectors without end");
}

/// Ports 0x70 and 0x71.
fn narrow_port(w: &mut World) -> IoPort {
    IoPort(w.mint(IO_PORT.0, Rights::ALL, 0x70 | 0x71 << 16))
}
