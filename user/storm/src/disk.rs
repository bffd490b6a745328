//! A pass over a disk: everything is written, with flushes, then read back cold and compared.
//!
//! Who carries the requests asks for the [`Task`]s, as many as there are slots, and brings the answers, in any order.
//! Each slot has a piece of the memory that is shared with the disk.

use alloc::vec;
use alloc::vec::Vec;

use proto::block::Op;

use crate::pattern::{BYTES, Pattern, Shared, Verdict, spoil};
use crate::tally::Tally;

/// What a pass is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sectors that are written and read, from the first of the disk on.
    pub sectors: u64,
    /// Sectors of a request, at most.
    pub request: u64,
    /// Requests under way at a time.
    pub depth: usize,
    /// Writes between two flushes; 0 for none.
    pub flush_every: u64,
}

/// A request to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Which slot it takes: its memory begins at this times [`Shape::request`] sectors.
    pub slot: usize,
    /// What is asked.
    pub op: Op,
    /// The first sector.
    pub sector: u64,
    /// How many; 0 for a flush.
    pub sectors: u64,
}

/// What a pass is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Writing,
    /// Everything is written: the last flush comes when all writes are answered.
    Flushing,
    Reading,
    Done,
}

/// A pass.
#[derive(Debug)]
pub struct Pass {
    shape: Shape,
    pattern: Pattern,
    before: Option<Pattern>,
    phase: Phase,
    next: u64,
    writes_since_flush: u64,
    slots: Vec<Option<Task>>,
    tally: Tally,
    written: u64,
    read: u64,
}

impl Pass {
    /// A pass that writes `pattern` over what `before` left (zeros without).
    pub fn new(shape: Shape, pattern: Pattern, before: Option<Pattern>) -> Pass {
        let shape = Shape { request: shape.request.max(1), depth: shape.depth.max(1), ..shape };
        Pass {
            shape,
            pattern,
            before,
            phase: if shape.sectors == 0 { Phase::Done } else { Phase::Writing },
            next: 0,
            writes_since_flush: 0,
            slots: vec![None; shape.depth],
            tally: Tally::default(),
            written: 0,
            read: 0,
        }
    }

    /// All was written, read and compared.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// What was found so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Hashes of what was written and of what was read.
    pub fn hashes(&self) -> (u64, u64) {
        (self.written, self.read)
    }

    /// Requests under way.
    pub fn under_way(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// The next request to be made, its memory made ready. None: an answer has to come first, or the pass is done.
    pub fn next(&mut self, memory: &[Shared]) -> Option<Task> {
        let slot = self.slots.iter().position(Option::is_none)?;
        let op = self.next_op()?;
        let sectors = match op {
            Op::Flush => 0,
            _ => self.shape.request.min(self.shape.sectors - self.next),
        };
        let task = Task { slot, op, sector: if sectors == 0 { 0 } else { self.next }, sectors };
        self.make_ready(&task, memory);
        self.slots[slot] = Some(task);
        self.next += sectors;
        if op == Op::Write {
            self.writes_since_flush += 1;
            if self.next == self.shape.sectors {
                self.phase = Phase::Flushing;
            }
        } else if op == Op::Flush {
            self.writes_since_flush = 0;
        }
        Some(task)
    }

    fn next_op(&self) -> Option<Op> {
        let flushes = self.shape.flush_every != 0;
        match self.phase {
            Phase::Writing if flushes && self.writes_since_flush >= self.shape.flush_every => Some(Op::Flush),
            Phase::Writing => Some(Op::Write),
            Phase::Flushing => {
                (flushes && self.writes_since_flush > 0 && self.under_way() == 0).then_some(Op::Flush)
            }
            Phase::Reading => (self.next < self.shape.sectors).then_some(Op::Read),
            Phase::Done => None,
        }
    }

    fn make_ready(&mut self, task: &Task, memory: &[Shared]) {
        for (sector, place) in (task.sector..).zip(self.places(task, memory)) {
            match task.op {
                Op::Write => self.written = self.written.wrapping_add(self.pattern.fill(place, sector)),
                _ => spoil(place),
            }
        }
    }

    /// The memory of a request.
    fn places<'m>(&self, task: &Task, memory: &'m [Shared]) -> &'m [Shared] {
        let from = task.slot * self.shape.request as usize;
        &memory[from..from + task.sectors as usize]
    }

    /// Takes the answer to the request in `slot`, and whether it went well. False: there is none, or it was answered already.
    pub fn answered(&mut self, slot: usize, ok: bool, memory: &[Shared]) -> bool {
        let Some(task) = self.slots.get_mut(slot).and_then(Option::take) else {
            self.tally.duplicated += 1;
            return false;
        };
        self.tally.requests += 1;
        if ok {
            self.tally.bytes += task.sectors * BYTES;
            if task.op == Op::Read {
                self.compare(&task, memory);
            }
        } else {
            self.tally.errors += 1;
        }
        if self.under_way() == 0 {
            self.turn();
        }
        true
    }

    fn compare(&mut self, task: &Task, memory: &[Shared]) {
        for (sector, place) in (task.sector..).zip(self.places(task, memory)) {
            let (verdict, hash) = self.pattern.check(place, sector, self.before);
            self.read = self.read.wrapping_add(hash);
            match verdict {
                Verdict::Right => {}
                Verdict::Old => self.tally.lost_bytes += BYTES,
                Verdict::Wrong(bytes) => self.tally.wrong_bytes += bytes,
            }
        }
    }

    /// Everything that was asked for is answered: what comes next?
    fn turn(&mut self) {
        match self.phase {
            Phase::Flushing if self.next_op().is_none() => {
                self.phase = Phase::Reading;
                self.next = 0;
            }
            Phase::Reading if self.next == self.shape.sectors => self.phase = Phase::Done,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::random::Random;

    const SHAPE: Shape = Shape { sectors: 50, request: 4, depth: 5, flush_every: 3 };

    /// A disk that answers in any order.
    struct Disk {
        sectors: Vec<[u64; 64]>,
        memory: Vec<Shared>,
        queue: Vec<Task>,
        random: Random,
        flushes: usize,
    }

    impl Disk {
        fn new(shape: Shape, seed: u64) -> Disk {
            let places = shape.depth * shape.request as usize;
            Disk {
                sectors: vec![[0; 64]; shape.sectors as usize],
                memory: (0..places).map(|_| core::array::from_fn(|_| AtomicU64::new(0))).collect(),
                queue: Vec::new(),
                random: Random::new(seed),
                flushes: 0,
            }
        }

        /// Carries out one request; `write` says whether a sector's write reaches the disk.
        fn step(&mut self, shape: &Shape, write: &mut impl FnMut(u64) -> bool) -> usize {
            let task = self.queue.swap_remove(self.random.below(self.queue.len() as u64) as usize);
            let places = &self.memory[task.slot * shape.request as usize..][..task.sectors as usize];
            for (sector, place) in (task.sector..).zip(places) {
                let stored = &mut self.sectors[sector as usize];
                match task.op {
                    Op::Read => {
                        place.iter().zip(stored).for_each(|(to, from)| to.store(*from, Ordering::Relaxed))
                    }
                    Op::Write if write(sector) => {
                        place.iter().zip(stored).for_each(|(from, to)| *to = from.load(Ordering::Relaxed));
                    }
                    _ => {}
                }
            }
            self.flushes += usize::from(task.op == Op::Flush);
            task.slot
        }

        fn run(&mut self, pass: &mut Pass, mut write: impl FnMut(u64) -> bool) {
            let shape = pass.shape;
            while !pass.is_done() {
                while let Some(task) = pass.next(&self.memory) {
                    self.queue.push(task);
                }
                let slot = self.step(&shape, &mut write);
                assert!(pass.answered(slot, true, &self.memory));
            }
        }
    }

    fn pass(number: u64, shape: Shape) -> Pass {
        let before = number.checked_sub(1).map(|before| Pattern::new(1, before));
        Pass::new(shape, Pattern::new(1, number), before)
    }

    #[test]
    fn what_does_not_reach_the_disk_is_lost() {
        let mut disk = Disk::new(SHAPE, 1);
        let mut first = pass(0, SHAPE);
        disk.run(&mut first, |sector| sector != 17);
        assert_eq!(
            first.tally(),
            Tally { bytes: 100 * 512, requests: 31, lost_bytes: 512, ..Tally::default() }
        );
        assert_ne!(first.hashes().0, first.hashes().1);
    }

    #[test]
    fn in_a_second_pass_what_the_first_left_is_lost_too() {
        let mut disk = Disk::new(SHAPE, 1);
        disk.run(&mut pass(0, SHAPE), |_| true);
        let mut second = pass(1, SHAPE);
        disk.run(&mut second, |sector| sector % 10 != 0);
        assert_eq!(second.tally().lost_bytes, 5 * 512);
    }

    #[test]
    fn an_answer_that_comes_twice_is_counted_and_changes_nothing() {
        let mut disk = Disk::new(SHAPE, 1);
        let mut pass = pass(0, SHAPE);
        let task = pass.next(&disk.memory).expect("a write");
        assert!(pass.answered(task.slot, true, &disk.memory));
        assert!(!pass.answered(task.slot, true, &disk.memory));
        assert!(!pass.answered(1000, true, &disk.memory));
        assert_eq!((pass.tally().duplicated, pass.tally().requests), (2, 1));
        disk.run(&mut pass, |_| true);
    }

    #[test]
    fn an_error_is_counted_and_the_pass_goes_on() {
        let disk = Disk::new(SHAPE, 1);
        let mut pass = pass(0, SHAPE);
        while !pass.is_done() {
            let task = pass.next(&disk.memory).expect("nothing is under way");
            pass.answered(task.slot, false, &disk.memory);
        }
        assert_eq!((pass.tally().errors, pass.tally().bytes), (pass.tally().requests, 0));
    }

    proptest! {
        #[test]
        fn a_disk_that_works_is_clean_in_every_pass(
            sectors in 0u64..80, request in 1u64..9, depth in 1usize..9, flush_every in 0u64..5, seed: u64,
        ) {
            let shape = Shape { sectors, request, depth, flush_every };
            let mut disk = Disk::new(shape, seed);
            for number in 0..3 {
                let mut pass = pass(number, shape);
                disk.run(&mut pass, |_| true);
                prop_assert!(pass.tally().is_clean());
                prop_assert_eq!(pass.tally().bytes, sectors * 2 * BYTES);
                prop_assert_eq!(pass.hashes().0, pass.hashes().1);
            }
            prop_assert_eq!(disk.flushes > 0, flush_every > 0 && sectors > 0);
        }

        #[test]
        fn nothing_is_read_before_all_is_written_and_flushed(seed: u64) {
            let mut disk = Disk::new(SHAPE, seed);
            let mut pass = pass(0, SHAPE);
            let (mut written, mut unflushed, mut reading) = (0, 0, false);
            while !pass.is_done() {
                while let Some(task) = pass.next(&disk.memory) {
                    reading |= task.op == Op::Read;
                    prop_assert!(!reading || (written == SHAPE.sectors && unflushed == 0));
                    disk.queue.push(task);
                }
                prop_assert!(disk.queue.len() <= SHAPE.depth);
                let before = disk.flushes;
                let slot = disk.step(&SHAPE, &mut |_| { written += 1; unflushed += 1; true });
                if disk.flushes > before && disk.queue.is_empty() {
                    unflushed = 0;
                }
                pass.answered(slot, true, &disk.memory);
            }
        }
    }
}
