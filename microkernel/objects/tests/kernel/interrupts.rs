//! Interrupts to Notifications, and the machine as a whole.

use abi::table::method;
use abi::{Error, Kind, Rights, Syscall};

use crate::machine::LINES;
use crate::world::{Done, World, root};

const CNODE: u64 = root::CNODE as u64;

/// An IrqHandler for line `gsi`: its slot.
fn line(w: &World, gsi: u64) -> Result<u32, Error> {
    let slot = w.free_slot();
    let args = [CNODE, u64::from(slot), gsi, 0, 0];
    w.invoke(root::IRQ_CONTROL, method::IrqControl::handler, &args).map(|_| slot)
}

#[test]
fn a_line_signals_its_notification_and_is_held_until_acknowledged() {
    let w = World::new();
    let notification = w.make(Kind::Notification, 0);
    let badged = w.mint(notification, Rights::ALL, 4).unwrap();
    let handler = line(&w, 5).unwrap();
    let state = || w.machine.lines.borrow()[&5];
    assert!(state().masked);
    w.invoke(handler, method::IrqHandler::bind, &[u64::from(badged)]).unwrap();
    assert!(!state().masked);
    w.interrupt(0, state().vector);
    assert!(state().masked);
    assert!(matches!(w.wait(w.root, notification), Done::With(Ok(message)) if message.words[0] == 4));
    w.invoke(handler, method::IrqHandler::ack, &[]).unwrap();
    assert!(!state().masked);
    w.invoke(handler, method::IrqHandler::unbind, &[]).unwrap();
    assert!(state().masked);
    w.interrupt(0, state().vector);
    let poll = w.syscall(w.root, Syscall::poll, u64::from(notification), 0, [0; 8]);
    assert_eq!(poll, Done::With(Err(Error::WouldBlock)));
}

#[test]
fn a_vector_is_free_again_when_its_handler_is_deleted() {
    let w = World::new();
    for _ in 0..3 {
        let handler = line(&w, 7).unwrap();
        assert_eq!(line(&w, 7), Err(Error::Busy));
        let notification = w.make(Kind::Notification, 0);
        w.invoke(handler, method::IrqHandler::bind, &[u64::from(notification)]).unwrap();
        w.delete(notification);
        let vector = w.machine.lines.borrow()[&7].vector;
        w.interrupt(0, vector);
        w.delete(handler);
        assert!(w.machine.lines.borrow()[&7].masked);
    }
}

#[test]
fn irq_control_refuses_what_the_table_says() {
    let w = World::new();
    let slot = u64::from(w.free_slot());
    let handler =
        |args: [u64; 5]| w.invoke(root::IRQ_CONTROL, method::IrqControl::handler, &args).map(|_| ());
    let msi = |[cnode, at, cpu]: [u64; 3]| {
        w.invoke(root::IRQ_CONTROL, method::IrqControl::msi, &[cnode, at, cpu, 8]).map(|found| found[0])
    };
    assert_eq!(handler([CNODE, slot, u64::from(LINES), 0, 0]), Err(Error::OutOfRange));
    assert_eq!(handler([CNODE, slot, 1 << 32, 0, 0]), Err(Error::OutOfRange));
    assert_eq!(handler([CNODE, slot, 1, 1, 0]), Err(Error::InvalidArgument));
    assert_eq!(handler([CNODE, slot, 1, 0, 4]), Err(Error::InvalidArgument));
    for bad in [0, 1, 512, u64::MAX] {
        assert_eq!(handler([CNODE, bad, 1, 0, 0]), Err(Error::OutOfRange));
        assert_eq!(msi([CNODE, bad, 0]), Err(Error::OutOfRange));
    }
    assert_eq!(handler([CNODE, CNODE, 1, 0, 0]), Err(Error::SlotOccupied));
    assert_eq!(msi([CNODE, CNODE, 0]), Err(Error::SlotOccupied));
    assert_eq!(msi([CNODE, slot, 1]), Err(Error::InvalidArgument));
    // All vectors taken: none is left, and nothing is broken by asking.
    let many = w.make(Kind::CNode, 9);
    let take = |at: u64| msi([u64::from(many), at, 0]);
    let taken = (2..512).take_while(|&at| take(at).is_ok()).count();
    assert_eq!(taken, objects::kernel::IRQ_VECTORS);
    assert_eq!(take(500), Err(Error::Unavailable));
    w.revoke(root::IRQ_CONTROL);
    assert!(take(500).is_ok());
}

#[test]
fn the_log_takes_what_fits_in_the_buffer() {
    let w = World::new();
    w.buffer(w.root).set_word(0, u64::from_le_bytes(*b"to log a"));
    w.buffer(w.root).set_word(1, u64::from_le_bytes(*b" line\0\0\0"));
    let log = |size| w.invoke(root::SYSTEM, method::System::log, &[size]).map(|_| ());
    assert_eq!(log(13), Ok(()));
    assert_eq!(w.machine.log.borrow().as_slice(), b"to log a line");
    assert_eq!(log(512), Ok(()));
    assert_eq!(log(513), Err(Error::OutOfRange));
    assert_eq!(log(u64::MAX), Err(Error::OutOfRange));
    let counted = w.invoke(root::SYSTEM, method::System::verify, &[]).unwrap()[0];
    assert_eq!(counted, w.kernel.verify());
    w.invoke(root::SYSTEM, method::System::shutdown, &[3]).unwrap();
    assert_eq!(w.machine.ended.get(), Some(3));
}
