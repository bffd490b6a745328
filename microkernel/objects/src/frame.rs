//! Frames: memory or device registers that can be mapped. (Mapping is a matter of [`crate::vspace`].)

use crate::cpu::Cpu;
use crate::kernel::{Kernel, Outcome};
use crate::machine::Machine;
use crate::memory::Ref;
use crate::slot::Slot;
use crate::tcb::Tcb;

impl<M: Machine> Kernel<M> {
    /// Frame.physical
    pub(crate) fn frame_physical(&self, _: &Cpu, _: Ref<Tcb>, slot: Ref<Slot>, _: [u64; 8]) -> Outcome {
        Ok([slot.object.get(), 0, 0, 0, 0, 0, 0, 0])
    }
}
