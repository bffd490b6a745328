//! The loop of a server.

use abi::{CPtr, Error};

use crate::calls;
use crate::message::{Message, Received};

/// What a server does about what its endpoint brings.
pub trait Serve {
    /// A message came. The answer goes to its sender; `None` leaves a caller without one, who then hears
    /// `PeerDied` at the next receive (faulting threads instead fault again, as the kernel has it).
    ///
    /// What lies in the IPC buffer is overwritten by the first system call that uses it: take it first.
    fn message(&mut self, received: &Received) -> Option<Message>;

    /// The bound Notification was signalled; `bits` have been taken.
    fn notified(&mut self, bits: u64);

    /// When to be woken even if nothing comes, in TSC ticks; asked before every receive.
    fn deadline(&self) -> Option<u64> {
        None
    }

    /// The deadline passed.
    fn expired(&mut self) {}
}

/// Serves `endpoint`, for ever, or until a receive is refused: then its error.
pub fn serve(endpoint: CPtr, server: &mut impl Serve) -> Error {
    let mut answer = None;
    loop {
        match step(endpoint, answer.take(), server.deadline()) {
            Ok(received) => match received.notified() {
                Some(bits) => server.notified(bits),
                None => answer = server.message(&received),
            },
            Err(Error::TimedOut) => server.expired(),
            Err(error) => return error,
        }
    }
}

#[inline(always)]
fn step(endpoint: CPtr, answer: Option<Message>, deadline: Option<u64>) -> Result<Received, Error> {
    match (answer, deadline) {
        (Some(answer), None) => calls::reply_recv(endpoint, answer),
        (Some(answer), Some(deadline)) => calls::reply_recv_until(endpoint, answer, deadline),
        (None, None) => calls::recv(endpoint, CPtr::NULL),
        (None, Some(deadline)) => calls::recv_until(endpoint, CPtr::NULL, deadline),
    }
}
