//! The component on a machine of the tests' making.

mod buses;
mod fake;
mod kills;
mod orders;
mod registers;

use std::cell::RefCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;

use proto::pci::{Outcome, Wanted, orders as order, table};

use crate::bdf::Bdf;
use crate::component::Pci;
use fake::{Counted, Death, Device, Fake, Fault, Seen, live};

const ECAM: Range<u64> = 0xb000_0000..0xc000_0000;
const WINDOW: u32 = 0xfe40_0000;
const MESSAGE: u64 = 0xfee0_1004;
const TABLE_SLOT: u32 = 70;
const COMMON_SLOT: u32 = 71;

/// The machine and the two Frames that outlive the component.
struct World {
    fake: Fake,
    table: Vec<Counted>,
    orders: Vec<Counted>,
}

impl World {
    fn new(fake: Fake) -> World {
        let words = |count| (0..count).map(|_| Counted::default()).collect();
        World { fake, table: words(8 * 512), orders: words(4 * 512) }
    }

    /// A whole life: until nothing is left to do, and how many orders it has answered; `None` if its stores have run out.
    fn life(&mut self, stores: u64) -> Option<usize> {
        live(stores);
        let shared = RefCell::new(core::mem::take(&mut self.fake));
        let lived = catch_unwind(AssertUnwindSafe(|| self.live(&shared)));
        self.fake = shared.into_inner();
        match lived {
            Ok(answered) => Some(answered),
            Err(death) if death.is::<Death>() => None,
            Err(panic) => resume_unwind(panic),
        }
    }

    fn live(&self, fake: &RefCell<Fake>) -> usize {
        let mut pci = Pci::begin(Seen(fake), ECAM, &self.table, &self.orders).expect("large enough");
        let mut answered = 0;
        // A minute is more than any way of stopping takes.
        let end = fake.borrow().now + 60_000_000;
        loop {
            let progress = pci.step();
            answered += progress.answered;
            let Some(next) = progress.next else { return answered };
            assert!(next > fake.borrow().now && next < end, "time goes on, and it ends");
            fake.borrow_mut().now = next;
        }
    }

    fn run(&mut self) -> usize {
        self.life(u64::MAX).expect("it has stores enough")
    }

    fn count(&self) -> usize {
        self.table[table::COUNT].0.load(Ordering::Relaxed) as usize
    }

    /// The number that a function has in the table.
    fn number(&self, at: Bdf) -> usize {
        (0..self.count())
            .find(|n| self.word(*n, table::ADDRESS) == u64::from(at.0))
            .unwrap_or_else(|| panic!("{at} is in the table"))
    }

    fn word(&self, n: usize, word: usize) -> u64 {
        self.table[(n + 1) * table::STRIDE + word].0.load(Ordering::Relaxed)
    }

    fn bar(&self, n: usize, place: usize) -> (u64, u64) {
        (self.word(n, table::BARS + 2 * place), self.word(n, table::BARS + 2 * place + 1))
    }

    fn set_order(&self, n: usize, word: usize, value: u64) {
        self.orders[(n + 1) * order::STRIDE + word].0.store(value, Ordering::Relaxed);
    }

    /// Orders as init does: Frames for all that belongs to `pci`, `vectors` messages.
    fn order(&mut self, n: usize, number: u64, wanted: Wanted, vectors: u64) {
        let place = |word: u64| self.bar(n, (word >> 16) as usize & 7).0 + (word >> 32);
        let page = |address: u64| address & !0xfff..(address & !0xfff) + 0x1000;
        let msix = place(self.word(n, table::MSIX));
        let common =
            (0..8).map(|index| table::REGIONS + 3 * index).find(|word| self.word(n, *word) & 0xff == 1);
        let common = common.map_or(0, |word| {
            self.bar(n, (self.word(n, word) >> 8) as usize & 7).0 + (self.word(n, word + 1) & 0xffff_ffff)
        });
        self.fake.frames.insert(TABLE_SLOT, page(msix));
        self.fake.frames.insert(COMMON_SLOT, page(common));
        self.set_order(n, order::WANTED, wanted as u64);
        self.set_order(n, order::FRAMES, u64::from(TABLE_SLOT) | u64::from(COMMON_SLOT) << 32);
        self.set_order(n, order::VECTORS, vectors);
        for vector in 0..vectors as usize {
            self.set_order(n, order::MESSAGES + 2 * vector, MESSAGE);
            self.set_order(n, order::MESSAGES + 2 * vector + 1, 0x40 + vector as u64);
        }
        self.set_order(n, order::NUMBER, number);
    }

    fn outcome(&self, n: usize) -> (u64, Option<Outcome>) {
        (self.word(n, table::DONE), Outcome::from_word(self.word(n, table::OUTCOME)))
    }
}

/// A machine as QEMU's, and as its firmware leaves it: two devices behind ports of their own, one beside them. The
/// last number is the bridge of the first.
fn usual() -> (Fake, [usize; 4]) {
    let mut fake = Fake::default();
    let first_port = fake.add(Device::new(None, 1, 0x1b36, 0xc).bridge().bar(0, 0x1000));
    let second_port = fake.add(Device::new(None, 2, 0x1b36, 0xc).bridge().bar(0, 0x1000));
    let first = fake.add(Device::virtio(Some(first_port), 0));
    let second = fake.add(Device::virtio(Some(second_port), 0));
    let beside = fake.add(Device::new(None, 31, 0x8086, 0x2922).bar(5, 0x1000).ports(4).msi());
    for (number, (port, device)) in [(first_port, first), (second_port, second)].into_iter().enumerate() {
        let base = WINDOW + number as u32 * 0x20_0000;
        fake.set_buses(port, 0, (number as u8 + 1, number as u8 + 1));
        fake.set_window(port, base, base + 0x1f_ffff);
        fake.set_bar(port, 0, 0xfebd_0000 + 0x1000 * number as u64);
        fake.set_bar(device, 1, u64::from(base));
        fake.set_bar(device, 4, u64::from(base) + 0x4000);
        fake.devices[device].config[1] |= 7;
    }
    fake.set_bar(beside, 5, 0xfebf_0000);
    (fake, [first, second, beside, first_port])
}
