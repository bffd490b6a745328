//! Objects and mappings: made and undone.

use abi::object::PAGE_SIZE;
use abi::{CPtr, IpcBuffer, Kind, MapFlags, Registers, Rights};
use ipc::{CNode, SchedContext, Tcb, Untyped, VSpace};

use crate::meter::{Amount, Samples};
use crate::peer::{copy_program, program, signal_once, slots};
use crate::{Bench, Failure};

/// Where pages are mapped in the benchmarks' area: the start of a page table.
const PAGES: u64 = 0x20_0000;

/// A page of the program's own address space, whose page table is there.
pub fn map_unmap_page(bench: &Bench) -> Result<Samples, Failure> {
    let r = &bench.resources;
    let frame = r.make(Kind::Frame, 12)?;
    let address = r.map(frame, PAGES, PAGE_SIZE)?;
    r.unmap(address, PAGE_SIZE)?;
    bench.meter.measure(Amount::SHORT, || {
        r.vspace.map(frame, address, 0, 1, MapFlags::WRITE)?;
        r.vspace.unmap(address, 1)
    })
}

/// 512 pages that fill a page table, which comes and goes with them.
pub fn map_unmap_range(bench: &Bench) -> Result<Samples, Failure> {
    const COUNT: u64 = 512;
    let r = &bench.resources;
    let frame = r.make(Kind::Frame, 21)?;
    let address = r.map(frame, PAGES, COUNT * PAGE_SIZE)?;
    r.unmap(address, COUNT * PAGE_SIZE)?;
    let samples = bench.meter.measure(Amount::LONG, || {
        r.vspace.map(frame, address, 0, COUNT, MapFlags::WRITE)?;
        r.vspace.unmap(address, COUNT)
    })?;
    Ok(samples.each_of(COUNT))
}

/// A badged capability for an Endpoint.
pub fn mint_delete(bench: &Bench) -> Result<Samples, Failure> {
    let r = &bench.resources;
    let (endpoint, slot) = (r.make(Kind::Endpoint, 0)?, u64::from(r.slot()?.0));
    bench.meter.measure(Amount::SHORT, || {
        r.cnode.mint(slot, r.cnode.0, u64::from(endpoint.0), Rights::ALL, 7)?;
        r.cnode.delete(slot)
    })
}

/// An Endpoint, from an Untyped that nothing else is made of.
pub fn retype_delete(bench: &Bench) -> Result<Samples, Failure> {
    let r = &bench.resources;
    let (untyped, slot) = (Untyped(r.make(Kind::Untyped, 12)?), u64::from(r.slot()?.0));
    bench.meter.measure(Amount::SHORT, || {
        untyped.retype(Kind::Endpoint, 0, r.cnode.0, slot, 1)?;
        r.cnode.delete(slot)
    })
}

/// A thread of the program: Tcb and SchedContext are made, its stack and IPC buffer were there before. It
/// signals that it is done and stands still; whoever joins waits for the signal.
pub fn thread(bench: &Bench) -> Result<Samples, Failure> {
    let r = &bench.resources;
    let untyped = Untyped(r.make(Kind::Untyped, 13)?);
    let stack = r.make(Kind::Frame, 13)?;
    let (size, buffer) = (1 << 13, (1 << 13) - size_of::<IpcBuffer>() as u64);
    let address = r.map(stack, PAGES, size)?;
    let cnode = CNode(r.make(Kind::CNode, 6)?);
    let (done, never) = (r.make(Kind::Notification, 0)?, r.make(Kind::Notification, 0)?);
    for (slot, from) in [(slots::SIGNAL, done), (slots::WAIT, never)] {
        cnode.copy(u64::from(slot.0), r.cnode.0, u64::from(from.0))?;
    }
    let (tcb, context) = (Tcb(r.slot()?), SchedContext(r.slot()?));
    let (tcb_slot, context_slot) = (u64::from(tcb.0.0), u64::from(context.0.0));
    let registers = Registers {
        rip: signal_once as extern "C" fn(u64, u64) -> ! as usize as u64,
        rsp: address + buffer - 8,
        gs_base: address + buffer,
        ..Registers::default()
    };
    bench.meter.measure(Amount::LONG, || {
        untyped.retype(Kind::Tcb, 0, r.cnode.0, tcb_slot, 1)?;
        untyped.retype(Kind::SchedContext, 0, r.cnode.0, context_slot, 1)?;
        tcb.configure(cnode.0, r.vspace.0, stack, buffer)?;
        r.sched_control.configure(context.0, 0, r.turn, r.turn, 0)?;
        r.sched_control.set_priority(tcb.0, r.priority)?;
        context.bind(tcb.0)?;
        rt::thread::write_registers(tcb, &registers, true)?;
        ipc::wait(done)?;
        r.cnode.delete(tcb_slot)?;
        r.cnode.delete(context_slot)
    })
}

/// Slots of what a component is made of.
struct Parts {
    cnode: CNode,
    vspace: VSpace,
    tcb: Tcb,
    context: SchedContext,
    frame: CPtr,
}

/// A component: one Untyped, from it a CSpace, an address space, a thread with its SchedContext and a Frame of
/// 8 pages, which get the program and a stack; it runs, says so by a signal, and goes with all it has when
/// the Untyped is revoked.
pub fn component(bench: &Bench) -> Result<Samples, Failure> {
    const COMPONENT_PAGES: u64 = 8;
    let r = &bench.resources;
    let untyped = r.make(Kind::Untyped, 18)?;
    let (done, never) = (r.make(Kind::Notification, 0)?, r.make(Kind::Notification, 0)?);
    let parts = Parts {
        cnode: CNode(r.slot()?),
        vspace: VSpace(r.slot()?),
        tcb: Tcb(r.slot()?),
        context: SchedContext(r.slot()?),
        frame: r.slot()?,
    };
    let make = |kind, bits, slot: CPtr| Untyped(untyped).retype(kind, bits, r.cnode.0, u64::from(slot.0), 1);
    let (text, text_pages) = program();
    // (Once beforehand, so that the page table is there.)
    let window = r.map(r.make(Kind::Frame, 12)?, PAGES, PAGE_SIZE)?;
    r.unmap(window, PAGE_SIZE)?;
    let data = text + text_pages * PAGE_SIZE;
    let (top, buffer) = (text + COMPONENT_PAGES * PAGE_SIZE, size_of::<IpcBuffer>() as u64);
    let registers = Registers {
        rip: signal_once as extern "C" fn(u64, u64) -> ! as usize as u64,
        rsp: top - buffer - 8,
        gs_base: top - buffer,
        ..Registers::default()
    };
    bench.meter.measure(Amount::LONG, || {
        let Parts { cnode, vspace, tcb, context, frame } = parts;
        make(Kind::CNode, 6, cnode.0)?;
        make(Kind::VSpace, 16, vspace.0)?;
        make(Kind::Tcb, 0, tcb.0)?;
        make(Kind::SchedContext, 0, context.0)?;
        make(Kind::Frame, 15, frame)?;
        r.vspace.map(frame, window, 0, text_pages, MapFlags::WRITE)?;
        copy_program(window);
        r.vspace.unmap(window, text_pages)?;
        vspace.map(frame, text, 0, text_pages, MapFlags::EXECUTE)?;
        vspace.map(frame, data, text_pages * PAGE_SIZE, COMPONENT_PAGES - text_pages, MapFlags::WRITE)?;
        cnode.mint(u64::from(slots::SIGNAL.0), r.cnode.0, u64::from(done.0), Rights::WRITE, 1)?;
        cnode.mint(u64::from(slots::WAIT.0), r.cnode.0, u64::from(never.0), Rights::READ, 0)?;
        tcb.configure(cnode.0, vspace.0, frame, COMPONENT_PAGES * PAGE_SIZE - buffer)?;
        r.sched_control.configure(context.0, 0, r.turn, r.turn, 0)?;
        r.sched_control.set_priority(tcb.0, r.priority)?;
        context.bind(tcb.0)?;
        rt::thread::write_registers(tcb, &registers, true)?;
        ipc::wait(done)?;
        r.cnode.revoke(u64::from(untyped.0))
    })
}
