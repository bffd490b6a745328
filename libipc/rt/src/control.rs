//! Asking init what runs and how it fares, and to kill and restart it (`proto::control`): for components with the right
//! `supervise`.

use ipc::{Message, buffer, bytes};
use proto::component::{MAX_BYTES, Refusal};
use proto::control::{Cause, Request, State, about, recovery};
use proto::life::Injection;

use crate::io::{IoError, ask};

/// How a component fares.
#[derive(Clone, Debug)]
pub struct About {
    /// Its name.
    pub name: heapless::String<32>,
    /// What it is doing.
    pub state: State,
    /// Which life it is in.
    pub life: u64,
    /// Lives that ended by its own fault.
    pub faults: u64,
    /// Lives that ended by the operator's will.
    pub kills: u64,
    /// log2 of its bytes of transient memory; 0 if that is not known before it runs.
    pub memory_bits: u8,
    /// Bytes of memory that outlives it.
    pub durable: u64,
    /// TSC ticks of processor time.
    pub time: u64,
    /// Messages begun in this life.
    pub messages: u64,
    /// Requests served in this life.
    pub served: u64,
}

/// A crash that init remembers.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// When it was noticed, in TSC ticks.
    pub when: u64,
    /// The component's place.
    pub place: u64,
    /// Why the life ended.
    pub cause: Cause,
    /// Bytes of the record.
    pub length: usize,
}

/// A capability of a component's.
#[derive(Clone, Debug)]
pub struct Held {
    /// The slot it is in.
    pub slot: u64,
    /// A number of [`abi::Kind`].
    pub kind: u64,
    /// log2 of the object's size.
    pub bits: u64,
    /// The bits of its rights.
    pub rights: u64,
    /// Its badge.
    pub badge: u64,
    /// The same for the same object.
    pub identity: u64,
    /// The name that the start block gives it, or nothing.
    pub name: heapless::String<32>,
}

fn asked(request: Request) -> Result<Message, IoError> {
    ask(Message::of(request.label(), request.words()))
}

/// The bytes that came with an answer.
fn text(length: usize, place: &mut [u8]) -> usize {
    let length = length.min(place.len());
    bytes::take(&buffer().words, &mut place[..length])
}

fn name(length: u64) -> heapless::String<32> {
    let mut place = [0; 32];
    let length = text(usize::try_from(length).unwrap_or(usize::MAX), &mut place);
    // init gives no other names.
    core::str::from_utf8(&place[..length]).ok().and_then(|name| name.try_into().ok()).unwrap_or_default()
}

/// The place of the component called `name`; `None` if the manifest has none.
pub fn find(name: &str) -> Result<Option<u64>, IoError> {
    if name.len() > MAX_BYTES {
        return Ok(None);
    }
    let words = bytes::put(&buffer().words, name.as_bytes());
    let find = Request::Find { length: name.len() as u64 };
    let request = Message::of(find.label(), find.words()).with(words, 0);
    Ok(there(ask(request))?.map(|answer| answer.words[0]))
}

/// An answer, or `None` where there is nothing to be told of.
fn there(answer: Result<Message, IoError>) -> Result<Option<Message>, IoError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(IoError::Refused(Refusal::Unknown)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How the component at `place` fares; `None` behind the last.
pub fn about(place: u64) -> Result<Option<About>, IoError> {
    let Some(answer) = there(asked(Request::About { place }))? else { return Ok(None) };
    let words = answer.words;
    Ok(Some(About {
        name: name(words[7]),
        state: State::from_word(words[about::STATE]).unwrap_or(State::Idle),
        life: words[about::LIFE],
        faults: words[about::DEATHS] & 0xffff_ffff,
        kills: words[about::DEATHS] >> 32,
        memory_bits: words[about::MEMORY] as u8,
        durable: words[about::MEMORY] >> 8,
        time: words[about::TIME],
        messages: words[about::MESSAGES],
        served: words[about::SERVED],
    }))
}

/// Kills the component at `place`, which is not counted as a fault of its own.
pub fn kill(place: u64) -> Result<(), IoError> {
    asked(Request::Kill { place }).map(|_| ())
}

/// Kills it and starts it again, also if it was dead.
pub fn restart(place: u64) -> Result<(), IoError> {
    asked(Request::Restart { place }).map(|_| ())
}

/// Empties the state of the component at `place` and starts it again, also if it was left dead.
pub fn reset(place: u64) -> Result<(), IoError> {
    asked(Request::Reset { place }).map(|_| ())
}

/// Has the component at `place` do something to itself when it has begun `at_message` messages in its life (0: now).
pub fn inject(place: u64, what: Injection, at_message: u64, counts: bool) -> Result<(), IoError> {
    asked(Request::Inject { place, what, at_message, counts }).map(|_| ())
}

/// The crash so many before the latest, with its record in `place` (for `proto::host::from_plain`).
pub fn crash(number: u64, place: &mut [u8; MAX_BYTES]) -> Result<Option<Crash>, IoError> {
    let Some(answer) = there(asked(Request::CrashRecord { number }))? else { return Ok(None) };
    let [length, when, of, cause, ..] = answer.words;
    let length = text(length as usize, place);
    let cause = Cause::from_word(cause).unwrap_or(Cause::Fault);
    Ok(Some(Crash { when, place: of, cause, length }))
}

/// What a component had printed last before the crash of this number, from byte `from` on: how many bytes.
pub fn crash_log(number: u64, from: u64, place: &mut [u8; MAX_BYTES]) -> Result<usize, IoError> {
    let answer = asked(Request::CrashLog { number, from })?;
    Ok(text(answer.words[0] as usize, place))
}

/// The first capability from slot `from` on of the component at `place`; `None`: no more.
pub fn capability(place: u64, from: u64) -> Result<Option<Held>, IoError> {
    let Some(answer) = there(asked(Request::Capability { place, from }))? else { return Ok(None) };
    let [slot, kind, bits, rights, badge, identity, _, length] = answer.words;
    Ok(Some(Held { slot, kind, bits, rights, badge, identity, name: name(length) }))
}

/// The manifest's text from byte `from` on: how many bytes.
pub fn manifest(from: u64, place: &mut [u8; MAX_BYTES]) -> Result<usize, IoError> {
    let answer = asked(Request::Manifest { from })?;
    Ok(text(answer.words[0] as usize, place))
}

/// The times of the recovery so many before the latest of the component at `place` (words of `proto::control::recovery`).
pub fn recovery(place: u64, ago: u64) -> Result<Option<[u64; recovery::LIFE + 1]>, IoError> {
    Ok(there(asked(Request::Recovery { place, ago }))?.map(|answer| {
        let mut times = [0; recovery::LIFE + 1];
        times.copy_from_slice(&answer.words[..recovery::LIFE + 1]);
        times
    }))
}

/// Has bit `proto::life::bell::OWN + bit` of this component's bell signalled at each end of a life.
pub fn watch(bit: u8) -> Result<(), IoError> {
    asked(Request::Watch { bit: u64::from(bit) }).map(|_| ())
}

/// Reports to init that the component at `place` has written nonsense into a channel that it shares with this one;
/// `what` is the protocol's. Takes no right. The component is ended by that, and begins again.
pub fn report(place: u64, what: u64) -> Result<(), IoError> {
    asked(Request::Report { place, what }).map(|_| ())
}

/// The function at `address` of the program that crash number `number` is of, in `place`: the length of its name, and how
/// far in it the address is.
pub fn symbol(
    number: u64,
    address: u64,
    place: &mut [u8; MAX_BYTES],
) -> Result<Option<(usize, u64)>, IoError> {
    let answer = there(asked(Request::Symbol { number, address }))?;
    Ok(answer.map(|answer| (text(answer.words[7] as usize, place), answer.words[0])))
}

/// The kernel's log from byte `from` on: how many bytes, and the number of the first.
pub fn log(from: u64, place: &mut [u8; MAX_BYTES]) -> Result<(usize, u64), IoError> {
    let answer = asked(Request::Log { from })?;
    Ok((text(answer.words[0] as usize, place), answer.words[1]))
}

/// Has the kernel trace the events in `mask` (bit n: event n of `abi::trace::Event`).
pub fn trace(mask: u64) -> Result<(), IoError> {
    asked(Request::Trace { events: mask }).map(|_| ())
}
