//! Calls and answers.

use abi::{CPtr, Kind, MsgInfo};
use ipc::Message;

use crate::meter::{Amount, Samples, Unit};
use crate::peer::{Entry, Peer, Space, echo, echo_capability, slots};
use crate::resources::Resources;
use crate::{Bench, Failure};

/// A server at work on an Endpoint of its own.
fn server(resources: &Resources, space: Space, cpu: u64, entry: Entry) -> Result<(CPtr, Peer), Failure> {
    let endpoint = resources.make(Kind::Endpoint, 0)?;
    // Above the caller's priority: it waits for its first message before the caller goes on.
    let peer = Peer::new(resources, space, resources.priority + 1, cpu)?;
    peer.give(resources, slots::ENDPOINT, endpoint)?;
    peer.start(entry)?;
    Ok((endpoint, peer))
}

/// Calls with the message that the last call brought back: as all registers of a message always travel, no
/// words cost a call nothing but its label.
fn call_with_nothing(bench: &Bench, endpoint: CPtr, amount: Amount) -> Result<Samples, Failure> {
    let mut message = Message::new(0);
    bench.meter.measure(amount, || {
        message = ipc::call(endpoint, message)?;
        Ok(())
    })
}

/// Calls with `WORDS` new words in registers each time, and `EXTRA` in the IPC buffers, where they stay.
pub fn cross<const WORDS: usize, const EXTRA: usize>(bench: &Bench) -> Result<Samples, Failure> {
    let (endpoint, _) = server(&bench.resources, Space::Other, 0, echo)?;
    if WORDS == 0 {
        return call_with_nothing(bench, endpoint, Amount::SHORT);
    }
    let message = || {
        let words: [u64; WORDS] = core::array::from_fn(|at| at as u64 + 1);
        Message::of(7, words).with(EXTRA, 0)
    };
    check_echo(endpoint, message())?;
    bench.meter.measure(Amount::SHORT, || {
        ipc::call(endpoint, message())?;
        Ok(())
    })
}

/// Checks that the server sends back all that it is sent; the buffer keeps its words.
fn check_echo(endpoint: CPtr, message: Message) -> Result<(), Failure> {
    let extra = ipc::buffer().words.iter().take(message.info.extra());
    for (word, value) in extra.clone().zip(100..) {
        word.set(value);
    }
    let back = ipc::call(endpoint, message)?;
    let same = extra.zip(100..).all(|(word, value)| word.get() == value);
    if back == message && same { Ok(()) } else { Err(Failure::Wrong("the answer is not what was sent")) }
}

/// One address space.
pub fn same(bench: &Bench) -> Result<Samples, Failure> {
    let (endpoint, _) = server(&bench.resources, Space::Same, 0, echo)?;
    call_with_nothing(bench, endpoint, Amount::SHORT)
}

/// A server without a SchedContext.
pub fn passive(bench: &Bench) -> Result<Samples, Failure> {
    let (endpoint, server) = server(&bench.resources, Space::Other, 0, echo)?;
    server.context.unbind()?;
    call_with_nothing(bench, endpoint, Amount::SHORT)
}

/// A server on another CPU.
pub fn other_cpu(bench: &Bench) -> Result<Samples, Failure> {
    if bench.resources.cpus < 2 {
        return Err(Failure::LeftOut("it takes two CPUs (--smp 2)"));
    }
    if bench.meter.unit == Unit::Instructions {
        return Err(Failure::LeftOut("instructions of two CPUs cannot be told apart"));
    }
    let (endpoint, _) = server(&bench.resources, Space::Other, 1, echo)?;
    call_with_nothing(bench, endpoint, Amount::SINGLE)
}

/// A capability each way. Each call receives into a slot of its own; they are emptied between batches.
pub fn capability(bench: &Bench) -> Result<Samples, Failure> {
    let r = &bench.resources;
    let (endpoint, _) = server(r, Space::Other, 0, echo_capability)?;
    let sent = r.make(Kind::Notification, 0)?;
    let batch = slots::RECEIVED_COUNT as usize;
    let received = (0..batch).map(|_| r.slot()).collect::<Result<alloc::vec::Vec<_>, _>>()?;
    let mut next = received.iter().cycle();
    let buffer = ipc::buffer();
    let amount = Amount { batch: batch as u64, samples: 100 };
    let call = || {
        buffer.send_caps(&[sent]);
        buffer.receive_into(&[*next.next().unwrap_or(&CPtr::NULL)]);
        ipc::call(endpoint, Message { info: MsgInfo::new(0, 0, 1), words: [0; 8] })?;
        Ok(())
    };
    bench.meter.measure_between(amount, call, || r.cnode.revoke(u64::from(sent.0)))
}
