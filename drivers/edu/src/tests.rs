//! The driver against a device of software.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipc::Message;
use proto::edu::{BUFFER, OK, Refusal, Request, about};

use crate::{Copy, Edu, Failure, Page, Registers, Server};

/// A device as QEMU has it, which copies when the test says so.
#[derive(Debug, Default)]
struct State {
    written: BTreeMap<u32, u64>,
    interrupt: u32,
    gone: bool,
    identification: u32,
}

#[derive(Clone, Debug, Default)]
struct Fake(Rc<RefCell<State>>);

impl Fake {
    fn new() -> Fake {
        let fake = Fake::default();
        fake.0.borrow_mut().identification = 0x0100_00ed;
        fake
    }

    fn registers(&self) -> [u64; 4] {
        [0x80, 0x88, 0x90, 0x98].map(|at| self.0.borrow().written.get(&at).copied().unwrap_or(0))
    }

    fn finish(&self) {
        let mut state = self.0.borrow_mut();
        let command = state.written.entry(0x98).or_default();
        *command &= !1;
        if *command & 4 != 0 {
            state.interrupt |= 0x100;
        }
    }
}

impl Registers for Fake {
    fn read(&mut self, offset: u32) -> u32 {
        let state = self.0.borrow();
        let written = |at| state.written.get(&at).copied().unwrap_or(0) as u32;
        match offset {
            _ if state.gone => u32::MAX,
            0 => state.identification,
            4 => !written(4),
            0x24 => state.interrupt,
            0x98 => written(0x98),
            _ => panic!("nothing is read at {offset:#x}"),
        }
    }

    fn write(&mut self, offset: u32, value: u32) {
        let mut state = self.0.borrow_mut();
        match offset {
            0x64 => state.interrupt &= !value,
            _ => drop(state.written.insert(offset, value.into())),
        }
    }

    fn write64(&mut self, offset: u32, value: u64) {
        assert!(offset >= 0x80 && offset.is_multiple_of(8), "the others take four bytes at a time");
        self.0.borrow_mut().written.insert(offset, value);
    }
}

fn server<'m>(fake: &Fake, words: &'m [AtomicU64]) -> Server<'m, Fake> {
    let edu = Edu::open(fake.clone()).expect("a good device");
    let page = Page { words, address: 0x7000 };
    Server { edu, page, fenced: true, life: 3, address: 0x0500 }
}

fn page() -> Vec<AtomicU64> {
    (0..BUFFER / 8).map(|_| AtomicU64::new(0)).collect()
}

fn call(server: &mut Server<Fake>, request: Request, words: [u64; 2]) -> Result<Message, Failure> {
    server.answer_to(request as u32, &[words[0], words[1], 0, 0, 0, 0, 0, 0])
}

#[test]
fn it_loads_its_page_and_stores_where_it_is_told() {
    let (fake, page) = (Fake::new(), page());
    let mut server = server(&fake, &page);
    assert_eq!(call(&mut server, Request::Load, [0xabcd, 0]), Ok(Message::new(OK)));
    assert_eq!(fake.registers(), [0x7000, 0x4_0000, BUFFER, 0b101]);
    assert!(page.iter().all(|word| word.load(Ordering::Relaxed) == 0xabcd));
    fake.finish();
    assert_eq!(call(&mut server, Request::Store, [0xfee0_0000, 4]), Ok(Message::new(OK)));
    assert_eq!(fake.registers(), [0x4_0000, 0xfee0_0000, 4, 0b111]);
    fake.finish();
    assert_eq!(call(&mut server, Request::Fetch, [0x9000, 8]), Ok(Message::new(OK)));
    assert_eq!(fake.registers(), [0x9000, 0x4_0000, 8, 0b101]);
}

#[test]
fn it_does_one_thing_at_a_time() {
    let (fake, page) = (Fake::new(), page());
    let mut server = server(&fake, &page);
    let not_now = Ok(Message::new(Refusal::NotNow as u32));
    assert_eq!(call(&mut server, Request::Load, [1, 0]), Ok(Message::new(OK)));
    assert_eq!(call(&mut server, Request::Load, [2, 0]), not_now);
    assert_eq!(call(&mut server, Request::Store, [2, 1]), not_now);
    assert_eq!(page[0].load(Ordering::Relaxed), 1, "what the device reads just now stays");
    assert_eq!(fake.registers()[0], 0x7000);
}

#[test]
fn it_tells_about_itself() {
    let (fake, page) = (Fake::new(), page());
    let mut server = server(&fake, &page);
    assert_eq!(call(&mut server, Request::Fill, [9, 0]), Ok(Message::new(OK)));
    page[255].store(10, Ordering::Relaxed);
    let all = call(&mut server, Request::About, [0, 0]).expect("a good device").words;
    assert_eq!(all, [0, 0, 0x7000, 9, 10, 1, 3, 0x0500]);
    assert_eq!(call(&mut server, Request::Load, [9, 0]), Ok(Message::new(OK)));
    let copies =
        |server: &mut Server<Fake>| call(server, Request::About, [0, 0]).map(|all| all.words[about::COPIES]);
    assert_eq!(copies(&mut server), Ok(1));
    fake.finish();
    assert_eq!(copies(&mut server), Ok(0));
}

#[test]
fn interrupts_are_acknowledged_and_counted_and_false_ones_are_not() {
    let (fake, page) = (Fake::new(), page());
    let mut server = server(&fake, &page);
    assert_eq!(server.edu.interrupt(), Ok(()));
    assert_eq!(server.edu.interrupts(), 0);
    server.edu.copy(Copy::Load(0, 1)).expect("a good device");
    fake.finish();
    assert_eq!(server.edu.interrupt(), Ok(()));
    assert_eq!((server.edu.interrupts(), fake.0.borrow().interrupt), (1, 0));
}

#[test]
fn calls_that_make_no_sense_are_refused() {
    let (fake, page) = (Fake::new(), page());
    let mut server = server(&fake, &page);
    let malformed = Ok(Message::new(Refusal::Malformed as u32));
    for bytes in [0, BUFFER + 1, u64::MAX] {
        assert_eq!(call(&mut server, Request::Store, [0x1000, bytes]), malformed);
    }
    assert_eq!(server.answer_to(0, &[0; 8]), malformed);
    assert_eq!(server.answer_to(6, &[0; 8]), malformed);
    assert_eq!(fake.registers(), [0; 4]);
}

#[test]
fn a_device_that_is_none_or_gone_ends_it() {
    assert_eq!(Edu::open(Fake::default()).map(|_| ()), Err(Failure::NoEdu));
    let (fake, page) = (Fake::new(), page());
    let mut server = server(&fake, &page);
    fake.0.borrow_mut().gone = true;
    assert_eq!(Edu::open(fake.clone()).map(|_| ()), Err(Failure::NoEdu));
    for request in [Request::About, Request::Load, Request::Store] {
        assert_eq!(call(&mut server, request, [0, 1]), Err(Failure::NoEdu));
    }
    assert_eq!(server.edu.interrupt(), Err(Failure::NoEdu));
}
