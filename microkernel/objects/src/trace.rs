//! Trace points: records into per-CPU rings that user space reads. Off, one costs a test and a branch, and the
//! fast path nothing at all (turning IPC tracing on takes it out of service).

use core::sync::atomic::Ordering;

use abi::trace::{Event, RECORDS, Record, Ring};

use crate::cpu::Cpu;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::memory::Ref;

impl<M: Machine> Kernel<M> {
    /// Records an event if it is traced.
    #[inline(always)]
    pub fn trace(&self, here: &Cpu, event: Event, a: u64, b: u64) {
        if self.trace_mask.get() & 1 << event as u64 != 0 {
            self.record(here, event, a, b);
        }
    }

    #[cold]
    fn record(&self, here: &Cpu, event: Event, a: u64, b: u64) {
        let number = here.number.get();
        let base = self.trace_rings.get();
        let offset = number.wrapping_mul(core::mem::size_of::<Ring>()) as u64;
        let Some(ring) = Ref::<Ring>::at(base.wrapping_add(offset)).filter(|_| base != 0) else { return };
        let count = ring.written.load(Ordering::Relaxed);
        let Some(Record { time, event: kind, a: first, b: second }) =
            ring.records.get(count as usize % RECORDS)
        else {
            return;
        };
        time.store(self.machine.now(), Ordering::Relaxed);
        kind.store(event as u64 | (number as u64) << 8, Ordering::Relaxed);
        first.store(a, Ordering::Relaxed);
        second.store(b, Ordering::Relaxed);
        ring.written.store(count.wrapping_add(1), Ordering::Release);
    }
}
