//! The component: finds the functions once, then makes of each what init's orders say.
//!
//! Everything it has done is either in the table or can be done again: a life that follows one that was ended anywhere
//! looks at all orders, and carries out again those that are not answered.

use alloc::vec::Vec;
use core::ops::Range;

use proto::pci::{Outcome, Wanted};
use ring::Word;

use crate::buses::{self, Found};
use crate::config::{Machine, change_command, command};
use crate::function::Function;
use crate::order::{Order, Orders};
use crate::reset::{self, Means, Stop};
use crate::table::Table;
use crate::{Bdf, acs, msi, windows};

/// One of the Frames is smaller than the protocol has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall;

/// What a step has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Orders that were answered: ring init's bell if there are any.
    pub answered: usize,
    /// When to step again, in microseconds, even if nobody rings.
    pub next: Option<u64>,
}

/// An order that is being carried out.
#[derive(Debug)]
struct Work {
    order: Order,
    wanted: Wanted,
    stop: Stop,
}

/// The component.
#[derive(Debug)]
pub struct Pci<'m, M, W> {
    machine: M,
    table: Table<'m, W>,
    orders: Orders<'m, W>,
    functions: Vec<Function>,
    work: Vec<Option<Work>>,
}

impl<'m, M: Machine, W: Word> Pci<'m, M, W> {
    /// Begins a life: finds the functions, or goes by the table if an earlier life has found them. `ecam`: the physical
    /// addresses of the configuration space.
    pub fn begin(machine: M, ecam: Range<u64>, table: &'m [W], orders: &'m [W]) -> Result<Self, TooSmall> {
        let table = Table::new(table).ok_or(TooSmall)?;
        let orders = Orders::new(orders).ok_or(TooSmall)?;
        let mut pci = Pci { machine, table, orders, functions: Vec::new(), work: Vec::new() };
        if pci.table.is_complete() {
            pci.restore();
        } else {
            pci.find(ecam);
        }
        pci.work = pci.functions.iter().map(|_| None).collect();
        Ok(pci)
    }

    /// The functions: where each is, and its vendor and device << 16.
    pub fn functions(&self) -> impl Iterator<Item = (Bdf, u32)> {
        self.functions.iter().map(|function| (function.at, function.identity))
    }

    fn find(&mut self, ecam: Range<u64>) {
        let found = buses::settle(&mut self.machine);
        for each in &found {
            if !each.bridge {
                change_command(&mut self.machine, each.at, command::BUS_MASTER, 0);
            }
        }
        self.note(&found);
        for function in &mut self.functions {
            function.measure(&mut self.machine);
        }
        windows::assign(&mut self.machine, &mut self.functions, ecam);
        for (n, function) in self.functions.iter_mut().enumerate() {
            if !function.bridge {
                function.quiet(&mut self.machine);
            }
            function.place(&mut self.machine);
            function.read_structures(&mut self.machine);
            self.table.write(n, function);
        }
        self.open_bridges();
        self.table.complete();
    }

    /// Notes what has been found; what an earlier life has noted stays where it is.
    fn note(&mut self, found: &[Found]) {
        for each in found {
            let function = Function::read(&mut self.machine, each.at, each.bridge);
            let known = (0..self.table.count()).any(|n| self.table.at(n) == each.at);
            if !known && self.table.note(&function).is_none() {
                break;
            }
        }
        for n in 0..self.table.count() {
            let at = self.table.at(n);
            let here = found.iter().find(|each| each.at == at);
            let mut function = Function::read(&mut self.machine, at, here.is_some_and(|each| each.bridge));
            function.behind = here.and_then(|each| each.behind.clone());
            function.usable = here.is_some();
            self.table.restore_noted(n, &mut function.bars);
            self.functions.push(function);
        }
    }

    fn restore(&mut self) {
        for n in 0..self.table.count() {
            let function = self.table.read(n);
            // Nobody has asked for this one yet.
            if !function.bridge && self.orders.number(n) == 0 {
                function.quiet(&mut self.machine);
            }
            self.functions.push(function);
        }
        self.open_bridges();
    }

    /// Has bridges pass on what is behind them.
    fn open_bridges(&mut self) {
        for bridge in self.functions.iter().filter(|each| each.behind.is_some()) {
            reset::release(&mut self.machine, bridge.at);
            acs::isolate(&mut self.machine, bridge.at);
            change_command(&mut self.machine, bridge.at, 0, command::MEMORY | command::BUS_MASTER);
        }
    }

    /// Carries out the orders, as far as is possible without waiting.
    pub fn step(&mut self) -> Progress {
        let mut progress = Progress { answered: 0, next: None };
        for n in 0..self.functions.len() {
            // Once more if there was a new order by the time this one was done.
            while self.has_work(n) {
                let Some(at) = self.advance(n) else {
                    progress.answered += 1;
                    continue;
                };
                progress.next = Some(progress.next.map_or(at, |next| next.min(at)));
                break;
            }
        }
        progress
    }

    /// Whether there is an order for function `n` under way, or a new one, which is taken.
    fn has_work(&mut self, n: usize) -> bool {
        if self.work[n].is_some() {
            return true;
        }
        if self.orders.number(n) == self.table.done(n) {
            return false;
        }
        let Some(order) = self.orders.read(n) else { return false };
        match order.wanted.filter(|_| !self.functions[n].bridge) {
            Some(wanted) => {
                let stop = Stop::new(self.machine.now());
                self.work[n] = Some(Work { order, wanted, stop });
                true
            }
            None => {
                self.table.answer(n, order.number, Outcome::Refused);
                true
            }
        }
    }

    /// Goes on with the order for function `n`: when to look again, `None` if it has been answered.
    fn advance(&mut self, n: usize) -> Option<u64> {
        let work = self.work[n].as_mut()?;
        let function = &self.functions[n];
        let status = reset::status(function, work.order.common);
        let bridge = only_behind(&self.functions, function);
        let means = Means { status, bridge, stays_off: work.wanted == Wanted::Off };
        let outcome = match work.stop.step(&mut self.machine, function, &means) {
            reset::Progress::At(time) => return Some(time),
            reset::Progress::NotStopped => Outcome::NotStopped,
            reset::Progress::Stopped if work.wanted == Wanted::Off => Outcome::Done,
            reset::Progress::Stopped => match start(&mut self.machine, function, &work.order) {
                Some(()) => Outcome::Done,
                None => refuse(&mut self.machine, function),
            },
        };
        self.table.answer(n, work.order.number, outcome);
        self.work[n] = None;
        None
    }
}

/// The bridge that leads to `function` alone.
fn only_behind(functions: &[Function], function: &Function) -> Option<Bdf> {
    let leads =
        |each: &&Function| each.behind.as_ref().is_some_and(|buses| *buses.start() == function.at.bus());
    let bridge = functions.iter().find(leads)?;
    let behind = bridge.behind.as_ref()?;
    let others = functions.iter().filter(|each| behind.contains(&each.at.bus()) && each.at != function.at);
    (others.count() == 0).then_some(bridge.at)
}

/// Lets a function that is stopped begin: addresses, interrupts, and the bus, in this order.
fn start(machine: &mut impl Machine, function: &Function, order: &Order) -> Option<()> {
    function.decode(machine)?;
    match (&function.msix, function.msix_at, function.msi_at, order.messages.as_slice()) {
        (_, _, _, []) => {}
        (Some(msix), Some(at), _, messages) if messages.len() <= usize::from(msix.vectors) => {
            let table = (order.table, function.physical(msix.table)?);
            msi::set_up(machine, function.at, at, msix.vectors, table, &order.messages)?;
        }
        (None, _, Some(at), [message]) => msi::set_up_single(machine, function.at, at, *message)?,
        _ => return None,
    }
    // A function that was on has both already: then nothing is written.
    let after = change_command(machine, function.at, 0, command::NO_INTX | command::BUS_MASTER)?;
    (after & command::BUS_MASTER != 0).then_some(())
}

/// A function that could not begin stays stopped, if it does.
fn refuse(machine: &mut impl Machine, function: &Function) -> Outcome {
    match function.quiet(machine) {
        Some(()) => Outcome::Refused,
        None => Outcome::NotStopped,
    }
}
