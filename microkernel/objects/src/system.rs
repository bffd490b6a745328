//! The machine as a whole.

use abi::Error;
use abi::trace::Event;

use crate::kernel::{Call, Kernel, Outcome, Words};
use crate::machine::Machine;

/// Bytes that one System.log writes, at most.
const MAX_LOG: usize = 512;

impl<M: Machine> Kernel<M> {
    /// System.log
    pub(crate) fn system_log(&self, by: Call, [size, ..]: Words) -> Outcome {
        let buffer = by.me.ipc_buffer().ok_or(Error::NotConfigured)?;
        let size = usize::try_from(size).ok().filter(|&size| size <= MAX_LOG).ok_or(Error::OutOfRange)?;
        for at in 0..size.div_ceil(8) {
            let bytes = buffer.word(at).to_le_bytes();
            let rest = size.saturating_sub(at.saturating_mul(8)).min(8);
            self.machine.log(bytes.get(..rest).unwrap_or(&[]));
        }
        Ok([0; 8])
    }

    /// System.trace: tracing messages takes the fast path, which has no trace points, out of service.
    pub(crate) fn system_trace(&self, _: Call, [mask, ..]: Words) -> Outcome {
        self.trace_mask.set(mask);
        let seen_by_fast_path =
            1 << Event::Ipc as u64 | 1 << Event::Syscall as u64 | 1 << Event::Switch as u64;
        self.machine.fast_path(mask & seen_by_fast_path == 0);
        Ok([0; 8])
    }

    /// System.latency
    pub(crate) fn system_latency(&self, _: Call, _: Words) -> Outcome {
        let (ticks, place) = self.machine.latency();
        Ok([ticks, place, 0, 0, 0, 0, 0, 0])
    }

    /// System.shutdown
    pub(crate) fn system_shutdown(&self, _: Call, [status, ..]: Words) -> Outcome {
        self.machine.shutdown(status);
        Ok([0; 8])
    }

    /// System.verify, in a build that leaves checks out.
    #[cfg(not(feature = "checks"))]
    pub(crate) fn system_verify(&self, _: Call, _: Words) -> Outcome {
        Err(Error::NoSuchMethod.into())
    }
}
