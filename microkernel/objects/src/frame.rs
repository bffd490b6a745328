//! Frames: memory or device registers that can be mapped. (Mapping is a matter of [`crate::vspace`].)

use abi::Error;

use crate::kernel::{Call, Kernel, Outcome, Words};
use crate::machine::Machine;

impl<M: Machine> Kernel<M> {
    /// Frame.physical
    pub(crate) fn frame_physical(&self, by: Call, _: Words) -> Outcome {
        if !by.me.sees_physical() {
            return Err(Error::NoRights.into());
        }
        Ok([by.slot.object.get(), 0, 0, 0, 0, 0, 0, 0])
    }
}
